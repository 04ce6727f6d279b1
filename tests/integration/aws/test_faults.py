# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of AWS at every call: the result equals that of an undisturbed run, without duplicates and orphans."""

from __future__ import annotations

import functools
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import leaves
from tests.integration.aws.emulator import Server
from tests.integration.aws.foundation import foundation, picture
from tests.integration.aws.lab import Lab, failures
from tests.integration.aws.wire import Answer, Behaviour, Call, connection_reset, read_timeout, unreachable

Fault = Callable[[Call], Answer | None]


@functools.cache
def good_day(server: Server) -> tuple[list[str], list[str]]:
    """Return the state after a deployment without faults, and the state after its destruction."""
    lab = Lab(server.account())
    described = foundation(lab.emulator)
    lab.apply(described)
    built = picture(lab.emulator)
    lab.destroy(described)
    return built, picture(lab.emulator)


def assert_as_on_a_good_day(lab: Lab, described: Mapping[str, Any]) -> None:
    """Deploy and destroy under the lab's behaviour, with a plan in between."""
    built, left = good_day(lab.emulator.server)
    ran = lab.run(described)
    assert ran.report.complete, failures(ran.report)
    assert picture(lab.emulator) == built
    assert not lab.plan(described).changed
    ran = lab.run(described, state="absent", unprotect=tuple(described))
    assert ran.report.complete, failures(ran.report)
    assert picture(lab.emulator) == left


def same(call: Call) -> str:
    """Return the part of a call that its repetition shares: all but a token that botocore creates each time."""
    given = {name: value for name, value in call.parameters.items() if not name.endswith("Token")}
    return f"{call.name} {sorted(map(str, leaves(given)))}"


class Once(Behaviour):
    """Disturbs the first attempt of every call, before or after its effect."""

    def __init__(self, fault: Fault, when: Literal["before", "after"]) -> None:
        self.fault, self.when = fault, when
        self.disturbed: set[str] = set()
        self._lock = threading.Lock()

    def _first(self, call: Call) -> bool:
        with self._lock:
            known = same(call) in self.disturbed
            self.disturbed.add(same(call))
            return not known

    def before(self, call: Call) -> Answer | None:
        return self.fault(call) if self.when == "before" and self._first(call) else None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        return self.fault(call) if self.when == "after" and self._first(call) else None


def throttled(call: Call) -> Answer:
    """Raise the throttling error of the service."""
    codes = {"ec2": "RequestLimitExceeded", "s3": "SlowDown", "glue": "ThrottlingException"}
    return Answer.error(codes.get(call.service, "Throttling"), "Rate exceeded", 503 if call.service == "s3" else 400)


def too_many(_call: Call) -> Answer:
    return Answer.error("TooManyRequestsException", "Rate exceeded", 429)


def broken(_call: Call) -> Answer:
    return Answer.error("InternalError", "We encountered an internal error.", 500)


def raising(error: Callable[[], Exception]) -> Fault:
    def fault(_call: Call) -> None:
        raise error()

    return fault


FAULTS: Mapping[str, tuple[Fault, Literal["before", "after"]]] = {
    "throttled": (throttled, "before"),
    "429": (too_many, "before"),
    "500 without an effect": (broken, "before"),
    "500 after the effect": (broken, "after"),
    "silence without an effect": (raising(read_timeout), "before"),
    "silence after the effect": (raising(read_timeout), "after"),
    "reset after the effect": (raising(connection_reset), "after"),
    "unreachable": (raising(unreachable), "before"),
}


@pytest.mark.emulators("ministack")  # A run on moto takes three times as long; the next test runs on both.
@pytest.mark.parametrize("name", FAULTS)
def test_every_call_is_disturbed_the_first_time(lab: Lab, name: str) -> None:
    lab.wire.behaviour = Once(*FAULTS[name])

    assert_as_on_a_good_day(lab, foundation(lab.emulator))
    assert len(lab.wire.behaviour.disturbed) > 100


