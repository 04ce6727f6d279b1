# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of the catalog, and the current metadata document of each.

Two catalogs are supported: that of SeaweedFS by its S3 Tables protocol, and AWS Glue. SeaweedFS answers with pointer,
version token and document at once, which neither its Iceberg REST catalog nor boto3 does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol

from crypto_lakehouse.backup.errors import BackupError, RefusedError
from crypto_lakehouse.backup.lake.document import Document
from crypto_lakehouse.backup.lake.store import cause
from crypto_lakehouse.backup.model import canonical
from crypto_lakehouse.catalog import SIGNING_NAME
from crypto_lakehouse.settings import Settings, Tier

MINIMUM_SEAWEEDFS: Final = (4, 48)
"""The release whose catalog calls were tested; its S3 Tables protocol differs from that of AWS."""

MAX_DOCUMENT_BYTES: Final = (10 << 20) - 4096
"""Largest metadata document that SeaweedFS takes in one call, whose body it limits to 10 MiB."""

CONFLICT: Final = 409
NOT_FOUND: Final = 404
TIMEOUT_S: Final = 60
MAX_PAGES: Final = 10_000
_SERVER: Final = re.compile(r"SeaweedFS\b.*?(\d+)\.(\d+)\s*$")


class CatalogError(BackupError):
    """The catalog does not answer, or refuses."""


class ConflictError(CatalogError):
    """Another commit changed the table since it was read."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A table of the catalog.

    name: of the table; tables outside of the tier's own namespace have it before their name, `NAMESPACE.TABLE`.
    """

    tier: Tier
    name: str

    @property
    def full_name(self) -> str:
        """`TIER.NAME`."""
        return f"{self.tier}.{self.name}"


@dataclass(frozen=True, slots=True)
class Pointer:
    """State of a table in the catalog.

    token: changes with each commit. version: number of the metadata document. document: as the catalog answers with it,
    None where the catalog holds its address alone.
    """

    metadata_location: str
    token: str
    version: int = 0
    document: Document | None = field(default=None, compare=False)


class Catalogs(Protocol):
    """The catalogs of all tiers."""

    def entries(self, tier: Tier) -> list[Entry]:
        """Return the Iceberg tables of a tier, by name."""

    def omitted(self, tier: Tier) -> dict[str, str]:
        """Return the reason for each table of a tier, by full name, that is not an Iceberg table."""

    def pointer(self, entry: Entry) -> Pointer | None:
        """Return the state of a table, None where there is none."""


def open_catalogs(settings: Settings) -> Catalogs:
    """Return the catalogs that the settings name."""
    return GlueCatalogs(settings) if settings.catalog_type == "glue" else S3TablesCatalogs(settings)


