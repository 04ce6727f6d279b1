# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of backup sets are foreign input: every creator of objects can write one with a matching digest."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from crypto_lakehouse.backup import create, sets
from crypto_lakehouse.backup.database import recover
from crypto_lakehouse.backup.database.base import (
    ARCHIVE,
    DESCRIPTION,
    Base,
    BaseFile,
    bases_folder,
    hash_file,
    stored_bases,
)
from crypto_lakehouse.backup.database.programs import Deadline, Programs
from crypto_lakehouse.backup.database.recover import Recovery
from crypto_lakehouse.backup.destination.folder import FolderDestination
from crypto_lakehouse.backup.errors import BackupError, IntegrityError
from crypto_lakehouse.backup.model import (
    Artifact,
    DatabasePin,
    Manifest,
    RawPin,
    Source,
    Subject,
    TablePin,
    canonical,
    decode_inventory,
    encode_inventory,
    moment,
)
from crypto_lakehouse.backup.report import manifest_lines, set_lines
from crypto_lakehouse.backup.restore import Restore, Selection
from crypto_lakehouse.backup.serve import SetMetrics
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.settings import Settings

T = TypeVar("T")
SET = "20261101T020000Z-abcdef"
TIME = "2026-11-01T02:00:00Z"
SHA256 = "0" * 64
EXPIRES = datetime(2026, 12, 1, tzinfo=UTC)
DATA = Artifact(
    f"objects/00/{SHA256}",
    3,
    SHA256,
    Subject("tables", "data", "gold.t", 4, "day=1"),
    "v1",
    Source("bucket", "key", 3, "etag", "v2", "GLACIER"),
    TIME,
)
DOCUMENT = Artifact(f"sets/{SET}/tables/gold/t/metadata.json", 3, SHA256, Subject("tables", "metadata", "gold.t"))
MANIFEST = Manifest(
    id=SET,
    environment="test",
    started_at=TIME,
    finished_at=TIME,
    expires_at="2026-12-01T00:00:00Z",
    inventory=Artifact(f"sets/{SET}/inventory.jsonl.gz", 3, SHA256, Subject("configuration", "inventory")),
    versions={"collection": "1.0.0"},
    tables=(TablePin("gold", "t", "u", "s3://b/t", "s3://b/t/m.json", DOCUMENT, (3, 4), 4, 5, trimmed=True),),
    raw=RawPin("b", "raw/", 1, 1, TIME),
    database=DatabasePin("0/3000148", f"lakehouse-{SET}", 1, "77", "base", "0" * 24, "17.10", TIME),
    counts={"data": 1},
    size=3,
    own_size=3,
    omitted={"secrets": "no recipient of age is set"},
    warnings=("It does not survive the loss of this machine.",),
    protected_until=TIME,
)
BASE = Base(
    "20261101T020000Z-abcdef",
    "77",
    1,
    "0/3000028",
    "0/3000100",
    "000000010000000000000003",
    1 << 24,
    "17.10",
    TIME,
    (BaseFile("base.tar.gz", 3, SHA256),),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each value of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, each in inner for place in places(each, (*path, name)))]


def forged(document: bytes, path: tuple[Any, ...], value: Any) -> Any:
    """Return a document with another value at a path."""
    if not path:
        return value
    values = json.loads(document)
    owner = values
    for name in path[:-1]:
        owner = owner[name]
    owner[path[-1]] = value
    return values


