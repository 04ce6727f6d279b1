# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that dies at a chosen step of writing, like a killed run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

KILLED = 9
STEPS = ("open", "write", "fchmod", "fsync", "replace", "mkdir", "unlink")


def run_and_die_at(step: int, work: Callable[[], object]) -> bool:
    """Return whether the work died in a child process right before its `step`-th call that writes.

    Half of a write is done before the end, as the kernel may do.
    """
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, KILLED)
        return status == KILLED
    try:
        _plant(step)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def _plant(step: int) -> None:
    counter = itertools.count()

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            writes = name != "open" or arguments[1] & os.O_CREAT
            if writes and next(counter) == step:
                if name == "write":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os._exit(KILLED)
            return real(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, dying(name, getattr(os, name)))


@pytest.fixture
def every_death() -> Callable[[Callable[[], object]], Iterator[int]]:
    """Repeat a piece of work that dies at its first, second ... step, until it completes."""

    def deaths(work: Callable[[], object]) -> Iterator[int]:
        for step in itertools.count():
            if not run_and_die_at(step, work):
                return
            yield step

    return deaths


def snapshot(root: Path) -> dict[str, tuple[int, bytes | None, int]]:
    """Return mode, content and modification time of everything below a folder."""
    found: dict[str, tuple[int, bytes | None, int]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[str(path.relative_to(root))] = (status.st_mode & 0o7777, content, status.st_mtime_ns)
    return found
