# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the metadata of a gold table is now, asked of the Iceberg catalog.

pyiceberg is not used here: one answer of the catalog is all that a query needs, and its client has no timeouts,
blocks its thread, and loads whatever input class a table's properties name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import quote

import httpx

from crypto_lakehouse.catalog import SIGNING_NAME
from crypto_lakehouse.query.policy import GOLD
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.signing import KeySource, Signer, aws_endpoint

TIMEOUT_S: Final = 5.0
MAX_PAGES: Final = 100
NOT_FOUND: Final = 404


class CatalogError(Exception):
    """The catalog did not answer as it should; the message is fit for a log."""


class TableLocator(Protocol):
    """A catalog, as far as queries and health need it."""

    async def locate(self, table: str) -> str | None:
        """Return the address of the table's newest metadata, None when there is no such table."""

    async def tables(self) -> list[str]:
        """Return the names of the gold tables."""

    async def ping(self) -> None:
        """Return when the catalog answers; raise what went wrong otherwise."""


@dataclass(slots=True)
class RestLocator:
    """An Iceberg REST catalog whose requests are signed."""

    client: httpx.AsyncClient
    uri: str
    warehouse: str
    namespace: str = GOLD
    _prefix: str | None = field(default=None, init=False)

    async def locate(self, table: str) -> str | None:
        """Return the address of the table's newest metadata, None when there is no such table."""
        answer = await self._get(f"namespaces/{self.namespace}/tables/{quote(table, safe='')}")
        return None if answer is None else str(answer["metadata-location"])

    async def tables(self) -> list[str]:
        """Return the names of the gold tables; none when the namespace does not exist yet."""
        names: list[str] = []
        token = ""
        for _page in range(MAX_PAGES):
            page = f"?pageToken={quote(token, safe='')}" if token else ""
            answer = await self._get(f"namespaces/{self.namespace}/tables{page}") or {}
            names += [str(entry["name"]) for entry in answer.get("identifiers", [])]
            token = str(answer.get("next-page-token") or "")
            if not token:
                break
        return sorted(names)

    async def ping(self) -> None:
        """Return when the catalog lists its namespaces."""
        await self._get("namespaces")

    async def _get(self, path: str) -> dict[str, Any] | None:
        if self._prefix is None:
            config = await self._fetch(f"{self.uri}/v1/config?warehouse={quote(self.warehouse, safe='')}") or {}
            chosen = {**config.get("defaults", {}), **config.get("overrides", {})}
            self._prefix = str(chosen.get("prefix", ""))
        prefix = f"{quote(self._prefix, safe='')}/" if self._prefix else ""
        return await self._fetch(f"{self.uri}/v1/{prefix}{path}")

    async def _fetch(self, url: str) -> dict[str, Any] | None:
        response = await self.client.get(url)
        if response.status_code == NOT_FOUND:
            return None
        return _document(response)


@dataclass(slots=True)
class GlueLocator:
    """The AWS Glue data catalog; the namespace is a database."""

    client: httpx.AsyncClient
    endpoint: str
    database: str = GOLD

    async def locate(self, table: str) -> str | None:
        """Return the address of the table's newest metadata, None when there is no such Iceberg table."""
        answer = await self._call("GetTable", DatabaseName=self.database, Name=table)
        location = (answer or {}).get("Table", {}).get("Parameters", {}).get("metadata_location")
        return None if location is None else str(location)

    async def tables(self) -> list[str]:
        """Return the names of the gold tables; none when the database does not exist yet."""
        names: list[str] = []
        page: dict[str, str] = {}
        for _page in range(MAX_PAGES):
            answer = await self._call("GetTables", DatabaseName=self.database, **page) or {}
            names += [entry["Name"] for entry in answer.get("TableList", []) if _is_iceberg(entry)]
            if not answer.get("NextToken"):
                break
            page = {"NextToken": answer["NextToken"]}
        return sorted(names)

    async def ping(self) -> None:
        """Return when the catalog answers for the gold database, whether it is there yet or not."""
        await self._call("GetDatabase", Name=self.database)

    async def _call(self, operation: str, **arguments: str) -> dict[str, Any] | None:
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"AWSGlue.{operation}"}
        response = await self.client.post(self.endpoint, content=json.dumps(arguments).encode(), headers=headers)
        if response.is_client_error and "EntityNotFoundException" in response.text:
            return None
        return _document(response)


def _is_iceberg(table: dict[str, Any]) -> bool:
    return "metadata_location" in table.get("Parameters", {})


def _document(response: httpx.Response) -> dict[str, Any]:
    if not response.is_success:
        raise CatalogError(f"the catalog answered {response.status_code}")
    document = response.json()
    if not isinstance(document, dict):
        raise CatalogError("the catalog answered something else than a JSON object")
    return document


def open_locator(settings: Settings, source: KeySource) -> tuple[TableLocator, httpx.AsyncClient]:
    """Return the locator that the settings ask for, and its HTTP client, which the caller closes.

    Raises:
        SettingsError: when a setting is missing.
    """
    region = settings.s3_region
    service = SIGNING_NAME if settings.catalog_type == "rest" else "glue"
    # The platform's own network: proxies of the environment are for the world outside.
    client = httpx.AsyncClient(auth=Signer(source, service, region), timeout=TIMEOUT_S, trust_env=False)
    if settings.catalog_type == "glue":
        endpoint = (settings.catalog_uri or aws_endpoint("glue", region)).rstrip("/")
        return GlueLocator(client, f"{endpoint}/", settings.namespace("gold")), client
    uri = settings.require("catalog_uri").rstrip("/")
    return RestLocator(client, uri, settings.warehouse("gold"), settings.namespace("gold")), client
