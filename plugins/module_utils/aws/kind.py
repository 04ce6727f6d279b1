# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup, waiting and tags, which all kinds of AWS share."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..engine.errors import OptionRemedy
from ..engine.resource import LATER, READY, RETIRED, Actual, Later, Owner, Request, Subject
from ..engine.schema import Property, Schema
from ..engine.value import Secret, is_known, plain
from .errors import WaitError
from .session import Session
from .tag_rules import FOREIGN_TAGS, IgnoredTags, tags_fault
from .waiters import wait_until

STACK_TAG, ADDRESS_TAG, REGION_TAG = "lakehouse:stack", "lakehouse:address", "lakehouse:region"
TAGS = Property(
    "map",
    elements=Property("string"),
    check=tags_fault,
    purpose="Tags. `Environment`, `Project` and, for kinds without a name, `Name` are added if omitted.",
)
# How long a new resource may stay invisible.
_VISIBLE_S = 60.0


@dataclass(frozen=True)
class Actions:
    """The IAM actions that each operation of a kind needs, by IAM's names, which can differ from those of the API."""

    read: tuple[str, ...]
    create: tuple[str, ...]
    update: tuple[str, ...]
    delete: tuple[str, ...]
    # In addition to those of `read`.
    list: tuple[str, ...] = ()


@dataclass(frozen=True)
class Left:
    """Resource that a deletion leaves. deletion_date: of its later deletion, where known."""

    id: str
    status: str
    deletion_date: str = ""


@dataclass(frozen=True)
class Retained:
    """Resource that remains after other resources are deleted, and that cannot be read without a key.

    id: its own, or that of the resource that leaves it. what: its description. key: ARN or id of the key.
    days: until its deletion; None: not scheduled.
    """

    id: str
    what: str
    key: str
    days: int | None = None


