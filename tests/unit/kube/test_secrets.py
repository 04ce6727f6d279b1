# SPDX-License-Identifier: GPL-3.0-or-later
"""The secret store of a cluster: generated, kept, rotated and copied secrets, and no value in the output."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import bcrypt
import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.secret_backend import SecretsManagerBackend
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.secrets import ORIGINS, Kept, Wish, keep
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets import values as secret_values
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets.values import (
    SecretError,
    SecretSpec,
    Store,
    Stored,
)

PASSWORD = SecretSpec("database_password", "password")
HASH = SecretSpec("database_password_bcrypt", "bcrypt", of="database_password")
HOOK = SecretSpec("slack_url", "given", optional=True)
SPECS = (PASSWORD, HASH, HOOK)
URL = "https://hooks.example.org/T0/B0"
PATH = "/api/v1/namespaces/crypto-lakehouse/secrets"


@dataclass
class Cluster:
    """Secrets as the API server stores them: a version for each change, and conflicts for an outdated one."""

    secret: dict[str, Any] | None = None
    writes: int = 0
    meanwhile: list[Callable[[Cluster], None]] = field(default_factory=list)

    def request(self, method: str, path: str, *, query: Any = (), body: Any = None, **_more: Any) -> Any:
        if method == "GET":
            if self.secret is None:
                raise ApiError(404, "NotFound", "secrets not found")
            return copy.deepcopy(self.secret)
        if self.meanwhile:
            self.meanwhile.pop(0)(self)
        if method == "POST" and self.secret is not None:
            raise ApiError(409, "AlreadyExists", "it is there")
        if method == "PUT":
            assert self.secret is not None
            if body["metadata"]["resourceVersion"] != self.secret["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "it has changed")
        self.writes += 1
        self.secret = copy.deepcopy(body)
        self.secret["metadata"]["resourceVersion"] = str(self.writes)
        return copy.deepcopy(self.secret)

    @property
    def values(self) -> dict[str, str]:
        assert self.secret is not None
        data = {name: base64.b64decode(value).decode() for name, value in self.secret["data"].items()}
        return {name: value for name, value in data.items() if name != ORIGINS}

    def edit(self, name: str, value: str) -> None:
        assert self.secret is not None
        self.secret["data"][name] = base64.b64encode(value.encode()).decode()


@dataclass
class Vault:
    """A service that stores the secrets outside of the cluster."""

    name: str = "the vault"
    store: dict[str, Stored] = field(default_factory=dict)
    version: int = 0

    def read(self) -> tuple[dict[str, Stored], str]:
        return dict(self.store), str(self.version)

    def write(self, store: Store, version: str) -> bool:
        if version != str(self.version):
            return False
        self.store, self.version = dict(store), self.version + 1
        return True


@pytest.fixture(autouse=True)
def cheap_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_values, "BCRYPT_COST", 4)


def run(
    cluster: Cluster | None,
    specs: tuple[SecretSpec, ...] = SPECS,
    values: Mapping[str, Any] | None = None,
    keeper: Vault | None = None,
    **words: Any,
) -> Kept:
    wish = Wish("lakehouse-secrets", "crypto-lakehouse", specs, values or {}, **words)
    return keep(cluster, wish, keeper)  # type: ignore[arg-type]


def test_what_is_missing_is_generated_once_and_kept() -> None:
    cluster = Cluster()
    first = run(cluster)
    values = cluster.values
    assert (first.changed, first.changes.generated, first.changes.derived) == (
        True,
        ("database_password",),
        ("database_password_bcrypt",),
    )
    assert bcrypt.checkpw(values["database_password"].encode(), values["database_password_bcrypt"].encode())
    assert len(values["database_password"]) == 32
    second = run(cluster)
    assert (second.changed, second.diff, cluster.writes, cluster.values) == (False, [], 1, values)


def test_the_secret_carries_labels_and_nothing_by_which_a_set_would_prune_it() -> None:
    cluster = Cluster()
    run(cluster)
    assert cluster.secret is not None
    labels = cluster.secret["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "crypto-lakehouse"
    assert not [label for label in labels if "applyset" in label]


@pytest.mark.parametrize("rotate", [False, True])
def test_check_mode_says_the_same_and_writes_nothing(rotate: bool) -> None:
    cluster = Cluster()
    if rotate:
        run(cluster)
    before = cluster.writes
    told = run(cluster, rotate=rotate, check_mode=True)
    assert cluster.writes == before
    done = run(cluster, rotate=rotate)
    assert (told.changes, told.diff, told.changed) == (done.changes, done.diff, True)


def test_on_a_cluster_that_is_only_planned_everything_would_be_generated() -> None:
    told = run(None, check_mode=True)
    assert told.changes.generated == ("database_password",)
    assert "Secret crypto-lakehouse/lakehouse-secrets: made" in told.diff[0]["after"]


def test_a_value_of_the_inventory_wins_and_leaves_with_it_when_nothing_else_can_give_it() -> None:
    cluster = Cluster()
    assert run(cluster).changes.missing == ("slack_url",)
    run(cluster, values={"slack_url": URL, "database_password": "of the inventory"})
    assert (cluster.values["slack_url"], cluster.values["database_password"]) == (URL, "of the inventory")
    done = run(cluster, values={"slack_url": ""})
    assert done.changes.removed == ("slack_url",)
    assert "slack_url" not in cluster.values
    assert cluster.values["database_password"] == "of the inventory"


def test_rotation_renews_what_was_generated_and_its_hash_and_counts_versions() -> None:
    cluster = Cluster()
    assert run(cluster, values={"slack_url": URL}).versions == {
        "database_password": 1,
        "database_password_bcrypt": 1,
        "slack_url": 1,
    }
    before = cluster.values
    done = run(cluster, values={"slack_url": URL}, rotate=True)
    assert (done.changes.rotated, done.changes.derived) == (("database_password",), ("database_password_bcrypt",))
    assert done.versions == {"database_password": 2, "database_password_bcrypt": 2, "slack_url": 1}
    assert cluster.values["database_password"] != before["database_password"]
    assert cluster.values["slack_url"] == URL


def test_no_value_is_told_anywhere_but_to_be_hidden() -> None:
    cluster = Cluster()
    run(cluster, values={"slack_url": URL})
    old = cluster.values["database_password"]
    done = run(cluster, values={"slack_url": URL}, rotate=True)
    known = {URL, old, *cluster.values.values()}
    hidden = set(done.secret_values)
    assert known <= hidden
    assert {base64.b64encode(value.encode()).decode() for value in known} <= hidden
    told = repr(done) + json.dumps(done.diff)
    assert not [value for value in hidden if value in told]


def test_two_runs_at_the_same_time_agree_on_one_value() -> None:
    cluster = Cluster()

    def other_run(other: Cluster) -> None:
        run(other)

    cluster.meanwhile.append(other_run)
    done = run(cluster)
    assert cluster.writes == 1
    assert cluster.values["database_password"] in done.secret_values


def test_who_never_gets_a_turn_says_so() -> None:
    cluster = Cluster()
    run(cluster)

    def disturb(other: Cluster) -> None:
        assert other.secret is not None
        other.secret["metadata"]["resourceVersion"] += "0"

    cluster.meanwhile.extend([disturb] * 9)
    with pytest.raises(SecretError, match="changed by others all the time"):
        run(cluster, rotate=True)


def test_a_password_that_was_changed_by_hand_is_kept_and_hashed_anew() -> None:
    cluster = Cluster()
    run(cluster)
    cluster.edit("database_password", "changed by hand")
    assert run(cluster).changes.derived == ("database_password_bcrypt",)
    assert bcrypt.checkpw(b"changed by hand", cluster.values["database_password_bcrypt"].encode())


def test_a_secret_of_somebody_else_is_refused() -> None:
    cluster = Cluster(
        {
            "metadata": {"name": "lakehouse-secrets", "namespace": "crypto-lakehouse", "resourceVersion": "1"},
            "data": {},
        }
    )
    with pytest.raises(SecretError, match="was not made by this collection and was left as it is"):
        run(cluster)
    assert cluster.secret is not None
    cluster.secret["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    with pytest.raises(SecretError, match="belongs to 'Helm'"):
        run(cluster)
    assert cluster.writes == 0


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        (ORIGINS, "{", "is damaged and was left as it is; restore it from a backup"),
        (ORIGINS, "[]", "is damaged"),
        (ORIGINS, '{"version": 9, "secrets": {}}', "has version 9, this collection knows 1"),
    ],
)
def test_a_damaged_secret_is_left_as_it_is(entry: str, value: str, message: str) -> None:
    cluster = Cluster()
    run(cluster)
    cluster.edit(entry, value)
    with pytest.raises(SecretError, match=message):
        run(cluster)
    assert cluster.writes == 1


def test_an_entry_that_is_no_text_is_damage() -> None:
    cluster = Cluster()
    run(cluster)
    assert cluster.secret is not None
    cluster.secret["data"]["database_password"] = base64.b64encode(b"\xff\xfe").decode()
    with pytest.raises(SecretError, match="is damaged"):
        run(cluster)


def test_values_that_cannot_be_used_are_refused_without_being_shown() -> None:
    with pytest.raises(SecretError, match="is shorter than 8 characters") as refused:
        run(Cluster(), values={"database_password": "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_secrets_that_are_no_longer_described_and_entries_of_others_stay() -> None:
    cluster = Cluster()
    run(cluster)
    value = cluster.values["database_password"]
    cluster.edit("added-by-hand", "something")
    run(cluster, specs=(SecretSpec("api_token", "token"),))
    assert (cluster.values["database_password"], cluster.values["added-by-hand"]) == (value, "something")


def test_a_label_that_was_taken_away_comes_back() -> None:
    cluster = Cluster()
    run(cluster)
    assert cluster.secret is not None
    del cluster.secret["metadata"]["labels"]["app.kubernetes.io/part-of"]
    assert run(cluster).changed
    assert cluster.secret["metadata"]["labels"]["app.kubernetes.io/part-of"] == "crypto-lakehouse"


def test_a_keeper_outside_is_the_store_and_the_secret_a_copy() -> None:
    vault, cluster = Vault(), Cluster()
    first = run(cluster, keeper=vault)
    assert "the vault: changed" in first.diff[0]["after"]
    value = vault.store["database_password"].value
    assert cluster.values["database_password"] == value
    assert not run(cluster, keeper=vault).changed
    cluster.edit("database_password", "changed by hand")
    repaired = run(cluster, keeper=vault)
    assert (repaired.changed_names, repaired.copied) == (["database_password"], ["database_password"])
    assert "database_password: copied" in repaired.diff[0]["after"]
    assert cluster.values["database_password"] == value
    again = Cluster()
    assert set(run(again, keeper=vault).changed_names) == set(vault.store)
    assert again.values == cluster.values


def test_a_run_that_was_killed_between_keeper_and_cluster_is_healed_by_the_next() -> None:
    vault, cluster = Vault(), Cluster()

    class PowerCutError(Exception):
        pass

    def cut(_cluster: Cluster) -> None:
        raise PowerCutError

    cluster.meanwhile.append(cut)
    with pytest.raises(PowerCutError):
        run(cluster, keeper=vault)
    value = vault.store["database_password"].value
    run(cluster, keeper=vault)
    assert (cluster.values["database_password"], vault.version) == (value, 1)


def test_a_keeper_as_an_earlier_version_wrote_it_is_read_without_former_values() -> None:
    entry = {"value": "today-0123", "kind": "password", "origin": "generated", "previous": ["former-0123"]}
    document = {"version": 1, "secrets": {"database_password": {**entry, "source_digest": None}}}

    class Session:
        def look(self, *_call: str, **_options: Any) -> dict[str, str]:
            return {"SecretString": json.dumps(document), "VersionId": "v1"}

    found, version = SecretsManagerBackend(Session(), "lakehouse").read()  # type: ignore[arg-type]
    assert (found["database_password"].value, version) == ("today-0123", "v1")
    assert "former-0123" not in json.dumps({name: stored.document() for name, stored in found.items()})


def test_an_empty_keeper_takes_what_the_cluster_already_runs_with() -> None:
    vault, cluster = Vault(), Cluster()
    run(cluster)
    value = cluster.values["database_password"]
    run(cluster, keeper=vault)
    assert vault.store["database_password"].value == value == cluster.values["database_password"]
