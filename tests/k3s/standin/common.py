# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines in K3s' format, fatal errors, the release's version, and the scale of K3s' own timeouts."""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[3]
NODE_PASSWORD = Path("/etc/rancher/node/password")
# Seconds of K3s' controllers are multiplied by this; those of etcd are not.
TIME_SCALE = float(os.environ.get("K3S_STANDIN_TIME_SCALE", "1"))


class FatalError(Exception):
    """An error that ends the program with exit code 1."""


def version() -> str:
    """Return the version of the release, such as v1.33.5+k3s1."""
    return (PROGRAMS / "VERSION").read_text(encoding="utf-8").strip()


def scaled(seconds: float) -> float:
    """Return a time of K3s in seconds of this run."""
    return seconds * TIME_SCALE


def timestamp(seconds: float | None = None) -> str:
    """Return a time, by default now, in the format of Kubernetes."""
    moment = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def log(level: str, message: str) -> None:
    """Print a line in the format of logrus."""
    print(f'time="{timestamp()}" level={level} msg={json.dumps(message)}', file=sys.stderr, flush=True)


def notify_ready() -> None:
    """Notify systemd that the service is ready, if it requires that."""
    if address := os.environ.pop("NOTIFY_SOCKET", ""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.sendto(b"READY=1\n", address.replace("@", "\0", 1) if address.startswith("@") else address)


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file that by default only root may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode)
    path.chmod(mode)
    path.write_text(text, encoding="utf-8")
