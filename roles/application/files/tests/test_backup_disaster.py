# SPDX-License-Identifier: GPL-3.0-or-later
"""A lakehouse is lost with its store and its database, and rebuilt from a set in an independent store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import backup_run
import pytest
import services
from backup_run import TIERS, Lakehouse
from postgres import postgres

from crypto_lakehouse.backup import restore, sets
from crypto_lakehouse.backup.restore import Selection
from crypto_lakehouse.catalog import open_catalog


@contextmanager
def lakehouse(elsewhere: services.ObjectStore) -> Iterator[Lakehouse]:
    """Run a lakehouse on its own store and database, whose sets go to another store."""
    with tempfile.TemporaryDirectory(prefix="lk-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with services.object_store(folder) as store, postgres() as database:
            yield backup_run.new_lakehouse(store, database, folder, token="disaster", elsewhere=elsewhere)


@dataclass(frozen=True)
class Content:
    """The content of a lakehouse."""

    uuids: dict[str, str]
    rows: dict[str, int]
    raw: dict[str, bytes]
    marks: list[str]


def content_of(found: Lakehouse) -> Content:
    names = [f"{tier}.prices" for tier in TIERS]
    tables = {name: open_catalog(found.settings, name.partition(".")[0]).load_table(name) for name in names}  # type: ignore[arg-type]
    return Content(
        {name: str(table.metadata.table_uuid) for name, table in tables.items()},
        {name: found.rows(name) for name in names},
        {name: found.raw(name) for name in ("a", "b")},
        found.marks(),
    )


def test_a_lakehouse_is_rebuilt_on_an_empty_store_and_an_empty_database(
    object_store: services.ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lakehouse(object_store) as lost:
        lost.append("gold", 4)
        lost.mark("before the loss")
        with backup_run.serving(lost) as service:
            services.wait_until(lambda: service.metric("sets") or service.metric("failed_runs"), "the first set", 600)
            assert service.metric("failed_runs") == 0, service.log.read_text()
        before = content_of(lost)
    with lakehouse(object_store) as empty:
        rebuilt = empty.using(bucket=lost.values["bucket"])
        rebuilt.put_raw("a", b"of the empty lakehouse")
        found = rebuilt.restore(sets.open_to_restore(rebuilt.destination, "latest").id, Selection(overwrite=True))
        assert found.plan()["needs_overwrite"]
        restored = found.lake()["tables"]
        assert {table["name"]: table["uuid"] for table in restored} == before.uuids
        assert all(table["proof"] for table in restored)
        rebuilt.database.stop()
        # PostgreSQL refuses root.
        monkeypatch.setattr(restore, "programs", lambda _backup: rebuilt.database.programs)
        found.database()
        # Bootstrap replaces the passwords of the lost server.
        rebuilt.database.passwords.update(lost.database.passwords)
        rebuilt.database.start()
        assert content_of(rebuilt) == before
