# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to an S3 store: one client for each credential, a deadline for each request, errors with a remedy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

from crypto_lakehouse.backup.errors import DestinationError, IntegrityError

T = TypeVar("T")

SLOWEST_BYTES_S: Final = 64 << 10
"""Rate in bytes per second below which a transfer counts as stuck."""

_CREDENTIALS: Final = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")
_FULL: Final = ("QuotaExceeded", "InsufficientStorage", "StorageFull", "XMinioStorageFull")
_DAMAGED: Final = ("BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest")


@dataclass(frozen=True, slots=True)
class Keys:
    """Access key and secret key of one identity; neither is printed."""

    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        """Return the name of the class alone."""
        return "Keys(...)"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address and time limits of an S3 store.

    url: None for AWS. ca_bundle: file of the authorities that sign its certificate. timeout_s: of one attempt, for a
    connection and for each answer. attempts: of one request, with exponential backoff between them.
    """

    url: str | None
    region: str
    ca_bundle: str | None = None
    timeout_s: float = 30.0
    attempts: int = 4

    def __str__(self) -> str:
        """Return the address as messages name it."""
        return self.url or f"AWS {self.region}"

    def client(self, keys: Keys | None) -> Any:
        """Return a boto3 client; without keys it uses boto3's default credential chain."""
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=min(self.timeout_s, 10.0),
            read_timeout=self.timeout_s,
            retries={"mode": "standard", "total_max_attempts": self.attempts},
            s3={"addressing_style": "path" if self.url else "auto"},
            max_pool_connections=64,
            # SHA-256 is sent and compared here; a second checksum costs time and proves nothing more.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        # The stubs know a client by a literal name only.
        client: Any = boto3.session.Session().client
        return client(
            "s3",
            region_name=self.region,
            endpoint_url=self.url,
            verify=self.ca_bundle,
            aws_access_key_id=keys.access_key if keys else None,
            aws_secret_access_key=keys.secret_key if keys else None,
            config=config,
        )

    def deadline_s(self, size: int = 0) -> float:
        """Return the seconds after which a request that carries `size` bytes is given up, its retries included."""
        attempts = self.attempts * (self.timeout_s + min(self.timeout_s, 10.0))
        return attempts + 2.0**self.attempts + size / SLOWEST_BYTES_S


class Requests:
    """The requests of one identity to a store."""

    def __init__(self, endpoint: Endpoint, keys: Keys | None) -> None:
        self.endpoint = endpoint
        self._keys = keys
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def client(self) -> Any:
        """Return the client of this identity."""
        with self._lock:
            self._client = self._client or self.endpoint.client(self._keys)
            return self._client

    def call(self, act: str, operation: str, *, size: int = 0, **parameters: Any) -> dict[str, Any]:
        """Send one request and return its answer.

        act: the request as messages name it (`store KEY`). size: bytes that it carries.

        Raises:
            AnswerError: where the store refuses it. DestinationError: where the store does not answer in time.
        """
        call = getattr(self.client, operation)
        answer = self.within(act, lambda: call(**parameters), self.endpoint.deadline_s(size))
        return dict(answer)

    def within(self, act: str, call: Callable[[], T], seconds: float) -> T:
        """Return the result of `call` within `seconds`; abandon a call that takes longer.

        Raises:
            AnswerError: where the store refuses it. DestinationError: where the store does not answer in time.
        """
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            return _within(call, seconds)
        except ClientError as error:
            raise AnswerError.of(act, self.endpoint, error.response) from None
        except TimeoutError:
            raise self._silent(act, f"no answer within {seconds:.0f} s") from None
        except (BotoCoreError, HTTPError, OSError) as error:
            raise self._silent(act, _reason(error)) from None

    def _silent(self, act: str, cause: str) -> DestinationError:
        remedy = "Check the endpoint, its certificate and the network between them, then run the backup again."
        error = DestinationError(f"cannot {act}: {self.endpoint} is unreachable or too slow: {cause}", remedy)
        error.transient = True
        return error


class AnswerError(DestinationError):
    """A store refused a request. code: of S3, or the HTTP status where the answer has no body. date: of its clock."""

    def __init__(self, message: str, remedy: str, code: str, status: int, date: datetime | None) -> None:
        super().__init__(message, remedy)
        self.date = date
        self.code = code
        self.status = status
        self.transient = status == 429 or status >= 500

    @classmethod
    def of(cls, act: str, endpoint: Endpoint, answer: Any) -> AnswerError:
        """Return the error of an answer that botocore did not accept."""
        code = str(answer.get("Error", {}).get("Code", ""))
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        cause, remedy = _explain(code, status)
        detail = str(answer.get("Error", {}).get("Message", "")).strip(" .")
        return cls(
            f"cannot {act}: {cause} ({endpoint}: {code or status}: {detail})", remedy, code, status, server_date(answer)
        )

    @property
    def is_absent(self) -> bool:
        """Whether the object or version does not exist."""
        return self.status == 404 and self.code != "NoSuchBucket"

    @property
    def is_conflict(self) -> bool:
        """Whether a precondition did not hold."""
        return self.status in (409, 412)

    @property
    def is_denied(self) -> bool:
        """Whether the identity lacks the right."""
        return self.status == 403 and self.code not in _CREDENTIALS

    def raise_damage(self) -> None:
        """Raise an IntegrityError where the store found other bytes than the checksum says."""
        if self.code in _DAMAGED:
            raise IntegrityError(self.message, "Run the backup again; if it repeats, check memory and network.")


_EXPLANATIONS: Final[tuple[tuple[Callable[[str, int], bool], str, str], ...]] = (
    (lambda code, _status: code == "NoSuchBucket", "the bucket does not exist", "Create the bucket, or name another."),
    (
        lambda code, _status: code in _CREDENTIALS,
        "the credentials are refused",
        "Check access key, secret key and region.",
    ),
    (
        lambda code, _status: code == "RequestTimeTooSkewed",
        "the clocks differ",
        "Synchronise the clock of this machine.",
    ),
    (
        lambda code, status: code in _FULL or status == 507,
        "the store is full",
        "Free space or raise the quota of the store.",
    ),
    (lambda code, _status: code in _DAMAGED, "the bytes were damaged on the way", "Run the backup again."),
    (lambda _code, status: status == 403, "access is denied", "Grant the identity this action."),
    (lambda _code, status: status == 404, "it does not exist", ""),
    (
        lambda _code, status: status == 429 or status >= 500,
        "the store fails, is full or is overloaded",
        "Check free space and the log of the store, then run the backup again.",
    ),
)


def _explain(code: str, status: int) -> tuple[str, str]:
    for matches, cause, remedy in _EXPLANATIONS:
        if matches(code, status):
            return cause, remedy
    return "the store refuses the request", ""


def _reason(error: Exception) -> str:
    # botocore's messages name the address; the credentials are in none of them.
    return f"{type(error).__name__}: {str(error).strip(' .')[:300]}"


def _within(call: Callable[[], T], seconds: float) -> T:
    # A socket's own timeout starts again with every byte, so a store that drips would hold a thread for ever.
    results: list[T] = []
    errors: list[BaseException] = []
    thread = threading.Thread(target=_run, args=(call, results, errors), daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]


def _run(call: Callable[[], T], results: list[T], errors: list[BaseException]) -> None:
    try:
        results.append(call())
    except BaseException as error:  # noqa: BLE001 - the caller raises it in its own thread
        errors.append(error)


def server_date(answer: dict[str, Any]) -> datetime | None:
    """Return the time of the store's clock when it answered, None where the answer has no `Date`."""
    text = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(text).astimezone(UTC) if text else None
