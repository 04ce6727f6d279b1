# SPDX-License-Identifier: GPL-3.0-or-later
"""Any graph, order, failure and crash: another run reaches the same state, without duplicates and leftovers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import ReadError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import (
    Report,
    StepResult,
    execute,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import (
    Options,
    Proposal,
    propose,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.steps import Step, make_steps
from tests.unit.engine.cloud import EXAMPLES, STACK, CallRefusedError, Cloud, CrashError, kinds, resource

ADDRESSES = ("free.a", "fixed.b", "free.c", "fixed.d", "free.e", "fixed.f")
PRUNE = Options(prune=True)
Rank = Callable[[str], Any]


@st.composite
def descriptions(draw: st.DrawFn) -> tuple[Resource, ...]:
    """Draw a description: any of the addresses, in any order of dependency, with all three sorts of references."""
    order = draw(st.permutations(ADDRESSES))[: draw(st.integers(0, len(ADDRESSES)))]
    resources = []
    for index, address in enumerate(order):
        earlier = st.lists(st.sampled_from(order[:index]), max_size=2, unique=True) if index else st.just([])
        anybody = st.lists(st.sampled_from(order), max_size=2, unique=True)
        ties = {"links": draw(earlier), "base": draw(earlier), "peers": draw(anybody)}
        properties = {name: [f"${{{target}.id}}" for target in targets] for name, targets in ties.items()}
        properties |= {"label": draw(st.sampled_from("pq")), "shape": draw(st.sampled_from("xy"))}
        resources.append(resource(address, **properties))
    return tuple(resources)


@st.composite
def ranks(draw: st.DrawFn) -> Rank:
    """Draw an execution order of steps that could run concurrently."""
    seed = draw(st.integers(0, 2**32 - 1))
    return lambda step: random.Random(f"{seed}{step}").random()


def proposed(cloud: Cloud, resources: Sequence[Resource], options: Options = PRUNE) -> Proposal:
    return propose(STACK, kinds(cloud), resources, options=options, parallelism=2)


def run(cloud: Cloud, resources: Sequence[Resource], rank: Rank | None = None, parallelism: int = 1) -> Report:
    return execute(proposed(cloud, resources), rank=rank, parallelism=parallelism)


def built(resources: Sequence[Resource]) -> Cloud:
    """Return the state after an undisturbed run."""
    cloud = Cloud()
    assert run(cloud, resources).complete
    return cloud


def assert_settled(cloud: Cloud, resources: Sequence[Resource]) -> None:
    plan = proposed(cloud, resources).plan
    assert not plan.changed, [node for node in plan.nodes if node.action != "none"]
    assert cloud.picture() == built(resources).picture()


def possible(cloud: Cloud, resources: Sequence[Resource]) -> bool:
    """Whether the service permits a single pass: no user has to release its dependency and use it again later."""
    return not _refused(proposed(cloud, resources))


def _refused(proposal: Proposal) -> list[tuple[str, str]]:
    # The service in memory deletes a `fixed` object although an unchanged object still links to it.
    waived = make_steps(proposal).waived
    return [(step, other) for step, other in waived if not (step.startswith("fixed.") and other.endswith(" main"))]


@given(descriptions(), descriptions(), ranks(), st.integers(0, 2**32 - 1))
@EXAMPLES
def test_any_description_becomes_any_other_in_any_order(
    first: tuple[Resource, ...], second: tuple[Resource, ...], rank: Rank, seed: int
) -> None:
    cloud = built(first)
    assume(possible(cloud, second))
    cloud.jitter = random.Random(seed)
    report = run(cloud, second, rank, parallelism=1 + seed % 4)
    assert report.complete, report.failed
    cloud.jitter = None
    assert_settled(cloud, second)


@given(descriptions(), descriptions(), ranks(), st.data())
@EXAMPLES
def test_a_run_killed_at_any_call_is_completed_by_the_next(
    first: tuple[Resource, ...], second: tuple[Resource, ...], rank: Rank, data: st.DataObject
) -> None:
    cloud = built(first)
    assume(possible(cloud, second))
    crash_at = len(cloud.calls) + data.draw(st.integers(1, 40))
    cloud.crash_at, cloud.crash_when = crash_at, data.draw(st.sampled_from(["before", "after"]))
    with suppress(ReadError):
        run(cloud, second, rank, parallelism=data.draw(st.integers(1, 3)))
    cloud.crash_at = None
    assume(possible(cloud, second))
    report = run(cloud, second, rank)
    assert report.complete, report.failed
    assert_settled(cloud, second)


@given(descriptions(), descriptions(), ranks(), st.data())
@EXAMPLES
def test_a_failure_stops_its_dependents_only_and_the_next_run_heals_it(
    first: tuple[Resource, ...], second: tuple[Resource, ...], rank: Rank, data: st.DataObject
) -> None:
    cloud = built(first)
    proposal = proposed(cloud, second)
    steps = make_steps(proposal)
    assume(not _refused(proposal))
    verbs = ("create", "configure", "wait", "delete", "gone", "modify label", "modify peers", "modify links")
    broken = f"{data.draw(st.sampled_from(verbs))} {data.draw(st.sampled_from(ADDRESSES))}"
    cloud.broken = {broken}
    endings: dict[str, str] = {}

    def observe(step: Step, result: StepResult | None) -> None:
        endings[step.id] = result.ending if result else "started"

    report = execute(proposal, rank=rank, parallelism=data.draw(st.integers(1, 3)), observer=observe)
    reached = {step for step, ending in endings.items() if ending == "failed"}
    while more := {step for step, waits in steps.waits.items() if waits & reached} - reached:
        assert {endings[step] for step in more} == {"skipped"}
        reached |= more
    assert {endings[step] for step in steps.items.keys() - reached} <= {"done"}
    assert all(isinstance(result.error, CallRefusedError) for result in report.failed)
    cloud.broken = set()
    assume(possible(cloud, second))
    assert run(cloud, second).complete
    assert_settled(cloud, second)


@given(descriptions(), ranks(), st.integers(1, 4))
@EXAMPLES
def test_destroy_leaves_nothing_in_any_order(resources: tuple[Resource, ...], rank: Rank, parallelism: int) -> None:
    cloud = built(resources)
    report = execute(proposed(cloud, resources, Options(state="absent")), rank=rank, parallelism=parallelism)
    assert report.complete, report.failed
    assert cloud.things == {}
    assert not proposed(cloud, resources, Options(state="absent")).plan.changed


@given(descriptions(), ranks())
@EXAMPLES
def test_destroy_needs_no_description(resources: tuple[Resource, ...], rank: Rank) -> None:
    cloud = built(resources)
    report = execute(proposed(cloud, (), Options(state="absent")), rank=rank)
    assert report.complete, report.failed
    assert cloud.things == {}


RICH = (
    resource("free.a", peers=["${free.c.id}"], shape="x"),
    resource("fixed.b", base=["${free.a.id}"], label="of ${free.a.id}"),
    resource("free.c", peers=["${free.a.id}", "${fixed.b.id}"], links=["${fixed.b.id}"]),
    resource("free.e", base=["${fixed.b.id}"], settings={"${free.c.id}": "friend"}),
)
MOVED = (
    resource("free.a", peers=["${free.c.id}"], shape="y"),
    resource("fixed.b", base=["${free.a.id}"], label="of ${free.a.id}"),
    resource("free.c", peers=["${free.a.id}", "${fixed.b.id}"], label="q"),
    resource("fixed.d", base=["${fixed.b.id}"]),
)


def _calls(first: Sequence[Resource], second: Sequence[Resource]) -> int:
    cloud = built(first)
    before = len(cloud.calls)
    assert run(cloud, second).complete
    return len(cloud.calls) - before


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("first", "second"), [((), RICH), (RICH, MOVED), (RICH, ())], ids=["made", "moved", "removed"])
def test_a_run_killed_at_each_call_in_turn_is_completed_by_the_next(
    first: tuple[Resource, ...], second: tuple[Resource, ...], when: Any
) -> None:
    for number in range(1, _calls(first, second) + 1):
        cloud = built(first)
        cloud.crash_at, cloud.crash_when = len(cloud.calls) + number, when
        with suppress(ReadError):
            report = run(cloud, second)
            assert all(isinstance(result.error, CrashError) for result in report.failed)
        cloud.crash_at = None
        assert run(cloud, second).complete
        assert_settled(cloud, second)


def test_a_create_that_is_not_visible_yet_is_found_again_by_its_token() -> None:
    cloud = Cloud()
    proposal = proposed(cloud, [resource("free.a")])
    assert execute(proposal).complete
    assert execute(proposal).complete
    assert len(cloud.things) == 1


def test_a_token_that_names_the_remains_of_an_earlier_resource_is_replaced() -> None:
    cloud = Cloud()
    proposal = proposed(cloud, [resource("free.a")])
    execute(proposal)
    cloud.delete("free-1")
    assert execute(proposal).complete
    assert sorted(cloud.things) == ["free-1", "free-2"]
