# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that show the progress of a job, as pure functions of its reports."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import Any

from .progress import duration_text

INDENT = " " * 11
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(size: float) -> str:
    """Return a number of bytes in a readable form.

    >>> size_text(1536)
    '1.5 KiB'
    """
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def progress_line(name: str, host: str, progress: Mapping[str, Any]) -> str:
    """Return a progress as one line; empty without progress.

    >>> progress_line("backup", "one", {"objects": [3, 9], "step": "gold"}).strip()
    'backup [one]: gold, 3 of 9 objects'
    """
    parts = [str(progress["step"])] if progress.get("step") else []
    if objects := progress.get("objects"):
        parts.append(_of(f"{objects[0]}", f"{objects[1]}" if objects[1] else "", " objects"))
    if size := progress.get("bytes"):
        parts.append(_of(size_text(size[0]), size_text(size[1]) if size[1] else ""))
    if progress.get("rate") is not None:
        parts.append(f"{size_text(progress['rate'])}/s")
    if progress.get("left_s") is not None:
        parts.append(f"{duration_text(progress['left_s'])} left")
    return f"{INDENT}{name} [{host}]: {', '.join(parts)}" if parts else ""


def _of(done: str, total: str, noun: str = "") -> str:
    return f"{done} of {total}{noun}" if total else f"{done}{noun}"


def attached_line(name: str, host: str, run: Mapping[str, Any]) -> str:
    """Return the line about a run that an earlier task started."""
    by = f" by {run['owner']}" if run.get("owner") else ""
    return f"{INDENT}{name} [{host}]: waiting for the run that was started at {run.get('started_at')}{by}"


def owner(variables: Mapping[str, Any]) -> str:
    """Return the owner of the playbook run: the AWX user that launched it, or the user of this machine."""
    launched = variables.get("awx_user_name") or variables.get("tower_user_name")
    if launched:
        return f"{launched} (job {variables.get('awx_job_id') or variables.get('tower_job_id')} of AWX)"
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()
