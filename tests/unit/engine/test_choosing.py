# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that a service chooses for properties without a description: the plan contains the known ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import StalePlanError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import execute
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import check_fresh
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import (
    Options,
    Proposal,
    propose,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    Actual,
    Change,
    Resource,
    Subject,
)
from tests.unit.engine.cloud import STACK, Cloud, Memory, resource


class Chooser(Memory):
    """Chooses a zone where the description has none."""

    choice = "b"

    def choose(
        self, subjects: Sequence[Subject], found: Mapping[str, Sequence[Actual]]
    ) -> Mapping[str, Mapping[str, Any]]:
        return {s.address: {"zone": self.choice} for s in subjects if "zone" not in s.desired}


def proposed(kind: Memory, *resources: Resource, **options: Any) -> Proposal:
    return propose(STACK, [kind], resources, options=Options(**options))


def test_a_choice_is_planned_and_then_made() -> None:
    cloud = Cloud()
    kind = Chooser(cloud)
    proposal = proposed(kind, resource("free.a"))

    assert Change("zone", None, "b") in proposal.plan.node("free.a").changes
    assert execute(proposal).complete
    assert [thing.properties["zone"] for thing in cloud.things.values()] == ["b"]
    assert not proposed(kind, resource("free.a")).plan.changed


def test_what_the_description_says_is_not_chosen() -> None:
    kind = Chooser(Cloud())

    assert Change("zone", None, "a") in proposed(kind, resource("free.a", zone="a")).plan.node("free.a").changes


def test_a_choice_that_changes_is_an_update_of_what_exists() -> None:
    kind = Chooser(Cloud())
    execute(proposed(kind, resource("free.a")))
    kind.choice = "c"

    node = proposed(kind, resource("free.a")).plan.node("free.a")

    assert (node.action, node.changes) == ("update", (Change("zone", "b", "c"),))


def test_a_saved_plan_is_stale_when_the_choice_has_changed() -> None:
    kind = Chooser(Cloud())
    saved = proposed(kind, resource("free.a")).plan
    kind.choice = "c"

    with pytest.raises(StalePlanError, match=r"free\.a: zone: the service now chooses another value"):
        check_fresh(saved, proposed(kind, resource("free.a")).plan)


def test_nothing_is_chosen_for_what_is_destroyed(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Chooser(Cloud())
    execute(proposed(kind, resource("free.a")))
    monkeypatch.setattr(kind, "choose", lambda *_given: pytest.fail("asked for a choice"))

    assert execute(proposed(kind, resource("free.a"), state="absent")).complete
