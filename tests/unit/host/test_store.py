# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.store import read_store, store_document
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.store_files import (
    Converged,
    SecretFile,
    converge,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.tree import Tree
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets import values as secret_values
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets.values import (
    Derived,
    SecretError,
    SecretSpec,
    Stored,
    bcrypt_hash,
    check_values,
    plan_store,
    random_value,
    values_of,
)

PASSWORD = SecretSpec("database_password", "password")
HASH = SecretSpec("database_password_bcrypt", "bcrypt", of="database_password")
HOOK = SecretSpec("slack_url", "given", optional=True)
SPECS = (PASSWORD, HASH, HOOK)
URL = "https://hooks.example.org/T0/B0"


class Kept:
    """A store in a folder, and the result of a run."""

    def __init__(self, home: Path) -> None:
        self.path = home / "secrets/store.json"
        self.file = home / "secrets/database/database_password"

    def converge(
        self,
        specs: tuple[SecretSpec, ...] = SPECS,
        values: dict[str, object] | None = None,
        rotate: bool = False,
        check_mode: bool = False,
        prune: bool = False,
    ) -> Converged:
        files = [SecretFile(self.file, "database_password")]
        return converge(self.path, specs, values or {}, files, rotate, check_mode, prune)

    def values(self) -> dict[str, str]:
        return values_of(self.read())

    def read(self) -> dict[str, Stored]:
        return read_store(Tree(self.path.parent), self.path)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "home")


@pytest.fixture
def cheap_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_values, "BCRYPT_COST", 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Upper", "password"), "'Upper' is not a usable secret name; use lower case letters"),
        (("a", "passwort"), "'passwort' is not a kind of secret; use one of password, access_key, token, hex, "),
        (("a", "password", None, "b"), "`of` does not fit kind password"),
        (("a", "bcrypt"), "`of` does not fit kind bcrypt"),
        (("a", "password", 7), "7 is not a length of a password .*; use a number from 8 to 1024"),
    ],
)
def test_a_secret_that_makes_no_sense_is_refused(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SecretError, match=message):
        SecretSpec(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (12345678, "is of type int; put it in quotes"),
        (["a"], "is of type list"),
        ("abc", "is shorter than 8 characters"),
        ("two\nlines-long", "holds a line break"),
        ("x" * 73, "is longer than the 72 bytes of bcrypt"),
    ],
)
def test_a_given_value_that_cannot_be_used_is_refused_without_being_shown(value: object, message: str) -> None:
    with pytest.raises(SecretError, match=message) as refused:
        check_values(SPECS, {"database_password": value})
    assert str(value) not in str(refused.value)


def test_all_values_that_cannot_be_used_are_named_at_once_with_the_nearest_name() -> None:
    required = SecretSpec("licence_key", "given")
    with pytest.raises(SecretError) as refused:
        check_values(
            (*SPECS, required), {"database_passwort": "long enough", "database_password_bcrypt": "$2b$10$aaaa"}
        )
    assert "secret 'database_passwort' is unknown; did you mean 'database_password'?" in str(refused.value)
    assert "is derived from 'database_password'; set the value of that secret" in str(refused.value)
    assert "secret 'licence_key' is missing" in str(refused.value)


def test_a_hash_of_a_secret_that_is_not_described_is_an_error() -> None:
    with pytest.raises(SecretError, match="is derived from 'database_password', which is not described"):
        plan_store((HASH,), {}, {}, rotate=False)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 1}',
        b'{"version": 1, "secrets": {"a": {"value": 5}}}',
        b"\xff\xfe",
        b'{"secrets": {}}',
    ],
)
def test_a_damaged_store_is_an_error_with_a_remedy_and_is_left_as_it_is(kept: Kept, damage: bytes) -> None:
    kept.path.parent.mkdir(parents=True, mode=0o700)
    kept.path.write_bytes(damage)
    for rotate in (False, True):
        with pytest.raises(HostError, match="damaged and was left as it is; restore it from a backup"):
            kept.converge(rotate=rotate)
    assert kept.path.read_bytes() == damage


def test_a_store_of_a_later_version_is_left_as_it_is(kept: Kept) -> None:
    kept.path.parent.mkdir(parents=True, mode=0o700)
    kept.path.write_text('{"version": 2, "secrets": {}}')
    with pytest.raises(HostError, match="has version 2, this collection knows 1"):
        kept.converge()


