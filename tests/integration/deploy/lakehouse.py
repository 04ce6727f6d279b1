# SPDX-License-Identifier: GPL-3.0-or-later
"""A lakehouse from the view of its user: a folder, ports and a user, managed by `ansible-playbook` alone."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.host.examine import Installation, examine
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.jobs import Jobs
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    read_process,
    read_processes,
    supervised,
    supervisors,
    with_descendants,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import ProgramState, Supervisor
from tests.integration.patience import wait_for
from tests.integration.playbook import kill
from tools.claims import FOLDER_VARIABLE, places, sockets

REPOSITORY = Path(__file__).resolve().parents[3]
CENSUS = Path(__file__).with_name("census.py")
AS_ROOT = os.geteuid() == 0
# Several lakehouses start at once on the same cores.
WAIT_TIMEOUT_S = 900
# A playbook without output for this long hangs: each of its tasks has its own limit.
SILENCE_LIMIT_S = 420.0
POLL_S = 0.1
PROGRAMS = frozenset(
    {
        "alertmanager",
        "api",
        "backup",
        "database",
        "node-exporter",
        "object-store",
        "orchestrator",
        "prometheus",
        "worker",
    }
)


@dataclass(frozen=True)
class Run:
    """Result of a playbook."""

    exit_code: int
    output: str
    took_s: float

    @property
    def changed(self) -> int:
        """Number of changed tasks, from the recap."""
        return sum(int(number) for number in re.findall(r"\bchanged=(\d+)", self.output))

    @property
    def written(self) -> set[str]:
        """Paths with a difference in the output."""
        return set(re.findall(r"^\s*\+\+\+ after: (/.*?)\s*$", self.output, re.MULTILINE))

    @property
    def words(self) -> str:
        """The output on one line, without line breaks."""
        return " ".join(self.output.split())

    def must_pass(self) -> Run:
        """Return this run; raise with its whole output if it failed."""
        if self.exit_code:
            raise AssertionError(f"exit code {self.exit_code}\n{self.output[-12000:]}")
        return self

    def must_fail(self) -> Run:
        """Return this run; raise with its whole output if it passed."""
        if not self.exit_code:
            raise AssertionError(f"it passed\n{self.output[-12000:]}")
        return self


@dataclass
class Started:
    """A running playbook, with its output so far."""

    process: subprocess.Popen[bytes]
    output_file: Path

    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    def silent_s(self) -> float:
        """Return the seconds since the last output."""
        return time.time() - self.output_file.stat().st_mtime

    def kill(self) -> None:
        """Kill the playbook, its workers and their modules, like a power failure."""
        kill(self.process)

    def kill_group(self) -> None:
        """Kill the playbook's process group: a running module may continue for a while."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Lakehouse:
    """A place for a deployment. `folder` belongs to the test and contains the home; `variables` are the inventory's."""

    folder: Path
    port_offset: int
    user: str
    variables: dict[str, Any] = field(default_factory=dict)
    collection: Path = REPOSITORY
    hosts: Path = Path("inventories/local")

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def inventory(self, **variables: Any) -> dict[str, Any]:
        """The variables of a run."""
        given = {
            "lakehouse_home": str(self.home),
            "lakehouse_port_offset": self.port_offset,
            "lakehouse_service_user": self.user,
            "host_wait_timeout_s": WAIT_TIMEOUT_S,
        }
        return {**given, **self.variables, **variables}

    def command(self, playbook: str, *arguments: str) -> list[str]:
        ansible = str(REPOSITORY / ".venv/bin/ansible-playbook")
        return [ansible, "-i", str(self.hosts), f"playbooks/{playbook}.yml", *arguments]

    @contextlib.contextmanager
    def start(
        self, playbook: str, *arguments: str, environment: Mapping[str, str] | None = None, **variables: Any
    ) -> Iterator[Started]:
        """Start a playbook in its own process group. A file passes the variables, like a user's inventory."""
        with tempfile.TemporaryDirectory(prefix="run", dir=self.folder) as scratch:
            given = Path(scratch, "variables.json")
            given.write_text(json.dumps(self.inventory(**variables)))
            output = Path(scratch, "output")
            with output.open("wb") as stream:
                process = subprocess.Popen(
                    self.command(playbook, "-e", f"@{given}", *arguments),
                    cwd=self.collection,
                    # Temporary files of a killed playbook are removed with the scratch folder.
                    env={
                        **clean_environment(),
                        FOLDER_VARIABLE: str(self.folder),
                        "TMPDIR": scratch,
                        **(environment or {}),
                    },
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            started = Started(process, output)
            try:
                yield started
            finally:
                if process.poll() is None:
                    started.kill()

    def run(
        self,
        playbook: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        watch: Callable[[], None] = lambda: None,
        **variables: Any,
    ) -> Run:
        """Run a playbook to its end; `watch` is called repeatedly while it runs."""
        started_s = time.monotonic()
        with self.start(playbook, *arguments, environment=environment, **variables) as started:
            while started.process.poll() is None:
                watch()
                if started.silent_s() > SILENCE_LIMIT_S:
                    raise AssertionError(f"{playbook} hangs\n{started.output()[-12000:]}")
                time.sleep(POLL_S)
            return Run(started.process.returncode, started.output(), time.monotonic() - started_s)

    def deploy(self, *arguments: str, **variables: Any) -> Run:
        return self.run("deploy", *arguments, **variables)

    def destroy(self, *, data: bool = True, **variables: Any) -> Run:
        environment = variables.pop("confirm", "development")
        return self.run("destroy", lakehouse_destroy_confirm=environment, lakehouse_destroy_data=data, **variables)

    @property
    def marker(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / ".crypto-lakehouse.json").read_text())
        return found

    @property
    def secrets(self) -> dict[str, str]:
        """Values in the store, by the secret's name."""
        store = json.loads((self.home / "secrets/store.json").read_text())["secrets"]
        return {name: entry["value"] for name, entry in store.items()}

    @property
    def programs(self) -> Path:
        """Programs of the software that was deployed last."""
        return self.home / "software" / str(self.marker["software"]) / "bin"

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.home / "run/supervisor.sock")

    def states(self) -> dict[str, ProgramState]:
        return self.supervisor.states()

    def supervisor_pids(self) -> list[int]:
        return supervisors(self.home / "run/supervisor/supervisord.conf", read_processes())

    def processes(self) -> dict[int, str]:
        """Every process of this lakehouse: its number and its program."""
        return supervised(self.home / "run/supervisor.sock", read_processes())

    def url(self, port: int, path: str = "") -> str:
        return f"http://127.0.0.1:{port + self.port_offset}{path}"

    def as_service_user(self, command: Sequence[str], text: str = "") -> str:
        """Run a command as the service user and return its output."""
        account = pwd.getpwnam(self.user) if AS_ROOT else pwd.getpwuid(os.geteuid())
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            cwd=self.home,
            user=account.pw_uid if AS_ROOT else None,
            group=account.pw_gid if AS_ROOT else None,
            extra_groups=[] if AS_ROOT else None,
            env={"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": str(self.home / "run/tmp")},
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{command[0]}: {done.stderr[-4000:]}")
        return done.stdout

    def application(self, code: str, service: str = "bootstrap") -> Any:
        """Run Python code with the application's packages and the rights of a service or job; return its JSON."""
        launch = [
            str(self.programs / "lakehouse-launch"),
            "--environment-file",
            str(self.home / "etc" / service / "environment"),
        ]
        python = str(self.programs.parent / "venv/bin/python")
        return json.loads(self.as_service_user([*launch, "--", python, "-"], f"{CENSUS.read_text()}\n{code}"))

    def census(self) -> Any:
        """Return counts of existing objects by type: buckets, tables, databases, roles, deployments and others."""
        return self.application("show(census())")

    def installation(self) -> Installation:
        """Return the parameters of a health check."""
        described = yaml.safe_load((self.collection / "roles/catalogue/vars/main.yml").read_text(encoding="utf-8"))
        packages = json.loads((self.programs.parent / ".complete").read_text())["packages"]
        place = {
            "home": str(self.home),
            "software": str(self.programs.parent),
            "user": self.user,
            "bind_address": "127.0.0.1",
            "port_offset": self.port_offset,
            "unavailable": {} if "grafana" in packages else {"grafana": "its package cannot be had"},
        }
        rendered = render(
            described["catalogue_services"],
            described["catalogue_secrets"],
            "host",
            "development",
            {},
            {**described["catalogue_settings"], **place},
            str(self.collection / "roles/catalogue"),
        )
        return Installation(
            home=str(self.home),
            programs=rendered["programs"],
            health=[self._as_service_user(check) for check in rendered["health"]],
            incomplete=rendered["incomplete"],
            api_url=self.url(8080),
            prometheus_url=self.url(9090),
            prometheus_username="lakehouse",
            prometheus_password_file=str(self.home / "secrets/prometheus/prometheus_password"),
        )

    def _as_service_user(self, check: dict[str, Any]) -> dict[str, Any]:
        """Return the check with its command run as the service user: the database rejects other users."""
        if not AS_ROOT or not check.get("command"):
            return check
        identity = [f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        return {**check, "command": ["setpriv", *identity, "--", *check["command"]]}

    def is_healthy(self) -> bool:
        """Return whether all checks pass now."""
        return not self.unhealthy()

    def unhealthy(self) -> list[str]:
        """Return the names of the checks that fail now."""
        return list(examine(self.installation()).unhealthy)

    def kill_everything(self) -> None:
        """Kill all processes at once, like a power failure."""
        # A job survives its playbook, and supervisord does not know it.
        Jobs(self.home).end_all()
        processes = read_processes()
        for pid in sorted(with_descendants([*self.supervisor_pids(), *self.processes()], processes)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def leftovers(self) -> list[str]:
        """Return all remains of this lakehouse on the machine."""
        found = [f"process {pid} of {name}" for pid, name in self.processes().items()]
        found += [f"job {name}" for name in Jobs(self.home).going()]
        found += [f"supervisord {pid}" for pid in self.supervisor_pids()]
        found += [str(self.home)] if self.home.exists() else []
        if AS_ROOT:
            found += [f"user {entry.pw_name}" for entry in pwd.getpwall() if entry.pw_name == self.user]
        return found + [path.name for path in sockets(self.port_offset) if path.exists()]


@contextlib.contextmanager
def lakehouses() -> Iterator[Callable[[], Lakehouse]]:
    """Create empty places for deployments: no other run on this machine uses their folders, ports and users."""
    if not (REPOSITORY / ".venv/bin/ansible-playbook").exists():
        raise AssertionError("there is no .venv: run `make venv`")
    with places() as claim:

        def make() -> Lakehouse:
            claimed = claim()
            return Lakehouse(claimed.folder, claimed.port_offset, claimed.user)

        yield make


def assert_whole(lakehouse: Lakehouse) -> None:
    """Assert that all services run, and that none runs twice."""
    assert len(lakehouse.supervisor_pids()) == 1
    (supervisor,) = lakehouse.supervisor_pids()
    states = lakehouse.states()
    assert {name: state.state for name, state in states.items()} == dict.fromkeys(PROGRAMS, "RUNNING")
    processes = read_processes()
    children = {process.pid for process in processes.values() if process.parent == supervisor}
    assert children == {state.pid for state in states.values()}
    strays = set(lakehouse.processes()) - with_descendants([supervisor], processes)
    assert not strays, [processes[pid].command for pid in strays]


def wait_for_health(lakehouse: Lakehouse, what: str = "everything is healthy", wait_s: float = 30.0) -> None:
    """Wait until all checks pass. Each examination runs every check, which costs about a second of a core."""
    wait_for(lakehouse.is_healthy, what, wait_s, poll_s=1.0)


def is_gone(pid: int) -> bool:
    return read_process(pid) is None


def clean_environment() -> dict[str, str]:
    """Return the environment of a user's shell: the environment of the tests must not change Ansible's behaviour."""
    left_out = ("ANSIBLE_", "LAKEHOUSE_", "MAKE", "PYTEST_", "VIRTUAL_ENV", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)} | {"NO_COLOR": "1"}
