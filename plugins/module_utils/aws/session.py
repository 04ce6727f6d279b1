# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls to AWS: lazy clients of one session, retries with jitter, counted calls, and errors with a remedy."""

from __future__ import annotations

import copy
import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..engine.resource import activity
from ..shared.version import COLLECTION_VERSION
from .errors import CallError, call_error
from .naming import segment_fault
from .partitions import DNS_SUFFIX
from .waiters import backoff_s

if TYPE_CHECKING:
    from botocore.client import BaseClient

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
_ATTEMPTS = 9
_PATIENCE_S = 90.0
# How long a describe may take to show the resource of a create with a lost answer.
_VISIBLE_S = 10.0
_HIDDEN = "********"
# Services whose IAM prefix differs from the signing name.
_PREFIXES = {"monitoring": "cloudwatch"}
_SHORTEST_SECRET = 4
_SESSION_NAME = "crypto-lakehouse"
# Called with each session of botocore before its first client.
preparations: list[Callable[[Any], None]] = []


@dataclass(frozen=True)
class Connection:
    """Connection to AWS. Empty values come from the environment and the configuration files, as in botocore."""

    region: str = ""
    profile: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    endpoint_url: str = ""
    assume_role_arn: str = ""
    external_id: str = ""
    role_session_name: str = ""
    ca_bundle: str = ""
    validate_certs: bool = True
    parallelism: int = 16
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Identity:
    """Account and identity of the caller."""

    account_id: str
    partition: str
    arn: str