@pytest.mark.parametrize("seed", range(2))
def test_calls_are_disturbed_by_chance_in_every_way(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    # A call to an address without a listener fails soon.
    faults = [FAULTS[name] for name in FAULTS if name != "unreachable"]

    class Chance(Behaviour):
        def before(self, call: Call) -> Answer | None:
            return self.drawn("before", call)

        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            return self.drawn("after", call)

        def drawn(self, when: str, call: Call) -> Answer | None:
            fault, moment = chance.choice(faults)
            return fault(call) if moment == when and chance.random() < 0.2 else None

    lab.wire.behaviour = Chance()
    assert_as_on_a_good_day(lab, foundation(lab.emulator))


_ID = re.compile(r"[a-z]{2,10}-[0-9a-f]{8,17}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|arn:aws:iam::\d*:policy/.*")
_NAMED = {"iam:CreateRole": "RoleName", "iam:CreateInstanceProfile": "InstanceProfileName"}
_ABSENT = {
    "VpcId": "InvalidVpcID.NotFound",
    "SubnetId": "InvalidSubnetID.NotFound",
    "InternetGatewayId": "InvalidInternetGatewayID.NotFound",
    "NatGatewayId": "NatGatewayNotFound",
    "RouteTableId": "InvalidRouteTableID.NotFound",
    "GroupId": "InvalidGroup.NotFound",
    "AllocationId": "InvalidAllocationID.NotFound",
}


class Lagging(Behaviour):
    """EC2, IAM and KMS show new objects late: reads return the earlier state `lag` times."""

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self.young: dict[str, int] = {}
        self.known: set[str] = set()
        self.hidden = 0
        self._lock = threading.Lock()

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.service not in {"ec2", "iam", "kms"}:
            return None
        with self._lock:
            mentioned = set(self._ids(call.parameters))
            if call.is_mutating:
                self._note(call, answer, mentioned)
                return None
            return self._from_before(call, answer, mentioned)

    def _note(self, call: Call, answer: dict[str, Any], mentioned: set[str]) -> None:
        self.known |= mentioned
        if call.operation.startswith(("Create", "Allocate")):
            named = call.parameters.get(_NAMED.get(call.name, ""))
            made = (set(self._ids(answer)) - self.known) | ({named} if named else set())
            self.young.update(dict.fromkeys(made, self.lag))
        self.known |= set(self._ids(answer))

    def _from_before(self, call: Call, answer: dict[str, Any], mentioned: set[str]) -> Answer | None:
        young = {id_ for id_, left in self.young.items() if left > 0}
        names = young & {leaf for leaf in leaves(call.parameters) if isinstance(leaf, str)}
        shown = young & {leaf for leaf in leaves(answer) if isinstance(leaf, str)}
        for id_ in names | shown:
            self.young[id_] -= 1
        self.hidden += len(names | shown)
        filtered = "Filters" in call.parameters
        if names and not filtered:
            return self._absent(call)
        return Answer(without(answer, shown)) if shown else None

    def _absent(self, call: Call) -> Answer:
        if call.service != "ec2":
            return Answer.error("NoSuchEntity" if call.service == "iam" else "NotFoundException", "not there", 404)
        codes = [_ABSENT[word.removesuffix("s")] for word in call.parameters if word.removesuffix("s") in _ABSENT]
        return Answer.error(codes[0], "does not exist")

    @staticmethod
    def _ids(value: Any) -> Iterator[str]:
        return (leaf for leaf in leaves(value) if isinstance(leaf, str) and _ID.fullmatch(leaf))


def without(value: Any, words: set[str]) -> Any:
    """Return an answer without list items that equal, or contain, one of `words`."""
    if isinstance(value, Mapping):
        return {key: without(item, words) for key, item in value.items() if key != "ResponseMetadata"}
    if isinstance(value, list):
        return [without(item, words) for item in value if words.isdisjoint(map(str, leaves(item)))]
    return value


@pytest.mark.parametrize("lag", [1, 3])
def test_what_was_made_does_not_show_at_once(lab: Lab, lag: int) -> None:
    lab.wire.behaviour = Lagging(lag)

    assert_as_on_a_good_day(lab, foundation(lab.emulator))
    assert lab.wire.behaviour.hidden > 10 * lag


@pytest.mark.parametrize("lag", [2])
def test_what_was_made_does_not_show_and_its_answer_was_lost(lab: Lab, lag: int) -> None:
    """The most difficult case: the search for the object of a lost create starts before it is visible."""

    class Both(Lagging):
        def __init__(self) -> None:
            super().__init__(lag)
            self.once = Once(broken, "after")

        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            found = super().after(call, answer)
            lost = self.once.after(call, answer) if call.is_mutating else None
            return lost or found

    lab.wire.behaviour = Both()
    assert_as_on_a_good_day(lab, foundation(lab.emulator))


class Refusing(Behaviour):
    """Refuses an operation, permanently or a number of times."""

    def __init__(self, name: str, answer: Answer, times: int = 10**6) -> None:
        self.name, self.answer, self.times = name, answer, times

    def before(self, call: Call) -> Answer | None:
        if call.name != self.name or self.times <= 0:
            return None
        self.times -= 1
        return self.answer


def test_a_role_that_cannot_be_assumed_yet_is_waited_for(lab: Lab) -> None:
    message = "Service is unable to assume provided role. Please verify role's TrustPolicy"
    lab.wire.behaviour = Refusing("glue:CreateCrawler", Answer.error("InvalidInputException", message), 5)

    assert_as_on_a_good_day(lab, foundation(lab.emulator))


def test_what_fails_stops_what_needs_it_and_nothing_else(lab: Lab) -> None:
    described = foundation(lab.emulator)
    lab.wire.behaviour = Refusing("kms:CreateKey", Answer.error("LimitExceededException", "too many keys"))

    report = lab.run(described).report
    outcomes = {result.address: result.outcome for result in report.results}
    stopped = {
        "secretsmanager_secret.database",
        "s3_bucket.bronze",
        "iam_policy.read",
        "iam_role.crawler",
        "glue_crawler.bronze",
    }
    assert outcomes.pop("kms_key.data") == "failed"
    assert {address for address, outcome in outcomes.items() if outcome == "skipped"} == stopped
    assert {outcome for address, outcome in outcomes.items() if address not in stopped} == {"done"}
    failed = report.result("kms_key.data")
    assert failed.message == "kms:CreateKey: LimitExceededException: too many keys"
    assert failed.api_calls >= 1
    assert report.result("glue_crawler.bronze").message == "kms_key.data failed"

    lab.wire.behaviour = Behaviour()
    ran = lab.run(described)
    assert {node.address for node in ran.plan.nodes if node.action == "create"} == {"kms_key.data", *stopped}
    assert picture(lab.emulator) == good_day(lab.emulator.server)[0]


def test_a_service_that_is_down_for_good_ends_in_an_error_and_not_in_a_hang(lab: Lab) -> None:
    lab.wire.behaviour = Refusing("ec2:CreateVpc", Answer.error("Unavailable", "The server is overloaded", 503))

    report = lab.run({"vpc.main": {"cidr_block": "10.0.0.0/16"}}).report
    assert report.result("vpc.main").message.startswith("ec2:CreateVpc: Unavailable: The server is overloaded")
    assert [call.name for call in lab.wire.calls].count("ec2:CreateVpc") == 9
    assert not [line for line in picture(lab.emulator) if line.startswith("vpc ")]
