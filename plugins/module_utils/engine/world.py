# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checked descriptions, and the existing resources. Checks require no API calls; reads require as few as possible."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..shared.nearest import suggestion
from .errors import DescriptionError, Fault, ReadError, UnresolvedError
from .exclusive import claim_faults
from .graph import Graph, build
from .reference import SECRET, STACK, Reference, refers, resolve
from .resource import READY, Activity, Actual, Choosing, Kind, Later, Owner, Resource, Stack, Subject, acting
from .schema import Schema, found, wanted
from .value import Secret, Unknown, root

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_Answer = TypeVar("_Answer")
Attribute = Callable[[str, str], Any]
# Whether a failed list means that the region does not support the kind, so that no resource of it exists.
ToleratedErrors = Callable[[str, BaseException], bool]


def no_tolerated_errors(_kind: str, _error: BaseException) -> bool:
    """Treat every failure as an error."""
    return False


@dataclass(frozen=True)
class Description:
    """The desired resources, without faults that can be found before the first API call.

    chosen: by address, the values that kinds chose for omitted properties.
    """

    stack: Stack
    kinds: Mapping[str, Kind]
    resources: Mapping[str, Resource]
    secrets: Mapping[str, Secret]
    graph: Graph
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _settled: dict[tuple[str, bool], dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        stack: Stack,
        kinds: Iterable[Kind],
        resources: Iterable[Resource],
        secrets: Mapping[str, Secret] | None = None,
        *,
        any_secret: bool = False,
    ) -> Description:
        """Check a description. `any_secret` permits unknown secrets, for a destroy.

        Raises DescriptionError with all faults.
        """
        examined = examine(stack, kinds, resources, secrets, any_secret=any_secret)
        if examined.description is None or examined.faults:
            raise DescriptionError(examined.faults)
        return examined.description

    def schema(self, address: str) -> Schema:
        return self.kinds[self.resources[address].kind].schema

    def owner(self, address: str, kind: str = "") -> Owner:
        """Return the owner of a resource. kind: of one that is not described."""
        schema = self.kinds[kind or self.resources[address].kind].schema
        return self.stack.owner(address, spans_regions=schema.spans_regions)

    def desired(self, address: str, attribute: Attribute, *, deferred: bool = False) -> dict[str, Any]:
        """Return the managed properties of a resource (the deferred ones, or all others) with references resolved.

        Raises DescriptionError for a value that its property rejects.
        """
        values, faults = self.evaluated(address, attribute, deferred=deferred)
        if faults:
            raise DescriptionError(faults)
        return values

    def evaluated(
        self, address: str, attribute: Attribute, *, deferred: bool = False
    ) -> tuple[dict[str, Any], list[Fault]]:
        """Return the result of `desired`, and a fault for every value that its property rejects."""
        resource, schema = self.resources[address], self.schema(address)
        settled = self._settled_values(address, deferred=deferred)
        given: dict[str, Any] = {} if deferred else dict(self.chosen.get(address, {}))
        faults: list[Fault] = []
        later = schema.deferred
        for name, value in resource.properties.items():
            if (name in later) == deferred and name not in settled:
                try:
                    given[name] = resolve(value, lambda reference: self._answer(reference, attribute), name)
                except UnresolvedError as error:
                    faults.append(Fault(address, error.path, error.message, error.remedy))
        properties = {name: item for name, item in schema.properties.items() if item.deferred == deferred}
        broken = {root(fault.path) for fault in faults}
        open_ones = {name: item for name, item in properties.items() if name not in settled}
        values, validation_errors = wanted(open_ones, given, self.stack.salt)
        faults += [
            Fault(address, *validation_error)
            for validation_error in validation_errors
            if validation_error[0] not in broken
        ]
        evaluated = {**values, **settled}
        return {name: evaluated[name] for name in properties if name in evaluated}, faults

    def _settled_values(self, address: str, *, deferred: bool) -> dict[str, Any]:
        """Return the valid properties without references, in normal form. They are evaluated once."""
        key = (address, deferred)
        if key not in self._settled:
            self._settled[key] = self._evaluated_once(address, deferred=deferred)
        return self._settled[key]

    def _evaluated_once(self, address: str, *, deferred: bool) -> dict[str, Any]:
        schema, given = self.schema(address), self.resources[address].properties
        # The message about an unknown property names the closest of all.
        if not set(given) <= set(schema.properties):
            return {}
        settled: dict[str, Any] = {}
        for name, value in given.items():
            item = schema.properties[name]
            if item.deferred == deferred and not refers(value):
                values, validation_errors = wanted(
                    {name: item}, {name: resolve(value, _unanswered, name)}, self.stack.salt
                )
                settled |= {} if validation_errors else values
        return settled

    def claim_faults(self, attribute: Attribute) -> list[Fault]:
        """Return a fault for each value that two resources claim exclusively, as far as references are known."""
        schemas = {name: kind.schema for name, kind in self.kinds.items()}
        return list(claim_faults(self.resources, schemas, lambda reference: self._answer(reference, attribute)))

    def actual(self, address: str, actual: Actual) -> dict[str, Any]:
        """Return the read properties in normal form."""
        return found(self.schema(address).properties, actual.properties, self.stack.salt)

    def _answer(self, reference: Reference, attribute: Attribute) -> Any:
        if reference.address == STACK:
            return self.stack.values[reference.attribute]
        if reference.address == SECRET:
            return self.secrets.get(reference.attribute, Unknown(sensitive=True))
        return attribute(reference.address, reference.attribute)

    def evaluated_blindly(self, *, with_claims: bool) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
        """Evaluate all resources as if none existed, to find unknown properties, wrong types and missing values.

        Returns the properties by address, unknown for invalid values, and the faults.
        """
        view = View(self)
        faults: list[Fault] = []
        for deferred in (False, True):
            for address in self.graph.order:
                before = view.states.setdefault(address, State({}, None)).desired
                values, found = self.evaluated(address, view.attribute, deferred=deferred)
                wrong = {root(fault.path) for fault in found}
                desired = {**before, **{name: Unknown() if name in wrong else item for name, item in values.items()}}
                if not found and (values or not deferred):
                    found = rule_faults(self.schema(address), address, desired, None)
                view.states[address] = State(desired, None)
                faults += found
        if with_claims:
            faults += self.claim_faults(view.attribute)
        return {address: dict(state.desired) for address, state in view.states.items()}, faults


