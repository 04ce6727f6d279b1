# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine is lost with its data and its store; a new one is restored from an independent store."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import (
    Lakehouse,
    Run,
    assert_whole,
    wait_for_health,
)
from tests.integration.deploy.independent_store import ACTIONS, BUCKET, IndependentStore, independent_store
from tests.integration.deploy.test_backup import TAKEN, content_of, metric
from tests.integration.patience import wait_for

DECRYPTED = re.compile(r"files of secrets and configuration are in (\S+);")
INVENTORY = re.compile(r"The variables of the inventory are in (\S+);")
# The result of `age-keygen` in docs/backup.md.
KEY_PAIR = """
import pyrage

identity = pyrage.x25519.Identity.generate()
show([str(identity), str(identity.to_public())])
"""


@dataclass(frozen=True)
class Disaster:
    """A lost lakehouse and its replacement.

    content, secrets: of the lost one, when the set was created. runs: results of the playbooks.
    """

    lakehouse: Lakehouse
    store: IndependentStore
    set_id: str
    content: dict[str, Any]
    secrets: dict[str, str]
    runs: dict[str, Run]
    restored: dict[str, Any]

    @property
    def rto_s(self) -> float:
        """Seconds from the new machine to the passed contract."""
        return self.runs["deploy"].took_s + self.runs["restore"].took_s


@pytest.fixture(scope="module")
def store(deployed: tuple[Lakehouse, Run], free_port: Callable[[], int]) -> Iterator[IndependentStore]:
    lakehouse = deployed[0]
    weed = lakehouse.folder / "weed"
    shutil.copy2(lakehouse.programs / "weed", weed)
    with independent_store(lakehouse.folder / "other-machine", weed, free_port) as found:
        yield found


@pytest.fixture(scope="module")
def disaster(deployed: tuple[Lakehouse, Run], store: IndependentStore) -> Iterator[Disaster]:
    lakehouse = deployed[0]
    before = lakehouse.variables
    identity, recipient = lakehouse.application(KEY_PAIR)
    lakehouse.variables = {**before, **store.variables, "lakehouse_backup_recipients": [recipient]}
    try:
        yield _disaster(lakehouse, store, identity)
    finally:
        lakehouse.variables = before


def _disaster(lakehouse: Lakehouse, store: IndependentStore, identity: str) -> Disaster:
    assert_whole(lakehouse)
    runs = {"move": lakehouse.deploy().must_pass()}
    # The new destination has no set, so the service creates one, and only one run at a time may store a set.
    wait_for(lambda: metric(lakehouse, "lakehouse_backup_sets") >= 1, "the first set of the service", 120.0, poll_s=1.0)
    content, secrets = content_of(lakehouse), lakehouse.secrets
    runs["create"] = lakehouse.run("backup_create").must_pass()
    (set_id,) = TAKEN.findall(runs["create"].words)
    lose(lakehouse)
    runs["deploy"] = lakehouse.deploy().must_pass()
    runs["restore"] = lakehouse.run(
        "backup_restore", lakehouse_restore_overwrite=True, lakehouse_restore_identity=identity
    ).must_pass()
    return Disaster(lakehouse, store, set_id, content, secrets, runs, content_of(lakehouse))


def lose(lakehouse: Lakehouse) -> None:
    """Lose the machine without a warning, with its data, store, configuration and secrets.

    The new machine has the software already, whose installation other tests cover.
    """
    lakehouse.kill_everything()
    wait_for(lambda: not lakehouse.processes(), "nothing runs")
    for path in lakehouse.home.iterdir():
        if path.is_dir() and path.name != "software":
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()
    assert [path.name for path in lakehouse.home.iterdir()] == ["software"]


def test_a_lost_lakehouse_is_rebuilt_with_equal_tables_objects_and_runs(
    disaster: Disaster, record_property: Callable[[str, object], None]
) -> None:
    for part in ("tables", "uuids", "raw"):
        assert disaster.restored[part] == disaster.content[part], part
    for name, snapshots in disaster.content["snapshots"].items():
        assert set(snapshots) <= set(disaster.restored["snapshots"][name]), name
    assert set(disaster.content["runs"]) <= set(disaster.restored["runs"])
    record_property("RTO of a lost host in seconds", round(disaster.rto_s))


def test_the_restore_of_a_lost_lakehouse_names_its_set_and_its_duration(disaster: Disaster) -> None:
    words = disaster.runs["restore"].words
    assert f"Set {disaster.set_id} is restored and the contract is verified, " in words
    (safety,) = TAKEN.findall(words)
    assert safety > disaster.set_id


def test_a_rebuilt_lakehouse_has_secrets_of_its_own_and_those_of_the_lost_one_only_for_their_owner(
    disaster: Disaster,
) -> None:
    given = set(disaster.store.variables["lakehouse_secrets"])
    kept = {name for name, value in disaster.lakehouse.secrets.items() if disaster.secrets.get(name) == value}
    assert kept == given
    folder = Path(DECRYPTED.findall(disaster.runs["restore"].words)[0])
    assert folder.stat().st_mode & 0o777 == 0o700
    store = json.loads((folder / "secrets/store.json").read_text())["secrets"]
    assert {name: entry["value"] for name, entry in store.items()} == disaster.secrets


def test_a_set_holds_the_inventory_of_the_lost_lakehouse_for_its_owner(disaster: Disaster) -> None:
    words, home = disaster.runs["restore"].words, disaster.lakehouse.home
    (path,) = INVENTORY.findall(words)
    recorded = json.loads(Path(path).read_text())
    given = {**disaster.lakehouse.variables, **disaster.store.variables}
    expected = {name: given[name] for name in ("lakehouse_backup_endpoint_url", "lakehouse_backup_ca_bundle")}
    assert {name: recorded[name] for name in expected} == expected
    assert {"lakehouse_secrets", "lakehouse_restore_overwrite", "lakehouse_restore_identity"} & set(recorded) == set()
    current = home / "inventory/variables.json"
    assert json.loads(current.read_text()) == recorded
    assert (Path(path).stat().st_mode & 0o777, current.stat().st_mode & 0o777) == (0o600, 0o600)


def test_a_rebuilt_lakehouse_is_whole_and_takes_sets_that_stay(disaster: Disaster) -> None:
    lakehouse = disaster.lakehouse
    assert_whole(lakehouse)
    wait_for_health(lakehouse, wait_s=60.0)
    run = lakehouse.run("backup_create").must_pass()
    (set_id,) = TAKEN.findall(run.words)
    verified = lakehouse.run("backup_verify").must_pass()
    assert f"Set {set_id} is good: every hash verified" in verified.words
    assert metric(lakehouse, "lakehouse_backup_slot_lost") == 0
    for identity in ACTIONS:
        for each in versions(disaster.store, f"sets/{disaster.set_id}/"):
            with pytest.raises(Exception, match="AccessDenied"):
                disaster.store.client(identity).delete_object(Bucket=BUCKET, **each)


def versions(store: IndependentStore, prefix: str) -> list[dict[str, str]]:
    pages = store.client("admin").get_paginator("list_object_versions").paginate(Bucket=BUCKET)
    found = [each for page in pages for each in page.get("Versions", []) if prefix in each["Key"]]
    return [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
