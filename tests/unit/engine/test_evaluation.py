# SPDX-License-Identifier: GPL-3.0-or-later
"""A property without a reference is evaluated once, with a stable result."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.reference import refers
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Output, Property, Schema
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.world import Description
from tests.unit.engine.cloud import STACK, Cloud, Memory


class Counted(Memory):
    """Counts how often a value of each property is checked."""

    def __init__(self) -> None:
        super().__init__(Cloud(), "counted")
        self.checked: list[str] = []
        check = self._check
        self.schema = Schema(
            {
                "name": Property(check=check),
                "size": Property("integer", default=3),
                "of": Property(check=check),
                "rules": Property("list", deferred=True, elements=Property(check=check)),
            },
            {"id": Output()},
        )

    def _check(self, value: Any) -> str | None:
        self.checked.append(value)
        return "is wrong" if value == "wrong" else None


def _described(kind: Counted, **properties: Any) -> Description:
    return Description.of(STACK, [kind], [Resource("counted", "a"), Resource("counted", "b", properties)])


def test_only_what_refers_is_evaluated_again() -> None:
    kind = Counted()
    description = _described(kind, name="fixed", of="${counted.a.id}", rules=["${counted.a.id}"])
    found = [description.desired("counted.b", answer) for answer in (lambda *_of: "one", lambda *_of: "two")]

    assert found == [{"name": "fixed", "size": 3, "of": text} for text in ("one", "two")]
    assert [list(values) for values in found] == [["name", "size", "of"]] * 2
    assert [kind.checked.count(value) for value in ("fixed", "one", "two")] == [1, 1, 1]
    assert description.desired("counted.b", lambda _address, _name: "x", deferred=True) == {"rules": ["x"]}


def test_a_fault_is_found_each_time() -> None:
    description = _described(kind := Counted(), name="right")
    wrong = Description(
        STACK, {"counted": kind}, {"counted.b": Resource("counted", "b", {"name": "wrong"})}, {}, description.graph
    )
    for _time in range(2):
        _values, faults = wrong.evaluated("counted.b", lambda _address, _name: None)
        assert [(fault.path, fault.message) for fault in faults] == [("name", "is wrong")]


@pytest.mark.parametrize(
    "value", ["${a.b.c}", "$${", "${", {"x": ["${stack.y}"]}, {"${secret.z}": 1}, ("a", "x${a.b.c}y")]
)
def test_what_may_hold_a_reference(value: Any) -> None:
    assert refers(value)


@pytest.mark.parametrize("value", ["", "$a", {"a": [1, None, "{b}"]}, None, 5, True])
def test_what_holds_none(value: Any) -> None:
    assert not refers(value)
