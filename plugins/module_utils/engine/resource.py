# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of the engine: described resources, existing resources, and the protocol of a kind of resource."""

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
# The resource (a key, a secret) exists and its scheduled deletion can be cancelled: if described again, it is updated.
RETIRED = "scheduled for deletion"


class Later(enum.Enum):
    """Result of `read_all` if it needs a property that is still unknown; it is called again when that is known."""

    LATER = "later"


LATER = Later.LATER


@dataclass(frozen=True, order=True)
class Owner:
    """The owner of a resource by its tags: the stack, the environment, and the address of its description.

    Without an environment, `stack` is a text that describes the owner: a unique name may belong to another account.
    region: the region of the owning stack, for a resource that spans regions. Empty for every other resource, and
    where the tags do not contain it.
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
    """Common values of all resources of a run. `${stack.X}` refers to `attributes`, the name or the environment."""

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
        """Return a secret of the inventory wrapped, for references `${secret.NAME}`."""
        return Secret.of(value, self.salt)


@dataclass(frozen=True)
class Resource:
    """One described resource. Its properties may contain references.

    adopt: None means the setting of the run. protect: None means the default of the kind.
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

    id: of the service's API. properties: current values, keyed as in the schema. outputs: for references.
    owner: from its tags; where tags cannot be given at creation, from a name that only this stack would use.
    status: `ready`, `deleting`, `scheduled for deletion`, or the service's name of a transitional state.
    names: other identifiers in references to it (its ARN); they order the deletion of undescribed resources.
    """

    id: str
    properties: Mapping[str, Any]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    owner: Owner | None = None
    status: str = READY
    names: tuple[str, ...] = ()

    @property
    def words(self) -> frozenset[str]:
        """The identifiers by which other resources refer to it."""
        return frozenset((self.id, *self.names))


@dataclass(frozen=True)
class Change:
    """A difference at one property path. Either side may contain an Unknown or a Secret; None is absent."""

    path: str
    before: Any
    after: Any
    forces_replacement: bool = False


@dataclass(frozen=True)
class Subject:
    """A resource to find: by its tags first, otherwise by its properties, which may contain Unknowns."""

    address: str
    owner: Owner
    desired: Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """A request to create, update or delete one resource.

    desired: every managed property, normalised, without unknown values; a sensitive one is a Secret. For a deletion
        the described properties, if there are any: some of them allow the deletion of related resources.
    changes: the changes of an update; empty when only the owner or the status differs.
    claim: whether to write the owner's tags (adoption, or a new address). token: the same for the same creation.
    erases: whether a deletion may delete the contents as well.
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
        """Return the existing resource; only `create` has none."""
        if self.actual is None:
            raise ValueError(f"{self.address} does not exist")
        return self.actual

    def changed(self, name: str) -> bool:
        """Return whether a property, or anything inside it, is among the changes."""
        return any(change.path == name or change.path.startswith((f"{name}.", f"{name}[")) for change in self.changes)


class Kind(Protocol):
    """Operations of a kind of resource. Several threads may call each method concurrently."""

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> Schema: ...

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        """Find all subjects with as few calls as the API allows. Several resources of one address: newest first."""

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        """Return all resources of this kind with the tags of the owner's stack, described or not."""

    def create(self, request: Request) -> Actual:
        """Create the resource with its tags in one call and return immediately, without `wait`.

        Deferred properties are not among the desired ones. Raises UsedTokenError when the API returns the remains of an
        earlier resource for the token.
        """

    def update(self, request: Request) -> Actual:
        """Apply the changes, write the tags when `claim` is set, and cancel a scheduled deletion."""

    def delete(self, request: Request) -> None:
        """Delete `existing`, without an error when it is deleted or being deleted."""

    def wait(self, request: Request) -> Actual:
        """Wait until `existing` is ready and return it with all its outputs."""

    def wait_deleted(self, request: Request) -> None:
        """Wait until `existing` no longer prevents the deletion of other resources."""


@runtime_checkable
class Choosing(Protocol):
    """A kind that can read, before the first change, the values that its service chooses for omitted properties."""

    def choose(
        self, subjects: Sequence[Subject], found: Mapping[str, Sequence[Actual]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the desired values, by address, of `computed` properties that the description omits.

        found: existing resources, by address. Changes nothing and omits values that cannot be known.
        """


@runtime_checkable
class Obstructed(Protocol):
    """A kind that can report before the first change why a resource cannot be deleted."""

    def obstacles(self, request: Request) -> Sequence[ValidationError]:
        """Return the reasons why the service would reject a deletion. Changes nothing."""


class Activity:
    """The activity of one step: counts its API calls and ends its waits when the run is cancelled."""

    def __init__(self, cancel: threading.Event | None = None) -> None:
        self._cancel = cancel or threading.Event()
        self._lock = threading.Lock()
        self.api_calls = 0

    @property
    def cancelled(self) -> bool:
        return self._cancel.is_set()

    def sleep(self, seconds: float) -> bool:
        """Wait like time.sleep, at most until the run is cancelled; return whether it was cancelled."""
        return self._cancel.wait(seconds)

    def count(self, calls: int = 1) -> None:
        with self._lock:
            self.api_calls += calls


_current: ContextVar[Activity | None] = ContextVar("activity", default=None)


def activity() -> Activity:
    """Return the activity of the running step. A kind that starts its own threads copies the context into them."""
    return _current.get() or Activity()


@contextmanager
def acting(doing: Activity) -> Iterator[Activity]:
    """Make `doing` the current activity of this thread."""
    token = _current.set(doing)
    try:
        yield doing
    finally:
        _current.reset(token)
