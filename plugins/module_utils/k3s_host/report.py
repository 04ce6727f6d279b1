# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Report on one host: machine, binary, service, data directory, configuration, and its view of the cluster."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..k3s.model import HostReport
from .access import AccessError, Api, admin, peer, read_etcd
from .files import DEFAULT_DATA_DIR, below, read_applied, read_configuration, read_data
from .machine import read_system
from .service import UNITS, Service, installed_role, read_binary, read_service

DEFAULT_PORT = 6443
POLL_S = 2.0
RUNNING = ("active", "activating")


@dataclass(frozen=True)
class Place:
    """Locations of K3s on a host: the folder of the host's files, its inventory name, and paths on the host.

    wait_s: maximum time in seconds until a running server is ready.
    """

    host: str
    data_dir: str = DEFAULT_DATA_DIR
    binary: str = "/usr/local/bin/k3s"
    root: Path = Path("/")
    wait_s: float = 0.0


def read_report(place: Place) -> HostReport:
    """Return the report of this host; raise `HostError` for a configuration that cannot be read."""
    configuration = read_configuration(place.root)
    data_dir = str(configuration.get("data-dir") or (DEFAULT_DATA_DIR if configuration else place.data_dir))
    folder = below(place.root, data_dir)
    role = installed_role(place.root)
    service = read_service(UNITS[role]) if role != "none" else Service()
    version, digest = read_binary(place.root, place.binary)
    port = int(configuration.get("https-listen-port", DEFAULT_PORT))
    return HostReport(
        host=place.host,
        role=role,
        system=read_system(place.root, data_dir),
        version=version,
        sha256=digest,
        service=service.state,
        started_at=service.started_at,
        data=read_data(place.root, data_dir),
        configuration=configuration,
        applied_digest=applied_digest(folder, service),
        **read_cluster(folder, port, place.wait_s if service.state in RUNNING else 0.0),
    )


def applied_digest(folder: Path, service: Service) -> str:
    """Return the recorded hash of settings if the running process is younger than the record; else nothing."""
    digest, recorded_s = read_applied(folder)
    return digest if service.pid and service.started_s >= recorded_s else ""


def read_cluster(folder: Path, port: int, wait_s: float = 0.0) -> dict[str, Any]:
    """Return a server's information about its cluster, by fields of the report. Unanswered requests are omitted.

    wait_s: maximum time in seconds until the server is ready. One that starts, or waits for a processor, would look
    like one without a majority.
    """
    deadline = time.monotonic() + wait_s
    found = _read_cluster(folder, port)
    while admin(folder).complete and not _is_complete(folder, found) and time.monotonic() < deadline:
        time.sleep(POLL_S)
        found = _read_cluster(folder, port)
    return found


def _is_complete(folder: Path, found: dict[str, Any]) -> bool:
    return bool(found.get("ready")) and ("etcd" in found or not peer(folder).complete)


def _read_cluster(folder: Path, port: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not admin(folder).complete:
        return found
    if peer(folder).complete:
        with contextlib.suppress(AccessError, ValueError, KeyError, TypeError):
            found["etcd"] = read_etcd(folder)
    api = Api(folder, port)
    found["ready"] = api.ready()
    if found["ready"]:
        with contextlib.suppress(AccessError):
            found |= {"nodes": tuple(api.nodes()), "password_secrets": tuple(api.password_secrets())}
    return found
