# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creations without a call: each kind creates its resource in a session that validates requests and sends none."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..engine.diff import creation
from ..engine.errors import EngineError, Fault
from ..engine.resource import Activity, Owner, Request, acting
from ..engine.schema import Property, shown
from ..engine.value import KNOWN_AFTER_APPLY, MAPS, PLAIN, SENSITIVE, Secret, Unknown, join, leaves
from .errors import CallError
from .kind import AwsKind
from .session import Identity, Session
from .shapes import PLACEHOLDER, PlaceholderNumber, ShapeFault, placeholder_answer, request_faults

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")
# A creation needs about ten calls; an endless loop over pages needs more.
_MOST_CALLS = 500
_TOKEN = "0" * 32
_ANY = Property("any")
# Source: "Tag naming limits and requirements" in the user guide of tagging AWS resources.
MOST_TAGS = 50
_TAGS = re.compile(r"(?i)tags$|tagset$")
# Possible errors of a creation with placeholders, in addition to those of the engine: a kind looks for missing parts.
_ENDINGS = (EngineError, AttributeError, IndexError, KeyError, TypeError, ValueError)


class RehearsalSession(Session):
    """Session that answers every call with placeholders.

    found: errors of requests, with their calls. most_tags: maximum number of tags in a request.
    """

    def __init__(self, real: Session, identity: Identity, dns_suffix: str) -> None:
        super().__init__(real.connection, real.actions)
        self._real, self._caller, self._suffix = real, identity, dns_suffix
        self._region = real.region
        self.found: list[tuple[str, ShapeFault]] = []
        self.most_tags = 0
        self._answers: dict[str, Any] = {}

    @property
    def region(self) -> str:
        return self._region

    @property
    def dns_suffix(self) -> str:
        return self._suffix

    def client(self, service: str) -> Any:
        return self._real.client(service)

    def identity(self) -> Identity:
        return self._caller

    def hide(self, *_values: str) -> None:
        """Ignore the values: only the errors of a rehearsal are shown, and they do not contain secrets."""

    def in_region(self, region: str) -> Session:  # noqa: ARG002 - every region takes the same requests
        return self

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        self._send(service, operation, parameters)
        return [] if key else [PLACEHOLDER]

    def each(self, function: Callable[[_Item], _Answer], items: Iterable[_Item]) -> list[_Answer]:
        return [function(item) for item in items]

    def _send(self, service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        client = self.client(service)
        name = client.meta.method_to_api_mapping[operation]
        model = client.meta.service_model.operation_model(name)
        self.calls.append(name)
        if len(self.calls) > _MOST_CALLS:
            raise CallError(name, "Cancelled", "the rehearsal does not end")
        self.most_tags = max(self.most_tags, _tags_in(parameters))
        if model.input_shape is not None:
            self.found += ((name, fault) for fault in request_faults(model.input_shape, parameters))
        if name not in self._answers:
            finds = name.startswith(("Describe", "Get", "List"))
            self._answers[name] = placeholder_answer(model.output_shape, finds=finds) if model.output_shape else {}
        return dict(self._answers[name])


def rehearse(session: RehearsalSession, kind: AwsKind, owner: Owner, desired: Mapping[str, Any]) -> list[Fault]:
    """Return the errors of all requests that create one resource.

    desired: every property, Unknown where it is known later. kind: created with the session.
    """
    session.found.clear()
    session.calls.clear()
    session.most_tags = 0
    known = {name: _filled(kind.schema.properties[name], value) for name, value in desired.items()}
    perform(kind, Request(owner.address, owner, known, token=_TOKEN))
    found = list(_faults(owner.address, session.found, known, desired)) if session.found else []
    if session.most_tags > MOST_TAGS:
        message = f"has {session.most_tags} tags with those that the stack writes"
        found.append(Fault(owner.address, "tags", message, f"AWS accepts {MOST_TAGS}"))
    return found


def _faults(
    address: str, found: Iterable[tuple[str, ShapeFault]], known: Mapping[str, Any], desired: Mapping[str, Any]
) -> Iterator[Fault]:
    """Yield errors of requests as errors of properties. known: the properties with placeholders."""
    secrets = {str(leaf.value) for leaf in leaves(known) if isinstance(leaf, Secret)}
    fields = list(_fields(desired, ""))
    for call, fault in found:
        yield _fault(address, call, fault, fields, secrets)


def perform(kind: AwsKind, request: Request) -> BaseException | None:
    """Create a resource with its deferred properties; return the exception that ended the creation, or None."""
    later = kind.schema.deferred
    first = {name: value for name, value in request.desired.items() if name not in later}
    cancelled = threading.Event()
    # Nothing has to be waited for.
    cancelled.set()
    try:
        with acting(Activity(cancelled)):
            actual = kind.create(Request(request.address, request.owner, first, token=request.token))
            deferred = {name: value for name, value in request.desired.items() if name in later}
            changes = creation(kind.schema.properties, deferred)
            if changes:
                kind.update(Request(request.address, request.owner, request.desired, actual, changes))
    except _ENDINGS as error:
        return error
    return None


def _tags_in(value: Any) -> int:
    """Return the size of the largest list or map of tags inside a request."""
    if isinstance(value, PLAIN) or not isinstance(value, Mapping | list):
        return 0
    items = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    return max(
        (
            len(part)
            if isinstance(key, str) and _TAGS.search(key) and isinstance(part, Mapping | list)
            else _tags_in(part)
            for key, part in items
        ),
        default=0,
    )


def _filled(item: Property, value: Any) -> Any:
    """Return a value with placeholders for unknown parts."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Unknown):
        return _placeholder(item, value)
    inner = item.elements or _ANY
    if isinstance(value, list):
        return [_filled(inner, part) for part in value]
    if isinstance(value, MAPS):
        return {key: _filled(item.fields.get(key, inner), part) for key, part in value.items()}
    if isinstance(value, Secret) and value.value is None:
        return Secret(value.version, PLACEHOLDER)
    return value


def _placeholder(item: Property, value: Unknown) -> Any:
    if value.sensitive or item.sensitive:
        return Secret("", PLACEHOLDER)
    match item.type:
        case "integer" | "number":
            return PlaceholderNumber(1)
        case "boolean":
            return True
        case "list" | "set":
            return [_placeholder(item.elements or Property(), Unknown())]
        case "map":
            return {name: _placeholder(part, Unknown()) for name, part in item.fields.items() if part.required}
    return value.text.replace(KNOWN_AFTER_APPLY, PLACEHOLDER)


def _fields(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every value inside properties with its path, outer ones first."""
    if path:
        yield path, value
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _fields(part, join(path, str(key)))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _fields(part, join(path, index))


def _fault(address: str, call: str, fault: ShapeFault, fields: Sequence[tuple[str, Any]], secrets: set[str]) -> Fault:
    """Return an error of a request as an error of the property that the parameter comes from."""
    path = _property(fault, fields)
    where = f"{call}.{'.'.join(map(str, fault.path))}"
    if fault.is_missing:
        return Fault(address, path or where, fault.message, fault.allowed)
    hidden = any(str(leaf) in secrets for leaf in leaves(fault.value))
    text = SENSITIVE if hidden else shown(fault.value)
    return Fault(address, path or where, f"{text} {fault.message}", fault.allowed)


def _property(fault: ShapeFault, fields: Sequence[tuple[str, Any]]) -> str:
    """Return the path of the property that a parameter comes from: an equal value, preferably with an equal name."""
    words = _spelt(fault.parameter)
    same_name = [path for path, _value in fields if _spelt(re.split(r"[.\[]", path)[-1]) == words]
    if fault.is_missing:
        return same_name[0] if same_name else ""
    same_value = [path for path, value in fields if type(value) is type(fault.value) and value == fault.value]
    both = [path for path in same_value if path in same_name]
    return next(iter([*both, *same_value, *same_name]), "")


def _spelt(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
