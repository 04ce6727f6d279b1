# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render a plan as text in the format of `terraform plan`, as a graph, and as a page. Without colours and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..shared.plan_signs import SIGNS
from .elements import element_lines, shown
from .execute import Report
from .plan import Action, Node, Plan
from .resource import Change

_VERBS: Mapping[Action, str] = {
    "create": "to create",
    "adopt": "to adopt",
    "update": "to update",
    "replace": "to replace",
    "delete": "to delete",
    "none": "unchanged",
}
# Fill and line of a node in the graph: green, blue, yellow, orange, red, grey.
_COLOURS: Mapping[Action, str] = {
    "create": "fill:#d9f2d9,stroke:#2e7d32",
    "adopt": "fill:#d6e8fa,stroke:#1565c0",
    "update": "fill:#fff6cc,stroke:#b58900",
    "replace": "fill:#ffe3cc,stroke:#d35400",
    "delete": "fill:#fadbd8,stroke:#c0392b",
    "none": "fill:#f4f4f4,stroke:#9e9e9e",
}


def text(plan: Plan, *, unchanged: bool = False) -> str:
    """Return the plan as text: one line per resource, its changes below, the summary at the end."""
    lines = [f"Plan for stack {plan.stack} in {plan.environment} (state {plan.state})", ""]
    for node in plan.nodes:
        if unchanged or node.action != "none":
            lines += [line(node), *(f"        {part}" for change in node.changes for part in change_lines(change))]
    if lines[-1]:
        lines.append("")
    return "\n".join([*lines, summary(plan), ""])


def line(node: Node) -> str:
    """Return one resource as one line: sign, address, action and reason."""
    words = {"replace": "delete and create", "none": "no change"}.get(node.action, node.action)
    if node.create_first:
        words = "create replacement, then delete"
    forced = f"forced by {', '.join(node.forced_by)}" if node.forced_by else ""
    why = "; ".join(part for part in (forced, node.reason) if part)
    return f"{SIGNS[node.action]:>5} {node.address}  {words}{f' ({why})' if why else ''}"


def change_lines(change: Change) -> list[str]:
    """Return one change as lines: one for a value, one for each element of a list that was added, removed or moved."""
    mark = "  # forces replacement" if change.forces_replacement else ""
    if change.before is None:
        return [f"{change.path} = {shown(change.after)}{mark}"]
    elements = list(element_lines(change.path, change.before, change.after))
    if not elements:
        return [f"{change.path}: {shown(change.before)} -> {shown(change.after)}{mark}"]
    return [f"{change.path}:{mark}", *(f"  {element}" for element in elements)]


def summary(plan: Plan) -> str:
    """Return the numbers of planned actions in one line."""
    if not plan.changed:
        count = len(plan.nodes)
        return f"No changes: {count} resource{'' if count == 1 else 's'} as described."
    counts = plan.counts
    parts = [f"{counts[action]} {verb}" for action, verb in _VERBS.items() if counts[action]]
    return f"Plan: {', '.join(parts)}."


def report_text(report: Report) -> str:
    """Return the results of a plan: one line per resource that is not unchanged, then the counts."""
    lines = [
        f"{result.outcome:>11} {result.address}  {result.action}, {result.duration_s:.1f} s,"
        f" {result.api_calls} API call{'' if result.api_calls == 1 else 's'}"
        + (f": {result.message}" if result.message else "")
        for result in report.results
        if result.outcome != "unchanged"
    ]
    outcomes = [result.outcome for result in report.results]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(sorted(outcomes)))
    stopped = "Stopped before the end: " if report.interrupted else ""
    return "\n".join([*lines, "", f"{stopped}{counts or 'nothing to do'}.", ""])


def mermaid(plan: Plan) -> str:
    """Return the graph of a plan in Mermaid's language, with an arrow from each resource to its dependencies."""
    ids = {node.address: f"n{index}" for index, node in enumerate(plan.nodes)}
    lines = ["graph LR"]
    lines += [
        f'  {ids[node.address]}["{_quoted(f"{SIGNS[node.action].strip()} {node.address}".strip())}"]:::{node.action}'
        for node in plan.nodes
    ]
    lines += [f"  {ids[node.address]} --> {ids[need]}" for node in plan.nodes for need in node.needs if need in ids]
    used = {node.action for node in plan.nodes}
    lines += [f"  classDef {action} {colour}" for action, colour in _COLOURS.items() if action in used]
    return "\n".join(lines) + "\n"


def _quoted(label: str) -> str:
    return label.replace("#", "#35;").replace('"', "#quot;")


def graph_text(plan: Plan) -> str:
    """Return the graph of a plan as plain text: each resource with its dependencies."""
    return "".join(
        f"{SIGNS[node.action]:>3} {node.address}{' <- ' + ', '.join(node.needs) if node.needs else ''}\n"
        for node in plan.nodes
    )


def page(plan: Plan) -> str:
    """Return a Markdown page to review the plan: summary, table, changes and graph."""
    return "\n".join(_page_lines(plan)) + "\n"


def _page_lines(plan: Plan) -> Iterator[str]:
    yield from (f"# Plan for {plan.stack} in {plan.environment}", "", summary(plan), "")
    yield from (f"State `{plan.state}`, fingerprint `{plan.fingerprint}`.", "")
    yield from ("| action | resource | reason |", "|---|---|---|")
    for node in plan.nodes:
        if node.action != "none":
            forced = f"forced by {', '.join(node.forced_by)}" if node.forced_by else ""
            why = "; ".join(part for part in (forced, node.reason) if part)
            yield f"| {node.action} | `{node.address}` | {_cell(why)} |"
    yield from ("", "## Changes", "", _fence(text(plan)), "", "## Graph", "", f"```mermaid\n{mermaid(plan)}```")


def _cell(words: str) -> str:
    return words.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _fence(content: str) -> str:
    """Return a code block with a fence that is longer than any fence in its content."""
    longest = max((len(run) for run in re.findall("`+", content)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}text\n{content}{marks}"