def _unanswered(reference: Reference) -> Any:
    raise UnresolvedError("", f"{reference} has no answer here")


@dataclass(frozen=True)
class Examined:
    """A description with all its faults. description: None for invalid names or references.

    desired: the properties by address as if no resource existed, unknown for invalid values.
    """

    description: Description | None
    faults: tuple[Fault, ...]
    desired: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def examine(
    stack: Stack,
    kinds: Iterable[Kind],
    resources: Iterable[Resource],
    secrets: Mapping[str, Secret] | None = None,
    *,
    any_secret: bool = False,
) -> Examined:
    """Return a description with every fault that can be found without an API call."""
    known = {kind.name: kind for kind in kinds}
    described = list(resources)
    faults = [fault for resource in described for fault in _naming_faults(resource, known)]
    by_address = {resource.address: resource for resource in described}
    if len(by_address) < len(described):
        addresses = [resource.address for resource in described]
        twice = {address for address in addresses if addresses.count(address) > 1}
        faults += [Fault(address, "", "is described twice", "give one of them another name") for address in twice]
    given = dict(secrets or {})
    try:
        graph = None if faults else build(by_address, known, stack.values, None if any_secret else given)
    except DescriptionError as error:
        graph, faults = None, list(error.faults)
    if graph is None:
        desired, more = _evaluated_alone(stack, known, by_address.values())
        return Examined(None, (*faults, *more), desired)
    description = Description(stack, known, by_address, given, graph)
    # A destroy also applies to resources with conflicting claims.
    desired, faults = description.evaluated_blindly(with_claims=not any_secret)
    return Examined(description, tuple(faults), desired)


