# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Escrow of a snapshot: the server's tokens, CAs and encryption configuration, which a restore requires."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from ..host.errors import HostError
from ..k3s.snapshots import Escrow
from .files import read_data
from .snapshots import RECORDS, escrow_file
from .writing import read_token, write

# Files of K3s' bootstrap data, pkg/daemons/config/types.go (ControlRuntimeBootstrap); not every release has all.
FILES = (
    "server/tls/*-ca.crt",
    "server/tls/*-ca.key",
    "server/tls/etcd/*-ca.crt",
    "server/tls/etcd/*-ca.key",
    "server/tls/service*.key",
    "server/cred/encryption-*.json",
)


def read_escrow(data: Path, tokens: Path = Path("/etc/rancher/k3s")) -> dict[str, Any]:
    """Return the credentials of a server: passwords of its tokens, and files by their path in the data directory.

    Raises `HostError` if they are incomplete.
    """
    state = read_data(Path("/"), str(data))
    server = read_token([tokens / "server-token", data / "server/token"])
    if not (server and state.token_hash and state.ca_hash and state.marker):
        raise HostError(f"cannot keep the credentials of K3s: {data} holds no complete server. Start the server first.")
    found = sorted(path for pattern in FILES for path in data.glob(pattern) if path.is_file())
    return {
        "cluster": state.marker.cluster,
        "cluster_id": state.marker.cluster_id,
        "token_hash": state.token_hash,
        "ca_hash": state.ca_hash,
        "server_token": server,
        "agent_token": read_token([tokens / "agent-token", data / "server/agent-token"]),
        "files": {str(path.relative_to(data)): path.read_text(encoding="utf-8") for path in found},
    }


def store_escrow(data: Path, escrow: Escrow, sealed: bytes) -> bool:
    """Write an encrypted escrow beside the snapshots of a server, and return whether it is new."""
    path = data / RECORDS / escrow_file(escrow)
    existed = path.is_file()
    write(path, sealed)
    return not existed


def sealed_bytes(text: str) -> bytes:
    """Return the bytes of an encrypted escrow from its transport form; raise `HostError` for plain data."""
    found = base64.b64decode(text)
    if not found.startswith(b"age-encryption.org/v1\n"):
        raise HostError("cannot store the escrow: it is not encrypted for age. Report this fault.")
    return found
