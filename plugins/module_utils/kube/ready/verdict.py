# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Define results of predicates, and read fields of objects with any content."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Object: TypeAlias = Mapping[str, Any]

_LARGEST_INT = 2**63


@dataclass(frozen=True)
class Ready:
    """The object works as specified. detail: additional information for readers, usually empty."""

    detail: str = ""


@dataclass(frozen=True)
class Waiting:
    """The object is not ready yet, and may become ready without intervention."""

    reason: str


@dataclass(frozen=True)
class Failed:
    """The object cannot become ready without a change, so the wait ends."""

    reason: str


Status: TypeAlias = Ready | Waiting | Failed


@dataclass(frozen=True)
class Condition:
    """One of `status.conditions`. `status` is `True`, `False` or `Unknown`, as text.

    generation: generation of the specification that the condition describes, if it is set.
    """

    type: str
    status: str
    reason: str
    message: str
    changed_s: float | None
    generation: int | None

    @property
    def is_true(self) -> bool:
        return self.status == "True"

    @property
    def is_false(self) -> bool:
        return self.status == "False"

    def __str__(self) -> str:
        told = ": ".join(text for text in (self.reason, self.message) if text)
        return told or f"{self.type} is {self.status}"


def mapping(value: object, *path: str) -> Object:
    """Return the mapping at the path, or an empty mapping."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def mappings(value: object, *path: str) -> list[Object]:
    """Return the mappings of the list at the path."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text(value: object, *path: str) -> str:
    """Return the text at the path, or an empty text."""
    found = mapping(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, str) else ""


def line(value: object, *path: str) -> str:
    """Return the text at the path as one line."""
    return " ".join(text(value, *path).split())


def number(value: object, *path: str, default: int = 0) -> int:
    """Return the number at the path, or the default."""
    found = mapping(value, *path[:-1]).get(path[-1])
    return found if isinstance(found, int) and not isinstance(found, bool) and abs(found) < _LARGEST_INT else default


def conditions(obj: Object) -> dict[str, Condition]:
    """Return the object's conditions by type."""
    return {condition.type: condition for condition in _conditions(obj)}


def _conditions(obj: Object) -> Iterator[Condition]:
    for said in mappings(obj, "status", "conditions"):
        yield Condition(
            type=text(said, "type"),
            status=text(said, "status"),
            reason=text(said, "reason"),
            message=line(said, "message"),
            changed_s=seconds(said.get("lastTransitionTime")),
            generation=number(said, "observedGeneration") if "observedGeneration" in said else None,
        )


def seconds(timestamp: object) -> float | None:
    """Return a time of the API (RFC 3339) in seconds since 1970, or None for an invalid time."""
    if not isinstance(timestamp, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=dt.UTC).timestamp()


def unseen(obj: Object) -> Waiting | None:
    """Return Waiting if the controller has not observed the newest specification yet, or None.

    The remaining status then describes an older specification.
    """
    wanted, seen = number(obj, "metadata", "generation"), number(obj, "status", "observedGeneration")
    return None if seen >= wanted else _behind(seen, wanted)


def outdated(obj: Object, *found: Condition | None) -> Waiting | None:
    """Return Waiting if conditions describe an older specification, or None if all describe the newest."""
    wanted = number(obj, "metadata", "generation")
    seen = min((one.generation for one in found if one and one.generation is not None), default=wanted)
    return None if seen >= wanted else _behind(seen, wanted)


def _behind(seen: int, wanted: int) -> Waiting:
    return Waiting(f"its controller has not seen the newest specification yet (generation {seen} of {wanted})")


def of(count: int, total: int, word: str) -> str:
    """Return a text such as `1 of 3 pods available`."""
    return f"{count} of {total} {'pod' if total == 1 else 'pods'} {word}"
