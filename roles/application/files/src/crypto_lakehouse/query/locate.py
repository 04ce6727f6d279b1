# SPDX-License-Identifier: GPL-3.0-or-later
"""Newest version of a gold table, read from the Iceberg catalog.

pyiceberg is not used here: a query needs one answer of the catalog only. The client of pyiceberg has no timeouts,
blocks its thread, and loads any input class that a table's properties name.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

import httpx

from crypto_lakehouse.catalog import SIGNING_NAME
from crypto_lakehouse.query.policy import GOLD
from crypto_lakehouse.settings import Settings
from crypto_lakehouse.signing import KeySource, Signer, aws_endpoint

TIMEOUT_S: Final = 5.0
MAX_PAGES: Final = 100
NOT_FOUND: Final = 404
MAX_METADATA_BYTES: Final = 16_777_216
ZIPPED: Final = b"\x1f\x8b"
REST_NAME: Final = re.compile(r"[0-9a-z_]{1,255}")
"""Names of tables in S3 Tables, whose rule SeaweedFS follows. Other names do not exist, and the catalog rejects
requests for them, which would look like a failure of the catalog."""
GLUE_NAME: Final = re.compile(r"[^\x00-\x1f]{1,255}")


class CatalogError(Exception):
    """The catalog's answer is missing or invalid; the message can be logged."""


@dataclass(frozen=True, slots=True)
class TableVersion:
    """One version of a table. Everything derived from it is cached by its complete identity.

    A location does not identify a version: a table that is dropped and created again may reuse it.
    """

    name: str
    uuid: str
    location: str
    digest: str
    """SHA-256 of the metadata."""
    data_bytes: int | None = field(compare=False)
    """Size of the current snapshot's files, None where its summary does not contain it."""

    @classmethod
    def of(cls, name: str, location: str, metadata: Mapping[str, Any]) -> TableVersion:
        """Return the version that the table's metadata describes."""
        canonical = json.dumps(metadata, sort_keys=True, separators=(",", ":")).encode()
        return cls(
            name, str(metadata.get("table-uuid", "")), location, sha256(canonical).hexdigest(), _data_bytes(metadata)
        )


def _data_bytes(metadata: Mapping[str, Any]) -> int | None:
    current = metadata.get("current-snapshot-id")
    for snapshot in metadata.get("snapshots") or []:
        if snapshot.get("snapshot-id") == current:
            size = str((snapshot.get("summary") or {}).get("total-files-size", ""))
            return int(size) if size.isdecimal() else None
    return None


class TableLocator(Protocol):
    """A catalog, for the purposes of queries and health checks."""

    async def locate(self, table: str) -> TableVersion | None:
        """Return the table's newest version, None when the table does not exist."""

    async def tables(self) -> list[str]:
        """Return the names of the gold tables."""

    async def ping(self) -> None:
        """Return when the catalog answers; raise the error otherwise."""


@dataclass(slots=True)
class RestLocator:
    """An Iceberg REST catalog whose requests are signed."""

    client: httpx.AsyncClient
    uri: str
    warehouse: str
    namespace: str = GOLD
    _prefix: str | None = field(default=None, init=False)

    async def locate(self, table: str) -> TableVersion | None:
        """Return the table's newest version, None when the table does not exist."""
        if not REST_NAME.fullmatch(table):
            return None
        answer = await self._get(f"namespaces/{self.namespace}/tables/{quote(table, safe='')}")
        if answer is None:
            return None
        if not isinstance(answer.get("metadata"), dict) or "metadata-location" not in answer:
            raise CatalogError("the catalog answered without the table's metadata")
        return TableVersion.of(table, str(answer["metadata-location"]), answer["metadata"])

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
    read: Callable[[str], Awaitable[bytes]]
    """Returns the content of an `s3://` address: Glue stores only the address of the metadata."""
    database: str = GOLD

    async def locate(self, table: str) -> TableVersion | None:
        """Return the table's newest version, None when it does not exist or is not an Iceberg table."""
        if not GLUE_NAME.fullmatch(table):
            return None
        answer = await self._call("GetTable", DatabaseName=self.database, Name=table)
        location = (answer or {}).get("Table", {}).get("Parameters", {}).get("metadata_location")
        if location is None:
            return None
        return TableVersion.of(table, str(location), metadata_of(await self.read(str(location))))

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
        """Return when the catalog answers for the gold database, whether it exists or not."""
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


def metadata_of(content: bytes) -> dict[str, Any]:
    """Return the metadata in the content of a metadata file, compressed or not.

    Raises:
        CatalogError: when it is not such a file.
    """
    try:
        if content.startswith(ZIPPED):
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(MAX_METADATA_BYTES + 1)
        if len(content) > MAX_METADATA_BYTES:
            raise CatalogError(f"a metadata file is larger than {MAX_METADATA_BYTES} bytes")
        metadata = json.loads(content)
    except (ValueError, OSError, EOFError):
        raise CatalogError("a metadata file is not JSON") from None
    if not isinstance(metadata, dict):
        raise CatalogError("a metadata file is not a JSON object")
    return metadata


def object_reader(client: httpx.AsyncClient, endpoint: str) -> Callable[[str], Awaitable[bytes]]:
    """Return a function that reads an `s3://` address with a client that signs for S3."""

    async def read(address: str) -> bytes:
        place = urlsplit(address)
        url = f"{endpoint.rstrip('/')}/{quote(place.netloc, safe='')}/{quote(place.path.lstrip('/'))}"
        response = await client.get(url)
        if not response.is_success:
            raise CatalogError(f"a metadata file cannot be read: {response.status_code}")
        return response.content

    return read


def open_locator(
    settings: Settings, source: KeySource, read: Callable[[str], Awaitable[bytes]]
) -> tuple[TableLocator, httpx.AsyncClient]:
    """Return the locator for the settings, and its HTTP client, which the caller closes.

    `read` returns the content of an `s3://` address, which a catalog without metadata needs.

    Raises:
        SettingsError: when a setting is missing.
    """
    region = settings.s3_region
    service = SIGNING_NAME if settings.catalog_type == "rest" else "glue"
    # The catalog is in the platform's own network; proxies of the environment are for other networks.
    client = httpx.AsyncClient(auth=Signer(source, service, region), timeout=TIMEOUT_S, trust_env=False)
    if settings.catalog_type == "glue":
        endpoint = (settings.catalog_uri or aws_endpoint("glue", region)).rstrip("/")
        return GlueLocator(client, f"{endpoint}/", read, settings.namespace("gold")), client
    uri = settings.require("catalog_uri").rstrip("/")
    return RestLocator(client, uri, settings.warehouse("gold"), settings.namespace("gold")), client
