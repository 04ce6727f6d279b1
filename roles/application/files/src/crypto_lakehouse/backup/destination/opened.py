# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the destination that the settings name, with the credentials of one purpose."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal

from crypto_lakehouse.backup.destination import Destination
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.settings import Settings

Purpose = Literal["create", "restore"]


def open_destination(settings: Settings, backup: BackupSettings, purpose: Purpose) -> Destination:
    """Return the destination: a folder, a bucket of another store, or the bucket of the platform's own store.

    Raises:
        SettingsError: where bucket, endpoint or credentials were not given.
    """
    if backup.folder:
        from crypto_lakehouse.backup.destination.folder import FolderDestination

        root = Path(backup.folder) / settings.environment
        if purpose == "create":
            # The folder itself must exist, so that a missing mount is not replaced by a folder.
            with suppress(OSError):
                root.mkdir(mode=0o700)
        return FolderDestination(root)
    from crypto_lakehouse.backup.destination.requests import Keys
    from crypto_lakehouse.backup.destination.s3 import Encryption, S3Destination

    keys = Keys(backup.require(f"{purpose}_access_key"), backup.require(f"{purpose}_secret_key"))
    return S3Destination(
        backup.endpoint_url or settings.require("s3_endpoint"),
        backup.region,
        backup.require("bucket"),
        settings.environment,
        keys,
        ca_bundle=backup.ca_bundle,
        encryption=Encryption(backup.encryption, backup.kms_key_id),
    )


def is_own_store(backup: BackupSettings) -> bool:
    """Return whether backups are in the store that they protect, so that both are lost together."""
    return not backup.folder and not backup.endpoint_url


def notices(backup: BackupSettings, destination: Destination) -> list[str]:
    """Return notices for all reports, about the destination and about missing components of a set."""
    found = []
    if is_own_store(backup):
        found.append("The destination is the platform's own store: a set does not survive the loss of this machine.")
    found += destination.warnings()
    if not backup.recipients:
        found.append("Secrets and configuration are not in the set: `lakehouse_backup_recipients` is empty.")
    return found
