# SPDX-License-Identifier: GPL-3.0-or-later
"""A service in memory with the rules of a real one: it refuses dangling ids, deletions in use and name conflicts.

Every call can fail, or be the last call of the process, before or after its effect.
"""

from __future__ import annotations

import copy
import itertools
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import settings

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import UsedTokenError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    DELETING,
    READY,
    Actual,
    Kind,
    Later,
    Owner,
    Request,
    Resource,
    Stack,
    Subject,
    activity,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Output, Property, Schema
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import leaves, plain
from tests.sweep import examples

EXAMPLES = settings(max_examples=examples(60))
STACK = Stack("lake", "development", "1.0.0", {"account_id": "111122223333", "zones": ["a", "b"]})


_ID = re.compile(r"(?:free|fixed)-\d+")


class CallRefusedError(Exception):
    """The service refused the call."""


class CrashError(Exception):
    """The process is dead: calls have no effect any more."""


@dataclass
class Thing:
    id: str
    kind: str
    properties: dict[str, Any]
    owner: Owner | None
    token: str = ""
    status: str = "creating"
    version: int = 1


@dataclass
class Cloud:
    """All objects by id. `crash_at`: number of the last call; `broken`: names of failing calls."""

    things: dict[str, Thing] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    crash_at: int | None = None
    crash_when: Literal["before", "after"] = "before"
    broken: set[str] = field(default_factory=set)
    jitter: random.Random | None = None
    unique: frozenset[str] = frozenset({"fixed"})

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def call(self, name: str, effect: Any) -> Any:
        """Make one call: count it, fail it where the test requires it, else apply its effect."""
        if self.jitter is not None:
            time.sleep(self.jitter.random() * 0.0002)
        activity().count()
        with self._lock:
            self.calls.append(name)
            number = len(self.calls)
            if self.crash_at is not None and (
                number > self.crash_at or (number == self.crash_at and self.crash_when == "before")
            ):
                raise CrashError(name)
            if name in self.broken:
                raise CallRefusedError(f"{name} is broken")
            answer = copy.deepcopy(effect())
            if number == self.crash_at:
                raise CrashError(name)
            return answer

    def create(self, kind: str, owner: Owner | None, properties: Mapping[str, Any], token: str = "") -> Thing:
        for thing in self.things.values():
            if token and thing.token == token:
                if thing.status == DELETING:
                    raise UsedTokenError(token)
                return thing
        name = properties.get("name")
        if kind in self.unique and any(
            t.kind == kind and t.properties.get("name") == name for t in self.things.values()
        ):
            raise CallRefusedError(f"{kind} {name} is taken")
        self._check_ids(properties)
        thing = Thing(f"{kind}-{next(self._numbers)}", kind, dict(properties), owner, token)
        self.things[thing.id] = thing
        return thing

    def modify(self, id_: str, properties: Mapping[str, Any]) -> Thing:
        self._check_ids(properties)
        thing = self.things[id_]
        thing.properties.update(properties)
        thing.version += 1
        return thing

    def delete(self, id_: str) -> None:
        if id_ not in self.things:
            return
        # A reference that can be changed in place does not block an object with an exclusive name.
        holding = ("base", "peers") if self.things[id_].kind in self.unique else ("base", "peers", "links")
        others = [thing for thing in self.things.values() if thing.id != id_]
        users = [t.id for t in others if any(id_ in (t.properties.get(name) or []) for name in holding)]
        if users:
            raise CallRefusedError(f"{id_} is in use by {users}")
        self.things[id_].status = DELETING

    def _check_ids(self, properties: Mapping[str, Any]) -> None:
        for name in ("links", "base", "peers"):
            for id_ in leaves(properties.get(name) or []):
                if id_ not in self.things or self.things[id_].status == DELETING:
                    raise CallRefusedError(f"{name}: there is no {id_}")

    def picture(self) -> Counter[str]:
        """Return all objects with ids replaced by addresses: equal pictures mean equal states."""
        addresses = {t.id: t.owner.address if t.owner else f"? {t.id}" for t in self.things.values()}

        def named(value: Any) -> Any:
            if isinstance(value, list):
                return sorted(map(named, value))
            return _ID.sub(lambda match: addresses.get(match[0], match[0]), str(value))

        def described(thing: Thing) -> str:
            properties = {name: named(value) for name, value in sorted(thing.properties.items()) if value}
            return f"{addresses[thing.id]} {thing.status} {properties}"

        return Counter(map(described, self.things.values()))


