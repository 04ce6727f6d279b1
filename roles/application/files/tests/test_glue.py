# SPDX-License-Identifier: GPL-3.0-or-later
"""Glue as the catalog: databases of one environment among others, tables in foreign buckets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import date

import pytest
import services
from glue_server import GlueServer, glue_server

from crypto_lakehouse.api.components import GoldStore
from crypto_lakehouse.bootstrap import storage
from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.query.locate import object_reader, open_locator
from crypto_lakehouse.settings import Settings, SettingsError
from crypto_lakehouse.signing import KeySource
from crypto_lakehouse.tables import (
    GOLD_VOLATILITY,
    TABLES,
    TIERS,
    Partition,
    read_partition,
    replace_partition,
)

PREFIX = "lake_test_"
PARTITION = Partition("binance", "BTCUSDT", "1h", date(2024, 1, 1))


@pytest.fixture
def glue() -> Iterator[GlueServer]:
    with glue_server() as server:
        yield server


def settings_of(glue: GlueServer, object_store: services.ObjectStore, **more: str) -> Settings:
    environment = object_store.environment("admin")
    warehouses = {
        f"LAKEHOUSE_{tier.upper()}_WAREHOUSE": f"s3://{environment[f'LAKEHOUSE_{tier.upper()}_BUCKET']}/warehouse"
        for tier in TIERS
    }
    catalog = {"TYPE": "glue", "URI": glue.url, "NAMESPACE_PREFIX": PREFIX}
    chosen = {f"LAKEHOUSE_CATALOG_{name}": value for name, value in catalog.items()}
    return services.settings_from({**environment, **warehouses, **chosen, **more})


@pytest.fixture
def settings(glue: GlueServer, object_store: services.ObjectStore) -> Settings:
    return settings_of(glue, object_store)


def changes(settings: Settings, *, check: bool = False) -> list[str]:
    ledger = Ledger(check=check, wait_s=10)
    storage.ensure(settings, ledger)
    return ledger.changed


def test_a_bucket_that_the_foundation_has_not_made_is_named_and_not_created(
    glue: GlueServer, object_store: services.ObjectStore
) -> None:
    with pytest.raises(BootstrapError, match="bucket nobody-made-this is missing: deploy the AWS foundation first"):
        changes(settings_of(glue, object_store, LAKEHOUSE_SILVER_BUCKET="nobody-made-this"))
    assert glue.databases == {}


def test_a_table_of_the_name_that_is_not_iceberg_s_is_left_alone(glue: GlueServer, settings: Settings) -> None:
    changes(settings)
    glue.tables[f"{PREFIX}gold", "volatility"]["Parameters"] = {}
    with pytest.raises(BootstrapError, match=f"{PREFIX}gold.volatility of Glue is not one of Iceberg"):
        changes(settings)


@pytest.mark.parametrize("prefix", ["Upper_", "a-b", "x.y"])
def test_a_prefix_that_a_database_cannot_have_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsError, match="LAKEHOUSE_CATALOG_NAMESPACE_PREFIX"):
        services.settings_from({"LAKEHOUSE_CATALOG_NAMESPACE_PREFIX": prefix})


def test_check_says_what_an_empty_catalog_needs_and_changes_nothing(glue: GlueServer, settings: Settings) -> None:
    predicted = changes(settings, check=True)
    assert glue.databases == {}
    assert changes(settings) == predicted
    assert changes(settings) == changes(settings, check=True) == []
    assert predicted == [*(f"namespace {tier}" for tier in TIERS), *(f"table {spec.full_name}" for spec in TABLES)]
    assert set(glue.databases) == {f"{PREFIX}{tier}" for tier in TIERS}
    assert set(glue.tables) == {(f"{PREFIX}{spec.tier}", spec.name) for spec in TABLES}


def test_two_environments_share_an_account(
    glue: GlueServer, settings: Settings, object_store: services.ObjectStore
) -> None:
    changes(settings)
    other = settings_of(glue, object_store, LAKEHOUSE_CATALOG_NAMESPACE_PREFIX="lake_other_")
    assert len(changes(other)) == len(TIERS) + len(TABLES)
    assert len(glue.databases) == 2 * len(TIERS)


def test_rows_go_in_and_come_back_and_the_api_finds_the_table(glue: GlueServer, settings: Settings) -> None:
    changes(settings)
    catalog = open_catalog(settings, "gold")
    row = {**PARTITION.as_row(), "log_returns": 23, "realised_volatility": 0.25, "annualised_volatility": 4.75}
    assert replace_partition(catalog, GOLD_VOLATILITY, PARTITION, [row]) is True
    assert replace_partition(catalog, GOLD_VOLATILITY, PARTITION, [row]) is False
    assert read_partition(catalog, GOLD_VOLATILITY, PARTITION).to_pylist() == [row]

    async def located() -> tuple[str | None, list[str]]:
        source = KeySource(settings)
        store = GoldStore(settings, source)
        locator, client = open_locator(settings, source, object_reader(store.client, store.endpoint))
        async with client, store.client:
            version = await locator.locate("volatility")
            return version.location if version else None, await locator.tables()

    location, tables = asyncio.run(located())
    assert location is not None
    assert location.startswith(f"{settings.warehouse('gold')}/{PREFIX}gold.db/volatility/metadata/")
    assert tables == ["ohlcv_daily", "volatility"]
