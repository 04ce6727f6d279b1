# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight of backup and restore: rules for several inventory variables, before the first change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..module_utils.shared.problem import Problem

SERVICE = "backup"
DESTINATION_SECRETS = (
    "backup_create_access_key",
    "backup_create_secret_key",
    "backup_restore_access_key",
    "backup_restore_secret_key",
)
STORE = ("object-store", "s3")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def destination_settings(settings: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the settings of the catalogue that describe the destination of backups and their schedule."""
    given = {
        "backup_endpoint_url": settings["lakehouse_backup_endpoint_url"],
        "backup_region": settings["lakehouse_backup_region"],
        "backup_ca_bundle": settings["lakehouse_backup_ca_bundle"] or settings["lakehouse_ca_bundle"],
        "backup_folder": settings["lakehouse_backup_folder"],
        "backup_encryption": settings["lakehouse_backup_encryption"],
        "backup_kms_key_id": settings["lakehouse_backup_kms_key_id"],
        "backup_retention_days": settings["lakehouse_backup_retention_days"],
        "backup_times": " ".join(settings["lakehouse_backup_times"]),
        "backup_recipients": " ".join(settings["lakehouse_backup_recipients"]),
        "backup_bandwidth_mb": settings["lakehouse_backup_bandwidth_mb"],
        "backup_only_current_snapshots": settings["lakehouse_backup_only_current_snapshots"],
        "backup_archived_objects": settings["lakehouse_backup_archived_objects"],
        "collection_version": version,
    }
    bucket = settings["lakehouse_backup_bucket"]
    return given | ({"backup_bucket": bucket} if bucket else {})


def backup_problems(
    settings: Mapping[str, Any], services: Mapping[str, Any], ports: Sequence[Mapping[str, Any]] = ()
) -> list[Problem]:
    """Return problems of the destination of backups and of a requested restore.

    services: the rendered services; the destination is only checked if `backup` is among them. ports: those on which
    the machine listens, with service, name, address and number.
    """
    destination = _destination_problems(settings, ports) if SERVICE in services else ()
    return [*destination, *_restore_problems(settings)]


def _destination_problems(settings: Mapping[str, Any], ports: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    endpoint, folder = settings["lakehouse_backup_endpoint_url"], settings["lakehouse_backup_folder"]
    production = settings["lakehouse_environment"] == "production"
    if endpoint and folder:
        yield Problem(
            "lakehouse_backup_folder",
            "a folder and an endpoint are both set",
            "remove lakehouse_backup_folder or lakehouse_backup_endpoint_url",
        )
    if folder and production:
        yield Problem(
            "lakehouse_backup_folder",
            "production refuses a folder: it has no object lock",
            "set lakehouse_backup_endpoint_url to an S3 store with object lock on another machine",
        )
    if not endpoint and not folder and production:
        yield Problem(
            "lakehouse_backup_endpoint_url",
            "production refuses its own store: a backup in it does not survive the loss of this machine",
            "set it to an S3 store on another machine, or set lakehouse_services: {backup: {enabled: false}}",
        )
    if endpoint and not folder:
        yield from _endpoint_problems(settings)
        yield from _own_store_problems(settings, ports)
    yield from _encryption_problems(settings)
    if not endpoint and settings["lakehouse_backup_bucket"] and not folder:
        yield Problem(
            "lakehouse_backup_bucket",
            "the platform's own store has a bucket of its own for backups",
            "remove lakehouse_backup_bucket, or set lakehouse_backup_endpoint_url",
        )


def _encryption_problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    if settings["lakehouse_backup_encryption"] and not settings["lakehouse_backup_endpoint_url"]:
        yield Problem(
            "lakehouse_backup_encryption",
            "only another store encrypts what it is sent",
            "set lakehouse_backup_endpoint_url, or remove lakehouse_backup_encryption",
        )
    if settings["lakehouse_backup_kms_key_id"] and settings["lakehouse_backup_encryption"] != "aws:kms":
        yield Problem(
            "lakehouse_backup_kms_key_id",
            "a key is set, and lakehouse_backup_encryption does not ask for one",
            'set lakehouse_backup_encryption to "aws:kms", or remove lakehouse_backup_kms_key_id',
        )


def _endpoint_problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    url = urlsplit(settings["lakehouse_backup_endpoint_url"])
    if url.scheme == "http" and url.hostname not in LOOPBACK:
        yield Problem(
            "lakehouse_backup_endpoint_url",
            "backups would cross the network in plain text",
            "use https://; lakehouse_backup_ca_bundle names a private authority",
        )
    missing = [name for name in DESTINATION_SECRETS if name not in settings["lakehouse_secrets"]]
    if missing:
        yield Problem(
            "lakehouse_secrets",
            f"the credentials of the backup destination are not set: {', '.join(missing)}",
            "add them: the first pair may create objects, the second pair may read them",
        )


def _own_store_problems(settings: Mapping[str, Any], ports: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    url = urlsplit(settings["lakehouse_backup_endpoint_url"])
    number = url.port or {"http": 80, "https": 443}.get(url.scheme)
    own = [each for each in ports if (each["service"], each["name"], each["port"]) == (*STORE, number)]
    if any(url.hostname in LOOPBACK | {each["address"]} for each in own):
        yield Problem(
            "lakehouse_backup_endpoint_url",
            "it is the platform's own store: a backup in it does not survive the loss of this machine",
            "set it to an S3 store on another machine; outside of production it may be left out instead",
        )


def _restore_problems(settings: Mapping[str, Any]) -> Iterator[Problem]:
    tables, new_name = settings["lakehouse_restore_tables"], settings["lakehouse_restore_as"]
    components = settings["lakehouse_restore_components"]
    if new_name and len(tables) != 1:
        yield Problem(
            "lakehouse_restore_as",
            f"a new name is for one table, and {len(tables)} are listed",
            "list one table in lakehouse_restore_tables",
        )
    if new_name and len(tables) == 1 and new_name.partition(".")[0] != tables[0].partition(".")[0]:
        yield Problem(
            "lakehouse_restore_as",
            f"{new_name} is in another tier than {tables[0]}",
            f"begin the new name with {tables[0].partition('.')[0]}.",
        )
    if new_name and new_name in tables:
        yield Problem(
            "lakehouse_restore_as", "the new name is the table's own name", "choose another name, or remove it"
        )
    if tables and components and "tables" not in components:
        yield Problem(
            "lakehouse_restore_tables",
            "tables are listed, and lakehouse_restore_components leaves tables out",
            "add `tables` to lakehouse_restore_components, or remove one of both",
        )
