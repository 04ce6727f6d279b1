# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate objects against their schemas without a server. Pure.

Supports the schemas of Kubernetes: OpenAPI 3 of servers and CRDs, and the older form of schema packages. Rules in CEL,
webhooks and references to other objects require a server, and are not checked.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...engine.value import join
from ...shared.nearest import suggestion

_INT_OR_STRING = "x-kubernetes-int-or-string"
_PRESERVE = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED = "x-kubernetes-embedded-resource"
# Fields of every object, regardless of its schema.
_ALWAYS = frozenset({"apiVersion", "kind", "metadata"})
# The server defines the schema of `metadata` of custom resources.
# Source: k8s.io/apimachinery/pkg/apis/meta/v1, ObjectMeta.
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        **{
            name: {"type": "string"}
            for name in ("generateName", "name", "namespace", "resourceVersion", "selfLink", "uid")
        },
        **{name: {} for name in ("creationTimestamp", "deletionTimestamp", "managedFields")},
        **{name: {"type": "integer"} for name in ("deletionGracePeriodSeconds", "generation")},
        "annotations": _TEXTS,
        "labels": _TEXTS,
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "ownerReferences": {"type": "array", "items": {"type": "object", _PRESERVE: True}},
    },
}
_DEPTH = 64
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
}


@dataclass(frozen=True)
class Schema:
    """The schema of a kind. is_open: whether an object without listed properties may have any fields, as in Go."""

    root: Mapping[str, Any]
    definitions: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_open: bool = False


