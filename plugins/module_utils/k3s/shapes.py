# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data classes from and to plain JSON values; an error names the path of a value that has another shape."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar

from ..shared.nearest import closest

Data = TypeVar("Data")

_SCALARS: Mapping[type, tuple[str, tuple[type, ...]]] = {
    str: ("string", (str,)),
    int: ("integer", (int,)),
    float: ("number", (int, float)),
    bool: ("boolean", (bool,)),
}


class ShapeError(ValueError):
    """A value that does not have the shape of its data class. `path` names the value, `message` the difference."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"cannot read `{path}`: {message}")
        self.path = path
        self.message = message


def from_plain(cls: type[Data], value: Any, path: str = "") -> Data:
    """Return an instance of the data class `cls` from JSON values; `path` begins every path of an error.

    Raises `ShapeError` for an unknown or missing key and for a value of another type.
    """
    decoded: Data = _decode(cls, value, path or cls.__name__)
    return decoded


def as_plain(value: Any) -> Any:
    """Return a data class as JSON values: dicts, lists, strings, numbers, booleans and None."""
    if is_dataclass(value):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: as_plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [as_plain(entry) for entry in value]
    return value


def json_schema(cls: Any) -> dict[str, Any]:
    """Return the JSON schema of a type: of a data class, a container, a literal or a scalar."""
    if cls is Any:
        return {}
    if is_dataclass(cls):
        return _object_schema(cls)
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin is tuple:
        return {"type": "array", "items": json_schema(arguments[0])}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if _is_optional(cls):
        return {"anyOf": [json_schema(_inner(cls)), {"type": "null"}]}
    if origin is not None:
        return {"type": "object", "additionalProperties": json_schema(arguments[1])}
    return {"type": _SCALARS[cls][0]}


def _object_schema(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    required = [field.name for field in fields(cls) if _is_required(field)]
    properties = {field.name: json_schema(hints[field.name]) for field in fields(cls)}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _is_optional(cls: Any) -> bool:
    return typing.get_origin(cls) in (types.UnionType, typing.Union)


def _inner(cls: Any) -> Any:
    return next(argument for argument in typing.get_args(cls) if argument is not types.NoneType)


def _decode(cls: Any, value: Any, path: str) -> Any:
    if cls is Any:
        return value
    if is_dataclass(cls):
        return _decode_object(cls, value, path)
    if _is_optional(cls):
        return None if value is None else _decode(_inner(cls), value, path)
    if cls in _SCALARS:
        return _decode_scalar(cls, value, path)
    return _decode_container(cls, value, path)


def _decode_scalar(cls: type, value: Any, path: str) -> Any:
    name, accepted = _SCALARS[cls]
    if not isinstance(value, accepted) or (isinstance(value, bool) and cls is not bool):
        raise ShapeError(path, f"expected {name}, found {_kind(value)}")
    return cls(value)


def _decode_container(cls: Any, value: Any, path: str) -> Any:
    origin, arguments = typing.get_origin(cls), typing.get_args(cls)
    if origin is typing.Literal:
        if value not in arguments:
            raise ShapeError(path, f"expected one of {', '.join(map(repr, arguments))}, found {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ShapeError(path, f"expected array, found {_kind(value)}")
        return tuple(_decode(arguments[0], entry, f"{path}[{index}]") for index, entry in enumerate(value))
    _require_object(value, path)
    return {key: _decode(arguments[1], entry, f"{path}.{key}") for key, entry in value.items()}


def _decode_object(cls: Any, value: Any, path: str) -> Any:
    _require_object(value, path)
    known = {field.name: field for field in fields(cls)}
    for key in value:
        if key not in known:
            raise ShapeError(path, f"unknown key {key!r}{_suggestion(str(key), known)}")
    for name, field in known.items():
        if name not in value and _is_required(field):
            raise ShapeError(path, f"key {name!r} is missing")
    hints = typing.get_type_hints(cls)
    return cls(**{key: _decode(hints[key], entry, f"{path}.{key}") for key, entry in value.items()})


def _require_object(value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise ShapeError(path, f"expected object, found {_kind(value)}")
    for key in value:
        if not isinstance(key, str):
            raise ShapeError(path, f"expected string keys, found {key!r}")


def _suggestion(key: str, known: Mapping[str, Any]) -> str:
    near = closest(key, known)
    return f"; did you mean {near!r}" if near else ""


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return names.get(type(value), "object" if isinstance(value, Mapping) else "array")
