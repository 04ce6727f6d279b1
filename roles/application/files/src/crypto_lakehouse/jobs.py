# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchange between a job and the module `lakehouse_job`, which starts it: input, progress and result.

The module sets environment variables for the exchange:

- `LAKEHOUSE_JOB_PROGRESS`, `LAKEHOUSE_JOB_RESULT`: files on a host for progress lines and the result.
- `LAKEHOUSE_JOB_LOG=framed`: the module reads the log of the job's pod; progress and result are lines of the output.
- `LAKEHOUSE_JOB_INPUT`: file with secret input, `LAKEHOUSE_JOB_SCRATCH`: folder for temporary files.

A job that a person starts has none of them: it prints its result as one line of JSON, and does not show progress.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PERIOD_S: Final = 1.0
"""Progress within this period is dropped, unless its step is another one or it is complete."""
WINDOW_S: Final = 30.0
"""The rate covers the last seconds only, so that it shows pauses and faster parts soon."""
LINE_CHARACTERS: Final = 8000
"""Container runtimes split lines of a log at 16 KiB."""

Count = tuple[int, int]
"""Number of completed items, and their total; a total of 0 is unknown."""


@dataclass
class Meter:
    """Computes rate and remaining time from the counts that a job reports. Safe to use from several threads."""

    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _step: str | None = None
    _told_s: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, step: str, objects: Count | None, size: Count | None) -> dict[str, object] | None:
        """Return the progress to report, or None shortly after the last report."""
        with self._lock:
            now_s, counted = self.clock(), size or objects
            self._note(now_s, counted)
            complete = counted is not None and 0 < counted[1] <= counted[0]
            if now_s - self._told_s < PERIOD_S and step == self._step and not complete:
                return None
            self._told_s, self._step = now_s, step
            rate = self._rate()
            found = {
                "objects": list(objects) if objects else None,
                "bytes": list(size) if size else None,
                "rate": round(rate, 1) if size and rate is not None else None,
                "left_s": _left_s(counted, rate),
                "step": step or None,
            }
            return {key: value for key, value in found.items() if value is not None}

    def _note(self, now_s: float, counted: Count | None) -> None:
        if counted is None or (self._seen and counted[0] < self._seen[-1][1]):
            self._seen.clear()
        if counted is not None:
            self._seen.append((now_s, counted[0]))
            while len(self._seen) > 2 and now_s - self._seen[1][0] > WINDOW_S:
                self._seen.popleft()

    def _rate(self) -> float | None:
        if len(self._seen) < 2 or self._seen[-1][0] <= self._seen[0][0]:
            return None
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s)


def _left_s(counted: Count | None, rate: float | None) -> int | None:
    if counted is None or not rate or counted[1] < counted[0]:
        return None
    return round((counted[1] - counted[0]) / rate)


_METER = Meter()
_OUTPUT = threading.Lock()


def progress(step: str = "", *, objects: Count | None = None, size: Count | None = None) -> None:
    """Report the progress of the job: the step, completed and total objects and bytes. Cheap enough for each object.

    Ignores write errors: a full disk fails the job at its own work, not at its progress.
    """
    told = _METER.report(step, objects, size)
    if told is None:
        return
    line = json.dumps({"progress": told})
    if path := os.environ.get("LAKEHOUSE_JOB_PROGRESS"):
        with suppress(OSError), _OUTPUT, Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    elif _is_framed():
        with suppress(OSError):
            _print(line)


def finish(result: object) -> None:
    """Pass the result of the job, a JSON document of any size, to the module. The last call of a job."""
    if path := os.environ.get("LAKEHOUSE_JOB_RESULT"):
        _write(Path(path), result)
    elif _is_framed():
        for line in framed(json.dumps(result)):
            _print(line)
    else:
        _print(json.dumps(result))


def framed(document: str) -> Iterator[str]:
    """Yield the lines of a document: the document itself if it is short, else numbered and compressed parts.

    A log keeps only some megabytes, and limits its lines. The digest detects lost parts.
    """
    if len(document) <= LINE_CHARACTERS:
        yield f'{{"result": {document}}}'
        return
    packed = zlib.compress(document.encode())
    digest, text = hashlib.sha256(packed).hexdigest(), base64.b64encode(packed).decode()
    parts = [text[start : start + LINE_CHARACTERS] for start in range(0, len(text), LINE_CHARACTERS)]
    for number, part in enumerate(parts, start=1):
        yield json.dumps({"result_part": [number, len(parts)], "sha256": digest, "data": part})


def read_input() -> str:
    """Return the secret input of the job; empty without input."""
    path = os.environ.get("LAKEHOUSE_JOB_INPUT")
    return Path(path).read_text(encoding="utf-8") if path else ""


def scratch() -> Path:
    """Return the folder for temporary files of the job, which is removed after it."""
    return Path(os.environ.get("LAKEHOUSE_JOB_SCRATCH") or tempfile.gettempdir())


def _is_framed() -> bool:
    return os.environ.get("LAKEHOUSE_JOB_LOG") == "framed"


def _print(line: str) -> None:
    with _OUTPUT:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _write(path: Path, result: object) -> None:
    partial = path.with_name(f"{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(result, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
