# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed after any of its calls, and the next run: the result equals that of one undisturbed run.

Reading calls change no state, so a run is killed before the first mutating call and after each of them. The gate tests
a sample of these calls, `make sweep` all of them. Concurrent calls in other threads are interrupted before or after
their effect, at random.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.render import text
from tests.integration.aws.emulator import Emulator, Server
from tests.integration.aws.foundation import FOUNDATION, allow, foundation, picture
from tests.integration.aws.lab import Described, Lab, failures
from tests.integration.aws.wire import Answer, Behaviour, Call
from tests.sweep import choose

SHARDS = 4
# A sweep kills a run after each call.
RUNS = 24
# Number of mutating calls before a run is killed. Runs on moto are slow; the calls at which they end differ.
PACES = {"ministack": 1, "moto": 4}
_MOST_RUNS = 150


class Killed(BaseException):
    """The process is dead: its later calls have no effect."""


class Killing(Behaviour):
    """Kills the run after a number of mutating calls took effect."""

    def __init__(self, emulator: Emulator, after: int) -> None:
        self.emulator, self.left, self.dead = emulator, after, False
        self._lock = threading.Lock()

    def before(self, call: Call) -> Answer | None:
        self.dead = self.dead or (self.left <= 0 and call.is_mutating)
        if self.dead:
            raise Killed(str(call))
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        tag_as_created(self.emulator, call)
        with self._lock:
            self.left -= call.is_mutating
            self.dead = self.dead or (self.left <= 0 and call.is_mutating)
        if self.dead:
            raise Killed(str(call))
        return None


def tag_as_created(emulator: Emulator, call: Call) -> None:
    """Tag crawlers and buckets right after their creation, as AWS does and an emulator does not."""
    if call.name == "glue:CreateCrawler":
        arn = f"arn:aws:glue:{emulator.region}:{emulator.account_id}:crawler/{call.parameters['Name']}"
        emulator.client("glue").tag_resource(ResourceArn=arn, TagsToAdd=call.parameters["Tags"])
    if call.name == "s3:CreateBucket":
        tags = call.parameters["CreateBucketConfiguration"]["Tags"]
        emulator.client("s3").put_bucket_tagging(Bucket=call.parameters["Bucket"], Tagging={"TagSet": tags})


@functools.cache
def undisturbed(server: Server) -> tuple[int, list[str]]:
    """Return the number of mutating calls of an undisturbed run, and the resulting state."""
    lab = Lab(server.account())
    described = foundation(lab.emulator)
    lab.apply(described)
    calls = len(lab.wire.mutating)
    # This holds for every state with an equal picture.
    lab.assert_unchanged(described)
    return calls, picture(lab.emulator)


@pytest.mark.emulators("ministack")  # A run on moto takes three times as long; the next test runs on both.
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_deployment_that_is_killed_after_a_call_is_completed_by_the_next(lab: Lab, shard: int) -> None:
    calls, built = undisturbed(lab.emulator.server)
    described = foundation(lab.emulator)
    for number in choose(range(calls + 1), RUNS)[shard::SHARDS]:
        lab.move()
        lab.wire.behaviour = Killing(lab.emulator, number)
        assert not lab.run(described).report.complete
        lab.wire.behaviour = Behaviour()

        ran = lab.run(described)
        assert ran.report.complete, f"after call {number}: {failures(ran.report)}"
        assert picture(lab.emulator) == built, f"after call {number}"


def until_done(lab: Lab, described: Described, **options: Any) -> int:
    """Return the number of runs to completion, where each run is killed after a few mutating calls."""
    # One call at a time, so that no other call is in progress when a run is killed.
    lab.parallelism = 1
    for number in range(_MOST_RUNS):
        lab.wire.behaviour = Killing(lab.emulator, PACES[lab.emulator.name])
        ran = lab.run(described, unprotect=tuple(described), **options)
        lab.wire.behaviour = Behaviour()
        if not ran.plan.changed:
            lab.parallelism = 16
            return number
    raise AssertionError(f"it does not come to an end: {text(lab.plan(described, **options))}")


def test_runs_that_are_all_killed_get_there_together(lab: Lab) -> None:
    described = foundation(lab.emulator)
    pace = PACES[lab.emulator.name]
    assert until_done(lab, described) > len(described) / pace
    assert picture(lab.emulator) == undisturbed(lab.emulator.server)[1]

    changed = {**described, **CHANGES}
    if lab.emulator.name == "moto":
        # It cannot update a crawler.
        changed["glue_crawler.bronze"] = described["glue_crawler.bronze"]
    assert until_done(lab, changed) > len(CHANGES) / pace
    killed = picture(lab.emulator)
    lab.move()
    lab.apply(described)
    lab.apply(changed, unprotect=tuple(changed))
    assert killed == picture(lab.emulator)

    lab.destroy(changed)
    left = picture(lab.emulator)
    lab.move()
    lab.apply(changed)
    until_done(lab, changed, state="absent")
    assert picture(lab.emulator) == left


# Updates with several calls, a replacement with all its dependents, and a secret that is created again.
CHANGES: dict[str, dict[str, Any]] = {
    "vpc.main": {**FOUNDATION["vpc.main"], "enable_dns_hostnames": False, "tags": {"Owner": "data"}},
    "subnet.private-a": {**FOUNDATION["subnet.private-a"], "cidr_block": "10.0.20.0/24"},
    "security_group.worker": {**FOUNDATION["security_group.worker"], "description": "another one", "egress": []},
    "iam_role.crawler": {**FOUNDATION["iam_role.crawler"], "inline_policies": {"glue": allow("glue:GetTable", "*")}},
    "iam_policy.read": {**FOUNDATION["iam_policy.read"], "policy": allow("s3:ListBucket", "*")},
    "s3_bucket.bronze": {**FOUNDATION["s3_bucket.bronze"], "encryption": {"sse_algorithm": "AES256"}},
    "log_group.crawler": {**FOUNDATION["log_group.crawler"], "retention_in_days": 90, "tags": {"Owner": "data"}},
    "glue_crawler.bronze": {**FOUNDATION["glue_crawler.bronze"], "schedule": "cron(0 3 * * ? *)"},
    "kms_key.data": {**FOUNDATION["kms_key.data"], "description": "of the lakehouse and its guests"},
}
