# SPDX-License-Identifier: GPL-3.0-or-later
"""The AWS benchmark covers every attribute, alternates the order, and compares its figures with the right limits."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.modules.aws_stack import ARGUMENT_SPEC
from tests.benchmarks.aws import __main__ as benchmark
from tests.benchmarks.aws.account import foundation, parameters
from tests.benchmarks.aws.edits import every
from tests.benchmarks.aws.edits.hand import Edit, merge
from tests.benchmarks.aws.growth import many
from tests.benchmarks.aws.process import Run, middle
from tests.benchmarks.process import RunError

LOGS: list[dict[str, Any]] = [
    {"kind": "log_group", "name": "main", "properties": {"name": "/logs", "retention_in_days": 30}}
]
OUTPUTS = {"log_group.main": {"id": "/logs", "arn": "arn:logs"}, "kms_key.data": {"arn": "arn:key"}}


def no_client(service: str) -> Any:
    raise AssertionError(f"{service} is called before an edit is made")


def test_an_attribute_that_nothing_edits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(every, "_EDITS", {})
    with pytest.raises(LookupError, match=r"log_group\.main retention_in_days"):
        every.every_edit(LOGS, OUTPUTS, no_client)


def test_every_managed_attribute_of_a_resource_is_edited() -> None:
    edited = {edit.path.partition(".")[0] for edit in every.every_edit(LOGS, OUTPUTS, no_client)}
    assert edited == {"retention_in_days", "kms_key_id", "deletion_protection_enabled", "tags"}


def test_what_cannot_be_edited_is_still_there_to_be_excused() -> None:
    described = {(item["kind"], path) for item in foundation() for path in every.managed(item)}
    assert set(every.UNCHANGEABLE) <= described


@pytest.mark.parametrize(
    ("path", "covered"),
    [("tags", True), ("tags.Owner", True), ("tags[0]", True), ("tagset", False), ("name", False)],
)
def test_an_edit_covers_its_attribute_and_what_lies_in_it(path: str, covered: bool) -> None:
    assert Edit("vpc.main", "tags").covers(path) is covered


def test_changes_of_an_answer_leave_the_rest_of_it() -> None:
    answer = {"config": {"public": True, "cidrs": ["a"]}, "name": "n"}
    merge(answer, {"config": {"cidrs": ["b"]}, "mode": "API"})
    assert answer == {"config": {"public": True, "cidrs": ["b"]}, "name": "n", "mode": "API"}


def test_frequent_programs_alternate_within_a_round() -> None:
    order: list[str] = []

    def program(name: str) -> Callable[[], Run]:
        def run() -> Run:
            order.append(name)
            return Run(1, 1, 1, 1)

        return run

    runs = benchmark.in_turns(
        {"slow": (program("slow"), 1), "a": (program("a"), 2), "b": (program("b"), 2)}, 2, order.append
    )
    assert [name for name in order if name in {"slow", "a", "b"}] == ["slow", "a", "b", "a", "b"] * 2
    assert {name: len(of_it) for name, of_it in runs.items()} == {"slow": 2, "a": 4, "b": 4}


def test_the_middle_of_runs_ignores_a_disturbed_one() -> None:
    assert middle([Run(1.0, 3.0, 10, 5), Run(9.0, 4.0, 90, 5), Run(2.0, 2.0, 20, 5)]) == Run(2.0, 3.0, 20, 5)


def test_a_playbook_that_tells_no_changes_has_failed() -> None:
    with pytest.raises(RunError, match="no number of changes"):
        assert Run(1, 1, 1, 1, "nothing to see").changed
    assert Run(1, 1, 1, 1, "localhost   : ok=3    changed=2    unreachable=0").changed == 2


def test_figures_beyond_their_limits_do_not_hold() -> None:
    slow = benchmark.figures(
        Run(10, 1, 1, 9), Run(1, 1, 1, 14), Run(1.4, 1, 1, 20), Run(1.7, 1, 1, 14), Run(1, 1, 1, 10), 82
    )
    assert [figure.name for figure in slow if not figure.holds] == [
        "playbook: faster than the peer's",
        "each resource: faster than the peer's",
        "read and diff: of bare describes",
        "read and diff: API calls of bare describes",
        "playbook: API calls of bare describes",
    ]
    fast = benchmark.figures(
        Run(40, 1, 1, 9), Run(2, 1, 1, 13), Run(5.2, 1, 1, 20), Run(1.5, 1, 1, 13), Run(1, 1, 1, 10), 82
    )
    assert all(figure.holds for figure in fast)


@pytest.mark.parametrize("state", ["present", "planned"])
def test_the_module_is_given_every_parameter_that_it_takes(state: str) -> None:
    account: Any = SimpleNamespace(key=("a", "b"), region="eu-central-1", url="http://127.0.0.1:1")
    given = parameters(account, LOGS, state)
    assert set(given) == set(ARGUMENT_SPEC)
    assert (given["state"], given["resources"][0]["name"]) == (state, "main")


def test_a_large_stack_has_as_many_resources_as_it_says_and_no_network_twice() -> None:
    resources = many(1000)
    networks = [item["properties"].get("cidr_block") for item in resources if item["kind"] == "subnet"]
    assert len({f"{item['kind']}.{item['name']}" for item in resources}) == 1000
    assert len(set(networks)) == len(networks) > 300
