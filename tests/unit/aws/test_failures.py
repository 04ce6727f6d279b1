# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure consists of its address, its cause and its remedy."""

from __future__ import annotations

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError, WaitError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.failures import failures
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.wording import Wording
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import Outcome, Report, Result
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.aws_wording import wording

PLAIN = Wording({}, {})
AGAIN = "correct the cause and run this again; completed changes are kept"
DENIED = CallError("ec2:CreateSubnet", "UnauthorizedOperation", "You are not authorized")


def result(address: str, error: BaseException | None = None, outcome: Outcome = "failed") -> Result:
    return Result(address, address.partition(".")[0], "create", outcome, message=str(error or ""), error=error)


def told(*results: Result, words: Wording = PLAIN, interrupted: bool = False) -> list[str]:
    return [str(item) for item in failures(Report(results, interrupted), words)]


def test_what_failed_for_the_same_cause_is_one_line() -> None:
    refused = [result(f"subnet.{number}", DENIED) for number in range(8)]
    limit = result("vpc.main", CallError("ec2:CreateVpc", "VpcLimitExceeded", "The limit is 5"))

    first, second = told(limit, *refused, result("subnet.9", outcome="skipped"))

    assert first == f"cannot create vpc.main: ec2:CreateVpc: VpcLimitExceeded: The limit is 5; {AGAIN}"
    assert second.startswith(
        "cannot create subnet.0, subnet.1, subnet.2, subnet.3, subnet.4, subnet.5 and 2 more: ec2:"
    )
    assert second.endswith("You are not authorized; allow ec2:CreateSubnet to the identity that runs this")


def test_a_remedy_is_in_the_words_of_the_inventory() -> None:
    words = Wording({}, wording("deploy")["remedies"])
    error = WaitError("eks_cluster.main (lake) cannot become ready: no subnets")

    (line,) = told(result("eks_cluster.main", error), words=words)

    assert line.endswith("no subnets; correct the cause and run the playbook again; completed changes are kept")


def test_a_run_that_was_stopped_names_what_is_left() -> None:
    done, left = result("vpc.main", outcome="done"), result("subnet.a", outcome="cancelled")

    assert told(done, left, interrupted=True) == [f"cannot finish subnet.a: the run was stopped; {AGAIN}"]
