# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "60 min 00 s"),
    ],
)
def test_a_duration_reads_as_a_person_writes_it(seconds: float, text: str) -> None:
    assert progress.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")],
)
def test_a_long_list_of_names_is_cut(names: list[str], text: str) -> None:
    assert progress.enumeration(names, most=2) == text


@pytest.mark.parametrize(
    "result",
    [
        {"censored": "the output has been hidden", "changed": True},
        {"changed": True},
        {"changed": True, "started": [], "diff": {"before": "", "after": "x"}},
        {"changed": True, "created": [{"name": "a mapping is not a name"}]},
        {"changed": True, "diff": [None, "prepared"], "path": 7},
    ],
    ids=["censored", "nothing said", "nothing named", "no names", "odd types"],
)
def test_a_result_that_names_nothing_shows_nothing(result: dict[str, Any]) -> None:
    assert progress.changes(result) == []


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        ({"started": ["api", "worker"], "restarted": ["database"]}, ["started: api, worker", "restarted: database"]),
        ({"diff": {"before_header": "/etc/a", "before": "", "after": ""}, "path": "/etc/b"}, ["/etc/a"]),
        (
            {"diff": [{"after_header": "/etc/a (content)"}, {"after_header": "/etc/a"}, {"after_header": "/b"}]},
            ["/etc/a, /b"],
        ),
        ({"dest": "/etc/a", "path": "/etc/b"}, ["/etc/a"]),
        ({"name": ["tar", "gzip"]}, ["tar, gzip"]),
    ],
    ids=["named changes", "diff before path", "several diffs", "destination first", "list of names"],
)
def test_a_change_says_what_it_changed(result: dict[str, Any], lines: list[str]) -> None:
    assert progress.changes(result) == lines


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ({"a": 1}, None),
        ([], None),
        (["a", 1], None),
        (7, None),
        ("one\ntwo", ["one", "two"]),
        (["one", "", "two\nthree"], ["one", "", "two", "three"]),
    ],
)
def test_only_text_is_shown_as_text(message: object, lines: list[str] | None) -> None:
    assert progress.message_lines(message) == lines


def test_a_line_that_is_too_long_keeps_its_duration_apart() -> None:
    assert progress.aligned("x" * 50, "1 s", 20) == f"{'x' * 50}  1 s"


def test_columns_decide_where_the_right_side_stands() -> None:
    assert progress.aligned("日本", "1 s", 20, left_width=4) == f"日本{' ' * 13}1 s"
