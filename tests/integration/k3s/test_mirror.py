# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of snapshots in a bucket of moto, which does not check signatures: tests/unit/k3s_host/test_s3.py does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.snapshots import Escrow
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.escrow import store_escrow
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.mirror import Mirror
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.s3 import Bucket, Keys
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.snapshots import Store

PAGES = b"page" * 1024
ESCROW = Escrow("11111111-1111-4111-8111-111111111111", "0123456789ab")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="one", aws_secret_access_key="two"
    )
    client.create_bucket(Bucket="lake")
    yield url
    server.stop()


def mirror(endpoint: str, folder: Path, name: str = "lake") -> Mirror:
    store = Store("s1", folder)
    store.folder.mkdir(parents=True)
    return Mirror(store, Bucket(name, Keys("one", "two"), endpoint, folder=f"k3s/{folder.name}"))


def test_a_verified_snapshot_is_copied_with_record_and_escrow_listed_and_deleted(endpoint: str, tmp_path: Path) -> None:
    found = mirror(endpoint, tmp_path)
    name = "lake-k3s-on-demand-node1-100"
    (found.store.folder / name).write_bytes(PAGES + hashlib.sha256(PAGES).digest())
    with pytest.raises(HostError, match="its hash was not compared"):
        found.upload(name)
    verified = found.store.verify(name)
    store_escrow(tmp_path, ESCROW, b"age-encryption.org/v1\n")
    copied = found.upload("lake-k3s-on-demand")
    assert copied == replace(verified, location="s3", host="")
    assert found.snapshots() == [copied]
    assert found.escrows() == [replace(ESCROW, host="s3")]
    assert found.bucket.get(name) == PAGES + hashlib.sha256(PAGES).digest()
    assert found.delete(name)
    assert found.snapshots() == []
    assert found.bucket.names() == [f"escrow-{ESCROW.cluster_id}-{ESCROW.token_hash}.age"]


def test_a_bucket_that_does_not_exist_is_named(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="404 NoSuchBucket") as caught:
        mirror(endpoint, tmp_path, "other").snapshots()
    assert f"{endpoint}/other" in str(caught.value)
    with pytest.raises(HostError, match=r"cannot reach http://127\.0\.0\.1:1/lake"):
        mirror("http://127.0.0.1:1", tmp_path / "more").snapshots()
