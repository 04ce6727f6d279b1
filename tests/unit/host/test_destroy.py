# SPDX-License-Identifier: GPL-3.0-or-later
"""Report of a destroy about the folder and the user: removals, kept files, and reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

VARIABLES = Path(__file__).parents[3] / "roles/host/vars/main.yml"
PARTS = ("left", "is_removed", "user_is_busy", "unless_foreign", "destroyed_folder", "destroyed_user", "destroyed")
"""Variables of the role, each after those that it reads."""
HOME = "/srv/lakehouse"
NOTES = f"{HOME}/notes.txt"
REMOVED = f"{HOME} is removed, with all data and secrets."
EMPTIED = f"All that the collection created in {HOME} is removed, with data and secrets. The folder stays, since it"
KEPT = f"The software with its configuration is removed from {HOME}. Data and secrets stay;"


def said(*left: str, busy: str = "", **changed: Any) -> list[str]:
    known: dict[str, Any] = {
        "host_home": HOME,
        "host_user": "lake",
        "host_checks_only": False,
        "host_destroy_data": True,
        "host_made_home": True,
        "host_made_user": True,
        "_host_files_left": {"files": [{"path": path} for path in left]},
        "_host_user_removed": {"msg": busy} if busy else {},
        **changed,
    }
    templates = yaml.safe_load(VARIABLES.read_text("utf-8"))
    for name in PARTS:
        known[f"_host_{name}"] = NativeEnvironment().from_string(templates[f"_host_{name}"]).render(known)
    found: list[str] = known["_host_destroyed"]
    return found


def test_a_folder_with_files_of_others_is_not_said_to_be_removed() -> None:
    assert said(f"{HOME}/z", NOTES) == [
        f"{EMPTIED} holds other files: {NOTES}, {HOME}/z.",
        "User lake stays, since it owns the files that are left.",
    ]


def test_a_folder_that_held_nothing_else_is_removed_with_its_user() -> None:
    assert said() == [REMOVED, "User lake is removed."]


def test_data_and_secrets_stay_unless_they_are_to_be_removed() -> None:
    assert said(host_destroy_data=False) == [f"{KEPT} the next deployment continues with them."]


def test_a_check_says_what_would_be_removed_and_does_not_count_the_platforms_files() -> None:
    assert said(f"{HOME}/data", host_checks_only=True) == [
        f"{HOME} would be removed, with all data and secrets, unless it holds other files.",
        "User lake would be removed.",
    ]


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        (
            {"host_made_home": False, "host_made_user": False},
            [
                f"{EMPTIED} was there before the deployment.",
                "User lake stays, since it was there before the deployment.",
            ],
        ),
        (
            {"busy": "userdel: user lake is currently used by process 7"},
            [REMOVED, "User lake stays, since processes run as it."],
        ),
        ({"host_user": ""}, [REMOVED]),
    ],
)
def test_what_was_there_before_or_is_in_use_stays(changed: dict[str, Any], lines: list[str]) -> None:
    assert said(**changed) == lines
