# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces and tables of the catalog: created when missing, and only ever added to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger
from crypto_lakehouse.catalog import open_catalog
from crypto_lakehouse.settings import Settings, Tier
from crypto_lakehouse.tables import (
    PARTITION_COLUMNS,
    TABLES,
    Column,
    TableSpec,
    iceberg_schema,
    partition_spec,
    table_properties,
)

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

Metadata = Mapping[str, Any]
ReadMetadata = Callable[[TableSpec], Metadata | None]
"""Gives the metadata of a table as the Iceberg specification lays it out, None when there is no such table."""


def ensure(settings: Settings, ledger: Ledger, namespaces: Mapping[Tier, bool], read: ReadMetadata) -> None:
    """Create and update namespaces and tables; `namespaces` returns the existing ones.

    pyiceberg takes a second to import, so it is imported only when something must change.

    Raises:
        BootstrapError: when a table has a column or a partitioning that an addition cannot change.
    """
    catalogs = _Catalogs(settings, ledger)
    for tier, exists in namespaces.items():
        ledger.ensure(f"namespace {tier}", exists, partial(catalogs.create_namespace, tier))
    for spec in TABLES:
        metadata = read(spec) if namespaces[spec.tier] else None
        ledger.ensure(f"table {spec.full_name}", metadata is not None, partial(catalogs.create_table, spec))
        if metadata is not None:
            _ensure_shape(ledger, catalogs, spec, metadata)


def _ensure_shape(ledger: Ledger, catalogs: _Catalogs, spec: TableSpec, metadata: Metadata) -> None:
    _check_partitioning(spec, metadata)
    missing = missing_columns(spec, metadata)
    names = ", ".join(column.name for column in missing)
    what = f"table {spec.full_name}: columns" + (f" {names}" if names else "")
    ledger.ensure(what, not missing, partial(catalogs.add_columns, spec, missing))
    found = metadata.get("properties", {})
    wanted = {name: value for name, value in table_properties(spec).items() if found.get(name) != value}
    what = f"table {spec.full_name}: properties" + (f" {', '.join(sorted(wanted))}" if wanted else "")
    ledger.ensure(what, not wanted, partial(catalogs.set_properties, spec, wanted))


def missing_columns(spec: TableSpec, metadata: Metadata) -> list[Column]:
    """Return the described columns that the table lacks.

    Raises:
        BootstrapError: when a column of the table has another type, or a missing one is not optional.
    """
    schema = next(each for each in metadata["schemas"] if each["schema-id"] == metadata["current-schema-id"])
    found = {field["name"]: (field["type"], field["required"]) for field in schema["fields"]}
    missing = []
    for column in spec.columns:
        place = f"{spec.full_name}.{column.name}"
        if column.name not in found:
            if column.required:
                raise BootstrapError(f"{place} is missing and required: rows that are there have no value for it")
            missing.append(column)
        elif _plain(found[column.name]) != _plain((column.type, column.required)):
            is_, wanted = found[column.name], (column.type, column.required)
            raise BootstrapError(f"{place} is {_show(*is_)}, described as {_show(*wanted)}: columns are only added")
    return missing


def _check_partitioning(spec: TableSpec, metadata: Metadata) -> None:
    default = metadata["default-spec-id"]
    fields = next(each["fields"] for each in metadata["partition-specs"] if each["spec-id"] == default)
    found = tuple(field["name"] for field in fields if field["transform"] == "identity")
    if found != PARTITION_COLUMNS:
        raise BootstrapError(
            f"{spec.full_name} is partitioned by {', '.join(found) or 'nothing'}, described as "
            f"{', '.join(PARTITION_COLUMNS)}: load its rows into a table of another name"
        )


def _plain(column: tuple[Any, bool]) -> tuple[str, bool]:
    return str(column[0]).replace(" ", ""), bool(column[1])


def _show(type_name: Any, required: bool) -> str:
    return f"{'required' if required else 'optional'} {type_name}"


class _Catalogs:
    """The catalogs, opened when the first change is made."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._open: dict[Tier, Catalog] = {}

    def __call__(self, tier: Tier) -> Catalog:
        if tier not in self._open:
            from pyiceberg.exceptions import ServerError
            from requests.exceptions import ConnectionError as NoConnection

            connect = partial(open_catalog, self._settings, tier)
            self._open[tier] = self._ledger.wait_for("the Iceberg catalog", connect, (NoConnection, ServerError))
        return self._open[tier]

    def create_namespace(self, tier: Tier) -> None:
        self(tier).create_namespace_if_not_exists(self._settings.namespace(tier))

    def create_table(self, spec: TableSpec) -> None:
        schema = iceberg_schema(spec)
        properties = table_properties(spec)
        catalog = self(spec.tier)
        catalog.create_table_if_not_exists(
            spec.identifier(catalog), schema=schema, partition_spec=partition_spec(schema), properties=properties
        )

    def add_columns(self, spec: TableSpec, columns: list[Column]) -> None:
        from pyiceberg.types import NestedField

        with self._table(spec).update_schema() as update:
            for column in columns:
                field = NestedField(field_id=1, name=column.name, type=column.type, required=False)
                update.add_column(column.name, field.field_type, doc=column.doc)

    def set_properties(self, spec: TableSpec, properties: dict[str, str]) -> None:
        with self._table(spec).transaction() as transaction:
            transaction.set_properties(properties)

    def _table(self, spec: TableSpec) -> Table:
        catalog = self(spec.tier)
        return catalog.load_table(spec.identifier(catalog))


def metadata_file(s3: Any, location: str) -> Metadata:
    """Return the content of a metadata file, `s3://BUCKET/KEY`."""
    where = urlsplit(location)
    content = s3.get_object(Bucket=where.netloc, Key=where.path.lstrip("/"))["Body"].read()
    metadata: Metadata = json.loads(content)
    return metadata
