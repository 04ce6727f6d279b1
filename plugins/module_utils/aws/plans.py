# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saved plans: in a file that only its owner can read, in a bucket, or as data."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..engine.errors import Fault, FaultsError, OptionRemedy, PlanFormatError
from ..engine.plan import Plan
from .errors import CallError
from .session import Session

_S3 = "s3://"
_NAME_PLAN = OptionRemedy("name the plan that state=planned wrote", "plan")
_NAME_PATH = OptionRemedy("name another path", "plan_path")


class PlanPlaceError(FaultsError):
    """A plan or its page cannot be written, or cannot be read from a bucket."""

    def __init__(self, act: str, place: str, cause: object, remedy: str) -> None:
        super().__init__([Fault("", "", f"cannot {act} {place}: {str(cause).rstrip('.')}", remedy)])


def load_plan(session: Session, source: Any) -> Plan:
    """Return a saved plan. `source`: the plan itself as data or JSON text, a path, or `s3://BUCKET/KEY`.

    Raises PlanFormatError and PlanPlaceError.
    """
    if isinstance(source, Mapping):
        return Plan.from_data(source)
    text = str(source).strip()
    if not text:
        raise PlanFormatError("cannot read the saved plan: `plan` is empty", _NAME_PLAN)
    if text.startswith("{"):
        return Plan.from_json(text)
    if text.startswith(_S3):
        bucket, key = _place(text)
        try:
            content = session.call("s3", "get_object", Bucket=bucket, Key=key)["Body"].read()
        except CallError as error:
            raise PlanPlaceError("read the saved plan", text, error.cause, error.remedy or _NAME_PLAN) from error
        return Plan.from_json(content.decode(errors="replace"))
    try:
        return Plan.from_json(Path(text).expanduser().read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError) as error:
        raise PlanFormatError(f"cannot read the saved plan: {error}", _NAME_PLAN) from error


def save_text(session: Session, place: str, text: str) -> bool:
    """Write a plan or its page to a file with mode 0600 or to `s3://BUCKET/KEY`; return whether the content changed.

    Raises PlanPlaceError when the write fails.
    """
    if place.startswith(_S3):
        bucket, key = _place(place)
        try:
            session.call("s3", "put_object", Bucket=bucket, Key=key, Body=text.encode(), ServerSideEncryption="aws:kms")
        except CallError as error:
            raise PlanPlaceError("write the plan to", place, error.cause, error.remedy or _NAME_PATH) from error
        return True
    try:
        return _write(Path(place).expanduser(), text)
    except (OSError, RuntimeError, ValueError) as error:
        raise PlanPlaceError("write the plan to", place, error, _NAME_PATH) from error


def _write(path: Path, text: str) -> bool:
    if path.is_file() and path.read_bytes() == text.encode() and path.stat().st_mode & 0o777 == 0o600:
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp creates the file with mode 0600, and the rename is atomic: readers never see a partial plan.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return True


def _place(address: str) -> tuple[str, str]:
    bucket, _slash, key = address.removeprefix(_S3).partition("/")
    if not bucket or not key:
        raise PlanFormatError(f"{address!r} is not of the form s3://BUCKET/KEY", "write it like that")
    return bucket, key
