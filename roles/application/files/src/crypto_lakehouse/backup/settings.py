# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of backup and restore, read from environment variables that begin with `LAKEHOUSE_BACKUP_`.

The credentials that read the platform's own store are those of every process (`LAKEHOUSE_S3_ACCESS_KEY`). A process has
only the destination's credentials that its task needs.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from crypto_lakehouse.settings import EnvironmentSettings, HttpUrl

PREFIX: Final = "LAKEHOUSE_BACKUP_"
TIME_OF_DAY: Final = r"^([01]\d|2[0-3]):[0-5]\d$"


def _words(value: object) -> object:
    return tuple(value.split()) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
TimeOfDay = Annotated[str, Field(pattern=TIME_OF_DAY)]


class BackupSettings(EnvironmentSettings):
    """Settings of a backup process.

    endpoint_url: None is the platform's own store, unless there is a folder. times: UTC times of day at which the
    service takes a set. encryption: server-side encryption of new objects, None for the default of the bucket;
    kms_key_id: key of `aws:kms`. recipients: age public keys. wal_interval_s: seconds between two uploads of WAL.
    bandwidth_mb: megabytes per second, 0 is unlimited. home: folder of the lakehouse on a host.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    bucket: str | None = None
    folder: str | None = None
    endpoint_url: HttpUrl | None = None
    region: str = "us-east-1"
    ca_bundle: str | None = None
    encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: str | None = None
    create_access_key: SecretStr | None = None
    create_secret_key: SecretStr | None = None
    restore_access_key: SecretStr | None = None
    restore_secret_key: SecretStr | None = None
    state_bucket: str | None = None
    database_url: SecretStr | None = None

    retention_days: int = Field(default=7, ge=1, le=3650)
    times: Annotated[tuple[TimeOfDay, ...], NoDecode, BeforeValidator(_words)] = ("02:00",)
    recipients: Words = ()
    only_current_snapshots: bool = False
    archived_objects: Literal["fail", "skip_recorded", "restore_first"] = "fail"
    bandwidth_mb: float = Field(default=0, ge=0)
    wal_interval_s: float = Field(default=60, ge=1)
    base_interval_days: int = Field(default=1, ge=1, le=35)

    host: str = "127.0.0.1"
    port: int = Field(default=4202, ge=1, le=65535)
    home: str | None = None
    program_folder: str | None = None
    work_folder: str | None = None
    database_folder: str | None = None
    collection_version: str = "unknown"
