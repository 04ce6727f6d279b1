# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of an inventory for Ansible: each Python that it starts there has separate namespaces and a file tree.

Name, addresses, memory, disk, processor, kernel, ports and clock are those of the description. No service runs, so that
playbooks can only be rejected there, or run in check mode. A host shares only /usr with the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.playbook import Run

REPOSITORY = Path(__file__).resolve().parents[3]
LINKS = ("bin", "lib", "lib64", "sbin")
FOLDERS = ("usr", "proc", "dev", "tmp", "run", "etc", "opt", "sys/fs/cgroup", "var/lib/rancher")
LIMIT_S = 900.0
# Holds ports of the host for the Python of Ansible, which replaces it.
ENTER = """import os, socket, sys
held = [socket.create_server(("", port)) for port in {ports}]
for each in held:
    each.set_inheritable(True)
os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv[1:]])
"""
CLOCK = """import time
_now = time.time
time.time = lambda: _now() + {seconds}
"""
INTERPRETER = """#!/bin/sh
exec unshare --net --mount --uts --pid --fork --kill-child {personality} sh -ec '
cd {root}
mount --rbind /usr usr
mount --rbind /dev dev
mount -t proc proc proc
echo {hostname} > proc/sys/kernel/hostname
mount -t tmpfs none usr/local/bin
mount -t tmpfs -o size={disk_mib}m none var/lib/rancher
cp -a {folder}/data/. var/lib/rancher/
cp -a {folder}/programs/. usr/local/bin/
mount --bind {folder}/meminfo proc/meminfo
ip link set lo up
{network}
exec env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/clock chroot . /usr/bin/python3 /opt/enter.py "$@"
' enter "$@"
"""


@dataclass(frozen=True)
class Machine:
    """A host. personality: options of setarch. data: files below /var/lib/rancher. programs: those in /usr/local/bin.

    clock_s: seconds by which its clock is ahead. disk_mib: size of the file system of the data directory.
    """

    name: str
    address: str
    hostname: str = ""
    machine_id: str | None = None
    memory_mib: int = 4096
    disk_mib: int = 20_000
    personality: str = ""
    ports: tuple[int, ...] = ()
    clock_s: float = 0.0
    systemd: bool = True
    cgroups: bool = True
    data: Mapping[str, str] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)

    def prepare(self, folder: Path) -> Path:
        """Write the file tree below a folder; return the interpreter that runs on the host."""
        root = folder / "root"
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
        for name in LINKS:
            (root / name).symlink_to(f"usr/{name}")
        own = hashlib.sha256(self.name.encode()).hexdigest()[:32]
        _write(root / "etc/machine-id", own if self.machine_id is None else self.machine_id)
        _write(root / "etc/passwd", "root:x:0:0::/:/bin/sh\n")
        _write(root / "opt/enter.py", ENTER.format(ports=self.ports))
        _write(root / "opt/clock/sitecustomize.py", CLOCK.format(seconds=self.clock_s) if self.clock_s else "")
        if self.systemd:
            (root / "run/systemd/system").mkdir(parents=True)
        if self.cgroups:
            _write(root / "sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n")
        _write(folder / "meminfo", f"MemTotal: {self.memory_mib * 1024} kB\n")
        for part, files in (("data", self.data), ("programs", self.programs)):
            (folder / part).mkdir()
            for name, text in files.items():
                _write(folder / part / name, text, 0o755)
        return self._interpreter(folder)

    def _interpreter(self, folder: Path) -> Path:
        eth0 = ["ip link add eth0 type veth peer name peer0", "ip link set eth0 up"]
        eth0 += [f"ip address add {self.address}/16 dev eth0"] if self.address else []
        words = {
            "root": shlex.quote(str(folder / "root")),
            "folder": shlex.quote(str(folder)),
            "hostname": self.hostname or self.name,
            "network": "\n".join(eth0),
            "personality": f"setarch {self.personality}" if self.personality else "",
            "disk_mib": self.disk_mib,
        }
        path = folder / "python"
        _write(path, INTERPRETER.format(**words), 0o755)
        return path


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


@dataclass
class Site:
    """An inventory in a folder, with the playbooks of the repository. unreachable: names of hosts without an answer."""

    folder: Path
    servers: Sequence[Machine]
    agents: Sequence[Machine] = ()
    unreachable: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.machines = {each.name: each for each in (*self.servers, *self.agents)}
        listed = {name: self._host(machine) for name, machine in self.machines.items()}
        controller = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        groups = {
            "lakehouse_controller": {"hosts": {"localhost": controller}},
            "k3s_servers": {"hosts": {each.name: listed[each.name] for each in self.servers}},
            "k3s_agents": {"hosts": {each.name: listed[each.name] for each in self.agents}},
        }
        _write(self.folder / "hosts.yml", json.dumps({"all": {"children": groups}}))
        _write(self.folder / "variables.json", json.dumps({"k3s_become": False, **self.variables}))

    def _host(self, machine: Machine) -> dict[str, Any]:
        interpreter = str(machine.prepare(self.folder / machine.name))
        if machine.name in self.unreachable:
            # No process listens on this port of an unused loopback address.
            return {"ansible_connection": "ssh", "ansible_host": "127.77.0.1", "ansible_port": 1}
        return {"ansible_connection": "local", "ansible_python_interpreter": interpreter}

    def run(self, playbook: str, *words: str, **given: Any) -> Run:
        """Run a playbook of the repository."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [program, "-i", str(self.folder / "hosts.yml"), f"playbooks/{playbook}.yml"]
        command += ["-e", f"@{self.folder / 'variables.json'}", "-e", json.dumps(given), *words]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "K8S_AUTH_"))}
        environment = {**kept, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
        environment |= {"ANSIBLE_HOME": str(self.folder / "ansible"), "COLUMNS": "1000"}
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout[-8000:]
        return Run(done.returncode, done.stdout)

    def state(self) -> dict[str, str]:
        """Return every file of the hosts with its content."""
        roots = [self.folder / name for name in self.machines]
        paths = [path for root in roots for path in root.rglob("*") if not path.is_symlink()]
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in sorted(paths)
        }
