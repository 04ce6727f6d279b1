# SPDX-License-Identifier: GPL-3.0-or-later
"""A home with real programs under a real supervisord, described as the host renderer describes them."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.host.supervisor import (
    Program as ProgramText,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.host.supervisor import (
    daemon_conf,
    program_conf,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.operate import Operator, Report
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.processes import (
    read_process,
    read_processes,
    supervised,
    supervisors,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.services import (
    Health,
    Home,
    Initialise,
    Program,
    Wish,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.supervisor import ProgramState, Supervisor
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.probes import Probe
from tests.integration.patience import HANG_S

REPOSITORY = Path(__file__).parents[3]
SERVER = Path(__file__).with_name("server.py")


@pytest.fixture(scope="session")
def services_bin() -> Path:
    """Return the folder of a host's programs, including supervisord."""
    folder = Path(os.environ.get("LAKEHOUSE_TEST_SOFTWARE") or REPOSITORY / ".cache/software") / "bin"
    if not (folder / "supervisord").exists():
        pytest.fail(f"{folder} holds no supervisord: run `make services`, or set LAKEHOUSE_TEST_SOFTWARE")
    return folder


@dataclass
class Installation:
    """A home with the files of a deployment."""

    home: Home
    programs: dict[str, Program] = field(default_factory=dict)
    health: dict[str, Health] = field(default_factory=dict)
    initialise: list[Initialise] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    changed_paths: frozenset[Path] = frozenset()

    def write_daemon(self) -> None:
        text = daemon_conf(str(self.home.run), str(self.home.path / "log"))
        (self.home.wanted / "supervisord.conf").write_text(text)

    def add(self, name: str, port: int, *options: str, order: int = 0, patience_s: float = HANG_S) -> Program:
        """Describe a program that listens on `port`; `options` are those of server.py."""
        settings = self.home.path / "etc" / f"{name}.settings"
        settings.write_text("first\n")
        program = Program(
            name, self.home.path, self.home.path / f"log/{name}.log", (settings,), order, "TERM", stop_timeout_s=5.0
        )
        launch = [str(self.home.bin / "lakehouse-launch"), "--log-file", str(program.log_file), "--"]
        command = [*launch, sys.executable, str(SERVER), str(port), str(settings), *options]
        text = program_conf(ProgramText(name, command, str(self.home.path), order, "TERM", stop_timeout_s=5))
        self.home.wanted_program(name).write_text(text)
        self.programs[name] = program
        url = f"http://127.0.0.1:{port}/health"
        self.health[name] = Health(Probe(name, "http", url=url, timeout_s=2.0), patience_s)
        return program

    def remove(self, name: str) -> None:
        self.home.wanted_program(name).unlink()
        del self.programs[name], self.health[name]

    def operator(self, *only: str, restart: tuple[str, ...] = (), known: dict[str, str] | None = None) -> Operator:
        wish = Wish(
            list(self.programs.values()),
            self.health,
            self.initialise,
            self.environment,
            frozenset(only),
            frozenset(restart),
            self.changed_paths,
        )
        return Operator(self.home, wish, wait_timeout_s=HANG_S, known=known or {})

    def deploy(self, *only: str, restart: tuple[str, ...] = (), check_mode: bool = False) -> Report:
        return self.operator(*only, restart=restart).started(check_mode)

    def states(self) -> dict[str, ProgramState]:
        return Supervisor(self.home.socket).states()

    def pids(self) -> dict[str, int]:
        return {name: state.pid for name, state in self.states().items()}

    def supervisor_pids(self) -> list[int]:
        return supervisors(self.home.config, read_processes())

    def processes(self) -> dict[int, str]:
        return supervised(self.home.socket, read_processes())

    def url(self, name: str) -> str:
        return self.health[name].probe.url or ""

    def set_word(self, name: str, word: str, value: str) -> None:
        path = self.home.wanted_program(name)
        lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{word}=")]
        path.write_text("\n".join([*lines, f"{word}={value}", ""]))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a folder for sockets: their path is limited, and pytest's own folders have long names."""
    with tempfile.TemporaryDirectory(prefix="host") as folder:
        yield Path(folder)


@pytest.fixture
def installation(short_path: Path, services_bin: Path) -> Iterator[Installation]:
    home = Home(short_path / "home", services_bin)
    for folder in ("etc/supervisor/programs", "log", "run", "data", "secrets"):
        (home.path / folder).mkdir(parents=True)
    found = Installation(home)
    found.write_daemon()
    yield found
    with suppress(Exception):
        found.operator().stopped(False, absent=True)
    for pid in [*found.supervisor_pids(), *found.processes()]:
        if read_process(pid):
            os.kill(pid, signal.SIGKILL)
