# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Credentials of an escrow on the host that a cluster is restored on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..host.errors import HostError
from .writing import Change, apply, changes, join_token

TOKENS = Path("/etc/rancher/k3s")
# Paths of an escrow's files in K3s; only these are written.
_FOLDERS = ("server/tls", "server/cred")
_PUBLIC_MODE = 0o644


def planned(data: Path, escrow: Mapping[str, Any], tokens: Path = TOKENS) -> list[Change]:
    """Return the files of an escrow that differ: tokens as the role keeps them, K3s' own token, CAs and keys.

    Raises `HostError` for a path that does not belong to K3s.
    """
    files = {
        tokens / "server-token": f"{escrow['server_token']}\n",
        tokens / "agent-token": f"{escrow['agent_token']}\n",
    }
    files[data / "server/token"] = f"{join_token(escrow['server_token'], 'server', escrow['ca_hash'])}\n"
    files |= {data / _checked(name): text for name, text in escrow["files"].items()}
    public = {str(path): _PUBLIC_MODE for path in files if path.suffix == ".crt"}
    return changes({str(path): text for path, text in files.items()}, public, [])


def _checked(name: str) -> str:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts
    if not inside or not any(path.is_relative_to(folder) for folder in _FOLDERS):
        raise HostError(f"cannot place {name}: it is not a credential of K3s. Add another escrow.")
    return name


def place(data: Path, escrow: Mapping[str, Any], tokens: Path = TOKENS, *, check_mode: bool = False) -> bool:
    """Write the credentials of an escrow, each file private from the start, and return whether one changed."""
    found = planned(data, escrow, tokens)
    if not check_mode:
        apply(found)
    return bool(found)
