# SPDX-License-Identifier: GPL-3.0-or-later
"""Write and read through any server of a K3s cluster, and observe its servers, until a file appears.

    tests/k3s/traffic.py KUBECONFIG STOP SERVER...

Each round replaces a number of a ConfigMap and reads it back, through a server that answers: both need a majority of
etcd. It prints JSON: rounds, the longest time between two of them, and the highest number of servers that were away at
once. Times over their limits are divided by the current slowdown of this machine relative to a quiet one.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PORT, LIMIT_S, PAUSE_S = 6443, 1.0, 0.1
GAP_S, BEGIN_S = 2.0, 60.0
# A server is away when it did not answer for this time; a single slow answer is not enough.
AWAY_S = 1.0
# The work of a calibration, and its duration in seconds on a quiet machine.
WORK, REFERENCE_S = 500_000, 0.025
PATH = "/api/v1/namespaces/default/configmaps"


def context(kubeconfig: Path) -> ssl.SSLContext:
    """Return the TLS settings of a kubeconfig whose certificates are embedded."""
    found = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    user, cluster = found["users"][0]["user"], found["clusters"][0]["cluster"]
    made = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    made.check_hostname = False
    with tempfile.NamedTemporaryFile() as file:
        for name in ("client-certificate-data", "client-key-data"):
            file.write(base64.b64decode(user[name]))
        file.flush()
        made.load_cert_chain(file.name)
    return made


def slowness() -> float:
    """Return the current slowdown relative to a quiet machine, at least 1.0."""
    began, number = time.monotonic(), 0
    for each in range(WORK):
        number ^= each
    return max((time.monotonic() - began) / REFERENCE_S, 1.0)


@dataclass
class Cluster:
    """The servers of a cluster, and their observations."""

    tls: ssl.SSLContext
    servers: list[str]
    answered: dict[str, float] = field(default_factory=dict)
    rounds: int = 0
    last: float = 0.0
    longest_s: float = 0.0
    slowest: float = 1.0
    most_away: list[str] = field(default_factory=list)
    failures: int = 0
    # Values of writes without an answer, which the cluster may still apply after later writes.
    unanswered: set[str] = field(default_factory=set)

    def ask(self, server: str, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON or text of an answer; raise OSError or HTTPException unless it succeeds."""
        connection = http.client.HTTPSConnection(server, PORT, timeout=LIMIT_S, context=self.tls)
        try:
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": kind, "Connection": "close"})
            answer = connection.getresponse()
            data = answer.read().decode()
        finally:
            connection.close()
        if answer.status // 100 != 2:
            raise http.client.HTTPException(f"{path}: {answer.status}")
        return json.loads(data) if data.startswith("{") else data

    def round(self, number: int) -> bool:
        """Write a number and read it back through the first server that answers; return whether one did."""
        value = str(number)
        for server in list(self.servers):
            try:
                self._write(server, value)
                read = self.ask(server, "GET", f"{PATH}/traffic")["data"]["number"]
            except (OSError, http.client.HTTPException):
                self.failures += 1
                # The failed one is tried last from now on.
                self.servers.remove(server)
                self.servers.append(server)
                continue
            if read != value and read not in self.unanswered:
                raise SystemExit(f"{server} returned {read} after {value} was written: the read was not linearizable")
            # Applied once, and replaced by the next write.
            self.unanswered.discard(read)
            self._note(time.monotonic())
            return True
        return False

    def _write(self, server: str, value: str) -> None:
        try:
            self.ask(server, "PATCH", f"{PATH}/traffic", {"data": {"number": value}})
        except (OSError, http.client.HTTPException):
            self.unanswered.add(value)
            raise

    def _note(self, now: float) -> None:
        """Record the time since the last round."""
        gap = now - self.last if self.rounds else 0.0
        self.longest_s = max(self.longest_s, gap if gap <= GAP_S else gap / self._measured())
        self.rounds, self.last = self.rounds + 1, now

    def _measured(self) -> float:
        found = slowness()
        self.slowest = max(self.slowest, found)
        return found

    def begin(self) -> None:
        """Create the object, through any server that answers."""
        body, end = {"metadata": {"name": "traffic"}, "data": {"number": "0"}}, time.monotonic() + BEGIN_S
        while not any(self._created(server, body) for server in self.servers):
            if time.monotonic() > end:
                raise SystemExit(f"no server answered within {BEGIN_S:g} s")

    def _created(self, server: str, body: Any) -> bool:
        try:
            self.ask(server, "POST", PATH, body)
        except (OSError, http.client.HTTPException) as error:
            return str(error).endswith(" 409")
        return True

    def watch(self, server: str, stop: threading.Event) -> None:
        """Record the last time at which a server was ready; `/readyz` needs its member of etcd and a majority."""
        while not stop.wait(PAUSE_S):
            try:
                self.ask(server, "GET", "/readyz")
            except (OSError, http.client.HTTPException):
                continue
            self.answered[server] = time.monotonic()

    def count_away(self) -> None:
        """Record the servers that are away at once."""
        away = self._away(AWAY_S)
        if len(away) > 1:
            # A server that waits for the processor is not away.
            away = self._away(AWAY_S * self._measured())
        if len(away) > len(self.most_away):
            self.most_away = away

    def _away(self, limit_s: float) -> list[str]:
        now = time.monotonic()
        return sorted(server for server in self.servers if now - self.answered.get(server, now) > limit_s)


def main(words: Sequence[str]) -> None:
    """Run until the file appears, and print the observations."""
    kubeconfig, stopping, *servers = words
    found = Cluster(context(Path(kubeconfig)), list(servers))
    found.begin()
    stop, number = threading.Event(), 0
    for server in servers:
        threading.Thread(target=found.watch, args=(server, stop), daemon=True).start()
    # The cluster is deleted together with its kubeconfig.
    while Path(kubeconfig).exists() and not Path(stopping).exists():
        number += 1
        found.round(number)
        found.count_away()
        time.sleep(PAUSE_S)
    stop.set()
    report = {"rounds": found.rounds, "failures": found.failures, "longest_gap_s": round(found.longest_s, 3)}
    print(json.dumps({**report, "most_away": found.most_away, "slowness": round(found.slowest, 1)}))


if __name__ == "__main__":
    main(sys.argv[1:])
