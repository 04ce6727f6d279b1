# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers of the tests with all objects that `lakehouse bootstrap` creates."""

from __future__ import annotations

from services import DatabaseServer, ObjectStore, settings_from

from crypto_lakehouse.bootstrap import database, storage
from crypto_lakehouse.bootstrap.ledger import Ledger


def administrator_environment(store: ObjectStore, server: DatabaseServer) -> dict[str, str]:
    """Return the environment of the bootstrap job, without the orchestrator's."""
    return {
        **store.environment("admin"),
        "LAKEHOUSE_BACKUP_STATE_BUCKET": "crypto-lakehouse-backup-state-test",
        "LAKEHOUSE_DATABASE_ADMIN_URL": server.admin_url,
        "LAKEHOUSE_DATABASE_LAKEHOUSE_PASSWORD": server.passwords["lakehouse"],
        "LAKEHOUSE_DATABASE_ORCHESTRATOR_PASSWORD": server.passwords["orchestrator"],
    }


def pipeline_environment(store: ObjectStore, server: DatabaseServer) -> dict[str, str]:
    """Return the environment of the worker, without the orchestrator's and without access to the archive."""
    return {
        **store.environment("pipeline"),
        "LAKEHOUSE_DATABASE_URL": server.lakehouse_url,
        "LAKEHOUSE_MARKET_ARCHIVE_URL": "http://127.0.0.1:9",
    }


def put_in_place(store: ObjectStore, server: DatabaseServer) -> None:
    """Run the parts of bootstrap that do not require the orchestrator."""
    settings = settings_from(administrator_environment(store, server))
    for part in (database, storage):
        part.ensure(settings, Ledger(check=False, wait_s=30))
