# SPDX-License-Identifier: GPL-3.0-or-later
"""Manual edits of AWS resources.

An edit is made with boto3 in the emulator and reverted with it. For changes that the emulator does not support, the
edit is made in its answers to the code under test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Act = Callable[[], object]
Alter = Callable[[dict[str, Any]], object]


@dataclass(frozen=True)
class Altered:
    """A change in the answers of an operation, only for calls with these parameters."""

    service: str
    operation: str
    change: Alter
    asked: Mapping[str, Any] = field(default_factory=dict)


def _nothing() -> None:
    """Do nothing: the change is in the answers."""


@dataclass(frozen=True)
class Edit:
    """One attribute of one resource, changed outside of the stack."""

    address: str
    path: str
    make: Act = _nothing
    undo: Act = _nothing
    altered: Altered | None = None

    def covers(self, path: str) -> bool:
        """Return whether a path of a plan is the attribute, or is inside of it."""
        return path == self.path or path.startswith((f"{self.path}.", f"{self.path}["))

    def __str__(self) -> str:
        return f"{self.address} {self.path}"


@dataclass(frozen=True)
class Hand:
    """A client for each service, the descriptions by address, and the outputs of existing resources."""

    described: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Mapping[str, Any]]
    client: Callable[[str], Any]

    def id(self, address: str) -> str:
        return str(self.outputs[address]["id"])

    def arn(self, address: str) -> str:
        return str(self.outputs[address]["arn"])

    def call(self, service: str, operation: str, **parameters: Any) -> Act:
        """Return a function that makes a call."""
        return lambda: getattr(self.client(service), operation)(**parameters)

    def switch(
        self, address: str, path: str, call: tuple[str, str], fixed: Mapping[str, Any], other: Any, own: Any
    ) -> Edit:
        """Return an edit by a call that sets a value: `other` are its parameters for the edit, `own` to revert it."""
        service, operation = call
        make, undo = (self.call(service, operation, **fixed, **parameters) for parameters in (other, own))
        return Edit(address, path, make, undo)


def document(action: str, **more: str) -> str:
    """Return a policy that allows an action, with further elements in its statement."""
    statement = {"Effect": "Allow", "Action": action, "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def pairs(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags in the format of most services."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def listed(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule of a security group in the format of the calls that write it."""
    return {key: value for key, value in rule.items() if value not in ([], None)}


def merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Merge changes into an answer, recursively."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value


def without(items: Sequence[Any], number: int) -> list[Any]:
    """Return a list without one of its items."""
    return [*items[:number], *items[number + 1 :]]