SCHEMA = {
    "name": Property("string", purpose="What it is called."),
    "label": Property("string", default="plain"),
    "shape": Property("string", replace=True),
    "links": Property("set", elements=Property("string")),
    "base": Property("set", elements=Property("string"), replace=True),
    "peers": Property("set", elements=Property("string"), deferred=True),
    "password": Property("string", sensitive=True),
    "settings": Property("map", elements=Property("string")),
    "size": Property("integer", owned_by="the autoscaler"),
    "zone": Property("string", computed=True),
    "policy": Property("policy"),
}
OUTPUTS = {
    "id": Output("Its id."),
    "version": Output("Counts updates.", changes_with=("label",)),
    "key": Output(sensitive=True),
}


class Memory:
    """A kind over the service. `free` objects can exist twice; `fixed` ones have an exclusive name."""

    def __init__(
        self, cloud: Cloud, name: str = "free", *, protected: bool = False, schema: Schema | None = None
    ) -> None:
        self.cloud, self.name = cloud, name
        replacement: Literal["delete_first", "create_first"] = (
            "delete_first" if name in cloud.unique else "create_first"
        )
        self.schema = schema or Schema(SCHEMA, OUTPUTS, protected=protected, replacement=replacement)

    def _actual(self, thing: Thing) -> Actual:
        outputs = {"id": thing.id, "version": thing.version, "key": f"key of {thing.id}"}
        properties = {"zone": "a", **thing.properties}
        return Actual(thing.id, properties, outputs, thing.owner, thing.status, (f"arn:{thing.id}",))

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        things: list[Thing] = self.cloud.call(f"describe {self.name}", lambda: list(self.cloud.things.values()))
        return {subject.address: self._matching(subject, things) for subject in subjects}

    def _matching(self, subject: Subject, things: list[Thing]) -> list[Actual]:
        mine = [t for t in things if t.kind == self.name]
        found = [t for t in mine if t.owner == subject.owner]
        name = subject.desired.get("name")
        found = found or [t for t in mine if name is not None and t.properties.get("name") == name]
        return [self._actual(thing) for thing in reversed(found)]

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        things: list[Thing] = self.cloud.call(f"list {self.name}", lambda: list(self.cloud.things.values()))
        return [self._actual(t) for t in things if t.kind == self.name and t.owner and t.owner.shares_stack_with(owner)]

    def create(self, request: Request) -> Actual:
        wanted = plain(dict(request.desired))
        first = {name: wanted.get(name) for name in ("name", "shape", "links", "base", "password", "size")}
        thing = self._call("create", request, lambda: self.cloud.create(self.name, request.owner, first, request.token))
        rest = {name: value for name, value in wanted.items() if name not in first}
        return self._actual(self._call("configure", request, lambda: self.cloud.modify(thing.id, rest)))

    def update(self, request: Request) -> Actual:
        id_ = request.existing.id
        thing: Thing = self.cloud.things[id_]
        for name in sorted({change.path.partition(".")[0].partition("[")[0] for change in request.changes}):
            value = {name: plain(request.desired[name])}
            thing = self._call(f"modify {name}", request, lambda value=value: self.cloud.modify(id_, value))
        if request.claim:
            thing = self._call("tag", request, lambda: self._tag(id_, request.owner))
        return self._actual(thing)

    def _tag(self, id_: str, owner: Owner) -> Thing:
        self.cloud.things[id_].owner = owner
        return self.cloud.things[id_]

    def delete(self, request: Request) -> None:
        self._call("delete", request, lambda: self.cloud.delete(request.existing.id))

    def wait(self, request: Request) -> Actual:
        def ready() -> Thing:
            self.cloud.things[request.existing.id].status = READY
            return self.cloud.things[request.existing.id]

        return self._actual(self._call("wait", request, ready))

    def wait_deleted(self, request: Request) -> None:
        self._call("gone", request, lambda: self.cloud.things.pop(request.existing.id, None))

    def _call(self, verb: str, request: Request, effect: Any) -> Any:
        return self.cloud.call(f"{verb} {request.address}", effect)


def kinds(cloud: Cloud) -> list[Kind]:
    return [Memory(cloud, "free"), Memory(cloud, "fixed")]


def resource(address: str, **properties: Any) -> Resource:
    kind, _separator, name = address.partition(".")
    return Resource(kind, name, {"name": name, **properties})
