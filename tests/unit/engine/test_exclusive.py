# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A second claim to an exclusive setting is rejected, in any spelling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import DescriptionError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import execute
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Options, propose
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property, Schema
from tests.unit.engine.cloud import OUTPUTS, SCHEMA, STACK, Cloud, Memory, resource

PORTS = {
    **SCHEMA,
    "balancer": Property("string", canonical=str.lower),
    "port": Property("integer", default=443),
}


def kind(cloud: Cloud, *exclusive: tuple[str, ...], unique_by: tuple[str, ...] = ()) -> Memory:
    return Memory(cloud, schema=Schema(PORTS, OUTPUTS, exclusive=exclusive or None, unique_by=unique_by))


def faults(thing: Memory, *resources: Resource, options: Options | None = None) -> list[str]:
    """Return the faults that a plan finds in the resources."""
    try:
        propose(STACK, [thing], resources, options=options)
    except DescriptionError as error:
        return [str(fault) for fault in error.faults]
    return []


LINKED = [
    resource("free.a"),
    resource("free.b", links=["${free.a.id}"]),
    resource("free.c", links=["x", "${free.a.id}"]),
]


def test_a_second_claim_is_refused_before_the_first_call() -> None:
    cloud = Cloud()
    assert faults(kind(cloud, ("links",)), *LINKED) == [
        "free.c: links: ${free.a.id} already belongs to free.b; keep it in only one of them"
    ]
    assert cloud.calls == []


def test_the_remedy_is_accepted_and_twice_in_one_resource_is_once() -> None:
    one, two, _three = LINKED
    twice = replace(two, properties={"links": ["${free.a.id}", "${free.a.id}"]})
    assert faults(kind(Cloud(), ("links",)), one, twice) == []
    assert faults(kind(Cloud()), *LINKED) == []


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ({"balancer": "a", "port": 80}, {"balancer": "a", "port": 80}, True),
        ({"balancer": "a", "port": 80}, {"balancer": "A", "port": "80"}, True),
        ({"balancer": "a"}, {"balancer": "a", "port": 443}, True),
        ({"balancer": "${stack.name}"}, {"balancer": "lake"}, True),
        ({"balancer": "a", "port": 80}, {"balancer": "a"}, False),
        ({"balancer": "a", "port": 80}, {"balancer": "b", "port": 80}, False),
        ({"port": 80}, {"port": 80}, False),
    ],
)
@pytest.mark.parametrize("by", ["exclusive", "unique_by"])
def test_a_port_of_a_listener_is_claimed_together_with_its_load_balancer(
    first: dict[str, Any], second: dict[str, Any], by: str, *, refused: bool
) -> None:
    relation = ("balancer", "port")
    thing = kind(Cloud(), relation) if by == "exclusive" else kind(Cloud(), unique_by=relation)
    found = faults(thing, resource("free.a", **first), resource("free.b", **second))
    assert [text.split(";")[0].rpartition(" ")[2] for text in found] == ["free.a"] * refused


def test_a_reference_and_an_id_that_turn_out_to_be_the_same_are_refused_by_the_plan() -> None:
    cloud = Cloud()
    thing = kind(cloud, ("links",))
    base = resource("free.a")
    execute(propose(STACK, [thing], [base]))
    (id_,) = cloud.things

    claims = [base, resource("free.b", links=["${free.a.id}"]), resource("free.c", links=[id_])]
    assert faults(thing, *claims) == [f"free.c: links: {id_} already belongs to free.b; keep it in only one of them"]
    # A destruction changes no claim.
    assert faults(thing, *claims, options=Options("absent")) == []
