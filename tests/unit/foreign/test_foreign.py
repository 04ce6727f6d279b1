# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign resources: classes, patterns and removals of a run."""

from __future__ import annotations

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.foreign import (
    ADDED,
    BEHAVIOUR,
    BY_HAND,
    GRANTS,
    REMOVABLE,
    Finding,
    Kind,
    Report,
    is_expected,
    judge,
    listing,
    pattern_problem,
    printable,
    removal_diff,
)

ROLE = Kind("role", GRANTS, "roles")
POLICY = Kind("bucket-policy", GRANTS, "policies")
SETTING = Kind("role-setting", BEHAVIOUR)
DATABASE = Kind("database", ADDED)
EVIL = ROLE.finding("evil", "logs in, superuser")
PUBLIC = POLICY.finding("bronze", "everybody: s3:GetObject")
SLOW = SETTING.finding("lakehouse/work_mem")
REPORTS = DATABASE.finding("reports")


@pytest.mark.parametrize(
    "arguments",
    [
        ("a/b", ADDED),
        ("", ADDED),
        ("a", "other"),
        ("a", GRANTS),
        ("a", GRANTS, "x"),
        ("a", ADDED, "roles"),
        ("a", BEHAVIOUR, BY_HAND),
    ],
)
def test_a_kind_that_contradicts_itself_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="cannot"):
        Kind(*arguments)


def test_findings_are_sorted_by_class_and_what_was_not_asked_for_is_not_removed() -> None:
    report = judge([REPORTS, SLOW, EVIL, PUBLIC, EVIL])
    assert report == Report(grants=(PUBLIC, EVIL), behaviour=(SLOW,), added=(REPORTS,))
    assert report.drift == (PUBLIC, EVIL, SLOW)
    assert report.remaining == (PUBLIC, EVIL)
    assert removal_diff(report) == {}


@pytest.mark.parametrize("group", REMOVABLE)
def test_a_run_removes_the_chosen_group_and_nothing_else(group: str) -> None:
    findings = [Kind(f"kind-{each}", GRANTS, each).finding("x") for each in REMOVABLE]
    report = judge([*findings, SLOW, REPORTS], remove=[group])
    assert [finding.group for finding in report.removing] == [group]
    assert len(report.remaining) == len(REMOVABLE) - 1
    assert removal_diff(report)["before"] == f"kind-{group}/x\n"


def test_what_is_removed_by_hand_alone_stays_whatever_a_run_removes() -> None:
    key = Kind("ssh-key", GRANTS, BY_HAND).finding("lake/SHA256:x", "alice")
    report = judge([key], remove=REMOVABLE)
    assert (report.grants, report.removing) == ((key,), ())
    assert listing([key]) == ["ssh-key/lake/SHA256:x: alice [remove it manually]"]


def test_what_is_expected_is_neither_drift_nor_removed() -> None:
    report = judge([EVIL, PUBLIC, SLOW], ["role/ev*", "role-setting/lakehouse/*"], REMOVABLE)
    assert report.drift == report.removing == (PUBLIC,)
    assert report.expected == (EVIL, SLOW)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("role/evil", True),
        ("role/*", True),
        ("ro*/evi[kl]", True),
        ("role/Evil", False),
        ("role/evil2", False),
        ("evil", False),
    ],
)
def test_a_pattern_matches_the_whole_address(pattern: str, matches: bool) -> None:
    assert is_expected(EVIL, [pattern]) is matches


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [("role/evil", ""), ("role/*", ""), ("evil", "KIND/NAME"), ("role/", "KIND/NAME"), ("*/*", "does not name a kind")],
)
def test_a_pattern_names_a_kind_and_a_name(pattern: str, problem: str) -> None:
    assert problem in pattern_problem(pattern)
    assert bool(problem) == bool(pattern_problem(pattern))


def test_a_listing_names_what_removes_what_grants_access() -> None:
    assert listing([REPORTS, EVIL]) == [
        "database/reports",
        "role/evil: logs in, superuser [lakehouse_remove_foreign: roles]",
    ]


def test_a_name_cannot_forge_a_line_or_steer_a_terminal() -> None:
    assert printable("a\n\x1b[2Jb\u202eé") == "a\\n\\x1b[2Jb\\u202eé"
    assert len(listing([ROLE.finding("x\nThe machine is as described.")])[0].splitlines()) == 1


def test_a_finding_survives_json() -> None:
    assert Finding.from_dict(EVIL.as_dict()) == EVIL
    assert judge([EVIL]).as_dict()["grants"][0]["address"] == "role/evil"
