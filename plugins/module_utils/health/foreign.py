# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge resources that grant access or change behaviour and are not described."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..host.installed import examine as examine_software
from ..host.logins import foreign_logins, own_account
from ..shared.commands import run_command
from ..shared.foreign import BY_HAND, REMOVE_OPTION, Finding, Report, judge
from ..shared.foreign_kinds import classified
from .answers import NoAnswerError
from .checks import MalformedAnswerError
from .report import DEGRADED, HEALTHY, Check

LAYER = "description"
# The job starts a Python process that loads the clients of every store.
JOB_TIMEOUT_S = 60.0
SHOWN = 3


def read_job(job: Sequence[str]) -> Mapping[str, Any]:
    """Return the report of the job `bootstrap`, run without changes. Raises `NoAnswerError` when it fails."""
    try:
        done = run_command([*job, "--check", "--wait-s=3"], JOB_TIMEOUT_S, dict(os.environ))
    except (OSError, TimeoutError) as error:
        raise NoAnswerError(f"the job bootstrap cannot be run: {error}") from None
    document = next((line for line in done.output.splitlines() if line.startswith('{"changed"')), "")
    if not document:
        raise NoAnswerError(f"the job bootstrap ended with status {done.status} and reported nothing")
    said: Mapping[str, Any] = json.loads(document)
    return said


def judge_job(said: Mapping[str, Any], expected: Sequence[str]) -> list[Check]:
    """Return one check for each resource that grants access, and one for all that a deployment would repair."""
    try:
        report = judge([finding for _each, finding in classified(said["foreign"])], expected)
        repairs = [*(str(what) for what in said["changed"]), *map(str, report.behaviour)]
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedAnswerError(f"the job bootstrap returns an invalid report: {error}") from error
    return [*judge_access(report), _repairs("stores", repairs)]


def judge_logins(home: str, expected: Sequence[str]) -> list[Check]:
    """Return one check for each undescribed way to act as the user of this process, or one for all."""
    found = classified(foreign_logins(own_account(Path(home))))
    return judge_access(judge([finding for _each, finding in found], expected), "logins")


def judge_access(report: Report, subject: str = "access") -> list[Check]:
    """Return one check for each resource that grants access, or a single one where none does."""
    checks = [
        Check(
            LAYER,
            finding.address,
            DEGRADED,
            f"is not described and grants access: {finding.detail or 'see its definition'}",
            _removal(finding),
        )
        for finding in report.grants
    ]
    return checks or [Check(LAYER, subject, HEALTHY, "only described resources grant access")]


def _removal(finding: Finding) -> str:
    return (
        "remove it manually"
        if finding.group == BY_HAND
        else f"remove it: deploy with {REMOVE_OPTION}: [{finding.group}]"
    )


def judge_software(folder: str, sources: Mapping[str, str]) -> Check:
    """Return whether the installed software is unmodified."""
    damage = examine_software(Path(folder), sources)
    return _repairs("software", [f"{path} {found}" for path, found in damage.paths.items()])


def _repairs(subject: str, repairs: Sequence[str]) -> Check:
    if not repairs:
        return Check(LAYER, subject, HEALTHY, "as described")
    more = f" and {len(repairs) - SHOWN} more" if len(repairs) > SHOWN else ""
    return Check(
        LAYER, subject, DEGRADED, f"differs: {', '.join(repairs[:SHOWN])}{more}", "deploy again, which repairs it"
    )
