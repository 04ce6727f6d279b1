# SPDX-License-Identifier: GPL-3.0-or-later
"""Run ansible-playbook with the callback on its standard output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRESS = "crypto_lakehouse.platform.progress"


@dataclass(frozen=True)
class Run:
    """Output of a run of ansible-playbook, including warnings and errors."""

    exit_code: int
    output: str

    def lines_with(self, text: str) -> list[str]:
        """Return the lines that contain a text."""
        return [line for line in self.output.splitlines() if text in line]

    def line_with(self, text: str) -> str:
        """Return the single line that contains a text."""
        (line,) = self.lines_with(text)
        return line


def run_environment(home: Path, callback: str = PROGRESS) -> dict[str, str]:
    """Return an environment of a run that only the test controls."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return inherited | {
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".venv" / "collections"),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_STDOUT_CALLBACK": callback,
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm",
    }


@contextmanager
def warm_ansible(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the process from which runs are forked, and stop it."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm_ansible.py"))],
        env=run_environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


@dataclass(frozen=True)
class Project:
    """A folder with a playbook, its roles and an inventory whose hosts are all this machine."""

    folder: Path
    ansible: subprocess.Popen[str]

    def write(self, playbook: str, *, hosts: Sequence[str], roles: Mapping[str, str]) -> None:
        """Write the files."""
        (self.folder / "play.yml").write_text(playbook, "utf-8")
        for name, tasks in roles.items():
            (self.folder / "roles" / name / "tasks").mkdir(parents=True)
            (self.folder / "roles" / name / "tasks" / "main.yml").write_text(tasks, "utf-8")
        variables = [
            "ansible_connection=local",
            f"ansible_python_interpreter='{sys.executable}'",
            f"ansible_remote_tmp='{self.folder / 'tmp'}'",
        ]
        (self.folder / "hosts").write_text("".join(f"{host} {' '.join(variables)}\n" for host in hosts), "utf-8")

    @property
    def command(self) -> list[str]:
        """Return the command that runs the playbook in the folder."""
        return [str(Path(sys.executable).with_name("ansible-playbook")), *self.arguments]

    @property
    def arguments(self) -> list[str]:
        """Return the arguments for the playbook and its inventory."""
        return ["-i", "hosts", "play.yml"]

    def environment(self, callback: str = PROGRESS) -> dict[str, str]:
        """Return the environment of a run in the folder."""
        return run_environment(self.folder / "home", callback)

    def run(
        self, arguments: Sequence[str] = (), callback: str = PROGRESS, variables: Mapping[str, str] | None = None
    ) -> Run:
        """Run the playbook without a terminal."""
        output = self.folder / "output"
        environment = self.environment(callback) | dict(variables or {})
        request = json.dumps([str(self.folder), environment, [*self.arguments, *arguments], str(output)])
        assert self.ansible.stdin
        assert self.ansible.stdout
        self.ansible.stdin.write(f"{request}\n")
        self.ansible.stdin.flush()
        exit_code = int(self.ansible.stdout.readline())
        return Run(exit_code, output.read_text("utf-8"))

    def run_alone(self, variables: Mapping[str, str]) -> Run:
        """Run the playbook in a separate interpreter, for variables that Python reads at its start."""
        done = subprocess.run(
            self.command,
            cwd=self.folder,
            env=self.environment() | dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return Run(done.returncode, done.stdout.decode("utf-8"))
