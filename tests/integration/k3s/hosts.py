# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of plain processes on one network: each has separate interfaces, mounts, processes, host name and file tree.

A host shares only /usr with the machine. All hosts end with the process that started them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.patience import wait_for

ISOLATED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child")
LINKS = ("bin", "lib", "lib64", "sbin")
DATA = "var/lib/rancher/k3s"
# K3s' own timeouts are a fifth of the real ones; those of etcd are real.
TIME_SCALE = "0.2"
COMMAND_LIMIT_S = 120
# Prints status and body of a request without verification; its arguments are URL and, optionally, USER:PASSWORD.
FETCH = """
import base64, ssl, sys, urllib.error, urllib.request
url, *users = sys.argv[1:]
headers = {"Authorization": "Basic " + base64.b64encode(user.encode()).decode() for user in users}
try:
    request = urllib.request.Request(url, headers=headers)
    answer = urllib.request.urlopen(request, context=ssl._create_unverified_context())
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode(), end="")
"""


class Network:
    """A bridge in a separate network namespace."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([*ISOLATED, "sleep", "infinity"], stdin=subprocess.DEVNULL)
        wait_for(lambda: bool(_child(self._process.pid)), "a network namespace")
        self._run("ip", "link", "add", "bridge", "type", "bridge")
        self._run("ip", "link", "set", "bridge", "up")

    def _run(self, *command: str, check: bool = True) -> None:
        subprocess.run(
            ["nsenter", "-t", str(_child(self._process.pid)), "-n", *command], check=check, capture_output=True
        )

    def connect(self, number: int, pid: int) -> None:
        """Add the interface `eth0` on this network to the network namespace of a process."""
        port = f"port{number}"
        # The kernel removes the interface of a stopped host later.
        self._run("ip", "link", "delete", port, check=False)
        self._run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._run("ip", "link", "set", port, "master", "bridge", "up")

    def close(self) -> None:
        """Remove the network."""
        self._process.kill()
        self._process.wait()


def _child(pid: int) -> int:
    """Return the first process of the namespace that a process created, or 0."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(text[0]) if text else 0