class S3TablesCatalogs:
    """Table buckets of SeaweedFS, one for each tier."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def entries(self, tier: Tier) -> list[Entry]:
        """Return the Iceberg tables of all namespaces of the tier's table bucket, by name."""
        return sorted(entry for entry, form in self._listing(tier).items() if form == "ICEBERG")

    def omitted(self, tier: Tier) -> dict[str, str]:
        """Return the reason for each table of the tier, by full name, that is not an Iceberg table."""
        listing = self._listing(tier)
        return {entry.full_name: f"its format is {form}" for entry, form in listing.items() if form != "ICEBERG"}

    def _listing(self, tier: Tier) -> dict[Entry, str]:
        bucket = {"tableBucketARN": self.arn(tier)}
        found: dict[Entry, str] = {}
        for each in self._pages("ListNamespaces", bucket, "namespaces"):
            namespace = list(each["namespace"])
            for table in self._pages("ListTables", {**bucket, "namespace": namespace}, "tables"):
                name = table["name"] if namespace == [tier] else ".".join([*namespace, table["name"]])
                found[Entry(tier, name)] = str(table.get("format") or "ICEBERG")
        return found

    def _pages(self, operation: str, asked: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
        token = ""
        for _page in range(MAX_PAGES):
            answer = self.call(operation, {**asked, **({"continuationToken": token} if token else {})})
            yield from answer.get(name) or []
            following = str(answer.get("continuationToken") or "")
            if not following or following == token:
                return
            token = following
        raise CatalogError(f"cannot list the {name} of the catalog: it does not end")

    def pointer(self, entry: Entry) -> Pointer | None:
        """Return the state of a table, None where there is none."""
        status, answer = self.request("GetTable", self.identity(entry))
        if status == NOT_FOUND:
            return None
        _check(status, answer, "read", entry.full_name)
        document = (answer.get("metadata") or {}).get("fullMetadata")
        return Pointer(
            str(answer["metadataLocation"]),
            str(answer["versionToken"]),
            int(answer.get("metadataVersion") or 0),
            document,
        )

    def create(self, entry: Entry, document: Document, location: str, version: int) -> None:
        """Create a table with its whole metadata document.

        Raises:
            ConflictError: where a table of that name exists.
        """
        self._change("CreateTable", entry, {"format": "ICEBERG"}, document, location, version)
        # The store answers with success, and changes nothing, where the table exists.
        created = self.pointer(entry)
        if created is None or created.metadata_location != location:
            raise ConflictError(f"cannot create {entry.full_name}: another table of that name was created meanwhile")

    def update(self, entry: Entry, token: str, document: Document, location: str, version: int) -> None:
        """Replace the metadata document of a table at once.

        token: state that is replaced.

        Raises:
            ConflictError: where the table has another state.
        """
        self._change("UpdateTable", entry, {"versionToken": token}, document, location, version)

    def _change(
        self, operation: str, entry: Entry, more: Mapping[str, str], document: Document, location: str, version: int
    ) -> None:
        metadata = {"iceberg": {"tableUuid": document["table-uuid"]}, "fullMetadata": document}
        asked = {"metadata": metadata, "metadataVersion": version, "metadataLocation": location, **more}
        _check(*self.request(operation, {**self.identity(entry), **asked}), "restore", entry.full_name)

    def create_namespace(self, entry: Entry) -> None:
        """Create the namespace of a table, and those that it lies in, where they are missing.

        Objects must not be written below a namespace that is missing: the store refuses to create it afterwards.
        """
        parts = self.identity(entry)["namespace"]
        for depth in range(1, len(parts) + 1):
            asked = {"tableBucketARN": self.arn(entry.tier), "namespace": parts[:depth]}
            status, answer = self.request("CreateNamespace", asked)
            if status != CONFLICT:
                _check(status, answer, "create the namespace of", entry.full_name)

    def identity(self, entry: Entry) -> dict[str, Any]:
        """Return the parameters that identify a table in a request."""
        *namespace, name = entry.name.split(".")
        return {"tableBucketARN": self.arn(entry.tier), "namespace": namespace or [entry.tier], "name": name}

    def bucket(self, tier: Tier) -> str:
        """Return the name of the tier's table bucket."""
        return self._settings.warehouse(tier).removeprefix("s3://")

    def arn(self, tier: Tier) -> str:
        """Return the ARN of the tier's table bucket.

        Raises:
            CatalogError: where it does not exist.
        """
        name = self.bucket(tier)
        if name not in self._arns:
            raise CatalogError(
                f"cannot find table bucket {name}: the object store does not list it", "Deploy the lakehouse first."
            )
        return self._arns[name]

    @cached_property
    def _arns(self) -> dict[str, str]:
        from botocore.exceptions import BotoCoreError, ClientError

        from crypto_lakehouse.objectstore import s3_client

        try:
            pages = s3_client(self._settings, service="s3tables").get_paginator("list_table_buckets").paginate()
            return {each["name"]: each["arn"] for page in pages for each in page.get("tableBuckets") or []}
        except (BotoCoreError, ClientError) as error:
            raise CatalogError(f"cannot list table buckets: {cause(error)}", "Check the object store.") from None

    def call(self, operation: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of one operation.

        Raises:
            CatalogError: where the store does not answer or refuses.
        """
        status, answer = self.request(operation, asked)
        _check(status, answer, "ask the catalog for", operation)
        return answer

    def request(self, operation: str, asked: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return status and answer of one operation of the S3 Tables protocol.

        Raises:
            CatalogError: where the store does not answer.
        """
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"S3Tables.{operation}"}
        url = f"{self._settings.require('s3_endpoint').rstrip('/')}/"
        request = AWSRequest("POST", url, data=canonical(asked), headers=headers)
        session, http = self._connection
        SigV4Auth(session.get_credentials(), SIGNING_NAME, self._settings.s3_region).add_auth(request)
        try:
            answer = http.send(request.prepare())
            return answer.status_code, json.loads(answer.content or b"{}")
        except (BotoCoreError, ValueError) as error:
            raise CatalogError(
                f"cannot ask the catalog for {operation}: {cause(error)}", "Check the object store."
            ) from None

    @cached_property
    def _connection(self) -> tuple[Any, Any]:
        from botocore.httpsession import URLLib3Session
        from botocore.session import Session

        session = Session()
        access_key, secret_key = self._settings.secret("s3_access_key"), self._settings.secret("s3_secret_key")
        if access_key and secret_key:
            session.set_credentials(access_key, secret_key)
        # The certificate bundle that boto3 takes too.
        bundle = session.get_config_variable("ca_bundle")
        return session, URLLib3Session(verify=bundle or True, timeout=TIMEOUT_S)


def require_release(server: str) -> None:
    """Compare the store's name and release with the minimum release.

    server: its header `Server`, such as `SeaweedFS 8000GB 4.48`.

    Raises:
        RefusedError: where it is another store, or an older release.
    """
    found = _SERVER.search(server)
    minimum = ".".join(str(number) for number in MINIMUM_SEAWEEDFS)
    if found is None:
        raise RefusedError(
            f"cannot restore tables: the object store calls itself {server or 'nothing'!r}, not SeaweedFS",
            f"Restore into SeaweedFS {minimum} or newer.",
        )
    if tuple(int(number) for number in found.groups()) < MINIMUM_SEAWEEDFS:
        raise RefusedError(
            f"cannot restore tables: SeaweedFS {found[1]}.{found[2]} is older than {minimum}",
            "Upgrade SeaweedFS first.",
        )


def _check(status: int, answer: Mapping[str, Any], verb: str, name: str) -> None:
    if status == CONFLICT:
        raise ConflictError(f"cannot {verb} {name}: {answer.get('message', 'it exists or was changed meanwhile')}")
    if not 200 <= status < 300:
        cause = f"{answer.get('__type', 'HTTP')} {status}: {answer.get('message', 'no message')}"
        raise CatalogError(f"cannot {verb} {name}: {cause}")


class GlueCatalogs:
    """Databases of AWS Glue, one for each tier."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _client(self) -> Any:
        from crypto_lakehouse.objectstore import s3_client

        return s3_client(self._settings, service="glue")

    def entries(self, tier: Tier) -> list[Entry]:
        """Return the Iceberg tables of the tier's database, by name."""
        return sorted(Entry(tier, table["Name"]) for table in self._tables(tier) if _is_iceberg(table))

    def omitted(self, tier: Tier) -> dict[str, str]:
        """Return the reason for each table of the tier, by full name, that is not an Iceberg table."""
        others = [table["Name"] for table in self._tables(tier) if not _is_iceberg(table)]
        return {f"{tier}.{name}": "it is not an Iceberg table" for name in others}

    def _tables(self, tier: Tier) -> list[dict[str, Any]]:
        from botocore.exceptions import BotoCoreError, ClientError

        pages = self._client.get_paginator("get_tables").paginate(DatabaseName=self._settings.namespace(tier))
        try:
            return [table for page in pages for table in page["TableList"]]
        except (BotoCoreError, ClientError) as error:
            raise CatalogError(f"cannot list the tables of {self._settings.namespace(tier)}: {cause(error)}") from None

    def pointer(self, entry: Entry) -> Pointer | None:
        """Return the state of a table, None where there is none."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            found = self._client.get_table(DatabaseName=self._settings.namespace(entry.tier), Name=entry.name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "EntityNotFoundException":
                return None
            raise CatalogError(f"cannot read {entry.full_name}: {cause(error)}") from None
        except BotoCoreError as error:
            raise CatalogError(f"cannot read {entry.full_name}: {cause(error)}") from None
        table = found["Table"]
        return Pointer(str(table["Parameters"]["metadata_location"]), str(table.get("VersionId", "")))


def _is_iceberg(table: Mapping[str, Any]) -> bool:
    parameters = table.get("Parameters") or {}
    return str(parameters.get("table_type", "")).upper() == "ICEBERG" and "metadata_location" in parameters