def _evaluated_alone(
    stack: Stack, kinds: Mapping[str, Kind], resources: Iterable[Resource]
) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
    """Evaluate resources with invalid references separately, with unknown values for the references."""

    def answer(reference: Reference) -> Any:
        known = stack.values if reference.address == STACK else {}
        return known.get(reference.attribute, Unknown(sensitive=reference.address == SECRET))

    def resolved(value: Any) -> Any:
        try:
            return resolve(value, answer)
        except UnresolvedError:
            # The fault is already reported.
            return Unknown()

    desired: dict[str, dict[str, Any]] = {}
    faults: list[Fault] = []
    for resource in resources:
        if resource.kind in kinds:
            properties = kinds[resource.kind].schema.properties
            given = {name: resolved(value) for name, value in resource.properties.items()}
            values, validation_errors = wanted(properties, given, stack.salt)
            wrong = {root(validation_error[0]) for validation_error in validation_errors}
            desired[resource.address] = {name: Unknown() if name in wrong else item for name, item in values.items()}
            faults += [Fault(resource.address, *validation_error) for validation_error in validation_errors]
    return desired, faults


def _naming_faults(resource: Resource, kinds: Mapping[str, Kind]) -> list[Fault]:
    if resource.kind not in kinds:
        return [Fault(resource.address, "", f"there is no kind {resource.kind!r}", suggestion(resource.kind, kinds))]
    if not _NAME.fullmatch(resource.name):
        return [Fault(resource.address, "", "the name is not valid", "use letters, digits, - and _")]
    return []


def rule_faults(
    schema: Schema, address: str, desired: Mapping[str, Any], actual: Mapping[str, Any] | None
) -> list[Fault]:
    return (
        [Fault(address, *validation_error) for validation_error in schema.check(desired, actual)]
        if schema.check
        else []
    )


@dataclass
class State:
    """The known state of an address. `renewed`: references will resolve to a replacement of the existing resource."""

    desired: Mapping[str, Any]
    actual: Actual | None
    renewed: bool = False
    changed: frozenset[str] = frozenset()


@dataclass
class View:
    """Resolves references by the states of the addresses."""

    description: Description
    states: dict[str, State] = field(default_factory=dict)

    def attribute(self, address: str, name: str) -> Any:
        """Return an attribute: the desired value of a property, else the read value, else an Unknown."""
        schema, state = self.description.schema(address), self.states[address]
        item, output = schema.properties.get(name), schema.outputs.get(name)
        wanted_value = state.desired.get(name)
        if wanted_value is not None and not (item and item.owned_by and state.actual):
            return wanted_value
        sensitive = bool((item and item.sensitive) or (output and output.sensitive))
        if state.actual is None or state.renewed or (output and state.changed.intersection(output.changes_with)):
            return Unknown(sensitive=sensitive)
        value = state.actual.outputs.get(name, state.actual.properties.get(name))
        if value is None:
            return None if state.actual.status == READY else Unknown(sensitive=sensitive)
        return self.description.stack.secret(value) if sensitive and not isinstance(value, Secret) else value


@dataclass(frozen=True)
class World:
    """The existing resources: by address all matches, newest first; by kind all with our tags.

    chosen: by address, the values that kinds chose for omitted properties. missing: by kind that is neither described
    nor supported by the region, the error that shows this.
    """

    found: Mapping[str, tuple[Actual, ...]]
    owned: Mapping[str, tuple[Actual, ...]] = field(default_factory=dict)
    api_calls: Mapping[str, int] = field(default_factory=dict)
    chosen: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def refresh(
    description: Description,
    *,
    listing: bool = False,
    must_list: bool = True,
    choosing: bool = True,
    parallelism: int = 10,
    tolerated_errors: ToleratedErrors = no_tolerated_errors,
) -> World:
    """Read all described resources, all kinds concurrently; with `listing`, also all resources with our tags.

    choosing: whether kinds choose values for omitted properties.
    must_list: whether a failed list of a described kind is an error; else `tolerated_errors` decides, as for others.

    A kind that returns LATER is read again as soon as its dependencies are known. Values that stay unknown belong to
    missing resources, so their dependents do not exist either. Raises ReadError.
    """
    with ThreadPoolExecutor(max(1, parallelism), "refresh") as pool:
        reader = _Reader(description, pool, tolerated_errors)
        kinds = description.kinds.values() if listing else ()
        listed = reader.start({kind.name: reader.lister(kind, must_list=must_list) for kind in kinds})
        reader.read()
        chosen = reader.choose() if choosing else {}
        owned = reader.gather(listed)
    listings = {name: tuple(items) for name, items in owned.items()}
    return World(reader.found, listings, reader.api_calls, chosen, reader.missing)