def signed(values: Any) -> bytes:
    """Return a manifest with the digest of its content, if it can be computed."""
    if not isinstance(values, dict):
        return json.dumps(values).encode()
    content = {name: value for name, value in values.items() if name != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    return json.dumps({**content, "digest": hashlib.sha256(text).hexdigest()}).encode()


def read(act: Callable[[], T], name: str) -> T | None:
    """Return the content of a document, None if it is refused by its name."""
    try:
        return act()
    except IntegrityError as error:
        return None if error.message.startswith(f"cannot read {name}: ") else pytest.fail(error.message)


@settings(max_examples=sweep.examples(1000))
@given(path=st.sampled_from(places(json.loads(MANIFEST.to_bytes()))), value=JSON)
def test_a_forged_manifest_is_refused_or_whole(path: tuple[Any, ...], value: Any) -> None:
    found = read(lambda: Manifest.from_bytes(signed(forged(MANIFEST.to_bytes(), path, value))), "the manifest")
    if found is None:
        return
    assert json.loads(found.to_bytes())["id"] == found.id
    moment(found.expires_at)
    assert set_lines([sets._described(found, None)])
    assert manifest_lines(found, "a folder")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", "1"),
        ("format", [1]),
        ("format", float("inf")),
        ("id", 7),
        ("id", f"{SET}\n"),
        ("started_at", "yesterday"),
        ("started_at", "2099-01-01T00:00:00Z"),
        ("expires_at", "2026-13-01T00:00:00Z"),
        ("size", "3"),
        ("size", -1),
        ("counts", []),
        ("omitted", ["secrets"]),
        ("warnings", "none"),
        ("tables", {"gold": 1}),
        ("tables", [{**json.loads(MANIFEST.to_bytes())["tables"][0], "tier": "platinum"}]),
        ("inventory", {**MANIFEST.inventory.as_dict(), "key": "../../etc/passwd"}),
        ("inventory", {**MANIFEST.inventory.as_dict(), "sha256": "0"}),
        ("surprise", 1),
    ],
)
def test_a_forged_field_hides_one_set_alone(tmp_path: Path, name: str, value: Any) -> None:
    destination, registry = FolderDestination(tmp_path), CollectorRegistry()
    put(destination, sets.manifest_key(SET), MANIFEST.to_bytes())
    newer = "20261102T020000Z-abcdef"
    values = {**json.loads(MANIFEST.to_bytes()), "id": newer, "started_at": "2026-11-02T02:00:00Z"}
    assert Manifest.from_bytes(signed(values)).id == newer
    content = signed({**values, name: value})
    put(destination, sets.manifest_key(newer), content)
    forged_set, good = sets.list_sets(destination)
    assert (forged_set.state, good.state) == ("unreadable", "good")
    assert sets.latest(destination) == MANIFEST
    SetMetrics(registry).show([forged_set, good])
    assert b"lakehouse_backup_sets" in generate_latest(registry)


