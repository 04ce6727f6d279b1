# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress and result of a job, as files, as lines of a log, and as readable text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from pathlib import Path

import pytest

from crypto_lakehouse import jobs


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROGRESS", "RESULT", "LOG", "INPUT", "SCRATCH"):
        monkeypatch.delenv(f"LAKEHOUSE_JOB_{name}", raising=False)
    monkeypatch.setattr(jobs, "_METER", jobs.Meter())


def test_rate_and_remaining_time_are_those_of_the_last_seconds() -> None:
    now = [0.0]
    meter = jobs.Meter(lambda: now[0])
    assert meter.report("copy", (0, 10), (0, 1000)) == {"objects": [0, 10], "bytes": [0, 1000], "step": "copy"}
    now[0] = 10.0
    told = meter.report("copy", (1, 10), (100, 1000))
    assert told == {"objects": [1, 10], "bytes": [100, 1000], "rate": 10.0, "left_s": 90, "step": "copy"}
    for now[0] in range(11, 60):
        told = meter.report("copy", (1, 10), (100 + 20 * int(now[0] - 10), 2000))
    assert told is not None
    assert told["rate"] == 20.0
    assert told["left_s"] == round((2000 - 100 - 20 * 49) / 20)


def test_progress_is_told_once_a_second_and_where_the_step_changes_or_all_is_done() -> None:
    now = [0.0]
    meter = jobs.Meter(lambda: now[0])
    assert meter.report("a", (0, 9), None)
    assert meter.report("a", (1, 9), None) is None
    assert meter.report("b", (2, 9), None)
    assert meter.report("b", (9, 9), None)
    now[0] = 1.5
    assert meter.report("b", None, None) == {"step": "b"}


def test_a_count_that_begins_again_has_no_rate_yet() -> None:
    now = [0.0]
    meter = jobs.Meter(lambda: now[0])
    meter.report("a", (0, 9), None)
    now[0] = 2.0
    assert (meter.report("a", (4, 8), None) or {})["left_s"] == 2
    now[0] = 4.0
    assert meter.report("b", (0, 5), None) == {"objects": [0, 5], "step": "b"}


def test_a_host_is_told_by_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKEHOUSE_JOB_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setenv("LAKEHOUSE_JOB_RESULT", str(tmp_path / "result"))
    jobs.progress("one", objects=(1, 2))
    jobs.progress("two", objects=(2, 2))
    jobs.finish({"rows": [1, 2]})
    lines = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert [line["progress"]["step"] for line in lines] == ["one", "two"]
    assert json.loads((tmp_path / "result").read_text()) == {"rows": [1, 2]}
    assert (tmp_path / "result").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress", "result"]


def test_progress_that_cannot_be_written_does_not_end_the_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAKEHOUSE_JOB_PROGRESS", str(tmp_path / "missing/progress"))
    jobs.progress("one")


def test_a_person_reads_the_result_alone(capsys: pytest.CaptureFixture[str]) -> None:
    jobs.progress("one", objects=(1, 2))
    jobs.finish(["x" * 20_000])
    assert json.loads(capsys.readouterr().out) == ["x" * 20_000]


def test_a_cluster_is_told_by_lines_of_the_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAKEHOUSE_JOB_LOG", "framed")
    jobs.progress("one", objects=(1, 2))
    jobs.finish({"rows": 3})
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"progress": {"objects": [1, 2], "step": "one"}},
        {"result": {"rows": 3}},
    ]


@pytest.mark.parametrize("size", [jobs.LINE_CHARACTERS, 60_000, 4_000_000])
def test_no_line_of_a_large_result_is_too_long_and_all_of_them_are_the_result(size: int) -> None:
    document = json.dumps(base64.b64encode(os.urandom(size)).decode())
    lines = list(jobs.framed(document))
    parts = [json.loads(line) for line in lines]
    assert max(map(len, lines)) < 2 * jobs.LINE_CHARACTERS
    assert [part["result_part"] for part in parts] == [[n + 1, len(parts)] for n in range(len(parts))]
    packed = base64.b64decode("".join(part["data"] for part in parts))
    assert {part["sha256"] for part in parts} == {hashlib.sha256(packed).hexdigest()}
    assert zlib.decompress(packed).decode() == document


def test_input_and_scratch_are_where_the_module_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert jobs.read_input() == ""
    assert jobs.scratch().is_dir()
    (tmp_path / "input").write_text("AGE-SECRET-KEY-1\n")
    monkeypatch.setenv("LAKEHOUSE_JOB_INPUT", str(tmp_path / "input"))
    monkeypatch.setenv("LAKEHOUSE_JOB_SCRATCH", str(tmp_path))
    assert jobs.read_input() == "AGE-SECRET-KEY-1\n"
    assert jobs.scratch() == tmp_path