class Session:
    """All calls to AWS of one run. Safe to use from several threads.

    calls: every sent call, including retries, in the notation of IAM.
    actions: IAM actions of calls whose name differs from the action, for messages.
    """

    def __init__(self, connection: Connection, actions: Mapping[str, Sequence[str]] | None = None) -> None:
        self.connection = connection
        self.actions = dict(actions or {})
        self.calls: list[str] = []
        self._hidden: set[str] = set()
        self._clients: dict[str, BaseClient] = {}
        self._memory: dict[str, tuple[threading.Lock, list[Any]]] = {}
        self._lock = threading.Lock()
        # Limits all threads together, because one step may start several.
        self._slots = threading.BoundedSemaphore(max(1, connection.parallelism))
        self.hide(connection.secret_key, connection.session_token)

    @functools.cached_property
    def _botocore(self) -> Any:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session as BotocoreSession

        given = self.connection
        try:
            session = BotocoreSession(profile=given.profile or None)
            for prepare in preparations:
                prepare(session)
            if given.access_key:
                session.set_credentials(given.access_key, given.secret_key, given.session_token or None)
            if given.assume_role_arn:
                self._assume(session)
        except BotoCoreError as error:
            raise call_error("the AWS configuration", error) from error
        return session

    def _assume(self, session: Any) -> None:
        from botocore.credentials import (
            AssumeRoleCredentialFetcher,
            DeferredRefreshableCredentials,
        )

        extra = {"RoleSessionName": self.connection.role_session_name or _SESSION_NAME}
        if self.connection.external_id:
            extra["ExternalId"] = self.connection.external_id
        source = session.get_credentials()
        if source is None:
            raise CallError("sts:AssumeRole", "NoCredentialsError", "there are no credentials to assume the role with")
        fetcher = AssumeRoleCredentialFetcher(
            functools.partial(session.create_client, **self._client_options()),
            source,
            self.connection.assume_role_arn,
            extra_args=extra,
        )
        # botocore has no public interface for credentials that renew themselves.
        session._credentials = DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")

    def _client_options(self) -> dict[str, Any]:
        from botocore.config import Config

        given = self.connection
        options = Config(
            connect_timeout=min(10.0, given.timeout_s),
            read_timeout=given.timeout_s,
            max_pool_connections=given.parallelism + 4,
            # `call` controls every retry: botocore would repeat a create with a lost answer.
            retries={"total_max_attempts": 1, "mode": "standard"},
            user_agent_extra=f"crypto-lakehouse/{COLLECTION_VERSION}",
            # The hostname of a bucket below a custom endpoint does not resolve.
            s3={"addressing_style": "path" if given.endpoint_url else "auto"},
        )
        return {
            "region_name": given.region or None,
            "endpoint_url": given.endpoint_url or None,
            "verify": (given.ca_bundle or None) if given.validate_certs else False,
            "config": options,
        }

    def client(self, service: str) -> Any:
        """Return the client of a service; its model is loaded at the first use."""
        found = self._clients.get(service)
        if found is not None:
            return found
        from botocore.exceptions import BotoCoreError

        # The creation of clients is not thread-safe.
        with self._lock:
            if service not in self._clients:
                try:
                    self._clients[service] = self._botocore.create_client(service, **self._client_options())
                except BotoCoreError as error:
                    raise call_error(service, error) from error
                except ValueError as error:
                    raise CallError(service, "InvalidEndpoint", str(error)) from error
            return self._clients[service]

    @property
    def region(self) -> str:
        """The region of the calls."""
        return str(self.client("sts").meta.region_name)

    def lacks(self, service: str) -> bool:
        """Return whether botocore's data lacks this service in this region."""
        if self.connection.endpoint_url:
            return False
        partition = self.identity().partition
        known = self._botocore.get_available_regions(service, partition, allow_non_regional=True)
        return self.region not in known and f"{partition}-global" not in known

    def in_region(self, region: str) -> Session:
        """Return a session for calls to another region; it shares counters, masked values and limits with this one.

        Services with resources in one fixed region need it.
        """
        return self if region == self.region else self.once(f"in {region}", lambda: self._moved_to(region))

    def _moved_to(self, region: str) -> Session:
        moved = copy.copy(self)
        moved.connection = replace(self.connection, region=region)
        moved._clients, moved._memory = {}, {}
        return moved

    def identity(self) -> Identity:
        """Return the identity of the caller; called once."""
        return self.once("identity", self._identity)

    def _identity(self) -> Identity:
        answer = self.call("sts", "get_caller_identity")
        return Identity(str(answer["Account"]), str(answer["Arn"]).split(":")[1], str(answer["Arn"]))

    @property
    def dns_suffix(self) -> str:
        """Suffix of AWS hostnames in this partition."""
        return self.suffix_of(self.identity().partition)

    def suffix_of(self, partition: str) -> str:
        """Return the suffix of AWS hostnames in a partition."""
        found = {
            item["id"]: item["outputs"]["dnsSuffix"] for item in self._botocore.get_data("partitions")["partitions"]
        }
        return str(found.get(partition, DNS_SUFFIX))

    def partition_of_region(self) -> str:
        """Return the partition of the region from botocore's data, without a call."""
        from botocore.exceptions import BotoCoreError

        try:
            return str(self._botocore.get_partition_for_region(self.region))
        except BotoCoreError:
            return "aws"

    def zones(self) -> dict[str, str]:
        """Return the ids of the region's available zones by their sorted names; called once."""
        return self.once("zones", self._zones)

    def _zones(self) -> dict[str, str]:
        found = self.call("ec2", "describe_availability_zones")["AvailabilityZones"]
        usable = [zone for zone in found if zone.get("ZoneType", "availability-zone") == "availability-zone"]
        available = [zone for zone in usable if zone.get("State", "available") == "available"]
        return dict(sorted((zone["ZoneName"], zone.get("ZoneId", "")) for zone in available))

    def once(self, key: str, answer: Callable[[], _Answer]) -> _Answer:
        """Return the result of the first call of `answer` for this key; other threads wait for it."""
        with self._lock:
            lock, kept = self._memory.setdefault(key, (threading.Lock(), []))
        with lock:
            if not kept:
                kept.append(answer())
            value: _Answer = kept[0]
            return value

    def hide(self, *values: str) -> None:
        """Mask these values in all messages."""
        self._hidden.update(value for value in values if len(value) >= _SHORTEST_SECRET)

    def redacted(self, text: str) -> str:
        for value in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(value, _HIDDEN)
        return text

    def ask(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make a call without retries, for data that the run does not require. Raises CallError."""
        return self._send(service, operation, parameters)

    def call(self, service: str, operation: str, *, retry_on: Sequence[str] = (), **parameters: Any) -> dict[str, Any]:
        """Make a call that can be repeated, and return the answer without its metadata.

        operation: method of the client. retry_on: `CODE` or `CODE:words of the message` of temporary errors
        (a role that cannot be assumed yet). Raises CallError.
        """
        deadline_s = time.monotonic() + _PATIENCE_S
        attempt = 0
        while True:
            try:
                return self._send(service, operation, parameters)
            except CallError as error:
                passing = error.is_throttled or error.is_ambiguous or error.is_unsent
                waiting = error.is_one_of(retry_on) and time.monotonic() < deadline_s
                if not waiting and not (passing and attempt + 1 < _attempts(error)):
                    raise
            if activity().sleep(backoff_s(attempt, 5.0 if waiting else 20.0)):
                raise CallError(_call_name(self.client(service), operation), "Cancelled", "the run was stopped")
            attempt += 1

    def look(
        self, service: str, operation: str, absent: Sequence[str], *, retry_on: Sequence[str] = (), **parameters: Any
    ) -> dict[str, Any] | None:
        """Make a call; return None where it fails with one of the codes of `absent`."""
        try:
            return self.call(service, operation, retry_on=retry_on, **parameters)
        except CallError as error:
            if error.is_one_of(absent):
                return None
            raise

    def call_once(
        self,
        service: str,
        operation: str,
        find: Callable[[], dict[str, Any] | None],
        *,
        retry_on: Sequence[str] = (),
        **parameters: Any,
    ) -> dict[str, Any]:
        """Make a call that must not be repeated blindly: a create without an idempotency token.

        When the answer is lost, `find` looks for the created resource and returns it in the form of the answer. A
        repetition follows only when `find` returns nothing. Raises CallError.
        """
        deadline_s = time.monotonic() + _PATIENCE_S
        attempt, lost = 0, False
        while True:
            try:
                return self._send(service, operation, parameters)
            except CallError as error:
                lost = lost or error.is_ambiguous
                found = self._visible(find) if lost else None
                if found is not None:
                    return found
                passing = error.is_throttled or error.is_ambiguous or error.is_unsent
                waiting = error.is_one_of(retry_on) and time.monotonic() < deadline_s
                if not waiting and not (passing and attempt + 1 < _attempts(error)):
                    raise
            if activity().sleep(backoff_s(attempt)):
                raise CallError(_call_name(self.client(service), operation), "Cancelled", "the run was stopped")
            attempt += 1

    def _visible(self, find: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        deadline_s = time.monotonic() + _VISIBLE_S
        attempt = 0
        while True:
            found = find()
            if found is not None or time.monotonic() >= deadline_s or activity().sleep(backoff_s(attempt, 2.0)):
                return found
            attempt += 1

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        """Return the items under `key` of all pages of a call."""
        return [item for page in self._pages(service, operation, parameters) for item in page.get(key) or []]

    def _pages(self, service: str, operation: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        from botocore.paginate import Paginator

        client = self.client(service)
        if not client.can_paginate(operation):
            yield self.call(service, operation, **parameters)
            return
        name = client.meta.method_to_api_mapping[operation]
        configuration = self.once(
            f"paginators {service}", lambda: self._botocore.get_paginator_model(service)
        ).get_paginator(name)
        # A paginator passes on all parameters, even if its type hints require a name.
        method: Any = functools.partial(self.call, service, operation)
        model = client.meta.service_model.operation_model(name)
        yield from Paginator(method, configuration, model).paginate(**parameters)

    def each(self, function: Callable[[_Item], _Answer], items: Iterable[_Item]) -> list[_Answer]:
        """Return the results of concurrent calls of `function` in the order of the items. Raises the first error."""
        todo = list(items)
        others = min(len(todo), self.connection.parallelism) - 1
        if others < 1:
            return [function(item) for item in todo]
        # The waiting thread processes the first item.
        with ThreadPoolExecutor(others, "each") as pool:
            # The context contains the counter of the calls.
            futures = [pool.submit(copy_context().run, function, item) for item in todo[1:]]
            return [function(todo[0]), *(future.result() for future in futures)]

    def _send(self, service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        client = self.client(service)
        name = _call_name(client, operation)
        _check_address(client, operation, name, parameters)
        with self._slots:
            activity().count()
            self.calls.append(name)
            try:
                answer: dict[str, Any] = getattr(client, operation)(**parameters)
            except (BotoCoreError, ClientError, ResponseParserError) as error:
                if getattr(error, "operation_name", "") == "AssumeRole":
                    # The role is assumed when the credentials are first needed, during another call.
                    name = "sts:AssumeRole"
                failed = call_error(name, error, self.actions.get(name, ()))
                message = self.redacted(failed.message)
                # Without the cause: botocore's message could contain masked values.
                raise CallError(name, failed.code, message, status=failed.status, actions=failed.actions) from None
            except KeyError as error:
                # Errors of botocore's parsers for a page that does not come from the service.
                raise CallError(name, "ResponseParserError", f"the answer lacks {error}") from None
        answer.pop("ResponseMetadata", None)
        return answer


def _check_address(client: Any, operation: str, name: str, parameters: Mapping[str, Any]) -> None:
    """Raise CallError where a parameter would change the path of the call's address."""
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[operation])
    members = model.input_shape.members if model.input_shape is not None else {}
    for key, value in parameters.items():
        if key in members and members[key].serialization.get("location") == "uri":
            fault = segment_fault(str(value)) if value else f"{value!r} is empty"
            if fault:
                raise CallError(name, "InvalidIdentifier", f"cannot send the call: {key} {fault}; correct the name")


def _attempts(error: CallError) -> int:
    # A closed port is reported soon. An overloaded service is retried for longer.
    return 3 if error.is_unsent else _ATTEMPTS


def _call_name(client: Any, operation: str) -> str:
    signing_name = client.meta.service_model.signing_name
    return f"{_PREFIXES.get(signing_name, signing_name)}:{client.meta.method_to_api_mapping[operation]}"
