# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots on a disk: hashes, records, escrows beside them, and the program of the timer."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.action.k3s_escrow import keep
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.snapshots import Escrow
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host import escrow, snapshots
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.escrow import read_escrow, store_escrow
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.snapshots import Store, hashes

REPOSITORY = Path(snapshots.__file__).parents[3]
PACKAGE = "ansible_collections.crypto_lakehouse.platform.plugins.module_utils"
CLUSTER_ID, PASSWORD = "11111111-1111-4111-8111-111111111111", "5f" * 32
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def etcd_file(pages: bytes = b"page" * 1024) -> bytes:
    """Return pages with the hash that etcd appends."""
    return pages + hashlib.sha256(pages).digest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store("s1", tmp_path)
    found.folder.mkdir(parents=True)
    return found


def put(store: Store, name: str, data: bytes = b"", age_s: float = 0.0) -> Path:
    path = store.folder / name
    path.write_bytes(data or etcd_file())
    os.utime(path, (1_000_000.0 - age_s, 1_000_000.0 - age_s))
    return path


@pytest.mark.parametrize("size", [512, 1024, (1 << 20) + 512, 3 << 20])
def test_the_appended_hash_is_compared(tmp_path: Path, size: int) -> None:
    path = tmp_path / "snapshot"
    data = etcd_file(bytes(number % 251 for number in range(512)) * (size // 512))
    path.write_bytes(data)
    assert hashes(path) == (hashlib.sha256(data).hexdigest(), True)
    for wrong in (data[:-1], data[1:], data[:-1] + bytes([data[-1] ^ 1]), b"", data[:32]):
        path.write_bytes(wrong)
        assert hashes(path) == (hashlib.sha256(wrong).hexdigest(), False)


def test_a_snapshot_without_a_record_is_not_verified_until_its_hash_was_compared(store: Store) -> None:
    put(store, "lake-k3s-pre-upgrade-node1-100", age_s=10)
    put(store, "lake-k3s-pre-upgrade-node1-200")
    put(store, "lake-k3s-on-demand-node1-300")
    assert [one.verified for one in store.snapshots()] == [False] * 3
    assert store.verify("lake-k3s-pre-upgrade").name == "lake-k3s-pre-upgrade-node1-200"
    assert store.verify("lake-k3s-pre-upgrade-node1-100").verified
    assert [one.name for one in store.snapshots() if one.verified] == [
        "lake-k3s-pre-upgrade-node1-100",
        "lake-k3s-pre-upgrade-node1-200",
    ]
    assert {path.stat().st_mode & 0o7777 for path in store.records.iterdir()} == {0o600}


def test_a_changed_snapshot_is_refused(store: Store) -> None:
    path = put(store, "one")
    store.verify("one")
    path.write_bytes(etcd_file(b"else" * 1024))
    with pytest.raises(HostError, match="its hash is wrong"):
        store.verify("one")
    path.write_bytes(b"cut")
    assert [one.verified for one in store.snapshots()] == [False]
    with pytest.raises(HostError, match="cannot find snapshot other on s1"):
        store.verify("other")


def server(data: Path) -> None:
    (data / "server/tls/etcd").mkdir(parents=True)
    (data / "server/cred").mkdir()
    (data / "server/tls/server-ca.crt").write_text(CERTIFICATE)
    (data / "server/tls/server-ca.key").write_text("key")
    (data / "server/tls/client-admin.key").write_text("not a part of it")
    (data / "server/tls/etcd/peer-ca.key").write_text("peer")
    (data / "server/cred/encryption-config.json").write_text("{}")
    (data / "server/token").write_text(f"K10{'a' * 64}::server:{PASSWORD}\n")
    marker = {"cluster": "lake", "cluster_id": CLUSTER_ID, "state": "member"}
    (data / "crypto-lakehouse.json").write_text(json.dumps(marker))


def test_an_escrow_holds_tokens_cas_and_the_encryption_configuration(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="holds no complete server"):
        read_escrow(tmp_path / "data", tmp_path)
    server(tmp_path / "data")
    found = read_escrow(tmp_path / "data", tmp_path)
    assert (found["server_token"], found["cluster_id"]) == (PASSWORD, CLUSTER_ID)
    assert sorted(found["files"]) == [
        "server/cred/encryption-config.json",
        "server/tls/etcd/peer-ca.key",
        "server/tls/server-ca.crt",
        "server/tls/server-ca.key",
    ]


def test_only_encrypted_escrows_are_stored_and_listed(store: Store, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="not encrypted"):
        escrow.sealed_bytes(base64.b64encode(b"plain").decode())
    sealed = b"age-encryption.org/v1\n..."
    key = Escrow(CLUSTER_ID, "0123456789ab")
    assert store_escrow(tmp_path, key, escrow.sealed_bytes(base64.b64encode(sealed).decode()))
    assert not store_escrow(tmp_path, key, sealed)
    assert store.escrows() == [Escrow(CLUSTER_ID, "0123456789ab", host="s1")]
    (path,) = store.records.iterdir()
    assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (sealed, 0o600)
    keep(tmp_path / "off", path.name, sealed)
    assert (tmp_path / "off" / path.name).stat().st_mode & 0o7777 == 0o600


def test_the_program_of_the_timer_is_complete_and_has_no_other_module(tmp_path: Path) -> None:
    listed = yaml.safe_load((REPOSITORY / "roles/k3s/vars/main.yml").read_text("utf-8"))["_k3s_program"]
    target = tmp_path / PACKAGE.replace(".", "/")
    for name in listed:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text((REPOSITORY / "plugins/module_utils" / name).read_text("utf-8"))
    code = (
        f"import sys, {PACKAGE}.k3s_host.scheduled as program; code = program.main(['missing']);"
        "print(*sorted(each.__file__ for each in sys.modules.values() if 'crypto_lakehouse' in each.__name__"
        " and getattr(each, '__file__', None))); sys.exit(code)"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "missing: No such file or directory\n")
    assert sorted(done.stdout.split()) == sorted(str(target / name) for name in listed)
