# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the engine: what is described, what exists, and what a kind of resource has to be able to do."""

from __future__ import annotations

import enum
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from .schema import Schema, ValidationError
from .value import Secret

READY = "ready"
DELETING = "deleting"
# It exists, its deletion is scheduled and can be taken back (a key, a secret): wanted again, it is updated.
RETIRED = "scheduled for deletion"


class Later(enum.Enum):
    """What `read_all` answers where it needs a property that is still unknown; it is asked again when that is known."""

    LATER = "later"


LATER = Later.LATER


@dataclass(frozen=True, order=True)
class Owner:
    """Whose a resource is, as its tags say: the stack, the environment, and the address it was described at.

    Without an environment `stack` says it in words: a name that only one can have may be another account's.
    region: of a resource that spans regions, the region of the stack that owns it. Empty for every other resource, and
    where the tags do not say it.
    """

    stack: str
    environment: str
    address: str
    region: str = ""

    def shares_stack_with(self, other: Owner) -> bool:
        same_region = not self.region or not other.region or self.region == other.region
        return same_region and (self.stack, self.environment) == (other.stack, other.environment)


@dataclass(frozen=True)
class Stack:
    """What is common to all resources of a run. `attributes` is what `${stack.X}` may name beside name, environment."""

    name: str
    environment: str
    version: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def region(self) -> str:
        return str(self.attributes.get("region", ""))

    def owner(self, address: str, *, spans_regions: bool = False) -> Owner:
        return Owner(self.name, self.environment, address, self.region if spans_regions else "")

    @property
    def salt(self) -> str:
        return f"{self.name}/{self.environment}"

    @property
    def values(self) -> dict[str, Any]:
        return {**self.attributes, "name": self.name, "environment": self.environment}

    def secret(self, value: Any) -> Secret:
        """Wrap a value that came from outside, so that it can be given as `${secret.NAME}`."""
        return Secret.of(value, self.salt)


@dataclass(frozen=True)
class Resource:
    """One described resource. Its properties may hold references.

    adopt: None is what the run says. protect: None is what the kind says.
    """

    kind: str
    name: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    adopt: bool | None = None
    protect: bool | None = None

    @property
    def address(self) -> str:
        return f"{self.kind}.{self.name}"


@dataclass(frozen=True)
class Actual:
    """One resource that exists.

    id: names it in the service's API. properties: keyed as in the schema, what it has now. outputs: for references.
    owner: from its tags; where tags cannot be given at creation, from a name that only this stack would use.
    status: `ready`, `deleting`, `scheduled for deletion`, or the service's word for what it is still doing.
    names: other words by which other resources refer to it (its ARN); they order the deletion of what is not described.
    """

    id: str
    properties: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    owner: Owner | None = None
    status: str = READY
    names: tuple[str, ...] = ()

    @property
    def words(self) -> frozenset[str]:
        """By which others refer to it."""
        return frozenset((self.id, *self.names))


@dataclass(frozen=True)
class Change:
    """A difference at one property path. Either side may hold an Unknown or a Secret; None is absent."""

    path: str
    before: Any
    after: Any
    forces_replacement: bool = False


@dataclass(frozen=True)
class Subject:
    """What a kind is asked to find: by its tags first, else by what its properties say. They may hold Unknowns."""

    address: str
    owner: Owner
    desired: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """What a kind is asked to do to one resource.

    desired: every managed property, normalised, without unknown values; a sensitive one is a Secret. For a deletion
        those of the description, where there is one: some say what may go with it.
    changes: what an update has to change; empty when only the owner or the status is not as it should be.
    claim: the owner's tags are to be written (adoption, or a new address). token: the same for the same creation.
    erases: a deletion may delete the contents as well.
    """

    address: str
    owner: Owner
    desired: Mapping[str, Any]
    actual: Actual | None = None
    changes: tuple[Change, ...] = ()
    claim: bool = False
    token: str = ""
    erases: bool = False

    @property
    def existing(self) -> Actual:
        """Return what exists; only `create` has nothing."""
        if self.actual is None:
            raise ValueError(f"{self.address} does not exist")
        return self.actual

    def changed(self, name: str) -> bool:
        """Return whether a property, or anything inside it, is among the changes."""
        return any(change.path == name or change.path.startswith((f"{name}.", f"{name}[")) for change in self.changes)


class Kind(Protocol):
    """What a kind of resource does. Every method may be called from several threads at once."""

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> Schema: ...

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        """Find all subjects with as few calls as the API allows. Several answers for one address: newest first."""

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        """Return everything of this kind that carries the tags of the owner's stack, described or not."""

    def create(self, request: Request) -> Actual:
        """Create it, tagged from the first moment, and return at once; `wait` does the waiting.

        Deferred properties are not among the desired ones. Raises UsedTokenError when the API answers the token with
        what is left of an earlier resource.
        """

    def update(self, request: Request) -> Actual:
        """Make the changes, and write the tags when `claim` is set; take back a scheduled deletion."""

    def delete(self, request: Request) -> None:
        """Delete `existing`; no error when it is gone or already being deleted."""

    def wait(self, request: Request) -> Actual:
        """Wait until `existing` is ready and return it with all its outputs."""

    def wait_deleted(self, request: Request) -> None:
        """Wait until nothing is left of `existing` that keeps others from being deleted."""


@runtime_checkable
class Choosing(Protocol):
    """What a kind does beside, when what its service chooses for a property left open can be known beforehand."""

    def choose(
        self, subjects: Sequence[Subject], found: Mapping[str, Sequence[Actual]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return, by address, values for `computed` properties that the description leaves open: they are wanted.

        found: what exists, by address. Makes no change; what cannot be known is left out.
        """


@runtime_checkable
class Obstructed(Protocol):
    """A kind that can tell before the first change why a resource cannot be deleted."""

    def obstacles(self, request: Request) -> Sequence[ValidationError]:
        """Return the reasons why a deletion would be refused. Makes no change."""


class Activity:
    """What one step is doing: counts its API calls and tells it when to stop waiting."""

    def __init__(self, cancel: threading.Event | None = None) -> None:
        self._cancel = cancel or threading.Event()
        self._lock = threading.Lock()
        self.api_calls = 0

    @property
    def cancelled(self) -> bool:
        return self._cancel.is_set()

    def sleep(self, seconds: float) -> bool:
        """Wait like time.sleep, but no longer than until the run is cancelled; return whether it was."""
        return self._cancel.wait(seconds)

    def count(self, calls: int = 1) -> None:
        with self._lock:
            self.api_calls += calls


_current: ContextVar[Activity | None] = ContextVar("activity", default=None)


def activity() -> Activity:
    """Return what the running step counts into. A kind that starts threads of its own copies the context into them."""
    return _current.get() or Activity()


@contextmanager
def acting(doing: Activity) -> Iterator[Activity]:
    """Make `doing` the current activity of this thread."""
    token = _current.set(doing)
    try:
        yield doing
    finally:
        _current.reset(token)