@dataclass
class Host:
    """A host, which is on after `power_on` until `power_off`."""

    network: Network
    number: int
    folder: Path
    release: Path
    address: str = ""
    service: subprocess.Popen[bytes] | None = None
    _power: subprocess.Popen[bytes] | None = None
    _starts: int = field(default=0)

    def __post_init__(self) -> None:
        self.address = f"10.77.0.{self.number}"
        self.name = f"node{self.number}"
        self.root = self.folder / self.name
        self._prepare()

    def _prepare(self) -> None:
        """Create the host's file tree."""
        for name in ("usr", "proc", "dev", "tmp", "etc/rancher/k3s", "etc/ssl", DATA, "opt", "run"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in LINKS:
            if not (self.root / name).is_symlink():
                (self.root / name).symlink_to(f"usr/{name}")
        shutil.copy("/etc/ssl/openssl.cnf", self.root / "etc/ssl/openssl.cnf")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n", encoding="utf-8")
        (self.root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n", encoding="utf-8")
        (self.root / "opt/k3s").unlink(missing_ok=True)
        (self.root / "opt/k3s").hardlink_to(self.release)

    def power_on(self) -> None:
        """Start the host without any service."""
        mounts = "; ".join(f"mount --rbind /{name} {self.root}/{name}" for name in ("usr", "dev"))
        proc = f"mount -t proc proc {self.root}/proc"
        script = f"hostname {self.name}; {mounts}; {proc}; exec chroot {self.root} sleep infinity"
        self._power = subprocess.Popen([*ISOLATED, "sh", "-ec", script], stdin=subprocess.DEVNULL)
        pid = self._power.pid
        wait_for(
            lambda: _child(pid) > 0 and Path(f"/proc/{_child(pid)}/root").readlink() == self.root,
            f"{self.name} to start",
        )
        self.network.connect(self.number, _child(pid))
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def power_off(self) -> None:
        """Kill every process of the host at once."""
        if self._power:
            # The first process of the host ends all others, and their processor time is counted.
            os.kill(_child(self._power.pid), signal.SIGKILL)
            self._power.wait()
            self._power = None
        if self.service:
            self.service.wait()

    def _inside(self, command: tuple[str, ...], environment: dict[str, str]) -> list[str]:
        assert self._power
        assignments = [
            f"{name}={value}" for name, value in {"PATH": "/usr/sbin:/usr/bin", "HOME": "/", **environment}.items()
        ]
        return [
            "nsenter",
            "-t",
            str(_child(self._power.pid)),
            "-n",
            "-m",
            "-u",
            "-p",
            "-r",
            "-w",
            "env",
            "-i",
            *assignments,
            *command,
        ]

    def run(
        self, *command: str, check: bool = True, text: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host."""
        done = subprocess.run(
            self._inside(command, environment),
            input=text,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{self.name}: {' '.join(command)}: {done.stdout}{done.stderr}"
        return done

    def k3s(self, *words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `k3s WORDS` to its end."""
        return self.run("/opt/k3s", *words, check=check, K3S_STANDIN_TIME_SCALE=TIME_SCALE, **environment)

    def configure(self, **settings: object) -> None:
        """Write config.yaml."""
        keys = {name.replace("_", "-"): value for name, value in settings.items()}
        self.write("etc/rancher/k3s/config.yaml", json.dumps({"node-ip": self.address, **keys}))

    def start(self, command: str = "server") -> None:
        """Start K3s as a service would, with a separate log."""
        notify = self.root / "run" / "notify"
        notify.unlink(missing_ok=True)
        environment = {"K3S_STANDIN_TIME_SCALE": TIME_SCALE}
        with self.log.open("ab") as log:
            log.write(f"--- start of {command}\n".encode())
            self._starts = self.log.stat().st_size
            self.service = subprocess.Popen(
                self._inside(("/opt/k3s", command), environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the service with a signal to its process on the host, and wait until it has ended."""
        assert self.service
        self.run("sh", "-c", f"kill -{number.value} $(pgrep -f '^/opt/k3s (server|agent)')", check=False)
        self.service.wait(60)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def said(self) -> str:
        """Return the log since the last start."""
        return self.log.read_bytes()[self._starts :].decode(errors="replace")

    def wait_until_said(self, text: str, wait_s: float = 60.0) -> None:
        """Wait for a line of the log; fail immediately if the service ended without it."""

        def found() -> bool:
            assert self.service
            ended = self.service.poll() is not None
            if text in self.said():
                return True
            assert not ended, f"{self.name} ended before it said {text!r}:\n{self.said()[-3000:]}"
            return False

        wait_for(found, f"{self.name}: {text}", wait_s)

    def wait_until_ended(self, wait_s: float = 60.0) -> int:
        """Wait until the service has ended; return its exit code."""
        service = self.service
        assert service
        wait_for(lambda: service.poll() is not None, f"the end of {self.name}", wait_s)
        return service.wait()

    def write(self, path: str, text: str) -> None:
        """Write a file of the host."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def read(self, path: str) -> str:
        """Return the text of a file of the host."""
        return (self.root / path).read_text(encoding="utf-8")

    def kubectl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `k3s kubectl` of this server."""
        return self.k3s("kubectl", *words, check=check)

    def get(self, *words: str) -> Any:
        """Return the JSON output of `kubectl get`."""
        return json.loads(self.kubectl("get", *words, "-o", "json").stdout)

    def fetch(self, path: str, *users: str) -> str:
        """Return status and body of a request to the server on this host."""
        return self.run("python3", "-c", FETCH, f"https://127.0.0.1:6443{path}", *users).stdout

    def members(self) -> dict[str, bool]:
        """Return the node names of etcd's members, and whether each is a voter."""
        found = json.loads(self.fetch("/db/info").partition(" ")[2])["members"]
        return {each.get("name", "").rpartition("-")[0]: not each.get("isLearner", False) for each in found}

    def wipe(self) -> None:
        """Remove all files of K3s on the host."""
        for path in (DATA, "etc/rancher"):
            shutil.rmtree(self.root / path, ignore_errors=True)
        self._prepare()
