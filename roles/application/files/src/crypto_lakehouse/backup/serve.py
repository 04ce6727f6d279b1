# SPDX-License-Identifier: GPL-3.0-or-later
"""`lakehouse backup serve`: receives write-ahead log, takes sets on schedule, and publishes their metrics.

Each set is taken by a separate process, so that its memory is released and a crash does not affect the receiver.
"""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from crypto_lakehouse.backup.database.programs import bound, programs, stop
from crypto_lakehouse.backup.database.receiver import Receiver, ReceiverMetrics, ReceiverOptions
from crypto_lakehouse.backup.database.server import Server
from crypto_lakehouse.backup.destination.opened import open_destination
from crypto_lakehouse.backup.metrics import Gauges
from crypto_lakehouse.backup.model import moment
from crypto_lakehouse.backup.schedule import is_due
from crypto_lakehouse.backup.sets import SetInfo, list_sets
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.backup.state import State
from crypto_lakehouse.settings import Settings

log = logging.getLogger("lakehouse.backup")

TICK_S: Final = 5.0
REFRESH_S: Final = 300.0
STOP_TIMEOUT_S: Final = 30.0


class SetMetrics:
    """The series about sets, by the names of the rules and dashboards."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = gauges = Gauges(registry)
        self.last_success = gauges.add("last_success_timestamp_seconds", "Start of the newest good set")
        self.last_duration = gauges.add("last_duration_seconds", "Duration of the newest good set")
        self.last_size = gauges.add("last_size_bytes", "Bytes of the newest good set, shared ones included")
        self.last_verified = gauges.add(
            "last_verified_timestamp_seconds", "Last time that every hash of a set was verified"
        )
        self.sets = gauges.add("sets", "Number of good sets")
        self.failures = gauges.add("failed_runs", "Runs that failed since the last good set")
        self.show_failures(0)

    def show_failures(self, number: int) -> None:
        """Publish how many runs failed since the last good set."""
        self._gauges.publish(self.failures, number)

    def show(self, sets: Sequence[SetInfo]) -> None:
        """Publish the newest good set."""
        good = [each for each in sets if each.state == "good"]
        self._gauges.publish(self.sets, len(good))
        if good:
            newest = good[0]
            started, finished = moment(newest.started_at), moment(newest.finished_at)
            self._gauges.publish(self.last_success, started.timestamp())
            self._gauges.publish(self.last_duration, (finished - started).total_seconds())
            self._gauges.publish(self.last_size, newest.size)
        verified = [each.proof.at for each in good if each.proof and each.proof.level >= 2]
        if verified:
            self._gauges.publish(self.last_verified, moment(max(verified)).timestamp())


@dataclass
class Scheduler:
    """Takes sets when they are due.

    command: takes one set; its first word is a path. It ends with this process. read_sets: returns the sets of the
    destination, the newest first.
    """

    times: Sequence[str]
    command: Sequence[str]
    read_sets: Callable[[], Sequence[SetInfo]]
    metrics: SetMetrics
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _process: subprocess.Popen[bytes] | None = None
    _last_attempt: datetime | None = None
    _last_started: datetime | None = None
    _failures: int = 0
    _read_at: float = float("-inf")

    def step(self) -> None:
        """Begin, follow or end a run; read the sets again from time to time."""
        if self._process is not None:
            self._follow(self._process)
        if time.monotonic() - self._read_at >= REFRESH_S:
            self._refresh()
        if self._process is None and is_due(self.times, self._last_started, self._last_attempt, self.clock()):
            self._last_attempt = self.clock()
            log.info("taking a backup set")
            command = bound(self.command)
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        status = process.poll()
        if status is None:
            return
        self._process = None
        self._failures = 0 if status == 0 else self._failures + 1
        self.metrics.show_failures(self._failures)
        if status:
            log.error("the backup run failed with status %d; see the lines above", status)
        self._refresh()

    def _refresh(self) -> None:
        """Read the sets; the last result is kept where the destination does not answer."""
        self._read_at = time.monotonic()
        try:
            sets = self.read_sets()
        except Exception as error:  # noqa: BLE001 - the service outlives whatever a destination raises
            log.warning("cannot read the sets: %s", error)
            return
        self.metrics.show(sets)
        good = [moment(each.started_at) for each in sets if each.state == "good"]
        self._last_started = max(good, default=None)

    def stop(self) -> None:
        """End a running run with its programs; the next one continues with its stored content."""
        if self._process is not None:
            stop(self._process, signal.SIGTERM, STOP_TIMEOUT_S)


def http_server(address: tuple[str, int], registry: CollectorRegistry, receiver: Receiver) -> ThreadingHTTPServer:
    """Return a server of `/metrics` and `/health`, without names of objects."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/health":
                healthy = receiver.state.is_receiving
                body = json.dumps({"status": "healthy" if healthy else "unhealthy", "slot": receiver.state.slot})
                self._answer(200 if healthy else 503, "application/json", body.encode())
            else:
                self._answer(404, "text/plain", b"not found\n")

        def refuse(self) -> None:
            self._answer(405, "text/plain", b"method not allowed\n")

        do_DELETE = do_OPTIONS = do_PATCH = do_POST = do_PUT = refuse  # noqa: N815 - names of the base class

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep requests out of the log."""

    server = ThreadingHTTPServer(address, Handler)
    server.daemon_threads = True
    return server


def serve(settings: Settings, backup: BackupSettings) -> int:
    """Serve until a signal; returns 0, or 1 where the receiver ended by itself."""
    destination = open_destination(settings, backup, "create")
    work, state, registry = Path(backup.require("work_folder")), State(settings, backup), CollectorRegistry()
    receiver = Receiver(
        Server(backup.require("database_url")),
        programs(backup),
        destination,
        work / "wal",
        ReceiverOptions(interval_s=backup.wal_interval_s),
        requested=state.wal_request,
        metrics=ReceiverMetrics(registry),
    )
    scheduler = Scheduler(
        backup.times,
        [sys.executable, "-m", "crypto_lakehouse.cli", "backup", "create"],
        lambda: list_sets(destination),
        SetMetrics(registry),
    )
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    receiving = threading.Thread(target=receiver.run, args=[stopping], name="receiver")
    server = http_server((backup.host, backup.port), registry, receiver)
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    receiving.start()
    while not stopping.wait(TICK_S) and receiving.is_alive():
        scheduler.step()
    is_stopped = stopping.is_set()
    stopping.set()
    scheduler.stop()
    receiving.join()
    server.shutdown()
    server.server_close()
    return 0 if is_stopped else 1
