# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every Molecule scenario, each to its end, and write a JUnit file with one test for each."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# Molecule takes the collection's name from the folders that it is started in.
COLLECTION = REPOSITORY / ".venv" / "collections" / "ansible_collections" / "crypto_lakehouse" / "platform"


def scenarios(root: Path) -> list[str]:
    """Return the names of the scenarios below ``molecule/``, ``default`` first."""
    names = sorted(path.parent.name for path in (root / "molecule").glob("*/molecule.yml"))
    return sorted(names, key=lambda name: name != "default")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a scenario: everything that Molecule and Ansible keep stays in the repository."""
    cache = REPOSITORY / ".cache"
    path = f"{REPOSITORY / '.venv' / 'bin'}{os.pathsep}{variables['PATH']}"
    return {**variables, "PATH": path, "XDG_CACHE_HOME": str(cache / "xdg"), "ANSIBLE_HOME": str(cache / "ansible")}


def run(name: str) -> tuple[bool, float]:
    """Run one scenario on this terminal; return whether it passed and how many seconds it took."""
    print(f"\n--- scenario {name}", flush=True)
    started_s = time.monotonic()
    command = ["molecule", "test", "--scenario-name", name]
    done = subprocess.run(command, cwd=COLLECTION, env=environment(os.environ), check=False)
    return done.returncode == 0, time.monotonic() - started_s


def report(results: Mapping[str, tuple[bool, float]]) -> ET.ElementTree[ET.Element]:
    """Return the results as JUnit."""
    failures = sum(not passed for passed, _took_s in results.values())
    suite = ET.Element("testsuite", name="molecule", tests=str(len(results)), failures=str(failures))
    for name, (passed, took_s) in results.items():
        case = ET.SubElement(suite, "testcase", classname="molecule", name=name, time=f"{took_s:.1f}")
        if not passed:
            ET.SubElement(case, "failure", message=f"molecule test --scenario-name {name} failed")
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
    results = {name: run(name) for name in names}
    if options.junit_xml:
        options.junit_xml.parent.mkdir(parents=True, exist_ok=True)
        report(results).write(options.junit_xml, encoding="utf-8", xml_declaration=True)
    for name, (passed, took_s) in results.items():
        print(f"scenario {name}: {'passed' if passed else 'FAILED'} in {took_s:.1f} s")
    return int(not all(passed for passed, _took_s in results.values()))


if __name__ == "__main__":
    sys.exit(main())
