# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans in their readable form."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine import elements, render
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import execute
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Node, Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Options, propose
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Change
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import Secret, Unknown
from tests.unit.engine.cloud import STACK, Cloud, kinds, resource


def moved() -> tuple[Plan, Cloud]:
    cloud = Cloud()
    before = [resource("free.a"), resource("fixed.b", settings={"k": "v"}), resource("free.c"), resource("free.d")]
    execute(propose(STACK, kinds(cloud), before))
    after = [
        resource("free.a", shape="new", password="hush"),
        resource("fixed.b", links=["${free.a.id}"], settings={"k": "w"}),
        resource("free.c"),
        resource("fixed.e", label="by ${free.a.id}"),
    ]
    return propose(STACK, kinds(cloud), after, options=Options(prune=True)).plan, cloud


def test_a_plan_reads_line_by_line() -> None:
    plan, _cloud = moved()
    assert (
        render.text(plan)
        == """\
Plan for stack lake in development (state present)

  -/+ free.a  create replacement, then delete (forced by shape)
        shape = "new"  # forces replacement
        password = (sensitive)
    ~ fixed.b  update
        links = ["(known after apply)"]
        settings.k: "v" -> "w"
    + fixed.e  create
        name = "e"
        label = "by (known after apply)"
    - free.d  delete (no longer described)

Plan: 1 to create, 1 to update, 1 to replace, 1 to delete, 1 unchanged.
"""
    )


def test_a_plan_without_changes_says_so_in_one_line() -> None:
    cloud = Cloud()
    execute(propose(STACK, kinds(cloud), [resource("free.a")]))
    plan = propose(STACK, kinds(cloud), [resource("free.a")]).plan
    assert render.summary(plan) == "No changes: 1 resource as described."
    assert "free.a" not in render.text(plan)
    assert "      free.a  no change" in render.text(plan, unchanged=True)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "(none)"),
        ("x\ny\x1b[31m", '"x\\ny\\u001b[31m"'),
        (True, "true"),
        (Unknown(), "(known after apply)"),
        (Unknown("a/(known after apply)"), '"a/(known after apply)"'),
        (Secret("v", "hush"), "(sensitive)"),
        ({"b": Secret("v", "hush"), "a": [Unknown()]}, '{"a": ["(known after apply)"], "b": "(sensitive)"}'),
        ("é", '"é"'),
        ("x" * 1000, f'"{"x" * 399}... (1002 characters)'),
    ],
)
def test_values_are_shown_as_json_and_never_secret(value: Any, shown: str) -> None:
    assert elements.shown(value) == shown


def lines(before: Any, after: Any, *, forces_replacement: bool = False) -> list[str]:
    return render.change_lines(Change("rules", before, after, forces_replacement))


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (["a", "b"], ["a", "b", "c"], ['+ "c"']),
        (["a", "b", "c"], ["a", "c"], ['- "b"']),
        (["a", "b", "c"], ["c", "a", "b"], ['> "c"  (moved from 3 to 1)']),
        (["a"] * 2, ["a"], ['- "a"']),
        ([{"port": 1}, {"port": 2}], [{"port": 1}, {"port": 3}], ['- {"port": 2}', '+ {"port": 3}']),
        (
            [Secret("1", "hush")],
            [Secret("2", "hash"), Unknown()],
            ["- (sensitive)", "+ (sensitive)", "+ (known after apply)"],
        ),
        (
            {"Version": "1", "Statement": [{"Sid": "A"}, {"Sid": "B"}]},
            {"Version": "2", "Statement": [{"Sid": "A"}]},
            ["rules.Statement:", '  - {"Sid": "B"}', 'rules.Version: "1" -> "2"'],
        ),
    ],
)
def test_a_changed_list_is_shown_element_by_element(before: Any, after: Any, shown: list[str]) -> None:
    assert lines(before, after) == ["rules:", *(f"  {line}" for line in shown)]


def test_a_list_that_forces_a_replacement_says_so_once() -> None:
    assert lines(["a"], ["b"], forces_replacement=True) == ["rules:  # forces replacement", '  - "a"', '  + "b"']


def test_a_changed_value_is_one_line() -> None:
    assert lines({"k": "v"}, {"k": "w"}) == ['rules: {"k": "v"} -> {"k": "w"}']
    assert lines(["a"], None) == ['rules: ["a"] -> (none)']
    assert lines(None, ["a"]) == ['rules = ["a"]']


def test_a_graph_has_every_resource_and_an_arrow_to_each_need() -> None:
    plan, _cloud = moved()
    drawn = render.mermaid(plan)
    ids = {line.split('"')[1]: line.split("[")[0].strip() for line in drawn.splitlines() if "[" in line}
    assert set(ids) == {"-/+ free.a", "~ fixed.b", "free.c", "+ fixed.e", "- free.d"}
    assert f"{ids['~ fixed.b']} --> {ids['-/+ free.a']}" in drawn
    assert "classDef replace" in drawn
    assert "classDef adopt" not in drawn
    assert "  ~ fixed.b <- free.a\n" in render.graph_text(plan)


def test_labels_cannot_break_out_of_the_graph_or_the_page() -> None:
    node = Node('free.a#"x', "free", "delete", reason="a | b <script>", changes=(Change("p", "````", None),))
    page = render.page(Plan("lake", "development", "present", (node,)))
    assert 'free.a#35;#quot;x"]:::delete' in page
    assert "a \\| b &lt;script>" in page
    assert "`````text" in page


def test_a_page_holds_summary_fingerprint_changes_and_graph() -> None:
    plan, _cloud = moved()
    page = render.page(plan)
    assert page.startswith("# Plan for lake in development\n\nPlan: 1 to create")
    assert plan.fingerprint in page
    assert "| replace | `free.a` | forced by shape |" in page
    assert "```mermaid\ngraph LR\n" in page
    assert "hush" not in page


def test_a_report_names_what_happened_and_what_failed() -> None:
    cloud = Cloud(broken={"create free.a"})
    pair = [resource("free.a"), resource("free.b", links=["${free.a.id}"]), resource("free.c")]
    lines = render.report_text(execute(propose(STACK, kinds(cloud), pair))).splitlines()
    assert lines[0].startswith("     failed free.a  create, 0.0 s, 1 API call: create free.a is broken")
    assert any(line.startswith("    skipped free.b  create, 0.0 s, 0 API calls: free.a failed") for line in lines)
    assert lines[-1] == "1 done, 1 failed, 1 skipped."
