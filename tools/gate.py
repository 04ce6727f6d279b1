# SPDX-License-Identifier: GPL-3.0-or-later
"""Run all steps of the gate concurrently, and fail at the end if any of them failed.

Each step is a target of the Makefile, so that ``make STEP`` repeats one alone; its log is ``.cache/gate/STEP.log``.
Steps that run tests leave a JUnit file behind, from which the closing line counts the tests of all steps; a step that
ran no test has failed, and so has a run that leaves processes behind. An interrupt stops every step.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tools.affected import affected_steps  # noqa: E402 - the program runs from any folder
from tools.steps import COUNTED, FAILURES_SHOWN, Outcome, Step, Steps  # noqa: E402

# Time limit of the whole gate on two cores.
GATE_BUDGET_S = 38 * 60.0
# Environments and programs are prepared before the steps that use them run concurrently.
PREPARE = Step("prepare", 180.0)
LINT_STEPS = (
    Step("lint-python", 15.0),
    Step("lint-types", 60.0),
    Step("lint-application", 60.0),
    Step("lint-yaml", 15.0),
    Step("lint-ansible", 120.0),
    Step("lint-specs", 15.0),
    Step("lint-manifests", 60.0),
    Step("lint-files", 15.0),
    Step("lint-words", 30.0),
    Step("lint-workflows", 15.0),
    Step("docs-check", 30.0),
    Step("lint-changelog", 15.0),
)
TEST_STEPS = (
    Step("unit", 120.0, tests=True),
    Step("application", 600.0, tests=True),
    Step("integration", 1320.0, tests=True, waits=True),
    Step("aws", 900.0, tests=True),
    Step("kube", 240.0, tests=True),
    Step("molecule", 420.0, tests=True, waits=True),
)
STEPS = {
    "lint": LINT_STEPS,
    "test": (*LINT_STEPS, Step("sanity", 360.0), *TEST_STEPS),
}


def summary(outcomes: Sequence[Outcome], leftovers: Sequence[str], took_s: float, missing: int) -> str:
    """Return failed tests with causes, a table of the steps, warnings, and a closing line as in pytest."""
    lines = [*_failures(outcomes), "", *map(_row, outcomes)]
    over = [one.step for one in outcomes if one.over_budget]
    lines += [f"warning: {step.name} exceeds its budget of {step.budget_s:.0f} s of CPU" for step in over]
    if took_s > GATE_BUDGET_S:
        lines.append(f"warning: the gate exceeds its budget of {GATE_BUDGET_S:.0f} s")
    lines += [f"error: a step left a process behind: {command}" for command in leftovers]
    failed_steps = [outcome.step.name for outcome in outcomes if outcome.problem]
    totals = {word: sum(outcome.tests.get(word, 0) for outcome in outcomes) for word in COUNTED}
    parts = [f"{number} {word}" for word, number in totals.items() if number]
    parts.append(f"{len(outcomes) - len(failed_steps)} of {len(outcomes) + missing} steps passed")
    if failed_steps:
        parts.append(f"failed: {' '.join(failed_steps)}")
    if missing:
        parts.append(f"{missing} not run")
    lines.append(f" {', '.join(parts)} in {took_s:.2f}s ".center(100, "="))
    return "\n".join(lines)


def _failures(outcomes: Sequence[Outcome]) -> list[str]:
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    lines = [f"failed: {name}\n{textwrap.indent(why, '    ')}" for name, why in failures]
    if len(lines) > FAILURES_SHOWN:
        lines[FAILURES_SHOWN:] = [f"and {len(lines) - FAILURES_SHOWN} more"]
    return ["", *lines] if lines else []


def _row(outcome: Outcome) -> str:
    tests = ", ".join(f"{outcome.tests[word]} {word}" for word in COUNTED if outcome.tests.get(word))
    verdict = f"FAILED ({outcome.problem})" if outcome.problem else "passed"
    ending = f" - {tests}" if tests else ""
    return f"{outcome.step.name:<18} {outcome.took_s:>7.1f} s  {outcome.cpu_s:>7.1f} s of CPU  {verdict}{ending}"


def run(steps: Sequence[Step]) -> int:
    """Prepare, run the steps, and print the summary. Return 0 only if all passed and no process is left."""
    # The steps are separate runs of make, not jobs of the one that started this program.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        os.environ.pop(name, None)
    started_s = time.monotonic()
    runner = Steps(slots=max(2, os.cpu_count() or 1))
    outcomes = runner.run([PREPARE])
    if not runner.interrupted and not outcomes[0].problem:
        outcomes += runner.run(steps)
    leftovers = runner.leftovers()
    missing = 1 + len(steps) - len(outcomes)
    print(summary(outcomes, leftovers, time.monotonic() - started_s, missing), flush=True)
    if runner.interrupted:
        return 130
    return int(bool(missing or leftovers or any(outcome.problem for outcome in outcomes)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the named group of steps, or with ``check`` what the change in the work tree affects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", choices=sorted([*STEPS, "check"]))
    parser.add_argument("--base", help="commit that `check` compares with (default: the fork from origin/main or main)")
    options = parser.parse_args(arguments)
    if options.group != "check":
        return run(STEPS[options.group])
    steps = affected_steps(REPOSITORY, STEPS["test"], options.base)
    if not steps:
        print("Nothing is affected.")
        return 0
    return run(steps)


if __name__ == "__main__":
    sys.exit(main())
