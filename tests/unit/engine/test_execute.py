# SPDX-License-Identifier: GPL-3.0-or-later
"""Execution of plans: order, concurrency, failures, interruptions, and an accurate report."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    UnplannedError,
    UsedTokenError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import (
    Report,
    StepResult,
    execute,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Options, propose
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import (
    Actual,
    Request,
    Resource,
    activity,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.steps import Step, make_steps
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import Secret
from tests.unit.engine.cloud import STACK, CallRefusedError, Cloud, Memory, kinds, resource

TIMEOUT_S = 20


def apply(cloud: Cloud, resources: Sequence[Resource], *, state: Any = "present", **how: Any) -> Report:
    secrets = {"word": STACK.secret("hush")}
    return execute(propose(STACK, kinds(cloud), resources, secrets, Options(state=state, prune=True)), **how)


def writes(cloud: Cloud) -> list[str]:
    return [call for call in cloud.calls if call.split()[0] not in {"describe", "list", "wait", "gone", "configure"}]


def changed_by(cloud: Cloud, resources: Sequence[Resource], **how: Any) -> list[str]:
    """Apply a description and return the changing calls in order."""
    cloud.calls.clear()
    report = apply(cloud, resources, **how)
    assert report.complete, report.failed
    return writes(cloud)


def outcomes(report: Report) -> dict[str, str]:
    return {result.address: result.outcome for result in report.results}


@pytest.mark.parametrize("there", [[], ["free.a"], ["free.a", "free.b"]])
def test_what_is_to_be_gone_may_refer_to_what_never_was(there: list[str]) -> None:
    cloud = Cloud()
    stack = [resource("free.a"), resource("free.b", label="${free.a.id}")]
    apply(cloud, [item for item in stack if item.address in there])
    assert apply(cloud, stack, state="absent").complete
    assert apply(cloud, stack, state="absent").complete
    assert cloud.picture() == {}


def test_a_failed_resource_stops_its_dependents_only_and_says_so() -> None:
    chain = [
        resource("free.a"),
        resource("free.b", links=["${free.a.id}"]),
        resource("free.c", links=["${free.b.id}"]),
        resource("free.d"),
    ]
    cloud = Cloud(broken={"create free.a"})
    report = apply(cloud, chain)
    assert outcomes(report) == {"free.a": "failed", "free.b": "skipped", "free.c": "skipped", "free.d": "done"}
    assert isinstance(report.result("free.a").error, CallRefusedError)
    assert report.result("free.a").message == "create free.a is broken"
    assert report.result("free.c").message == "free.a failed"
    assert report.changed
    assert not report.complete
    assert [result.address for result in report.failed] == ["free.a"]


def test_what_was_made_before_a_wait_failed_is_in_the_report() -> None:
    report = apply(Cloud(broken={"wait free.a"}), [resource("free.a")])
    result = report.result("free.a")
    assert (result.outcome, result.id, result.changed, result.api_calls) == ("failed", "free-1", True, 3)


def test_an_old_resource_stays_while_its_users_could_not_move_and_the_report_says_incomplete() -> None:
    user = resource("free.b", links=["${free.a.id}"])
    cloud = Cloud()
    apply(cloud, [resource("free.a"), user])
    cloud.broken = {"modify links free.b"}
    report = apply(cloud, [resource("free.a", shape="new"), user])
    assert outcomes(report) == {"free.a": "incomplete", "free.b": "failed"}
    assert report.result("free.a").message == "free.b failed"
    cloud.broken = set()
    assert apply(cloud, [resource("free.a", shape="new"), user]).complete
    assert sorted(cloud.things) == ["free-2", "free-3"]


def test_nothing_is_called_where_nothing_has_to_change() -> None:
    cloud = Cloud()
    apply(cloud, [resource("free.a")])
    cloud.calls.clear()
    report = apply(cloud, [resource("free.a")])
    assert outcomes(report) == {"free.a": "unchanged"}
    assert not report.changed
    assert sorted(cloud.calls) == ["describe free", "list fixed", "list free"]


def test_every_node_reports_its_calls_duration_and_outputs_without_secrets() -> None:
    report = apply(Cloud(), [resource("free.a", password="${secret.word}")])
    data = report.result("free.a").to_data()
    assert {name: data[name] for name in ("outcome", "action", "id", "api_calls", "message")} == {
        "outcome": "done",
        "action": "create",
        "id": "free-1",
        "api_calls": 3,
        "message": "",
    }
    assert data["duration_s"] >= 0
    assert data["outputs"]["id"] == "free-1"
    assert isinstance(report.result("free.a").outputs["key"], Secret)
    assert "hush" not in json.dumps(data)
    assert "key of free-1" not in json.dumps(data)


def test_deferred_properties_come_after_both_ends_exist_and_are_cleared_first() -> None:
    ring = [resource("free.a", peers=["${free.b.id}"]), resource("free.b", peers=["${free.a.id}", "${free.b.id}"])]
    cloud = Cloud()
    made = changed_by(cloud, ring)
    assert sorted(made[:2]) == ["create free.a", "create free.b"]
    assert sorted(made[2:]) == ["modify peers free.a", "modify peers free.b"]
    gone = changed_by(cloud, ring, state="absent")
    assert sorted(gone[:2]) == ["modify peers free.a", "modify peers free.b"]
    assert sorted(gone[2:]) == ["delete free.a", "delete free.b"]


def test_a_resource_that_only_names_itself_is_deleted_without_clearing() -> None:
    cloud = Cloud()
    alone = [resource("free.a", peers=["${free.a.id}"])]
    apply(cloud, alone)
    assert changed_by(cloud, alone, state="absent") == ["delete free.a"]


def test_what_stays_is_detached_from_what_is_deleted_before_it_comes_anew() -> None:
    tied = resource("free.b", peers=["${fixed.a.id}", "${free.b.id}"])
    cloud = Cloud()
    apply(cloud, [resource("fixed.a"), tied])
    assert changed_by(cloud, [resource("fixed.a", shape="new"), tied]) == [
        "modify peers free.b",
        "delete fixed.a",
        "create fixed.a",
        "modify peers free.b",
    ]


def test_a_replacement_that_can_exist_twice_is_made_before_the_old_goes() -> None:
    user = resource("free.b", links=["${free.a.id}"])
    cloud = Cloud()
    apply(cloud, [resource("free.a"), user])
    assert changed_by(cloud, [resource("free.a", shape="new"), user]) == [
        "create free.a",
        "modify links free.b",
        "delete free.a",
    ]


def test_a_replacement_with_a_fixed_name_goes_before_it_is_made_anew_with_all_that_hangs_on_it() -> None:
    hanging = resource("free.b", base=["${fixed.a.id}"])
    cloud = Cloud()
    apply(cloud, [resource("fixed.a"), hanging])
    assert changed_by(cloud, [resource("fixed.a", shape="new"), hanging]) == [
        "delete free.b",
        "delete fixed.a",
        "create fixed.a",
        "create free.b",
    ]


def test_a_resource_that_is_not_described_any_more_goes_after_its_last_user_let_go() -> None:
    cloud = Cloud()
    apply(
        cloud,
        [resource("free.a"), resource("free.b", links=["${free.a.id}"]), resource("free.c", base=["${free.a.id}"])],
    )
    assert changed_by(cloud, [resource("free.b")])[-1] == "delete free.a"


@pytest.mark.parametrize("described", [True, False])
def test_destroy_goes_backwards(*, described: bool) -> None:
    stack = [
        resource("free.vpc"),
        resource("free.subnet", base=["${free.vpc.id}"]),
        resource("fixed.role"),
        resource("fixed.cluster", base=["${free.subnet.id}"], links=["${fixed.role.id}"]),
        resource("free.nodes", base=["${fixed.cluster.id}"], links=["${fixed.role.id}"]),
    ]
    cloud = Cloud()
    apply(cloud, stack)
    gone = changed_by(cloud, stack if described else [], state="absent")
    places = {call.split()[1]: place for place, call in enumerate(gone)}
    assert places["free.nodes"] < places["fixed.cluster"] < min(places["free.subnet"], places["fixed.role"])
    assert places["free.subnet"] < places["free.vpc"]
    assert cloud.things == {}


def test_a_failed_deletion_keeps_what_it_hangs_on() -> None:
    stack = [resource("free.a"), resource("free.b", base=["${free.a.id}"]), resource("free.c")]
    cloud = Cloud()
    apply(cloud, stack)
    cloud.broken = {"delete free.b"}
    assert outcomes(apply(cloud, stack, state="absent")) == {"free.a": "skipped", "free.b": "failed", "free.c": "done"}


def test_a_replacement_that_turns_out_not_to_be_needed_is_not_made() -> None:
    class Steady(Memory):
        """Its replacement has the id of the replaced object, like an alias."""

        def _actual(self, thing: Any) -> Actual:
            actual = super()._actual(thing)
            return Actual(actual.id, actual.properties, {"id": "always"}, actual.owner, actual.status)

    cloud = Cloud()
    known = [Memory(cloud), Steady(cloud, "fixed")]
    cloud.things["always"] = cloud.create("fixed", None, {"name": "target"})
    user = resource("free.b", base=["${fixed.a.id}"])
    assert execute(propose(STACK, known, [resource("fixed.a"), user])).complete
    proposal = propose(STACK, known, [resource("fixed.a", shape="new"), user])
    assert [node.action for node in proposal.plan.nodes] == ["replace", "replace"]
    assert execute(proposal).complete
    assert not propose(STACK, known, [resource("fixed.a", shape="new"), user]).plan.changed


def test_a_world_that_moved_after_the_plan_is_not_changed_more_than_planned() -> None:
    cloud = Cloud()
    apply(cloud, [resource("free.a", shape="x"), resource("free.b")])

    class Late(Memory):
        def wait(self, request: Request) -> Actual:
            actual = super().wait(request)
            return Actual(actual.id, {**actual.properties, "shape": "other"}, actual.outputs, actual.owner)

    cloud.things["free-1"].status = "creating"
    report = execute(propose(STACK, [Late(cloud)], [resource("free.a", shape="x")]))
    assert isinstance(report.result("free.a").error, UnplannedError)
    assert "shape would force a replacement" in report.result("free.a").message


def test_an_output_that_never_comes_is_named_instead_of_sent() -> None:
    class Silent(Memory):
        def _actual(self, thing: Any) -> Actual:
            actual = super()._actual(thing)
            return Actual(actual.id, actual.properties, {}, actual.owner, actual.status)

        def wait(self, request: Request) -> Actual:
            return super().wait(request) if request.address != "free.a" else request.existing

    report = execute(propose(STACK, [Silent(Cloud())], [resource("free.a"), resource("free.b", label="${free.a.id}")]))
    assert report.result("free.b").message.startswith("label is still (known after apply)")


def test_a_token_that_is_used_again_and_again_is_given_up() -> None:
    tokens = []

    class Worn(Memory):
        def create(self, request: Request) -> Actual:
            tokens.append(request.token)
            raise UsedTokenError("used")

    report = execute(propose(STACK, [Worn(Cloud())], [resource("free.a")]))
    assert report.result("free.a").outcome == "failed"
    assert len(set(tokens)) == len(tokens) == 5


class Meeting(Memory):
    """A kind whose creations wait for each other."""

    def __init__(self, cloud: Cloud, parties: int) -> None:
        super().__init__(cloud)
        self.barrier = threading.Barrier(parties)

    def create(self, request: Request) -> Actual:
        self.barrier.wait(TIMEOUT_S)
        return super().create(request)


def test_independent_resources_are_made_at_the_same_time() -> None:
    several = [resource(f"free.n{number}") for number in range(4)]
    assert execute(propose(STACK, [Meeting(Cloud(), 4)], several), parallelism=4).complete


def test_no_more_run_at_once_than_allowed() -> None:
    most, now, lock = 0, 0, threading.Lock()

    class Counting(Memory):
        def create(self, request: Request) -> Actual:
            nonlocal most, now
            with lock:
                now += 1
                most = max(most, now)
            try:
                return super().create(request)
            finally:
                with lock:
                    now -= 1

    several = [resource(f"free.n{number}") for number in range(12)]
    assert execute(propose(STACK, [Counting(Cloud())], several), parallelism=3).complete
    assert most <= 3


def test_the_longest_chain_starts_first() -> None:
    cloud = Cloud()
    several = [resource("free.a"), resource("free.y"), resource("free.z", links=["${free.y.id}"])]
    apply(cloud, several, parallelism=1)
    assert writes(cloud)[0] == "create free.y"


def test_an_observer_hears_of_every_step_as_it_starts_and_ends() -> None:
    heard: list[tuple[str, str]] = []

    def observe(step: Step, result: StepResult | None) -> None:
        heard.append((step.id, result.ending if result else "started"))

    apply(
        Cloud(broken={"create free.b"}),
        [resource("free.b"), resource("free.c", links=["${free.b.id}"])],
        observer=observe,
    )
    assert heard == [("free.b main", "started"), ("free.b main", "failed"), ("free.c main", "skipped")]


class Interrupted(Memory):
    """A kind whose creations are interrupted with Ctrl-C."""

    def __init__(self, cloud: Cloud, press: Callable[[Request], None]) -> None:
        super().__init__(cloud)
        self.press = press

    def create(self, request: Request) -> Actual:
        self.press(request)
        return super().create(request)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Interrupts arrive, also in a background process of a shell, where they are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _press_ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _cancelled_soon() -> bool:
    return activity().sleep(TIMEOUT_S)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_finishes_what_runs_starts_nothing_more_and_is_completed_by_the_next() -> None:
    def press(request: Request) -> None:
        if request.address == "free.a":
            _press_ctrl_c()
            assert _cancelled_soon(), "a kind that waits is told"

    cloud = Cloud()
    chain = [resource("free.a"), resource("free.b", links=["${free.a.id}"])]
    report = execute(propose(STACK, [Interrupted(cloud, press)], chain))
    assert report.interrupted
    assert outcomes(report) == {"free.a": "done", "free.b": "cancelled"}
    assert apply(cloud, chain).complete
    assert len(cloud.things) == 2


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_gives_up_what_still_runs_and_does_not_claim_to_know_it() -> None:
    release = threading.Event()

    def press(request: Request) -> None:
        _press_ctrl_c()
        assert _cancelled_soon()
        _press_ctrl_c()
        release.wait(TIMEOUT_S)

    cloud = Cloud()
    try:
        report = execute(propose(STACK, [Interrupted(cloud, press)], [resource("free.a")]))
    finally:
        release.set()
    assert report.interrupted
    assert (report.result("free.a").outcome, report.result("free.a").changed) == ("interrupted", True)


def test_an_interrupt_inside_a_kind_is_that_node_s_failure() -> None:
    def press(request: Request) -> None:
        raise KeyboardInterrupt

    report = execute(propose(STACK, [Interrupted(Cloud(), press)], [resource("free.a")]))
    assert (report.interrupted, outcomes(report)) == (False, {"free.a": "failed"})
    assert report.result("free.a").message == "KeyboardInterrupt"


def test_waits_that_contradict_each_other_are_named() -> None:
    cloud = Cloud()
    apply(
        cloud,
        [resource("fixed.w"), resource("free.v", base=["${fixed.w.id}"]), resource("free.u", links=["${free.v.id}"])],
    )
    after = [resource("fixed.w", shape="new"), resource("free.u", links=["${fixed.w.id}"])]
    steps = make_steps(propose(STACK, kinds(cloud), after, options=Options(prune=True)))
    assert len(steps.waived) == 1
