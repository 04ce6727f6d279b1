# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved plans pass unchanged through files, buckets and job results, and report changes."""

from __future__ import annotations

import json
import os
import stat
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.plans import load_plan, save_text
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    EngineError,
    PlanFormatError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Node, Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Change

PLAN = Plan(
    "lake",
    "development",
    "present",
    (Node("vpc.main", "vpc", "create", changes=(Change("cidr_block", None, "10.0.0.0/16"),)),),
    {"vpc.main": {"described:cidr_block": "0123456789abcdef"}},
)


class Bucket:
    """A session with one bucket."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.written: dict[str, Any] = {}

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        assert service == "s3"
        place = (parameters["Bucket"], parameters["Key"])
        if operation == "put_object":
            self.objects[place] = parameters["Body"]
            self.written = parameters
            return {}
        assert operation == "get_object"
        return {"Body": BytesIO(self.objects[place])}


@pytest.fixture
def session() -> Session:
    return cast("Session", Bucket())


@pytest.mark.parametrize("place", ["s3://plans", "s3:///development.json", "s3://plans/"])
def test_a_bucket_without_a_key_is_refused(session: Session, place: str) -> None:
    with pytest.raises(PlanFormatError, match="s3://BUCKET/KEY"):
        load_plan(session, place)


def test_an_empty_text_is_no_plan(session: Session) -> None:
    with pytest.raises(PlanFormatError, match="`plan` is empty"):
        load_plan(session, " ")


def test_a_file_that_is_not_there_is_named(session: Session, tmp_path: Path) -> None:
    with pytest.raises(PlanFormatError, match=r"cannot read.*nowhere\.json"):
        load_plan(session, str(tmp_path / "nowhere.json"))


def test_a_file_that_is_no_text_is_refused(session: Session, tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanFormatError, match="cannot read"):
        load_plan(session, str(tmp_path / "plan"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 99}', '{"format": 1}'])
def test_what_is_no_plan_is_refused(session: Session, tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(PlanFormatError):
        load_plan(session, str(tmp_path / "plan.json"))


def test_an_edited_plan_is_refused(session: Session) -> None:
    data = PLAN.to_data()
    data["evidence"]["vpc.main"]["described:cidr_block"] = "fedcba9876543210"
    with pytest.raises(PlanFormatError, match="edited"):
        load_plan(session, data)


def test_a_plan_comes_back_from_every_place(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "plan.json"
    save_text(session, str(path), PLAN.to_json())
    save_text(session, "s3://plans/a/b.json", PLAN.to_json())
    sources: list[Any] = [str(path), "s3://plans/a/b.json", PLAN.to_data(), PLAN.to_json(), f"\n{PLAN.to_json()}"]
    # Data that set_stats passes to the next job has been serialized as JSON.
    sources.append(json.loads(json.dumps(PLAN.to_data())))
    assert [load_plan(session, source) for source in sources] == [PLAN] * len(sources)


def test_a_plan_in_a_bucket_is_encrypted(session: Session) -> None:
    save_text(session, "s3://plans/a.json", PLAN.to_json())
    assert cast("Bucket", session).written["ServerSideEncryption"] == "aws:kms"


def test_only_the_owner_can_read_a_saved_plan_whatever_the_umask(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "plan.json"
    before = os.umask(0)
    try:
        save_text(session, str(path), PLAN.to_json())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [item.name for item in path.parent.iterdir()] == ["plan.json"]


def test_the_same_plan_is_not_written_twice_but_its_mode_is_repaired(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert save_text(session, str(path), "one")
    assert not save_text(session, str(path), "one")
    path.chmod(0o644)
    assert save_text(session, str(path), "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert save_text(session, str(path), "two")
    assert path.read_text() == "two"


def test_nothing_is_left_of_a_plan_that_could_not_be_put_in_its_place(session: Session, tmp_path: Path) -> None:
    (tmp_path / "plan.json").mkdir()
    with pytest.raises(EngineError, match=r"cannot write.*plan\.json"):
        save_text(session, str(tmp_path / "plan.json"), "text")
    assert [item.name for item in tmp_path.iterdir()] == ["plan.json"]