@pytest.mark.parametrize(
    "content",
    [b"not compressed", gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 20, gzip.compress(b"{}\n", mtime=0)],
)
def test_a_forged_inventory_is_refused(tmp_path: Path, content: bytes) -> None:
    destination = FolderDestination(tmp_path)
    stored = replace(MANIFEST.inventory, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    put(destination, stored.key, content)
    with pytest.raises(IntegrityError, match="cannot read the inventory"):
        list(sets.inventory(destination, replace(MANIFEST, inventory=stored)))


@pytest.mark.parametrize("fault", ["lost", "damaged", "a folder"])
def test_a_set_whose_inventory_is_lost_does_not_prevent_the_next_one(tmp_path: Path, fault: str) -> None:
    destination = FolderDestination(tmp_path)
    put(destination, sets.manifest_key(SET), MANIFEST.to_bytes())
    inventory = tmp_path / MANIFEST.inventory.key
    if fault == "damaged":
        inventory.write_bytes(b"damaged")
    elif fault == "a folder":
        inventory.mkdir()
    assert sets.latest(destination) == MANIFEST
    assert create._newest_artifacts(destination) == []


def put(destination: FolderDestination, key: str, content: bytes) -> None:
    destination.create(key, iter([content]), len(content), EXPIRES)


@settings(max_examples=sweep.examples(500))
@given(path=st.sampled_from(places(DATA.as_dict())), value=JSON)
def test_a_forged_artifact_is_refused_or_whole(path: tuple[Any, ...], value: Any) -> None:
    line = json.dumps(forged(canonical(DATA.as_dict()), path, value)).encode()
    found = read(lambda: next(decode_inventory([line])), "the inventory of artifacts")
    assert found is None or list(encode_inventory([found]))


@settings(max_examples=sweep.examples(500))
@given(path=st.sampled_from(places(json.loads(BASE.to_bytes()))), value=JSON)
def test_a_forged_base_backup_is_refused_or_whole(path: tuple[Any, ...], value: Any) -> None:
    document = json.dumps(forged(BASE.to_bytes(), path, value)).encode()
    found = read(lambda: Base.from_bytes(document), "the description of a base backup")
    assert found is None or (moment(found.taken_at) and found.segment(1))


def test_a_damaged_base_backup_hides_no_other(tmp_path: Path) -> None:
    destination = FolderDestination(tmp_path)
    folder = bases_folder("77")
    put(destination, f"{folder}{BASE.id}/{DESCRIPTION}", BASE.to_bytes())
    put(destination, f"{folder}20261102T020000Z-abcdef/{DESCRIPTION}", BASE.to_bytes()[:-2])
    assert stored_bases(destination, "77") == [BASE]


def test_a_description_of_a_base_backup_is_restored_as_it_was_stored_or_not_at_all(tmp_path: Path) -> None:
    destination, folder, content = FolderDestination(tmp_path / "sets"), tmp_path / "base", BASE.to_bytes()
    for path in (destination.root, folder):
        path.mkdir()
    restore = Restore(Settings(), BackupSettings(), destination, MANIFEST, Selection())
    restore.artifacts = [described(BASE.key(DESCRIPTION), content, Subject("database", "base-manifest"))]
    path = destination.root / BASE.key(DESCRIPTION)
    path.parent.mkdir(parents=True)
    for at in range(0, len(content), 7):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(IntegrityError, match=r"base\.json \(database base-manifest\): its content is damaged"):
            restore._fetch_base(folder)
    path.write_bytes(content)
    assert restore._fetch_base(folder) == BASE
    (folder / DESCRIPTION).unlink()
    restore.artifacts = []
    with pytest.raises(IntegrityError, match=f"set {SET} lacks {DESCRIPTION}"):
        restore._fetch_base(folder)


def test_a_lost_artifact_is_damage_of_the_set_and_an_unreadable_one_is_none(tmp_path: Path) -> None:
    restore = Restore(Settings(), BackupSettings(), FolderDestination(tmp_path), MANIFEST, Selection())
    artifact = described("objects/aa/b", b"content", DATA.subject)
    with pytest.raises(IntegrityError, match=r"\(gold\.t data snapshot 4 partition day=1\): it does not exist"):
        list(restore.fetch(artifact))
    (tmp_path / artifact.key).mkdir(parents=True)
    with pytest.raises(BackupError, match="it is not a regular file") as caught:
        list(restore.fetch(artifact))
    assert not isinstance(caught.value, IntegrityError)
    (tmp_path / artifact.key).rmdir()
    (tmp_path / artifact.key).write_bytes(b"content")
    assert b"".join(restore.fetch(artifact)) == b"content"


def test_a_base_backup_of_a_set_stays_though_its_description_is_lost(tmp_path: Path) -> None:
    destination, folder = FolderDestination(tmp_path), bases_folder("77")
    assert MANIFEST.database
    used = replace(MANIFEST.database, base_id="20261101T020500Z-000000")
    manifest = replace(MANIFEST, finished_at="2026-11-01T02:05:00Z", database=used)
    put(destination, sets.manifest_key(SET), manifest.to_bytes())
    # Of an earlier set, of this one, and of a run that was killed after it.
    for name in ("20261031T020001Z-000000", "20261101T020001Z-000000", used.base_id, "20261101T020501Z-000000"):
        put(destination, f"{folder}{name}/base.tar.gz", b"base")
    create.remove_unfinished(destination)
    left = [each.key.split("/")[3] for each in destination.list("database/")]
    assert left == ["20261031T020001Z-000000", "20261101T020001Z-000000", used.base_id]


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), BackupError, "No space left on device. Free space"),
        (gzip.BadGzipFile("CRC check failed"), IntegrityError, "its archive cannot be unpacked"),
    ],
)
def test_a_full_disk_is_not_taken_for_a_damaged_base_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[BackupError], words: str
) -> None:
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("PG_VERSION"))
    base = replace(BASE, files=(hash_file(tmp_path / ARCHIVE),))
    assert MANIFEST.database
    recovery = Recovery(base, MANIFEST.database, tmp_path, tmp_path, tmp_path / "new", tmp_path)

    def fail(*_arguments: object) -> Path:
        raise error

    monkeypatch.setattr(recover, "_extract", fail)
    with pytest.raises(BackupError, match=words) as caught:
        recover.unpack(recovery, Programs(), Deadline(60))
    assert caught.type is kind


def described(key: str, content: bytes, subject: Subject) -> Artifact:
    return Artifact(key, len(content), hashlib.sha256(content).hexdigest(), subject)


@pytest.mark.parametrize(
    "changed", [{"finished_at": "9999"}, {"finished_at": 7}, {"ok": 1}, {"manifest_sha256": None}, {"level": "x"}]
)
def test_a_forged_proof_is_none(tmp_path: Path, changed: dict[str, Any]) -> None:
    destination, content = FolderDestination(tmp_path), MANIFEST.to_bytes()
    put(destination, sets.manifest_key(SET), content)
    sha256 = hashlib.sha256(content).hexdigest()
    proof = {"ok": True, "level": 2, "finished_at": TIME, "manifest_sha256": sha256}
    sets.write_proof(destination, SET, 2, EXPIRES + timedelta(days=1), {**proof, **changed}, EXPIRES)
    (listed,) = sets.list_sets(destination)
    assert (listed.state, listed.proof is None) == ("good", "level" not in changed)