@pytest.mark.usefixtures("cheap_hash")
def test_a_store_of_another_user_is_an_error(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.converge()
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with pytest.raises(HostError, match=r"belongs to .*, not to 54321; .*chown"):
        kept.converge()
    with pytest.raises(HostError, match=r"store\.json: belongs to"):
        kept.read()


@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo"])
def test_a_store_that_is_no_file_is_an_error(kept: Kept, kind: str, tmp_path: Path) -> None:
    kept.path.parent.mkdir(parents=True, mode=0o700)
    if kind == "symlink":
        (tmp_path / "elsewhere").write_text("{}")
        kept.path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        kept.path.mkdir()
    else:
        os.mkfifo(kept.path)
    with pytest.raises(HostError, match=r"must be a file, but it is a (symlink|folder|special); move it away"):
        kept.converge()


def test_a_link_in_the_place_of_a_services_folder_is_refused(kept: Kept, tmp_path: Path) -> None:
    kept.converge()
    kept.file.unlink()
    kept.file.parent.rmdir()
    (tmp_path / "elsewhere").mkdir()
    kept.file.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="a folder is needed here, but it is a symlink"):
        kept.converge()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_secret_file_outside_of_the_stores_folder_is_refused(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="lies outside of"):
        converge(kept.path, SPECS, {}, [SecretFile(tmp_path / "x", "database_password")])


@pytest.mark.parametrize(
    ("kind", "length", "pattern"),
    [
        ("password", None, r"[A-Za-z0-9]{32}"),
        ("password", 12, r"[A-Za-z0-9]{12}"),
        ("access_key", None, r"[A-Z][A-Z0-9]{19}"),
        ("token", None, r"[A-Za-z0-9]{48}"),
        ("hex", None, r"[0-9a-f]{64}"),
    ],
)
def test_a_generated_value_has_its_kinds_form_and_is_new_each_time(kind: str, length: int | None, pattern: str) -> None:
    values = {random_value(SecretSpec("a", kind, length)) for _number in range(50)}
    assert len(values) == 50
    assert all(re.fullmatch(pattern, value) for value in values)


@pytest.mark.usefixtures("cheap_hash")
def test_a_first_run_makes_everything_private_and_a_second_changes_nothing(kept: Kept) -> None:
    first = kept.converge()
    assert first.changed
    assert first.changes.generated == ("database_password",)
    assert first.changes.derived == ("database_password_bcrypt",)
    assert first.changes.missing == ("slack_url",)
    values = kept.values()
    assert kept.file.read_text() == values["database_password"]
    assert bcrypt.checkpw(values["database_password"].encode(), values["database_password_bcrypt"].encode())
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in (kept.path, kept.file)} == {"0o600"}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in (kept.path.parent, kept.file.parent)} == {"0o700"}
    second = kept.converge()
    assert (second.changed, second.diff, second.changes.names) == (False, [], [])


@pytest.mark.usefixtures("cheap_hash")
def test_values_are_shown_nowhere_but_in_the_list_of_what_must_not_be_shown(kept: Kept) -> None:
    done = kept.converge(values={"slack_url": URL})
    values = kept.values().values()
    assert set(values) <= set(done.secret_values)
    assert not any(value in f"{done} {done.diff} {kept.read()}" for value in values)


@pytest.mark.usefixtures("cheap_hash")
def test_check_mode_predicts_the_run_and_changes_nothing(kept: Kept, tmp_path: Path) -> None:
    predicted = kept.converge(check_mode=True)
    assert not list(tmp_path.iterdir())
    done = kept.converge()
    assert (predicted.changes, predicted.paths, predicted.diff) == (done.changes, done.paths, done.diff)
    before = kept.path.read_bytes()
    predicted = kept.converge(rotate=True, values={"slack_url": URL}, check_mode=True)
    assert kept.path.read_bytes() == before
    done = kept.converge(rotate=True, values={"slack_url": URL})
    assert (predicted.changes, predicted.paths, predicted.diff) == (done.changes, done.paths, done.diff)


