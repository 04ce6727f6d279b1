# SPDX-License-Identifier: GPL-3.0-or-later
"""A set in a folder on another disk is damaged: a verification names the damage, and a restore returns the rest."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    AS_ROOT,
    Lakehouse,
    Run,
    assert_whole,
)
from tests.integration.deploy.test_backup import TAKEN, content_of, metric
from tests.integration.patience import wait_for

# One object of the set is damaged at the destination; both are lost in the lake.
PUT = """
for name in ("damaged", "sound"):
    s3.put_object(Bucket=settings.bronze_bucket, Key=f"raw/folder/{name}", Body=f"content of {name}".encode())
show(None)
"""
LOSE = """
for name in ("damaged", "sound"):
    s3.delete_object(Bucket=settings.bronze_bucket, Key=f"raw/folder/{name}")
show(None)
"""


@dataclass(frozen=True)
class Damaged:
    """A set with a damaged object, and the results of its runs. restored: content of the lakehouse after them."""

    lakehouse: Lakehouse
    set_id: str
    key: str
    verify: Run
    restore: Run
    restored: dict[str, Any]


@pytest.fixture(scope="module")
def folder(deployed: tuple[Lakehouse, Run]) -> Iterator[Path]:
    """Configure the lakehouse to back up to a folder of its service user."""
    lakehouse = deployed[0]
    before, path = lakehouse.variables, lakehouse.folder / "other-disk"
    path.mkdir(mode=0o700)
    if AS_ROOT:
        account = pwd.getpwnam(lakehouse.user)
        os.chown(path, account.pw_uid, account.pw_gid)
    lakehouse.variables = {**before, "lakehouse_backup_folder": str(path)}
    try:
        yield path
    finally:
        lakehouse.variables = before


@pytest.fixture(scope="module")
def damaged(deployed: tuple[Lakehouse, Run], folder: Path) -> Damaged:
    lakehouse = deployed[0]
    lakehouse.deploy("--skip-tags", "verify").must_pass()
    # The new destination has no set, so the service creates one, and only one run at a time may store a set.
    wait_for(lambda: metric(lakehouse, "lakehouse_backup_sets") >= 1, "the first set of the service", 600.0, poll_s=1.0)
    lakehouse.application(PUT, service="worker")
    (set_id,) = TAKEN.findall(lakehouse.run("backup_create").must_pass().words)
    (path,) = (
        each for each in folder.rglob("objects/*/*") if each.is_file() and each.read_bytes() == b"content of damaged"
    )
    flip(path)
    verify = lakehouse.run("backup_verify", lakehouse_backup_set=set_id).must_fail()
    lakehouse.application(LOSE, service="worker")
    restore = lakehouse.run(
        "backup_restore",
        "--skip-tags",
        "verify",
        lakehouse_backup_set=set_id,
        lakehouse_restore_components=["raw"],
        lakehouse_restore_overwrite=True,
        lakehouse_backup_before=False,
    ).must_fail()
    key = path.relative_to(folder / "development").as_posix()
    return Damaged(lakehouse, set_id, key, verify, restore, content_of(lakehouse))


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, which keeps its mode and owner."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(0o400)


def test_a_verification_names_the_damaged_object_of_a_set_in_a_folder(damaged: Damaged) -> None:
    words = damaged.verify.words
    assert f"Set {damaged.set_id} has 1 faults" in words
    assert damaged.key in words
    assert f"cannot rely on backup set {damaged.set_id}: 1 faults" in words
    assert damaged.verify.changed == 0


def test_a_restore_of_a_damaged_set_in_a_folder_brings_back_the_rest_and_fails(damaged: Damaged) -> None:
    words = damaged.restore.words
    assert f"cannot restore all of set {damaged.set_id}" in words
    assert damaged.key in words
    assert "Restore what is named from another set" in words
    assert {"raw/folder/sound", "raw/folder/damaged"} & set(damaged.restored["raw"]) == {"raw/folder/sound"}
    assert_whole(damaged.lakehouse)
