# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the Molecule scenarios concurrently, each to its end, and write a JUnit file with one test for each.

Each scenario has its own ports, service user and folder, which are removed after any result. The
output of a scenario goes to a log file, and those of failed ones are printed at the end; a single one has the terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tools.claims import FOLDER_VARIABLE, Place, places  # noqa: E402
from tools.steps import reason  # noqa: E402
from tools.systemd_hosts import network  # noqa: E402

POLL_S = 0.5
# More of them would only delay each other: two occupy two cores.
AT_ONCE = 2
# Scenarios whose time limits require unused hosts: they run alone, by name, or sequentially in a sweep.
ALONE = frozenset({"k3s_operations"})
SWEEP = "LAKEHOUSE_TEST_SWEEP"
# Molecule's prefix of Ansible's output: in colours, with a bar.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BAR = re.compile(r"^\s*│\s*")
# Beginning of a failed task in a playbook's output.
_FAILED = ("FAILED ", "NO HOST ")
# Characters that XML does not allow.
_CONTROL = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# Molecule derives the collection's name from the folders of its working directory.
COLLECTION = REPOSITORY / ".venv" / "collections" / "ansible_collections" / "crypto_lakehouse" / "platform"


def scenarios(root: Path) -> list[str]:
    """Return the names of the scenarios below ``molecule/``, ``default`` first."""
    names = sorted(path.parent.name for path in (root / "molecule").glob("*/molecule.yml"))
    return sorted(names, key=lambda name: name != "default")


def environment(variables: Mapping[str, str], place: Place) -> dict[str, str]:
    """Return the environment of a scenario: what Molecule and Ansible keep stays in the repository or in its place."""
    cache = REPOSITORY / ".cache"
    return {
        **variables,
        "PATH": f"{REPOSITORY / '.venv' / 'bin'}{os.pathsep}{variables['PATH']}",
        "XDG_CACHE_HOME": str(cache / "xdg"),
        # Molecule installs the collection there before each scenario, over the one that another scenario installs.
        "ANSIBLE_HOME": str(place.folder / "ansible"),
        "LAKEHOUSE_MOLECULE_HOME": str(place.folder / "home"),
        "LAKEHOUSE_MOLECULE_BACKUPS": str(place.folder / "backups"),
        "LAKEHOUSE_MOLECULE_USER": place.user,
        "LAKEHOUSE_MOLECULE_PORT_OFFSET": str(place.port_offset),
        "LAKEHOUSE_MOLECULE_HOSTS": str(place.hosts),
        "LAKEHOUSE_MOLECULE_NETWORK": network(place.number),
        FOLDER_VARIABLE: str(place.folder),
    }


@dataclass
class Scenario:
    """A scenario that runs. Without a log file its output is on the terminal."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None
    started_s: float

    def ended(self) -> Result:
        """Return the result of the scenario."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log else ""
        return Result(self.name, self.process.returncode == 0, time.monotonic() - self.started_s, text)


@dataclass(frozen=True)
class Result:
    """The result of a scenario. `output` is empty if it was shown on the terminal."""

    name: str
    passed: bool
    took_s: float
    output: str = ""

    def __str__(self) -> str:
        return f"scenario {self.name}: {'passed' if self.passed else 'FAILED'} in {self.took_s:.1f} s"

    @property
    def problem(self) -> str:
        """Return the output lines with the cause of the failure."""
        lines = [_BAR.sub("", line) for line in _CONTROL.sub("", _COLOUR.sub("", self.output)).splitlines()]
        first = next((number for number, line in enumerate(lines) if line.startswith(_FAILED)), None)
        failed = f"molecule test --scenario-name {self.name} failed"
        return failed if first is None else reason("\n".join([failed, *lines[first:]]))


def start(name: str, place: Place, log: Path | None) -> Scenario:
    """Start one scenario in a separate session, so that an interrupt from the keyboard only reaches this program."""
    print(f"--- scenario {name} runs{f', its output goes to {log}' if log else ''}", flush=True)
    with contextlib.ExitStack() as stack:
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            ["molecule", "test", "--scenario-name", name],
            cwd=COLLECTION,
            env=environment(os.environ, place),
            stdin=subprocess.DEVNULL,
            stdout=stack.enter_context(log.open("wb")) if log else None,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
        )
    return Scenario(name, process, log, time.monotonic())


def run(names: Sequence[str]) -> Iterator[Result]:
    """Run `AT_ONCE` scenarios concurrently. Return the result of each as it ends."""
    logs = REPOSITORY / ".cache" / "molecule"
    waiting = list(names)
    running: list[Scenario] = []
    try:
        # Processes that still run at the end are stopped with their folder.
        with places() as claim:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    name = waiting.pop(0)
                    running.append(start(name, claim(), logs / f"{name}.log" if len(names) > 1 else None))
                for scenario in [each for each in running if each.process.poll() is not None]:
                    running.remove(scenario)
                    result = scenario.ended()
                    print(result, flush=True)
                    yield result
                time.sleep(POLL_S if running else 0)
    finally:
        for scenario in running:
            scenario.process.wait()


def report(results: Sequence[Result]) -> ET.ElementTree[ET.Element]:
    """Return the results as JUnit."""
    failures = sum(not result.passed for result in results)
    suite = ET.Element("testsuite", name="molecule", tests=str(len(results)), failures=str(failures))
    for result in results:
        case = ET.SubElement(suite, "testcase", classname="molecule", name=result.name, time=f"{result.took_s:.1f}")
        if not result.passed:
            ET.SubElement(case, "failure", message=result.problem)
    return ET.ElementTree(suite)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all scenarios, or the named ones; return 1 when one failed or there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenario", nargs="*", help="scenarios to run instead of all")
    parser.add_argument("--junit-xml", type=Path, help="file to write the results to")
    options = parser.parse_args(arguments)
    names = options.scenario or scenarios(REPOSITORY)
    if not names:
        print("molecule: there is no scenario below molecule/", file=sys.stderr)
        return 1
    together = names if options.scenario else [name for name in names if name not in ALONE]
    rounds = [together, *([name] for name in names if name not in together and os.environ.get(SWEEP))]
    results = [result for each in rounds for result in run(each)]
    if options.junit_xml:
        options.junit_xml.parent.mkdir(parents=True, exist_ok=True)
        report(results).write(options.junit_xml, encoding="utf-8", xml_declaration=True)
    failed = [result for result in results if not result.passed]
    for result in failed:
        print(f"\n--- output of scenario {result.name}\n{result.output}\n{result}", flush=True)
    return int(bool(failed))


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    # Like an interrupt: started scenarios are stopped and removed.
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
