# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrades from one version of the collection to the next, and no downgrades."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    REPOSITORY,
    Lakehouse,
    assert_whole,
)
from tests.integration.deploy.test_backup import TAKEN

# The manifest's record of the collection that created the set.
VERSION_OF_SET = """
def version_of(set_id):
    found = s3.get_object(
        Bucket="crypto-lakehouse-backups-development", Key=f"development/sets/{set_id}/manifest.json"
    )
    return json.load(found["Body"])["versions"]["collection"]
"""
NEXT_VERSION = "1.1.0"
LEFT_OUT = (".git", ".venv", ".cache", ".hypothesis", "__pycache__", ".*_cache")


@pytest.fixture(scope="session")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a working copy of the collection as its next version, with a changed application."""
    copy = tmp_path_factory.mktemp("next") / "platform"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    link = copy / ".venv/collections/ansible_collections/crypto_lakehouse/platform"
    link.parent.mkdir(parents=True)
    link.symlink_to(copy)
    version = copy / "plugins/module_utils/shared/version.py"
    changed = re.sub(r'COLLECTION_VERSION = ".*"', f'COLLECTION_VERSION = "{NEXT_VERSION}"', version.read_text())
    version.write_text(changed)
    application = copy / "roles/application/files/src/crypto_lakehouse/__init__.py"
    application.write_text(f'{application.read_text()}\nNEXT = "{NEXT_VERSION}"\n')
    return copy


def test_another_major_version_of_postgresql_does_not_start_on_old_data(lakehouse: Lakehouse) -> None:
    run = lakehouse.run("upgrade", preflight_postgresql_major=18).must_fail()
    assert "holds data of PostgreSQL 17, which 18 cannot read" in run.output
    assert "Remedy: dump it" in run.output
    assert run.changed == 0
    assert_whole(lakehouse)


@pytest.mark.parametrize("before", [True, False])
def test_an_upgrade_takes_no_set_where_none_can_be_taken_or_none_is_wanted(
    lakehouse: Lakehouse, next_version: Path, before: bool
) -> None:
    program, aside = lakehouse.home / "etc/supervisor/programs/backup.conf", lakehouse.folder / "backup.conf"
    lakehouse.collection = next_version
    if before:
        program.rename(aside)
    try:
        run = lakehouse.run("upgrade", "--check", lakehouse_backup_before=before).must_pass()
    finally:
        lakehouse.collection = REPOSITORY
        if before:
            aside.rename(program)
    assert "would be stored in" not in run.words
    said = f"version {lakehouse.marker['version']} in {lakehouse.home} does not run the service `backup`" in run.words
    assert said is before


def test_an_upgrade_moves_everything_and_there_is_no_way_back(lakehouse: Lakehouse, next_version: Path) -> None:
    old = lakehouse.marker
    rows, secrets, census = lakehouse.application("show(rows())"), lakehouse.secrets, lakehouse.census()
    lakehouse.collection = next_version
    refused = lakehouse.deploy().must_fail()
    assert f"was deployed by version {old['version']}, this is {NEXT_VERSION}" in refused.output
    assert "Remedy: run playbooks/upgrade.yml" in refused.output
    assert refused.changed == 0

    check = lakehouse.run("upgrade", "--check", "--diff").must_pass()
    assert lakehouse.marker == old
    assert check.changed > 0
    assert "would be stored in" in check.words

    upgrade = lakehouse.run("upgrade").must_pass()
    (taken,) = TAKEN.findall(upgrade.words)
    # With the previous software.
    assert lakehouse.application(f"{VERSION_OF_SET}\nshow(version_of({taken!r}))") == old["version"]
    assert (lakehouse.marker["version"], lakehouse.marker["software"]) != (old["version"], old["software"])
    assert lakehouse.marker["version"] == NEXT_VERSION
    assert [path.name for path in (lakehouse.home / "software").iterdir()] == [lakehouse.marker["software"]]
    assert_whole(lakehouse)
    assert lakehouse.secrets == secrets
    assert lakehouse.census() == census
    kept = lakehouse.application("show(rows())")
    assert {name for name in rows if kept[name] < rows[name]} == set()
    assert lakehouse.deploy().must_pass().changed == 0

    lakehouse.collection = REPOSITORY
    back = lakehouse.deploy().must_fail()
    # From here on the lakehouse has the next version.
    lakehouse.collection = next_version
    assert f"deployed by version {NEXT_VERSION}, which is newer than this collection" in back.output
    assert back.changed == 0
