# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of a job after serialization, and the lines that show its progress."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.jobs import task as job_task
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared import jobs
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.redact import Redactor
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import job_progress


def framed(document: Any, characters: int = 40) -> list[str]:
    """Return the lines of a large result, as the application writes them."""
    packed = zlib.compress(json.dumps(document).encode())
    text, digest = base64.b64encode(packed).decode(), hashlib.sha256(packed).hexdigest()
    parts = [text[start : start + characters] for start in range(0, len(text), characters)]
    return [
        json.dumps({"result_part": [number, len(parts)], "sha256": digest, "data": part})
        for number, part in enumerate(parts, start=1)
    ]


LARGE = {"rows": [{"id": number} for number in range(200)]}


def test_a_result_is_found_between_other_lines() -> None:
    assert jobs.result_in(["starting", '{"result": [1, {"a": null}]}', "end"]) == [1, {"a": None}]
    assert jobs.result_in(["starting", '{"other": 1}']) is None
    assert jobs.result_in(["x", *framed(LARGE), "y"]) == LARGE
    assert len(framed(LARGE)) > 5


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (framed(LARGE)[1:], "parts of it are in the log"),
        (framed(LARGE)[:-1], "parts of it are in the log"),
        ([*framed(LARGE)[:-1], framed([1])[0]], "parts of it are in the log"),
        (['{"result": [1'], "delimiter"),
        (
            [line.replace('"data": "e', '"data": "f') for line in framed(LARGE)],
            "digest",
        ),
    ],
)
def test_a_result_that_is_not_whole_is_an_error(lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jobs.result_in(lines)


def test_the_last_progress_counts_and_what_has_another_type_is_left_out() -> None:
    lines = [
        '{"progress": {"objects": [1, 4], "step": "first"}}',
        '{"progress": {"objects": [2, 4], "bytes": "many", "rate": -1, "left_s": true, "step": "a\\u001b[31m hunter22"}}',  # noqa: E501
        "a line of the log",
        '{"progress": ["x"',
    ]
    told = jobs.progress_in(lines, Redactor({"hunter22"}))
    assert told == {"objects": [2, 4], "step": "a [31m ********"}
    assert jobs.progress_in(["no progress"]) == {}


def test_the_log_for_a_reader_holds_neither_results_nor_secrets() -> None:
    text = "\n".join(["one hunter22", *framed(LARGE), '{"progress": {}}', '{"result": 1}', "two\x1b[0m"])
    assert jobs.readable(text, Redactor({"hunter22"})) == ("one ********", "two [0m")


def test_a_digest_tells_arguments_apart_and_fits_into_a_label() -> None:
    found = {jobs.digest_of(["a", "b"]), jobs.digest_of(["a b"]), jobs.digest_of(["a"], "b"), jobs.digest_of()}
    assert len(found) == 4
    assert all(len(one) == 32 for one in found)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", "a/b", "..", "a" * 41, "a b", "a\n"])
def test_a_name_that_is_not_fit_for_a_folder_and_a_label_is_refused(name: str) -> None:
    with pytest.raises(jobs.JobError, match="its name is invalid"):
        jobs.check_name(name)


@pytest.mark.parametrize(("size", "expected"), [("1", 1), ("2Ki", 2048), ("3Gi", 3 << 30)])
def test_sizes(size: str, expected: int) -> None:
    assert jobs.bytes_of(size) == expected


@pytest.mark.parametrize("size", ["", "1G", "1.5Gi", "-1", "Gi", "1 Gi"])
def test_what_is_not_a_size_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        jobs.bytes_of(size)


def test_a_slot_that_is_occupied_names_owner_start_and_remedy() -> None:
    run = jobs.Run("r1", "jo@controller", "2026-11-30T08:00:00Z")
    error = jobs.occupied(jobs.Request("backup", "backup", "d"), run)
    assert str(error) == (
        "cannot start job backup: a run with other arguments has been running since 2026-11-30T08:00:00Z, "
        "started by jo@controller (run r1)"
    )
    assert "running: replace" in error.remedy
    assert "other arguments" not in str(jobs.occupied(jobs.Request("backup", "backup", "d", running="fail"), run))


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        ({}, ""),
        ({"step": "gold"}, "backup [one]: gold"),
        ({"objects": [3, 0]}, "backup [one]: 3 objects"),
        (
            {"step": "gold", "objects": [3, 9], "bytes": [1 << 20, 3 << 30], "rate": 2048.0, "left_s": 125},
            "backup [one]: gold, 3 of 9 objects, 1.0 MiB of 3.0 GiB, 2.0 KiB/s, 2 min 05 s left",
        ),
    ],
)
def test_progress_is_shown_on_one_line(progress: dict[str, Any], line: str) -> None:
    assert job_progress.progress_line("backup", "one", progress).strip() == line


def test_the_owner_is_who_launched_the_job_of_awx() -> None:
    assert job_progress.owner({"awx_user_name": "jo", "awx_job_id": 7}) == "jo (job 7 of AWX)"
    assert "@" in job_progress.owner({})


def test_a_job_that_hands_over_message_and_remedy_says_itself_why_it_failed() -> None:
    ended = jobs.Run(
        "1", "me", "now", finished=True, rc=1, reason="cannot run job backup: exit status 1", remedy="Read"
    )
    told = job_task.result_of(
        replace(ended, result={"message": "cannot copy x: denied", "remedy": "Grant the action."})
    )
    assert (told["failed"], told["msg"]) == (True, "cannot copy x: denied. Grant the action.")
    assert (told["reason"], told["remedy"]) == ("cannot copy x: denied", "Grant the action.")
    assert job_task.result_of(ended)["msg"] == "cannot run job backup: exit status 1. Read."
