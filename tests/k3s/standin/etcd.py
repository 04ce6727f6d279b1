# SPDX-License-Identifier: GPL-3.0-or-later
"""The real etcd: one member as a child process, and its API through the JSON gateway."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import http.client
import json
import os
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.k3s.standin import tls
from tests.k3s.standin.common import PROGRAMS, FatalError, log

# etcd answers a write without quorum after 7 s (5 s and an election).
CALL_LIMIT_S = 12.0
STOP_LIMIT_S = 10.0
# A joining member accepts connections before it answers.
STATUS_LIMIT_S = 2.0
# Timeouts that K3s configures.
TIMES = ("--heartbeat-interval=500", "--election-timeout=5000")
QUIET = ("--logger=zap", "--log-outputs=stderr", "--log-level=warn")
_PR_SET_PDEATHSIG = 1


class EtcdError(Exception):
    """A call that etcd refused or did not answer; the message is that of etcd."""


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@dataclass(frozen=True)
class Client:
    """Calls of one endpoint with the client certificate in a folder."""

    folder: Path
    endpoint: str = "https://127.0.0.1:2379"

    def call(self, path: str, body: dict[str, Any] | None = None, limit_s: float = CALL_LIMIT_S) -> dict[str, Any]:
        """Return the answer to a call; raise EtcdError."""
        parts = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(parts.netloc, timeout=limit_s)
        try:
            if parts.scheme == "https":
                ca = (self.folder / "server-ca.crt").read_text(encoding="utf-8")
                context = tls.client_context(ca, self.folder / "client")
                connection = http.client.HTTPSConnection(parts.netloc, timeout=limit_s, context=context)
            connection.request("POST", f"/v3/{path}", json.dumps(body or {}), {"Connection": "close"})
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise EtcdError(f"{self.endpoint}/{path}: {error}") from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise EtcdError(str(answer.get("message") or answer.get("error") or answer))
        return answer

    def read(self, key: str, prefix: bool = True, limit_s: float = CALL_LIMIT_S) -> list[tuple[str, str, int]]:
        """Return (key, text, revision of the last change) below a prefix or at a key, read linearizably."""
        end = {"range_end": _encode(key[:-1] + chr(ord(key[-1]) + 1))} if prefix else {}
        found = self.call("kv/range", {"key": _encode(key), **end}, limit_s).get("kvs", [])
        texts = [[base64.b64decode(each.get(name, "")).decode() for name in ("key", "value")] for each in found]
        return [(name, text, int(each["mod_revision"])) for (name, text), each in zip(texts, found, strict=True)]

    def swap(self, key: str, revision: int, text: str | None, lease: str = "0") -> int | None:
        """Store (or with None delete) a value whose revision is still this one, 0 for none; return the new revision."""
        change: dict[str, Any] = {"request_delete_range": {"key": _encode(key)}}
        if text is not None:
            change = {"request_put": {"key": _encode(key), "value": _encode(text), "lease": lease}}
        compare = {"key": _encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}
        answer = self.call("kv/txn", {"compare": [compare], "success": [change]})
        return int(answer["header"]["revision"]) if answer.get("succeeded") else None

    def members(self) -> list[dict[str, Any]]:
        """Return the members as etcd lists them."""
        return list(self.call("cluster/member/list").get("members", []))

    def check_quorum(self, limit_s: float = CALL_LIMIT_S) -> None:
        """Raise EtcdError unless a linearizable read succeeds."""
        self.read("quorum", prefix=False, limit_s=limit_s)


@dataclass
class Member:
    """The member of this server: its data, its name, and its process."""

    server_dir: Path
    node_name: str
    address: str
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.data = self.server_dir / "db" / "etcd"
        self.tls = self.server_dir / "tls" / "etcd"
        self.client = Client(self.tls)
        self.peer_url = f"https://{self.address}:2380"

    @property
    def initialized(self) -> bool:
        return (self.data / "member" / "wal").is_dir()

    @property
    def name(self) -> str:
        """Return the name, which the first call creates."""
        path = self.data / "name"
        return path.read_text(encoding="utf-8") if path.exists() else self.rename()

    def rename(self) -> str:
        """Give the member a new name and return it."""
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{self.node_name}-{uuid.uuid4().hex[:8]}"
        (self.data / "name").write_text(name, encoding="utf-8")
        (self.data / "name").chmod(0o600)
        return name

    def start(self, *, cluster: str = "", state: str = "new", reset: bool = False) -> None:
        """Start the member; for a reset alone and on loopback only."""
        initial = cluster or f"{self.name}={self.peer_url}"
        self.data.chmod(0o700)
        local, own = "https://127.0.0.1", "" if reset else f",https://{self.address}"
        files = {"cert-file": "server-client.crt", "key-file": "server-client.key", "trusted-ca-file": "server-ca.crt",
                 "peer-cert-file": "peer-server-client.crt", "peer-key-file": "peer-server-client.key",
                 "peer-trusted-ca-file": "peer-ca.crt"}  # fmt: skip
        self._spawn(
            *("--client-cert-auth", "--peer-client-cert-auth", "--experimental-initial-corrupt-check"),
            f"--data-dir={self.data}",
            f"--listen-client-urls={local}:2379{own and f'{own}:2379'}",
            f"--advertise-client-urls={local if reset else f'https://{self.address}'}:2379",
            f"--listen-peer-urls={local}:2380{own and f'{own}:2380'}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={initial}",
            f"--initial-cluster-state={state}",
            "--listen-metrics-urls=http://127.0.0.1:2381",
            *(f"--{name}={self.tls / file}" for name, file in files.items()),
            *(["--force-new-cluster"] if reset else []),
        )

    def start_temporary(self, folder: Path) -> Client:
        """Start a member on a copy of the data without other members and without TLS; return its client."""
        client, peer = "http://127.0.0.1:2399", "http://127.0.0.1:2400"
        self._spawn(
            *(f"--data-dir={folder}", "--force-new-cluster", f"--listen-peer-urls={peer}"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
        )
        return Client(self.tls, client)

    def _spawn(self, *arguments: str) -> None:
        """Start etcd, which ends with the calling thread: the main thread."""
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        command = [str(PROGRAMS / "etcd"), f"--name={self.name}", *TIMES, *QUIET, *arguments]
        self.process = subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent)  # noqa: PLW1509

    def stop(self) -> None:
        """End the process and wait for it."""
        if self.process:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT_S)
            self.process.kill()
            self.process.wait()

    def running(self) -> bool:
        """Return whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def wait_for(self, client: Client) -> None:
        """Wait until a member serves reads; raise FatalError when its process ends."""
        while self.running():
            with contextlib.suppress(EtcdError):
                return client.check_quorum(2)
            time.sleep(0.3)
        raise FatalError("etcd exited")

    def test(self) -> None:
        """Raise EtcdError unless this server is a voting member and the cluster has a quorum."""
        if self.client.call("maintenance/status", limit_s=STATUS_LIMIT_S).get("isLearner"):
            raise EtcdError("this server has not yet been promoted from learner to voting member")
        self.client.check_quorum()
        found = [f"{each.get('name', '')}={each['peerURLs'][0]}" for each in self.client.members()]
        if (own := f"{self.name}={self.peer_url}") not in found:
            raise EtcdError(f"this server is a not a member of the etcd cluster. Found {found}, expect: {own}")

    def etcdctl(self, *arguments: str) -> None:
        """Run etcdctl against this member."""
        files = [
            f"--{name}={self.tls / file}"
            for name, file in (("cacert", "server-ca.crt"), ("cert", "client.crt"), ("key", "client.key"))
        ]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        tls.run(
            str(PROGRAMS / "etcdctl"),
            f"--endpoints={self.client.endpoint}",
            *files,
            *arguments,
            environment=environment,
        )

    def restore(self, snapshot: Path) -> None:
        """Move the data away and write that of a snapshot, whose hash is verified, as a new cluster of this member."""
        if self.data.exists():
            old = self.data.with_name(f"etcd-old-{int(time.time())}")
            self.data.rename(old)
            log("info", f"Pre-restore etcd database moved to {old}")
        options = (f"--initial-cluster=restored={self.peer_url}", f"--initial-advertise-peer-urls={self.peer_url}")
        self.etcdctl("snapshot", "restore", str(snapshot), "--name=restored", f"--data-dir={self.data}", *options)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
