# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller is killed at a task of an installation or upgrade: the next run completes it, always with a majority.

Hosts have systemd, and the stand-in for K3s with its real etcd. `make sweep` kills a run at each task: every run
continues after the previous killed one. In the gate, unit tests interrupt plans at every step instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.integration.patience import HANG_S, wait_for
from tests.integration.playbook import Run, played
from tests.k3s import build
from tools import systemd_hosts
from tools.claims import FOLDER_VARIABLE, Place, places

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Hosts with systemd need root")
REPOSITORY = Path(__file__).resolve().parents[3]
SSH = REPOSITORY / ".cache/hosts/ssh"
VERSION, NEWER = "v1.34.3+k3s1", "v1.34.4+k3s1"
SERVERS, AGENTS = ("server1", "server2", "server3"), ("agent1",)
# Tasks at which a run is killed. A run that ends earlier was killed at all of its tasks.
TASKS = range(1, 121)
TASK = b"\nTASK ["


@dataclass
class Hosts:
    """Hosts with systemd, an inventory of them, and releases of the stand-in."""

    place: Place
    addresses: dict[str, str]
    killed: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.place.folder

    def prepare(self) -> None:
        """Write the inventory and build both releases."""
        for version in (VERSION, NEWER):
            build.build(version, self.folder / "release" / version)
        common = (
            f"-F /dev/null -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={SSH}/known_hosts"
        )
        variables = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(SSH / "id_ed25519"),
            "ansible_ssh_common_args": common,
            "k3s_airgap_dir": str(self.folder / "release"),
            "k3s_cluster_name": "lake",
            "k3s_kubeconfig": str(self.folder / "kubeconfig"),
            "k3s_become": False,
            # K3s' controllers have their real timeouts: a slow node on a busy machine does not count as lost.
            "k3s_service_environment": {"K3S_STANDIN_TIME_SCALE": "1"},
        }
        controller = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        groups = {
            "lakehouse_controller": {"hosts": {"localhost": controller}},
            "k3s_servers": {"hosts": self._listed(SERVERS), "vars": variables},
            "k3s_agents": {"hosts": self._listed(AGENTS), "vars": variables},
        }
        (self.folder / "hosts.json").write_text(json.dumps({"all": {"children": groups}}), encoding="utf-8")

    def _listed(self, names: Sequence[str]) -> dict[str, Any]:
        return {name: {"ansible_host": self.addresses[name]} for name in names}

    def command(self, playbook: str, version: str) -> list[str]:
        """Return the command that runs a playbook of the repository."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        words = [program, "-i", str(self.folder / "hosts.json"), f"playbooks/{playbook}.yml"]
        return [*words, "-e", json.dumps({"k3s_version": version})]

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH_"))}
        found = {
            **kept,
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
        }
        found |= {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "COLUMNS": "1000"}
        return found | {FOLDER_VARIABLE: str(self.folder), "PYTHONUNBUFFERED": "1"}

    def run(self, playbook: str, version: str) -> Run:
        """Run a playbook to its end."""
        done = played(self.command(playbook, version), REPOSITORY, self.environment, self.folder / "output")
        assert done.exit_code == 0, f"after {self.killed}: {done.output[-8000:]}"
        return done

    def kill_at(self, task: int, playbook: str, version: str) -> bool:
        """Kill a run after a number of tasks have begun; return whether it was still running."""
        output = self.folder / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                self.command(playbook, version),
                cwd=REPOSITORY,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(
                lambda: process.poll() is not None or output.read_bytes().count(TASK) >= task,
                f"task {task} of {playbook}",
                HANG_S,
            )
            ended = process.poll() is not None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        text = output.read_text(encoding="utf-8", errors="replace")
        assert not ended or process.returncode == 0, f"after {self.killed}: {text[-8000:]}"
        self.killed.append(f"{playbook} {task}: {text.rpartition('TASK [')[2].partition(']')[0]}")
        return not ended

    def inside(self, host: str, *command: str) -> str:
        """Return the output of a command on a host; its exit code is ignored."""
        podman = systemd_hosts.Podman(self.place.hosts, systemd_hosts.CACHE)
        environment = {**os.environ, **podman.environment}
        words = ["podman", "exec", host, *command]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout.strip()

    def away(self) -> list[str]:
        """Return the servers whose service is stopped."""
        return [name for name in SERVERS if self.inside(name, "systemctl", "is-active", "k3s") != "active"]

    def writes(self) -> bool:
        """Return whether a server accepts a write, which requires a majority of etcd."""
        command = ("/usr/local/bin/k3s", "kubectl", "annotate", "--overwrite", f"node/{AGENTS[0]}", "killed=yes")
        return any("annotated" in self.inside(name, *command) for name in SERVERS)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Return blank hosts."""
    with places() as claim:
        place = claim()
        network = systemd_hosts.network(place.number)
        found = Hosts(place, systemd_hosts.start(place.hosts, network, [*SERVERS, *AGENTS]))
        found.prepare()
        yield found


@pytest.mark.sweep
def test_killed_runs_are_completed_by_the_next_one_and_keep_a_majority(hosts: Hosts) -> None:
    for task in TASKS:
        if not hosts.kill_at(task, "k3s_install", VERSION):
            break
    hosts.run("k3s_install", VERSION)
    assert hosts.away() == []
    for task in TASKS:
        killed = hosts.kill_at(task, "k3s_upgrade", NEWER)
        assert len(hosts.away()) <= 1, hosts.killed
        wait_for(hosts.writes, f"a write after {hosts.killed}", HANG_S)
        if not killed:
            break
    hosts.run("k3s_upgrade", NEWER)
    assert "Nothing to do." in hosts.run("k3s_install", NEWER).output
    for name in SERVERS:
        assert NEWER in hosts.inside(name, "/usr/local/bin/k3s", "--version")
    print(f"killed at {hosts.killed}")
