# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a recovered data folder in the place of the one that a server used, which is kept aside."""

from __future__ import annotations

import os
from pathlib import Path

from crypto_lakehouse.backup.errors import RefusedError


def swap(live: Path, restored: Path, aside: Path) -> None:
    """Move `live` to `aside` and `restored` to `live`; a call that was interrupted is completed by the next one.

    All three lie on one file system. `live` may be missing. A call after a completed one changes nothing.

    Raises:
        RefusedError: where a server uses one of the folders, where nothing was recovered, or where it is ambiguous
            which folder is which. Nothing was changed then.
    """
    present = (live.exists(), restored.exists(), aside.exists())
    if present == (True, False, True):
        return
    _refuse(live, restored, aside)
    if live.exists():
        live.rename(aside)
        _flush(live.parent, aside.parent)
    restored.rename(live)
    _flush(restored.parent, live.parent)


def _refuse(live: Path, restored: Path, aside: Path) -> None:
    if not (restored / "PG_VERSION").is_file():
        raise RefusedError(f"cannot replace {live}: {restored} is not a data folder", "Recover into it first.")
    if live.exists() and aside.exists():
        raise RefusedError(f"cannot move {live} to {aside}: it exists", f"Move {aside} away, or name another folder.")
    for folder in (live, restored):
        if (folder / "postmaster.pid").exists() and _is_running(folder / "postmaster.pid"):
            raise RefusedError(f"cannot replace {live}: a server uses {folder}", "Stop the database first.")
    devices = {_device(each) for each in (live, restored, aside)}
    if len(devices) > 1:
        raise RefusedError(
            f"cannot move {restored} to {live}: they lie on different file systems", "Recover on that of the database."
        )


def _is_running(pid_file: Path) -> bool:
    try:
        os.kill(int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def _device(path: Path) -> int:
    return (path if path.exists() else path.parent).stat().st_dev


def _flush(*folders: Path) -> None:
    for folder in folders:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
