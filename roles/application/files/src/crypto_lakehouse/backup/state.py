# SPDX-License-Identifier: GPL-3.0-or-later
"""The bucket of the platform's own store through which backup processes talk: the lock, and requests for WAL.

It lies outside of the backups, whose objects may be protected against any change.
"""

from __future__ import annotations

from crypto_lakehouse.backup.database.archive import WalRequest
from crypto_lakehouse.backup.destination.requests import AnswerError
from crypto_lakehouse.backup.errors import BackupError
from crypto_lakehouse.backup.lock import S3Lock
from crypto_lakehouse.backup.reader import store_requests
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.settings import Settings

LOCK_KEY = "lock.json"
REQUEST_KEY = "wal-request.json"


class State:
    """Lock and requests, with the credentials that read the platform's own store."""

    def __init__(self, settings: Settings, backup: BackupSettings) -> None:
        self.requests = store_requests(settings)
        self._bucket = backup.require("state_bucket")

    def lock(self, owner: str) -> S3Lock:
        """Return the lock that backups and restores share."""
        return S3Lock(self.requests, self._bucket, LOCK_KEY, owner)

    def request_wal(self, request: WalRequest) -> None:
        """Ask the receiver to store WAL up to a position without waiting for its interval."""
        self.requests.call("request WAL", "put_object", Bucket=self._bucket, Key=REQUEST_KEY, Body=request.to_bytes())

    def wal_request(self) -> WalRequest | None:
        """Return the newest request, None where there is none or it cannot be read."""
        try:
            answer = self.requests.call("read the request for WAL", "get_object", Bucket=self._bucket, Key=REQUEST_KEY)
            return WalRequest.from_bytes(answer["Body"].read())
        except AnswerError as error:
            if error.is_absent:
                return None
            raise
        except BackupError:
            return None
