# SPDX-License-Identifier: GPL-3.0-or-later
"""A resource with an exclusive name is deleted before it is recreated, together with references to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import Report, execute
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Proposal, propose
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    Actual,
    Kind,
    Request,
    Resource,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property, Schema
from tests.unit.engine.cloud import OUTPUTS, SCHEMA, STACK, Cloud, CrashError, Memory, Thing, resource


class Role(Memory):
    """Others refer to it by name. Its deletion removes it from all their settings, like that of an IAM role."""

    def _actual(self, thing: Thing) -> Actual:
        actual = super()._actual(thing)
        return replace(actual, names=(*actual.names, thing.properties["name"]))

    def delete(self, request: Request) -> None:
        super().delete(request)
        name = request.existing.properties["name"]
        for thing in self.cloud.things.values():
            settings = thing.properties.get("settings") or {}
            thing.properties["settings"] = {key: value for key, value in settings.items() if value != name}


def kinds(cloud: Cloud) -> list[Kind]:
    holder = {**SCHEMA, "holder": Property("string", replace=True)}
    return [Role(cloud, "fixed"), Memory(cloud, "free", schema=Schema(holder, OUTPUTS, replacement="create_first"))]


def proposed(cloud: Cloud, *resources: Resource) -> Proposal:
    return propose(STACK, kinds(cloud), resources)


def run(cloud: Cloud, *resources: Resource) -> Report:
    return execute(proposed(cloud, *resources), parallelism=1)


OLD, NEW = resource("fixed.role"), resource("fixed.role", shape="new")
MEMBER = resource("free.profile", settings={"role": "${fixed.role.name}", "path": "/"})


def test_what_it_was_a_part_of_takes_it_up_again_and_the_plan_says_so() -> None:
    cloud = Cloud()
    run(cloud, OLD, MEMBER)
    proposal = proposed(cloud, NEW, MEMBER)
    node = proposal.plan.node("free.profile")
    assert (node.action, node.reason) == ("update", "fixed.role is recreated")
    assert [change.path for change in node.changes] == ["settings"]

    cloud.calls.clear()
    assert execute(proposal).complete
    writes = [call for call in cloud.calls if call.split()[0] in {"create", "delete", "modify"}]
    assert writes == ["delete fixed.role", "create fixed.role", "modify settings free.profile"]
    assert not proposed(cloud, NEW, MEMBER).plan.changed


def test_it_is_taken_up_again_although_the_service_still_shows_it_as_it_was() -> None:
    cloud = Cloud()
    run(cloud, OLD, MEMBER)
    proposal = proposed(cloud, NEW, MEMBER)
    cloud.calls.clear()
    execute(proposal)
    assert cloud.calls.count("describe free") == 0
    assert "modify settings free.profile" in cloud.calls


@pytest.mark.parametrize("call", ["delete fixed.role", "create fixed.role", "gone fixed.role"])
def test_a_run_that_ends_in_between_is_completed_by_the_next(call: str) -> None:
    cloud = Cloud()
    run(cloud, OLD, MEMBER)
    before = len(cloud.calls)
    execute(proposed(cloud, NEW, MEMBER))
    number = cloud.calls.index(call, before) + 1

    broken = Cloud(crash_when="after")
    run(broken, OLD, MEMBER)
    broken.crash_at = number
    report = execute(proposed(broken, NEW, MEMBER), parallelism=1)
    assert any(isinstance(result.error, CrashError) for result in report.results)
    broken.crash_at = None
    assert run(broken, NEW, MEMBER).complete
    assert not proposed(broken, NEW, MEMBER).plan.changed
    assert broken.picture() == cloud.picture()


def test_what_cannot_change_where_it_is_goes_before_it_and_comes_after_it() -> None:
    cloud = Cloud()
    inside = resource("free.nodes", holder="${fixed.role.name}")
    run(cloud, OLD, inside)
    proposal = proposed(cloud, NEW, inside)
    node = proposal.plan.node("free.nodes")
    assert (node.action, node.create_first, node.forced_by) == ("replace", False, ("holder",))

    cloud.calls.clear()
    assert execute(proposal).complete
    writes = [call for call in cloud.calls if call.split()[0] in {"create", "delete"}]
    assert writes == ["delete free.nodes", "delete fixed.role", "create fixed.role", "create free.nodes"]


@pytest.mark.parametrize(
    "bystander",
    [
        resource("free.profile", holder="role"),
        resource("free.profile", holder="under ${fixed.role.name}"),
        Resource("free", "profile", {"name": "role", "label": "in ${fixed.role.name}"}),
    ],
)
def test_what_only_sounds_like_it_is_left_alone(bystander: Resource) -> None:
    cloud = Cloud()
    run(cloud, OLD, bystander)
    assert proposed(cloud, NEW, bystander).plan.node("free.profile").action == "none"
