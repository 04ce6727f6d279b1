# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory variables of backup and restore."""

from __future__ import annotations

import re
from typing import Any

from .values import (
    InvalidValueError,
    Variable,
    absolute_path,
    as_text,
    as_words,
    boolean,
    choice,
    each_of,
    http_url,
    matching,
    shown,
    whole_number,
)

COMPONENTS = ("tables", "raw", "database")
SET_ID = r"latest|\d{8}T\d{6}Z-[0-9a-f]{6}"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TABLE = r"(?:bronze|silver|gold)\.[a-z][a-z0-9_]*"
_TABLE_OF_ANY_NAMESPACE = r"(?:bronze|silver|gold)(?:\.[a-z0-9][a-z0-9_]*)+"
_PUBLIC_KEY = re.compile(r"age1[ac-hj-np-z02-9]{58}")


def bucket_name(value: Any) -> str:
    """Return the name of an S3 bucket, or an empty text."""
    text = as_text(value)
    if text and (not _BUCKET.fullmatch(text) or ".." in text or re.fullmatch(r"[\d.]+", text)):
        raise InvalidValueError(
            f"{shown(value)} is not the name of a bucket",
            "use 3 to 63 lower-case letters, digits, dots and hyphens",
        )
    return text


def public_keys(value: Any) -> list[str]:
    """Return public keys of age. A private key is rejected and never shown."""
    keys = as_words(value)
    for number, key in enumerate(keys, start=1):
        if key.upper().startswith("AGE-SECRET-KEY-"):
            raise InvalidValueError(
                f"entry {number} is a private key",
                "list the public key, as `age-keygen -y KEYFILE` prints it, and keep the private key off the machine",
            )
        if not _PUBLIC_KEY.fullmatch(key):
            raise InvalidValueError(
                f"{shown(key)} is not a public key of age", "list keys that begin with age1, as age-keygen prints them"
            )
    if len(set(keys)) < len(keys):
        raise InvalidValueError("a public key is listed twice", "list each recipient once")
    return keys


def times_of_day(value: Any) -> list[str]:
    """Return times of day as `HH:MM`, sorted. YAML reads an unquoted one as a number of minutes."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise InvalidValueError(f"{value} is a number", 'quote each time of day: ["02:00"]')
    times = each_of(matching(r"(?:[01]\d|2[0-3]):[0-5]\d", "a time of day", "02:00"))(value)
    if not times:
        raise InvalidValueError("no time of day is listed", 'list at least one: ["02:00"]')
    return sorted(set(times))


BACKUP_VARIABLES: tuple[Variable, ...] = (
    Variable(
        "lakehouse_backup_endpoint_url",
        "Endpoint of the S3 store of backups. The platform's own store when empty, which production rejects.",
        lambda value: http_url(value) if value else "",
        "",
    ),
    Variable(
        "lakehouse_backup_bucket",
        "Bucket of backups. `crypto-lakehouse-backups-ENVIRONMENT` when empty.",
        bucket_name,
        "",
    ),
    Variable(
        "lakehouse_backup_region",
        "Region of that bucket.",
        matching(r"[a-z0-9-]+", "a region", "eu-central-1"),
        "us-east-1",
    ),
    Variable(
        "lakehouse_backup_ca_bundle",
        "File of certificate authorities on the machine that verify the endpoint. `lakehouse_ca_bundle` when empty.",
        absolute_path,
        "",
    ),
    Variable(
        "lakehouse_backup_folder",
        "Folder on another disk for backups instead of a bucket, without object lock. Production rejects it.",
        absolute_path,
        "",
    ),
    Variable(
        "lakehouse_backup_encryption",
        "Server-side encryption of backups: `AES256` or `aws:kms`. The bucket's default when empty.",
        lambda value: choice("AES256", "aws:kms")(value) if value else "",
        "",
    ),
    Variable(
        "lakehouse_backup_kms_key_id",
        "Id or ARN of the key for `aws:kms`. The account's own key when empty.",
        lambda value: matching(r"[A-Za-z0-9:/_-]+", "a key", "alias/backups")(value) if value else "",
        "",
    ),
    Variable("lakehouse_backup_retention_days", "Retention of backups in days, from 1 to 35.", whole_number(1, 35), 7),
    Variable(
        "lakehouse_backup_times",
        "Times of day of backups (UTC, `HH:MM`).",
        times_of_day,
        ["02:00"],
    ),
    Variable(
        "lakehouse_backup_recipients",
        "Public keys of age for the encryption of secrets and configuration. Backups omit both when empty.",
        public_keys,
        [],
    ),
    Variable(
        "lakehouse_backup_bandwidth_mb",
        "Bandwidth limit of a backup in megabytes per second; 0 is unlimited.",
        whole_number(0, 100_000),
        0,
    ),
    Variable(
        "lakehouse_backup_only_current_snapshots",
        "Whether to back up only the current snapshot of each table.",
        boolean,
        False,
    ),
    Variable(
        "lakehouse_backup_archived_objects",
        "Handling of raw objects in archive storage classes: `fail`, `skip_recorded` or `restore_first`.",
        choice("fail", "skip_recorded", "restore_first"),
        "fail",
    ),
    Variable(
        "lakehouse_backup_before",
        "Whether to back up before an upgrade, a restore that replaces data, and a destroy with an external store.",
        boolean,
        True,
        of_run=True,
    ),
    Variable(
        "lakehouse_backup_set",
        "Backup set to verify or restore: its id, or `latest`.",
        matching(SET_ID, "the id of a backup set", "latest, or as backup_list.yml prints it"),
        "latest",
        of_run=True,
    ),
    Variable(
        "lakehouse_backup_level",
        "Level of a verification: 1 compares sizes, 2 every hash.",
        whole_number(1, 2),
        2,
        of_run=True,
    ),
    Variable(
        "lakehouse_restore_components",
        "Components to restore: `tables`, `raw`, `database`. All when empty.",
        each_of(choice(*COMPONENTS)),
        [],
        of_run=True,
    ),
    Variable(
        "lakehouse_restore_tables",
        "Tables to restore, as `TIER.NAME`, or `TIER.NAMESPACE.NAME` outside of the tier's namespace. All when empty.",
        each_of(matching(_TABLE_OF_ANY_NAMESPACE, "the name of a table", "gold.ohlcv_daily")),
        [],
        of_run=True,
    ),
    Variable(
        "lakehouse_restore_as",
        "New name, as `TIER.NAME`, of the only table in `lakehouse_restore_tables`.",
        matching(_TABLE, "the name of a table", "gold.ohlcv_daily_restored"),
        "",
        of_run=True,
    ),
    Variable(
        "lakehouse_restore_overwrite",
        "Whether to let a restore replace existing data. A backup is created first.",
        boolean,
        False,
        of_run=True,
    ),
    Variable(
        "lakehouse_restore_identity",
        "Private key of age that decrypts secrets and configuration. The restore reads it from standard input.",
        as_text,
        "",
        secret=True,
    ),
)