class AwsKind(ABC):
    """One kind of resource. Implements the engine's protocol `Kind` with a few smaller methods.

    service: of its client. found_by: `tags` for resources without a unique name (one listing finds all of the stack),
    `name` for resources that are read by a unique name. timeout_s: of the longest wait.
    failed_states: statuses that never become ready; a colon and reasons may follow a status.
    name_tag: the tag `Name` is its only name.
    retires: a deletion is only scheduled; the output `deletion_date` has its date.
    """

    name: ClassVar[str]
    service: ClassVar[str]
    schema: ClassVar[Schema]
    actions: ClassVar[Actions]
    found_by: ClassVar[Literal["tags", "name"]] = "name"
    timeout_s: ClassVar[float] = 600.0
    interval_s: ClassVar[float] = 5.0
    failed_states: ClassVar[frozenset[str]] = frozenset()
    name_tag: ClassVar[bool] = False
    retires: ClassVar[bool] = False

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ignored_tags = IgnoredTags()
        self._probed: dict[str, Actual | None] = {}

    @classmethod
    def with_tags(cls, properties: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """Return a description with the tags of all resources of a stack; its own tags have precedence.

        Kinds whose properties contain tags of further resources override it.
        """
        own = properties.get("tags") or {}
        if "tags" not in cls.schema.properties or not isinstance(own, Mapping):
            return dict(properties)
        return {**properties, "tags": {**tags, **own}}

    def identify(self, desired: Mapping[str, Any]) -> str | None:
        """Return the id that `read` takes, from the properties; for kinds that are found by name."""
        return str(desired["name"])

    @abstractmethod
    def read(self, id_: str) -> Actual | None:
        """Return the resource with an id, with its own status and tags, or None."""

    @abstractmethod
    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        """Return all resources of this kind with the tags of the owner's stack."""

    @abstractmethod
    def create(self, request: Request) -> Actual:
        """Create a resource with its tags, and return without waiting."""

    @abstractmethod
    def update(self, request: Request) -> Actual:
        """Apply changes, write tags when they changed or `claim` is set, and cancel a scheduled deletion."""

    @abstractmethod
    def delete(self, request: Request) -> None:
        """Delete a resource; a missing resource, or one in deletion, is not an error."""

    def lookalikes(self, subject: Subject) -> Sequence[Actual] | Later:  # noqa: ARG002 - for those who override it
        """Return resources that match a description except its tags; for adoptable kinds that are found by tags.

        LATER where the parent's id is not known yet.
        """
        return ()

    def failure(self, actual: Actual) -> str:
        """Return why a resource is in a failed state, in the service's words where available."""
        return actual.status

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        found = self._by_tags(subjects) if self.found_by == "tags" else self._by_name(subjects)
        wanted = {subject.address: subject.desired for subject in subjects}
        return {
            address: actuals
            if isinstance(actuals, Later)
            else [self.managed_tags(actual, wanted[address]) for actual in actuals]
            for address, actuals in found.items()
        }

    def _by_tags(self, subjects: Sequence[Subject]) -> dict[str, Sequence[Actual] | Later]:
        owned: dict[str, list[Actual]] = {subject.address: [] for subject in subjects}
        own = subjects[0].owner
        for actual in self.list_owned(own):
            # A service that ignores the filter also returns resources of other environments.
            if actual.owner and actual.owner.shares_stack_with(own) and actual.owner.address in owned:
                owned[actual.owner.address].append(actual)
        missing = [subject for subject in subjects if not owned[subject.address]]
        likely = self.session.each(self.lookalikes, missing)
        return {**owned, **{subject.address: actuals for subject, actuals in zip(missing, likely, strict=True)}}

    def _by_name(self, subjects: Sequence[Subject]) -> dict[str, Sequence[Actual] | Later]:
        def found(subject: Subject) -> Sequence[Actual] | Later:
            id_ = self.identify(subject.desired) if self.is_identified(subject.desired) else None
            if id_ is None:
                return LATER
            actual = self._probed.pop(id_) if id_ in self._probed else self.read(id_)
            return [] if actual is None else [actual]

        answers = self.session.each(found, subjects)
        return {subject.address: answer for subject, answer in zip(subjects, answers, strict=True)}

    def probe(self, subject: Subject) -> Actual | None:
        """Read a named resource before the description is complete; the next read of that name returns the same."""
        id_ = str(self.identify(subject.desired))
        self._probed[id_] = self.read(id_)
        return self._probed[id_]

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        """Return whether all properties that `identify` needs are known."""
        return is_known(desired.get("name"))

    def wait(self, request: Request) -> Actual:
        """Wait until a resource is ready. Raises WaitError on a failed status, and when it does not become visible."""
        existing = request.existing
        seen = ""

        def look() -> Actual | None:
            nonlocal seen
            actual = self.read(existing.id)
            seen = "not there" if actual is None else actual.status
            if actual is not None and actual.status.partition(":")[0] in self.failed_states:
                raise WaitError(f"{request.address} ({existing.id}) cannot become ready: {self.failure(actual)}")
            return actual if actual is not None and actual.status in {READY, RETIRED} else None

        visible = self.read_visibly(request)
        if visible.status in {READY, RETIRED}:
            return self.managed_tags(visible, request.desired)
        actual = wait_until(
            look,
            f"{request.address} ({existing.id}) to be ready",
            timeout_s=self.timeout_s,
            interval_s=self.interval_s,
            last=lambda: seen,
        )
        return self.managed_tags(actual, request.desired)

    def read_visibly(self, request: Request) -> Actual:
        """Read a new resource, which may take a moment to become visible."""
        id_ = request.existing.id
        return wait_until(
            lambda: self.read(id_), f"{request.address} ({id_}) to become visible", timeout_s=_VISIBLE_S, interval_s=2.0
        )

    def wait_deleted(self, request: Request) -> None:
        """Wait until a resource is deleted."""
        seen = ""

        def look() -> bool | None:
            nonlocal seen
            actual = self.read(request.existing.id)
            seen = "" if actual is None else actual.status
            return True if actual is None or actual.status == RETIRED else None

        wait_until(
            look,
            f"{request.address} ({request.existing.id}) to be gone",
            timeout_s=self.timeout_s,
            interval_s=self.interval_s,
            last=lambda: seen,
        )

    def managed_tags(self, actual: Actual, desired: Mapping[str, Any]) -> Actual:
        """Remove tags of other controllers and ignored tags, except those in the description."""
        described = desired.get("tags")
        described = described if isinstance(described, Mapping) else {}
        tags = actual.properties.get("tags") or {}
        kept = {key: value for key, value in tags.items() if key in described or not self._is_foreign(key)}
        return replace(actual, properties={**actual.properties, "tags": kept}) if kept != tags else actual

    def _is_foreign(self, key: str) -> bool:
        return key.startswith(FOREIGN_TAGS) or self.ignored_tags.covers(key)

    def retains(self, existing: Actual) -> Sequence[Retained]:  # noqa: ARG002 - for those who override it
        """Return resources that a deletion will leave and that a key encrypts."""
        return ()

    def left_by(self, existed: Actual, owner: Owner) -> Sequence[Left]:  # noqa: ARG002 - for those who override it
        """Return resources that a deletion left; the deletion may have failed, or the resource was missing."""
        actual = self.read(existed.id) if self.retires else None
        if actual is None or actual.status != RETIRED:
            return ()
        return (Left(actual.id, actual.status, str(actual.outputs.get("deletion_date") or "")),)

    def revealed(self, request: Request, name: str) -> Any:
        """Return a desired property with its secrets in plain text, and mask them in all later messages."""
        value = request.desired.get(name)
        for secret in _secrets(value):
            self.session.hide(str(secret.reveal()))
        return plain(value)


def _secrets(value: Any) -> Iterable[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)


def contents_remedy(request: Request, others: str) -> OptionRemedy:
    """Return the remedy that allows to delete contents with their container. others: alternatives."""
    address = request.address.partition("#")[0]
    return OptionRemedy(f"name {address} in delete_contents, {others}", "delete_contents")


def stack_tag(owner: Owner) -> str:
    """Return the value of the tag `lakehouse:stack`: `STACK/ENVIRONMENT`."""
    return f"{owner.stack}/{owner.environment}"


def owner_tags(owner: Owner) -> dict[str, str]:
    """Return the tags that name the owner of a resource."""
    tags = {STACK_TAG: stack_tag(owner), ADDRESS_TAG: owner.address}
    return {**tags, REGION_TAG: owner.region} if owner.region else tags


def owner_of(tags: Mapping[str, str]) -> Owner | None:
    """Return the owner in a resource's tags, or None where they do not name one."""
    stack, slash, environment = tags.get(STACK_TAG, "").rpartition("/")
    return Owner(stack, environment, tags.get(ADDRESS_TAG, ""), tags.get(REGION_TAG, "")) if slash else None


def property_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that a description may contain."""
    return {key: value for key, value in tags.items() if key not in {STACK_TAG, ADDRESS_TAG, REGION_TAG}}


def all_tags(request: Request) -> dict[str, str]:
    """Return all tags for the creation of a resource."""
    return {**(request.desired.get("tags") or {}), **owner_tags(request.owner)}


def tag_changes(request: Request) -> tuple[dict[str, str], list[str]]:
    """Return the tags to write and the keys to remove in an update."""
    before = request.existing.properties.get("tags") or {}
    after = request.desired.get("tags") or {}
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    removed = sorted(set(before) - set(after)) if request.changed("tags") else []
    return {**changed, **(owner_tags(request.owner) if request.claim else {})}, removed


def tag_list(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    """Return tags as a list of pairs, the form of most services."""
    return [{key: name, value: text} for name, text in sorted(tags.items())]


def tag_map(tags: Iterable[Mapping[str, Any]] | None, key: str = "Key", value: str = "Value") -> dict[str, str]:
    """Return tags from a list of pairs."""
    return {str(tag[key]): str(tag.get(value, "")) for tag in tags or ()}


def given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without those that are None, which the APIs reject."""
    return {name: value for name, value in parameters.items() if value is not None}


def document(value: Any) -> str:
    """Return the canonical text of a JSON document, such as a policy: equal documents have the same text."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
