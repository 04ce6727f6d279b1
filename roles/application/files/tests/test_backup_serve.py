# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of the service `backup` answers two paths, by GET alone."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry

from crypto_lakehouse.backup.database.programs import Programs
from crypto_lakehouse.backup.database.receiver import Receiver, ReceiverMetrics
from crypto_lakehouse.backup.database.server import Server
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.serve import SetMetrics, http_server


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of a server whose receiver has not started."""
    folder = tmp_path_factory.mktemp("backup")
    registry = CollectorRegistry()
    SetMetrics(registry)
    receiver = Receiver(
        Server("postgresql://backup@127.0.0.1/postgres"), Programs(), FolderDestination(folder), folder / "wal"
    )
    receiver.metrics = ReceiverMetrics(registry)
    receiver._report(problem="cannot use the database server")
    server = http_server(("127.0.0.1", 0), registry, receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def _answer(port: int, method: str, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_what_is_not_known_before_there_is_a_set_is_not_published(port: int) -> None:
    status, text = _answer(port, "GET", "/metrics")
    assert status == 200
    assert "lakehouse_backup_failed_runs 0.0" in text.splitlines()
    assert "lakehouse_backup_wal_lag_bytes 0.0" in text.splitlines()
    assert "timestamp_seconds" not in text


def test_a_service_that_receives_no_wal_is_unhealthy(port: int) -> None:
    status, text = _answer(port, "GET", "/health")
    assert (status, '"unhealthy"' in text) == (503, True)


@pytest.mark.parametrize("path", ["/metrics", "/health", "/sets"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(port: int, method: str, path: str) -> None:
    assert _answer(port, method, path)[0] == 405


def test_other_paths_are_absent(port: int) -> None:
    assert _answer(port, "GET", "/sets")[0] == 404
