# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots and escrows of the controller: matching pairs, and credentials that are placed and never shown."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.snapshots import Escrow
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.recovery import place
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.snapshots import escrow_file
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.age import encrypt, new_identity, recipient_of
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.k3s_recovery import (
    Folder,
    RecoveryError,
    opened,
)

CLUSTER_ID = "11111111-1111-4111-8111-111111111111"
ESCROW = Escrow(CLUSTER_ID, "0123456789ab")
OTHER = Escrow(CLUSTER_ID, "ba9876543210")
TOKEN = "5f" * 32
IDENTITY = new_identity()
CREDENTIALS: dict[str, Any] = {
    "cluster": "lake",
    "cluster_id": ESCROW.cluster_id,
    "token_hash": ESCROW.token_hash,
    "ca_hash": "a" * 64,
    "server_token": TOKEN,
    "agent_token": "6a" * 32,
    "files": {"server/tls/server-ca.crt": "certificate", "server/tls/server-ca.key": "key"},
}


def save(folder: Path, name: str, **record: Any) -> Path:
    """Write a snapshot with the hash that etcd appends, and a record if one is given."""
    pages = bytes(1024)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pages + hashlib.sha256(pages).digest())
    if record:
        found = {"name": name, "created_s": 7.0, "size": 1, "host": "s1", "cluster_id": CLUSTER_ID, **record}
        (folder / f"{name}.json").write_text(json.dumps(found))
    return path


def keep(folder: Path, escrow: Escrow) -> None:
    (folder / escrow_file(escrow)).write_bytes(encrypt(json.dumps(CREDENTIALS).encode(), [recipient_of(IDENTITY)]))


def test_a_snapshot_without_a_record_belongs_to_the_only_escrow(tmp_path: Path) -> None:
    save(tmp_path, "snapshot")
    keep(tmp_path, ESCROW)
    (found,) = Folder(tmp_path).snapshots()
    assert (found.cluster_id, found.token_hash, found.verified) == (CLUSTER_ID, ESCROW.token_hash, True)
    keep(tmp_path, OTHER)
    assert Folder(tmp_path).escrows() == [ESCROW, OTHER]
    assert Folder(tmp_path).snapshots()[0].token_hash == ""


def test_a_record_says_what_belongs_to_a_snapshot(tmp_path: Path) -> None:
    path = save(tmp_path / "deeper", "snapshot", token_hash=OTHER.token_hash, nodes=["s1", "s2"])
    keep(tmp_path, ESCROW)
    (found,) = Folder(tmp_path).snapshots()
    assert (found.token_hash, found.nodes, found.host, found.created_s) == (OTHER.token_hash, ("s1", "s2"), "", 7.0)
    assert (found.verified, found.size) == (True, path.stat().st_size)
    save(tmp_path / "deeper", "snapshot", token_hash=OTHER.token_hash, sha256="0" * 64)
    assert not Folder(tmp_path).snapshots()[0].verified


def test_a_file_that_is_no_snapshot_is_left_out(tmp_path: Path) -> None:
    path = save(tmp_path, "snapshot")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (tmp_path / "README").write_text("text")
    assert Folder(tmp_path).snapshots() == []
    with pytest.raises(RecoveryError, match="k3s_restore_folder"):
        Folder(tmp_path / "none").snapshots()


def test_an_escrow_is_opened_by_its_identity(tmp_path: Path) -> None:
    keep(tmp_path, ESCROW)
    sealed = Folder(tmp_path).sealed(ESCROW)
    assert opened(sealed, IDENTITY, ESCROW) == CREDENTIALS
    assert Folder(tmp_path).sealed(OTHER) == b""


@pytest.mark.parametrize(
    ("identity", "escrow", "message"),
    [
        ("", ESCROW, "no private key is given"),
        ("AGE-SECRET-KEY-1WRONG", ESCROW, "cannot decrypt the escrow"),
        (new_identity(), ESCROW, "cannot decrypt the escrow"),
        (IDENTITY, OTHER, "another cluster or token"),
    ],
    ids=["none", "wrong", "another", "other-cluster"],
)
def test_an_escrow_that_cannot_be_used(tmp_path: Path, identity: str, escrow: Escrow, message: str) -> None:
    keep(tmp_path, ESCROW)
    with pytest.raises(RecoveryError, match=message) as caught:
        opened(Folder(tmp_path).sealed(ESCROW), identity, escrow)
    assert TOKEN not in str(caught.value)
    assert not identity or identity not in str(caught.value)


def test_other_content_than_credentials_is_refused() -> None:
    sealed = encrypt(b"{}", [recipient_of(IDENTITY)])
    with pytest.raises(RecoveryError, match="holds no credentials"):
        opened(sealed, IDENTITY, ESCROW)


def test_credentials_are_placed_once_and_private(tmp_path: Path) -> None:
    data, tokens = tmp_path / "data", tmp_path / "rancher"
    assert place(data, CREDENTIALS, tokens, check_mode=True)
    assert not data.exists()
    assert place(data, CREDENTIALS, tokens)
    assert not place(data, CREDENTIALS, tokens)
    assert (tokens / "server-token").read_text() == f"{TOKEN}\n"
    assert (data / "server/token").read_text() == f"K10{'a' * 64}::server:{TOKEN}\n"
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes.pop("server-ca.crt") == 0o644
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("name", ["/etc/passwd", "server/tls/../../x", "agent/x", "server/tlsx"])
def test_a_path_that_is_not_of_k3s_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(HostError, match="not a credential of K3s"):
        place(tmp_path, {**CREDENTIALS, "files": {name: "x"}}, tmp_path / "rancher")
    assert not list(tmp_path.iterdir())