class _Reader:
    """Reads the resources of all kinds, in rounds for those that depend on others."""

    def __init__(self, description: Description, pool: ThreadPoolExecutor, tolerated_errors: ToleratedErrors) -> None:
        self.description, self.pool, self.tolerated_errors = description, pool, tolerated_errors
        self.missing: dict[str, str] = {}
        self.found: dict[str, tuple[Actual, ...]] = {}
        self.api_calls: dict[str, int] = {}

    def read(self) -> None:
        asked: dict[str, Subject] = {}
        waiting = set(self.description.resources)
        while waiting:
            subjects = self._subjects()
            due = {address for address in waiting if asked.get(address) != subjects[address]}
            if not due:
                return
            asked.update({address: subjects[address] for address in due})
            waiting = (waiting - due) | self._ask([subjects[address] for address in subjects if address in due])

    def choose(self) -> dict[str, Mapping[str, Any]]:
        """Return the values that kinds choose for omitted properties."""
        by_kind: dict[str, list[Subject]] = {}
        for address, subject in self._subjects().items():
            by_kind.setdefault(self.description.resources[address].kind, []).append(subject)
        asked = {name: kind for name in by_kind if isinstance(kind := self.description.kinds[name], Choosing)}
        answers = self.gather(self.start({name: self.chooser(kind, by_kind[name]) for name, kind in asked.items()}))
        return {address: values for answer in answers.values() for address, values in answer.items()}

    def chooser(self, kind: Choosing, subjects: list[Subject]) -> Callable[[], Mapping[str, Mapping[str, Any]]]:
        return lambda: kind.choose(subjects, self.found)

    def _subjects(self) -> dict[str, Subject]:
        """Return every resource with the properties that are known by now."""
        view = View(self.description)
        subjects: dict[str, Subject] = {}
        for address in self.description.graph.order:
            desired = self.description.desired(address, view.attribute)
            view.states[address] = State(desired, next(iter(self.found.get(address, ())), None))
            subjects[address] = Subject(address, self.description.owner(address), desired)
        return subjects

    def _ask(self, subjects: list[Subject]) -> set[str]:
        """Read resources, in one request for each kind. Return the addresses that must wait."""
        by_kind: dict[str, list[Subject]] = {}
        for subject in subjects:
            by_kind.setdefault(self.description.resources[subject.address].kind, []).append(subject)
        readings = self.gather(self.start({name: self.reader(name, group) for name, group in by_kind.items()}))
        later: set[str] = set()
        for reading in readings.values():
            for address, actuals in reading.items():
                if isinstance(actuals, Later):
                    later.add(address)
                elif actuals:
                    self.found[address] = tuple(actuals)
        return later

    def reader(self, name: str, subjects: list[Subject]) -> Callable[[], Mapping[str, Sequence[Actual] | Later]]:
        return lambda: self.description.kinds[name].read_all(subjects)

    def lister(self, kind: Kind, *, must_list: bool) -> Callable[[], Sequence[Actual]]:
        described = any(resource.kind == kind.name for resource in self.description.resources.values())

        def listed() -> Sequence[Actual]:
            try:
                return kind.list_owned(self.description.owner("", kind.name))
            except Exception as error:
                if (described and must_list) or not self.tolerated_errors(kind.name, error):
                    raise
                self.missing[kind.name] = str(error)
                return ()

        return listed

    def start(self, questions: Mapping[str, Callable[[], _Answer]]) -> dict[str, Future[tuple[_Answer, int]]]:
        return {name: self.pool.submit(_counted, question) for name, question in questions.items()}

    def gather(self, futures: Mapping[str, Future[tuple[_Answer, int]]]) -> dict[str, _Answer]:
        """Return all results. Raises ReadError with every failed request."""
        errors = {name: error for name, future in futures.items() if (error := future.exception())}
        if errors:
            raise ReadError(errors)
        results = {name: future.result() for name, future in futures.items()}
        for name, (_answer, calls) in results.items():
            self.api_calls[name] = self.api_calls.get(name, 0) + calls
        return {name: answer for name, (answer, _calls) in results.items()}


def _counted(question: Callable[[], _Answer]) -> tuple[_Answer, int]:
    with acting(Activity()) as doing:
        return question(), doing.api_calls
