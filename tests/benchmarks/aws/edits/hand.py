# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody at a console, and what one edit is: made with boto3 in the emulator and taken back with it, or, where the
emulator lets nobody change something, made in its answers on their way to the code under test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Act = Callable[[], object]
Alter = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Altered:
    """A change in the answers of an operation, of those calls alone that have these parameters."""

    service: str
    operation: str
    change: Alter
    asked: Mapping[str, Any] = field(default_factory=dict)


def _nothing() -> None:
    """The change is in the answers."""


@dataclass(frozen=True)
class Edit:
    """One attribute of one resource, changed behind the stack's back."""

    address: str
    path: str
    make: Act = _nothing
    undo: Act = _nothing
    altered: Altered | None = None

    def covers(self, path: str) -> bool:
        """Tell whether a path of a plan is the attribute, or lies inside of it."""
        return path == self.path or path.startswith((f"{self.path}.", f"{self.path}["))

    def __str__(self) -> str:
        return f"{self.address} {self.path}"


@dataclass(frozen=True)
class Hand:
    """A client for each service, what is described by its address, and the outputs of what is there."""

    described: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]
    client: Callable[[str], Any]

    def id(self, address: str) -> str:
        return str(self.outputs[address]["id"])

    def arn(self, address: str) -> str:
        return str(self.outputs[address]["arn"])

    def call(self, service: str, operation: str, **parameters: Any) -> Act:
        """Return what makes a call."""
        return lambda: getattr(self.client(service), operation)(**parameters)

    def switch(
        self, address: str, path: str, call: tuple[str, str], fixed: Mapping[str, Any], other: Any, own: Any
    ) -> Edit:
        """Return an edit by a call that sets something: `other` are its parameters for the edit, `own` to undo it."""
        service, operation = call
        make, undo = (self.call(service, operation, **fixed, **parameters) for parameters in (other, own))
        return Edit(address, path, make, undo)


def document(action: str, **more: str) -> str:
    """Return a policy that allows an action, with more words in its statement."""
    statement = {"Effect": "Allow", "Action": action, "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the form that most services take."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def listed(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule of a security group as the calls that write it take it."""
    return {key: value for key, value in rule.items() if value not in ([], None)}


def merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Put changes into an answer, deep into its maps."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value


def without(items: Sequence[Any], number: int) -> list[Any]:
    """Return a list without one of its items."""
    return [*items[:number], *items[number + 1 :]]