def test_check_mode_needs_no_bcrypt(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bcrypt", None)
    assert kept.converge(check_mode=True).changes.derived == ("database_password_bcrypt",)
    with pytest.raises(SecretError, match="the Python package 'bcrypt' is missing"):
        kept.converge()


@pytest.mark.usefixtures("cheap_hash")
def test_rotation_renews_what_was_generated_and_keeps_what_was_given(kept: Kept) -> None:
    kept.converge(values={"slack_url": URL})
    before = kept.values()
    done = kept.converge(values={"slack_url": URL}, rotate=True)
    after = kept.values()
    assert done.changes.rotated == ("database_password",)
    assert done.changes.derived == ("database_password_bcrypt",)
    assert after["database_password"] != before["database_password"]
    assert after["slack_url"] == URL
    assert kept.file.read_text() == after["database_password"]
    assert bcrypt.checkpw(after["database_password"].encode(), after["database_password_bcrypt"].encode())
    assert not [value for value in before.values() if value != URL and value in kept.path.read_text()]


@pytest.mark.usefixtures("cheap_hash")
def test_a_store_with_former_values_is_cleaned_by_the_next_run_and_nothing_else_changes(kept: Kept) -> None:
    kept.converge(values={"slack_url": URL})
    document = json.loads(kept.path.read_text())
    clean, former = kept.path.read_bytes(), "former-value-of-an-earlier-version"
    for entry in document["secrets"].values():
        entry["previous"] = [former, f"older-{former}"]
    gone = {"value": "", "kind": "given", "origin": "removed", "previous": [former], "source_digest": None}
    document["secrets"]["gone"] = gone
    kept.path.write_text(json.dumps(document))
    predicted = kept.converge(values={"slack_url": URL}, check_mode=True)
    done = kept.converge(values={"slack_url": URL})
    assert (done.changed, done.paths, done.changes.names) == (True, [str(kept.path)], [])
    assert (predicted.paths, predicted.diff) == (done.paths, done.diff)
    assert former not in str(done.diff)
    assert kept.path.read_bytes() == clean


@pytest.mark.usefixtures("cheap_hash")
def test_pruning_removes_what_may_hold_a_former_value(kept: Kept) -> None:
    kept.converge()
    folder = kept.path.parent
    left = [folder / "gone/database_password", folder / "database/old", folder / ".store.json.new"]
    (folder / "gone").mkdir(mode=0o700)
    for path in left:
        path.write_text("a former value")
    (folder / "notes").write_text("of the user")
    predicted = kept.converge(prune=True, check_mode=True)
    assert all(path.exists() for path in left)
    done = kept.converge(prune=True)
    assert done.paths == predicted.paths == sorted(map(str, left))
    assert not any(path.exists() for path in left)
    assert kept.file.exists()
    assert (folder / "notes").exists()
    assert not kept.converge(prune=True).changed


@pytest.mark.usefixtures("cheap_hash")
def test_a_given_value_wins_over_the_generated_one_and_its_hash_follows(kept: Kept) -> None:
    kept.converge()
    done = kept.converge(values={"database_password": "from-the-vault"})
    assert done.changes.given == ("database_password",)
    assert done.changes.derived == ("database_password_bcrypt",)
    assert kept.values()["database_password"] == kept.file.read_text() == "from-the-vault"
    assert not kept.converge(values={"database_password": "from-the-vault"}).changed
    assert not kept.converge().changed
    assert not kept.converge(values={"database_password": "from-the-vault"}, rotate=True).changed


@pytest.mark.usefixtures("cheap_hash")
def test_a_secret_that_the_inventory_no_longer_gives_is_removed_and_not_kept(kept: Kept) -> None:
    hook = SecretFile(kept.path.parent / "alertmanager/slack_url", "slack_url")
    converge(kept.path, SPECS, {"slack_url": URL}, [hook])
    assert hook.path.read_text() == URL
    done = converge(kept.path, SPECS, {"slack_url": ""}, [hook])
    assert (done.changes.removed, done.changes.missing) == (("slack_url",), ("slack_url",))
    assert not hook.path.exists()
    assert "slack_url" not in kept.values()
    assert URL not in kept.path.read_text()
    assert not converge(kept.path, SPECS, {}, [hook]).changed
    assert converge(kept.path, SPECS, {"slack_url": URL}, [hook]).changes.given == ("slack_url",)


@pytest.mark.usefixtures("cheap_hash")
def test_a_secret_that_is_no_longer_described_is_kept(kept: Kept) -> None:
    kept.converge()
    before = kept.values()
    done = converge(kept.path, [SecretSpec("other", "hex")], {}, [])
    assert done.changes.generated == ("other",)
    assert kept.values().items() >= before.items()


@pytest.mark.usefixtures("cheap_hash")
@pytest.mark.parametrize("which", ["store", "file", "store folder", "service folder"])
def test_permissions_that_were_opened_by_hand_are_closed_again(kept: Kept, which: str) -> None:
    kept.converge()
    content = kept.path.read_bytes()
    path = {
        "store": kept.path,
        "file": kept.file,
        "store folder": kept.path.parent,
        "service folder": kept.file.parent,
    }[which]
    path.chmod(0o755)
    done = kept.converge()
    assert done.paths == [str(path)]
    assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert kept.path.read_bytes() == content


@pytest.mark.usefixtures("cheap_hash")
def test_a_secret_file_that_was_edited_or_removed_is_brought_back(kept: Kept) -> None:
    kept.converge()
    kept.file.write_text("by hand")
    assert kept.converge().paths == [str(kept.file)]
    kept.file.unlink()
    assert kept.converge().paths == [str(kept.file)]
    assert kept.file.read_text() == kept.values()["database_password"]


@pytest.mark.usefixtures("cheap_hash")
def test_a_run_that_is_killed_at_any_step_leaves_the_old_or_the_new_store_whole(
    kept: Kept, every_death: Callable[[Callable[[], object]], Iterator[int]]
) -> None:
    kept.converge()
    deaths = 0
    before = kept.values()
    former = {*before.values()}
    for step in every_death(lambda: kept.converge(rotate=True)):
        deaths = step + 1
        now = kept.values()
        assert now.keys() == before.keys()
        assert bcrypt.checkpw(now["database_password"].encode(), now["database_password_bcrypt"].encode())
        kept.converge(prune=True)
        assert kept.file.read_text() == now["database_password"]
        assert not kept.converge().changed
        there = {path.read_text() for path in kept.path.parent.rglob("*") if path.is_file()}
        assert not [value for value in former - {*now.values()} for text in there if value in text]
        former |= {*now.values()}
    assert deaths >= 8


@pytest.mark.usefixtures("cheap_hash")
def test_a_first_run_that_is_killed_at_any_step_is_finished_by_the_next(
    tmp_path: Path, every_death: Callable[[Callable[[], object]], Iterator[int]]
) -> None:
    homes = iter(range(1000))
    current: list[Kept] = []

    def begin() -> None:
        current[-1].converge()

    current.append(Kept(tmp_path / f"home{next(homes)}"))
    for _step in every_death(begin):
        kept = current[-1]
        kept.converge()
        assert not kept.converge().changed
        assert not list(kept.path.parent.rglob(".*"))
        current.append(Kept(tmp_path / f"home{next(homes)}"))
    assert len(current) >= 8


def test_the_hash_is_one_that_others_can_check() -> None:
    assert bcrypt.checkpw(b"a value", bcrypt_hash("a value").encode())


def upper(_spec: SecretSpec, sources: Sequence[str]) -> Derived:
    return Derived(sources[0].upper())


NAMES = ("a", "b", "c")
STATES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["v1-aaaaaaa", "v2-aaaaaaa"]))


@given(STATES, STATES, st.booleans())
def test_planning_twice_changes_nothing_more(there: dict[str, str], given_values: dict[str, str], rotate: bool) -> None:
    specs = [SecretSpec("a", "password"), SecretSpec("b", "given", optional=True), SecretSpec("c", "hex")]
    specs.append(SecretSpec("h", "bcrypt", of="a"))
    before = {name: Stored(value, "password", "generated") for name, value in there.items()}
    future, changes = plan_store(specs, before, given_values, rotate, derive=upper)
    again, nothing = plan_store(specs, future, given_values, rotate=False, derive=upper)
    assert (again, nothing.names) == (future, [])
    assert values_of(future).items() >= given_values.items()
    assert {name for name in {*before, *future} if values_of(before).get(name) != values_of(future).get(name)} <= set(
        changes.names
    )
    assert json.loads(store_document(future))["secrets"].keys() == values_of(future).keys()
