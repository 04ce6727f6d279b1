# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of jobs on every target: request, outcome, and the lines that a job writes. Pure.

The application writes these lines: roles/application/files/src/crypto_lakehouse/jobs.py.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
RUN_ID = re.compile(r"[0-9a-f-]{8,64}")
LOG_LINES, SHOWN_LINES = 200, 20
LOG_BYTES = 64 * 1024
_STEP_CHARACTERS = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_SIZE = re.compile(r"([0-9]+)(Ki|Mi|Gi|Ti)?")
_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}


class JobError(Exception):
    """A job that cannot run, or an outcome that cannot be read. cause and remedy are sentences without a full stop."""

    def __init__(self, verb: str, name: str, cause: str, remedy: str) -> None:
        super().__init__(f"cannot {verb} job {name}: {cause}")
        self.remedy = remedy


@dataclass(frozen=True)
class Request:
    """A requested run.

    slot: a name with at most one run at a time. digest: of all parameters, to distinguish runs of the slot. running:
    attach, fail or replace, for a current run. owner: the requesting user. input: secret text for the job.
    """

    name: str
    slot: str
    digest: str
    running: str = "attach"
    owner: str = ""
    timeout_s: float = 3600.0
    scratch: str = ""
    scratch_class: str = ""
    input: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Run:
    """The observed state of a run.

    finished: whether it ended; the fields from `succeeded` on are only valid then. rc: exit status, negative for a
    signal; None without one. reason: the cause of a failure. result: the result that the job wrote.
    """

    run_id: str
    owner: str
    started_at: str
    attached: bool = False
    finished: bool = False
    progress: dict[str, Any] = field(default_factory=dict)
    succeeded: bool = False
    rc: int | None = None
    duration_s: float = 0.0
    reason: str = ""
    remedy: str = ""
    log: tuple[str, ...] = ()
    result: Any = None


def check_name(name: str) -> None:
    """Raise JobError for a name that is not valid as a folder and a label."""
    if not NAME.fullmatch(name):
        raise JobError("run", repr(name), "its name is invalid", "Set `name` to lower case letters, digits and hyphens")


def digest_of(*parts: Any) -> str:
    """Return a digest of the parts: 32 hexadecimal digits, which fit into a label."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def bytes_of(size: str) -> int:
    """Return the bytes of a size such as 20Gi. Raises ValueError."""
    found = _SIZE.fullmatch(size)
    if not found:
        raise ValueError(f"{size!r} is not a size; write a number with Ki, Mi, Gi or Ti")
    return int(found[1]) * _UNITS[found[2] or ""]


def occupied(request: Request, run: Run) -> JobError:
    """Return the error for a slot that another run occupies."""
    by = f" by {run.owner}" if run.owner else ""
    cause = f"a run with other arguments has been running since {run.started_at}, started{by} (run {run.run_id})"
    if request.running == "fail":
        cause = cause.replace(" with other arguments", "")
    return JobError("start", request.name, cause, "Wait until it ends, or set `running: replace` to end it")


def progress_in(lines: Iterable[str], hide: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the last progress in these lines; empty without one."""
    for line in reversed(list(lines)):
        said = _document(line, "progress")
        if isinstance(said, Mapping):
            return _checked(said, hide)
    return {}


def _checked(said: Mapping[str, Any], hide: Callable[[str], str]) -> dict[str, Any]:
    """Return the fields of the correct type. A job's texts are shown on one line, without secrets."""
    found: dict[str, Any] = {key: said[key] for key in ("objects", "bytes") if _is_count(said.get(key))}
    found |= {key: said[key] for key in ("rate", "left_s") if _is_number(said.get(key))}
    if isinstance(said.get("step"), str):
        found["step"] = _CONTROL.sub(" ", hide(said["step"]))[:_STEP_CHARACTERS]
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _is_count(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _document(line: str, key: str) -> Any:
    """Return the document of a line under a key; None for other lines."""
    if not line.startswith(f'{{"{key}":'):
        return None
    try:
        return json.loads(line)[key]
    except ValueError:
        return None


def is_told(line: str) -> bool:
    """Return whether a line is for the module instead of a reader of the log."""
    return line.startswith(('{"progress":', '{"result":', '{"result_part":'))


def result_in(lines: Sequence[str]) -> Any:
    """Return the result in the lines of a log, or None without one. Raises ValueError for an incomplete result."""
    parts: dict[int, str] = {}
    total, digest, found = 0, "", None
    for line in lines:
        if line.startswith('{"result":'):
            found = json.loads(line)["result"]
        elif line.startswith('{"result_part":'):
            part = json.loads(line)
            number, total = part["result_part"]
            digest, parts[number] = part["sha256"], part["data"]
    if not total:
        return found
    if sorted(parts) != list(range(1, total + 1)):
        raise ValueError(f"{len(parts)} of {total} parts of it are in the log")
    return _unpacked("".join(parts[number] for number in sorted(parts)), digest)


def _unpacked(text: str, digest: str) -> Any:
    try:
        packed = base64.b64decode(text, validate=True)
        if hashlib.sha256(packed).hexdigest() != digest:
            raise ValueError("its parts do not match their digest")
        return json.loads(zlib.decompress(packed))
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"its parts are damaged: {error}") from None


def readable(text: str, hide: Callable[[str], str]) -> tuple[str, ...]:
    """Return the last lines of a log for a reader, secrets masked."""
    lines = [line for line in text.splitlines() if not is_told(line)]
    return tuple(_CONTROL.sub(" ", line) for line in hide("\n".join(lines[-LOG_LINES:])).splitlines())
