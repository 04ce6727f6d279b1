# SPDX-License-Identifier: GPL-3.0-or-later
"""The bucket of the platform's own store that backup processes share: the lock, requests for WAL, the id.

It is outside of the backups, whose objects may be protected against any change.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from crypto_lakehouse.backup.database.archive import WalRequest
from crypto_lakehouse.backup.destination.requests import AnswerError
from crypto_lakehouse.backup.errors import BackupError
from crypto_lakehouse.backup.lock import LOCK_KEY, S3Lock
from crypto_lakehouse.backup.reader import store_requests
from crypto_lakehouse.backup.settings import BackupSettings
from crypto_lakehouse.settings import Settings

REQUEST_KEY = "wal-request.json"
IDENTITY_KEY = "lakehouse.json"


class State:
    """Lock and requests, with the credentials that read the platform's own store."""

    def __init__(self, settings: Settings, backup: BackupSettings) -> None:
        self.requests = store_requests(settings)
        self._bucket = backup.require("state_bucket")

    def lock(self, owner: str) -> S3Lock:
        """Return the lock that backups and restores share."""
        return S3Lock(self.requests, self._bucket, LOCK_KEY, owner)

    def lakehouse(self) -> str:
        """Return the id of this lakehouse, which is as old as its store: a rebuilt one has another."""
        found = self._identity()
        if found is None:
            body = json.dumps({"id": secrets.token_hex(16)}).encode()
            place: dict[str, Any] = {"Bucket": self._bucket, "Key": IDENTITY_KEY, "IfNoneMatch": "*"}
            try:
                self.requests.call("name the lakehouse", "put_object", **place, Body=body)
            except AnswerError as error:
                # Another run was faster.
                if not error.is_conflict:
                    raise
            found = self._identity()
        if found is None:
            raise BackupError(f"cannot name the lakehouse: s3://{self._bucket}/{IDENTITY_KEY} vanished", "Repeat it.")
        return found

    def _identity(self) -> str | None:
        try:
            answer = self.requests.call(
                "read the id of the lakehouse", "get_object", Bucket=self._bucket, Key=IDENTITY_KEY
            )
            return str(json.loads(answer["Body"].read())["id"])
        except AnswerError as error:
            if error.is_absent:
                return None
            raise
        except (ValueError, TypeError, KeyError):
            raise BackupError(
                f"cannot read s3://{self._bucket}/{IDENTITY_KEY}: it is not the id of a lakehouse", "Delete the object."
            ) from None

    def request_wal(self, request: WalRequest) -> None:
        """Request that the receiver stores WAL up to a position without waiting for its interval."""
        self.requests.call("request WAL", "put_object", Bucket=self._bucket, Key=REQUEST_KEY, Body=request.to_bytes())

    def wal_request(self) -> WalRequest | None:
        """Return the newest request, None where it is missing or unreadable."""
        try:
            answer = self.requests.call("read the request for WAL", "get_object", Bucket=self._bucket, Key=REQUEST_KEY)
            return WalRequest.from_bytes(answer["Body"].read())
        except AnswerError as error:
            if error.is_absent:
                return None
            raise
        except BackupError:
            return None