@dataclass(frozen=True, order=True)
class ValidationError:
    """A field of an object that violates its schema."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


def validation_errors(schema: Schema, obj: Mapping[str, Any]) -> tuple[ValidationError, ...]:
    """Return all violations in an object, in the order of its fields."""
    checker = _Checker(schema)
    found = [*checker.at("", schema.root, obj, is_object=True), *_name_validation_errors(obj)]
    return tuple(dict.fromkeys(found))


class _Checker:
    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def at(self, path: str, schema: Any, value: Any, *, is_object: bool = False) -> Iterator[ValidationError]:
        """Yield the violations below `path`. A null counts as an omitted field."""
        known = self._resolved(schema)
        if value is None or not known:
            return
        if known.get(_INT_OR_STRING) or known.get("format") == "int-or-string":
            if not (_TYPES["integer"](value) or isinstance(value, str)):
                yield ValidationError(path, f"is neither a whole number nor a string, but {_called(value)}")
            return
        wanted = _types(known)
        if wanted and not any(_TYPES.get(name, _anything)(value) for name in wanted):
            yield ValidationError(path, f"is not {_article(' or '.join(wanted))}, but {_called(value)}")
            return
        yield from _limits(path, known, value)
        yield from self._alternatives(path, known, value)
        if isinstance(value, Mapping):
            yield from self._fields(path, known, value, is_object=is_object or bool(known.get(_EMBEDDED)))
        elif isinstance(value, list) and "items" in known:
            for index, item in enumerate(value):
                yield from self.at(join(path, index), known["items"], item)

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """Return a schema with resolved references. Keywords beside a reference also apply."""
        known: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
        for _step in range(_DEPTH):
            parts: list[Any] = list(known.get("allOf") or ())
            reference = known.get("$ref")
            if reference is None and len(parts) == 1 and "$ref" in parts[0]:
                reference = parts[0]["$ref"]
            if reference is None:
                return known
            beside = {key: value for key, value in known.items() if key not in {"$ref", "allOf"}}
            known = {**self.schema.definitions.get(str(reference).rpartition("/")[2], {}), **beside}
        return {}

    def _fields(
        self, path: str, known: Mapping[str, Any], value: Mapping[str, Any], *, is_object: bool
    ) -> Iterator[ValidationError]:
        properties = known.get("properties") or {}
        others = known.get("additionalProperties")
        for name in known.get("required") or ():
            if value.get(name) is None and not (is_object and name in _ALWAYS):
                yield ValidationError(join(path, name), "is required")
        for key, item in value.items():
            place = join(path, str(key))
            if is_object and key == "metadata" and not self._resolved(properties.get(key)).get("properties"):
                yield from self.at(place, _METADATA, item)
            elif key in properties:
                yield from self.at(place, properties[key], item)
            elif isinstance(others, Mapping):
                yield from self.at(place, others, item)
            elif not (self._takes_any(known, properties, others) or (is_object and key in _ALWAYS)):
                yield ValidationError(place, f"is an unknown field; {suggestion(str(key), properties)}")

    def _takes_any(self, known: Mapping[str, Any], properties: Mapping[str, Any], others: Any) -> bool:
        return bool(known.get(_PRESERVE) or others is True or (self.schema.is_open and not properties))

    def _alternatives(self, path: str, known: Mapping[str, Any], value: Any) -> Iterator[ValidationError]:
        for part in known.get("allOf") or ():
            yield from self._judged(path, part, value)
        fitting = {
            word: [not list(self._judged(path, part, value)) for part in known.get(word) or ()]
            for word in ("anyOf", "oneOf")
        }
        if fitting["anyOf"] and not any(fitting["anyOf"]):
            yield ValidationError(path, "fits none of the forms that are allowed here")
        if fitting["oneOf"] and sum(fitting["oneOf"]) != 1:
            yield ValidationError(path, "does not fit exactly one of the forms that are allowed here")
        if known.get("not") and not list(self._judged(path, known["not"], value)):
            yield ValidationError(path, "has a form that is not allowed here")

    def _judged(self, path: str, schema: Any, value: Any) -> Iterator[ValidationError]:
        """Validate a value against a subschema without fields of its own; the surrounding schema lists them."""
        known = self._resolved(schema)
        inner = _Checker(Schema(known, self.schema.definitions, is_open=True))
        loose = {**known, _PRESERVE: True}
        yield from inner.at(path, loose, value)


def _anything(_value: Any) -> bool:
    return True


def _types(known: Mapping[str, Any]) -> list[str]:
    said = known.get("type")
    names = said if isinstance(said, list) else [said] if said else []
    return [str(name) for name in names if name != "null"]


def _article(words: str) -> str:
    return f"an {words}" if words[:1] in "aio" else f"a {words}"


def _called(value: Any) -> str:
    names = {bool: "a boolean", str: "a string", int: "a whole number", float: "a number", list: "a list"}
    return names.get(type(value), "a map" if isinstance(value, Mapping) else type(value).__name__)


def _limits(path: str, known: Mapping[str, Any], value: Any) -> Iterator[ValidationError]:
    choices = known.get("enum")
    if choices and value not in [choice for choice in choices if choice is not None]:
        yield ValidationError(
            path, f"must be one of {', '.join(str(choice) for choice in choices if choice is not None)}"
        )
    if isinstance(value, str):
        yield from _text_limits(path, known, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_limits(path, known, value)
    elif isinstance(value, list):
        yield from _size_limits(path, len(value), known.get("minItems"), known.get("maxItems"), "items")
    elif isinstance(value, Mapping):
        yield from _size_limits(path, len(value), known.get("minProperties"), known.get("maxProperties"), "entries")


def _size_limits(path: str, size: int, least: Any, most: Any, what: str) -> Iterator[ValidationError]:
    if least is not None and size < least:
        yield ValidationError(path, f"has {size} {what}, at least {least} are needed")
    if most is not None and size > most:
        yield ValidationError(path, f"has {size} {what}, at most {most} are allowed")


def _text_limits(path: str, known: Mapping[str, Any], value: str) -> Iterator[ValidationError]:
    yield from _size_limits(path, len(value), known.get("minLength"), known.get("maxLength"), "characters")
    pattern = known.get("pattern")
    if pattern and not _matches(pattern, value):
        yield ValidationError(path, f"does not match {pattern}")


def _matches(pattern: str, value: str) -> bool:
    try:
        # In Go, `$` matches the end of the text only; in Python, also before a last line break.
        return bool(re.search(re.sub(r"(?<!\\)\$$", r"\\Z", pattern), value))
    except re.error:
        # A few rare expressions of Go's syntax are invalid in Python.
        return True


def _number_limits(path: str, known: Mapping[str, Any], value: float) -> Iterator[ValidationError]:
    least, most = known.get("minimum"), known.get("maximum")
    if least is not None and (value < least or (known.get("exclusiveMinimum") is True and value == least)):
        yield ValidationError(path, f"is {value}, less than {least}")
    if most is not None and (value > most or (known.get("exclusiveMaximum") is True and value == most)):
        yield ValidationError(path, f"is {value}, more than {most}")
    bits = {"int32": 31, "int64": 63}.get(str(known.get("format")))
    if bits is not None and not -(2**bits) <= value < 2**bits:
        yield ValidationError(path, f"is {value}, more than {bits + 1} bits hold")
    step = known.get("multipleOf")
    if step and value % step:
        yield ValidationError(path, f"is {value}, no multiple of {step}")


_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
# Kinds whose names are stricter or looser than a DNS subdomain.
# Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_NAMES: Mapping[str, tuple[re.Pattern[str], int, str]] = {
    "Namespace": (re.compile(_LABEL), 63, "lower-case letters, digits and hyphens"),
    "Service": (
        re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?"),
        63,
        "lower-case letters, digits and hyphens, a letter first",
    ),
    **dict.fromkeys(
        ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
        (re.compile(r"(?!\.\.?$)[^/%]+"), 253, "anything but slashes and percent signs"),
    ),
}
_SUBDOMAIN_RULE = (_SUBDOMAIN, 253, "lower-case letters, digits, hyphens and dots")


def _name_validation_errors(obj: Mapping[str, Any]) -> Iterator[ValidationError]:
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str):
        return
    pattern, longest, words = _NAMES.get(str(obj.get("kind")), _SUBDOMAIN_RULE)
    if not pattern.fullmatch(name) or len(name) > longest:
        yield ValidationError("metadata.name", f"{name!r} is not a valid name: {words}, at most {longest} characters")
