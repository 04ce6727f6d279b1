# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of processes, as reported by Linux."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_FIELD = re.compile(r"^(Rss|Pss):\s+(\d+) kB$", re.MULTILINE)
_STATUS_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Memory:
    """Resident memory in KiB. `pss_kib` counts a shared page once, `rss_kib` once for each process."""

    pss_kib: int = 0
    rss_kib: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.pss_kib + other.pss_kib, self.rss_kib + other.rss_kib)


def held_by(pids: Iterable[int], proc: Path = Path("/proc")) -> Memory:
    """Return the total memory of the processes; an ended one has none."""
    return sum((_of(proc / str(pid)) for pid in pids), Memory())


def _of(process: Path) -> Memory:
    try:
        found = dict(_FIELD.findall((process / "smaps_rollup").read_text(encoding="ascii")))
        return Memory(int(found["Pss"]), int(found["Rss"]))
    except (OSError, KeyError):
        return _of_a_closed_one(process)


def _of_a_closed_one(process: Path) -> Memory:
    # For a protected process, such as that of a query, other users can read only this figure.
    try:
        found = _STATUS_RSS.search((process / "status").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return Memory()
    rss_kib = int(found[1]) if found else 0
    return Memory(rss_kib, rss_kib)
