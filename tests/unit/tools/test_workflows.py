# SPDX-License-Identifier: GPL-3.0-or-later
"""Permissions of the code host's workflows: the required minimum, with pinned code."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
_PINNED = re.compile(r"uses: (?:\./\S+|[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$")


def _content(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def _jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in _content(path)["jobs"].items():
            yield f"{path.name}: {name}", job


JOBS = dict(_jobs())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_and_says_its_version(path: Path) -> None:
    used = [line.strip().removeprefix("- ") for line in path.read_text("utf-8").splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not _PINNED.match(line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_grants_nothing_and_knows_no_stored_secret(path: Path) -> None:
    assert _content(path)["permissions"] == {}
    assert "secrets." not in path.read_text("utf-8")


@pytest.mark.parametrize("job", JOBS)
def test_a_job_may_read_the_code_and_ask_for_a_token_at_most(job: str) -> None:
    assert JOBS[job]["permissions"].items() <= {"contents": "read", "id-token": "write"}.items()


@pytest.mark.parametrize("job", [name for name, job in JOBS.items() if "steps" in job])
def test_the_checkout_leaves_no_credentials_and_no_job_runs_for_ever(job: str) -> None:
    (checkout,) = [step for step in JOBS[job]["steps"] if "actions/checkout" in step.get("uses", "")]
    assert checkout["with"] == {"persist-credentials": False}
    assert JOBS[job]["timeout-minutes"] <= 120


def test_a_plan_is_applied_on_main_alone_after_its_environment_let_it() -> None:
    apply = JOBS["environment.yml: apply"]
    assert apply["needs"] == "plan"
    assert "github.ref == 'refs/heads/main'" in apply["if"]
    assert "github.event_name == 'push'" in apply["if"]
    assert apply["environment"] == "${{ inputs.environment }}"


def test_exactly_the_plan_that_was_made_is_applied() -> None:
    plan, apply = JOBS["environment.yml: plan"], JOBS["environment.yml: apply"]
    (kept,) = [step for step in plan["steps"] if "upload-artifact" in step.get("uses", "")]
    (taken,) = [step for step in apply["steps"] if "download-artifact" in step.get("uses", "")]
    assert kept["with"]["name"] == taken["with"]["name"]
    assert "lakehouse_plan=$RUNNER_TEMP/plan.json" in apply["steps"][-1]["run"]


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("runs-on: ubuntu-24.04\n    steps:\n      - run: echo ${{ github.nothing }}", "nothing"),
        ("runs-on: ubuntu-24.04\n    steps:\n      - run: cat $unquoted", "SC2086"),
    ],
)
def test_the_linter_reads_expressions_and_commands(tmp_path: Path, broken: str, complaint: str) -> None:
    workflow = tmp_path / "broken.yml"
    workflow.write_text(f"on: push\njobs:\n  job:\n    {broken}\n", "utf-8")
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [programs / "actionlint", "-shellcheck", programs / "shellcheck", workflow],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert complaint in done.stdout
