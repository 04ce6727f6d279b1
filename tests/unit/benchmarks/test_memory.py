# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that are read of each process, from a fake /proc and from the real one."""

from __future__ import annotations

import os
from pathlib import Path

from tests.benchmarks.memory import Memory, held_by

ROLLUP = """\
55d0c0000000-7ffd1b1fe000 ---p 00000000 00:00 0                          [rollup]
Rss:                {rss} kB
Pss:                {pss} kB
Pss_Anon:              1 kB
Shared_Clean:          2 kB
"""


def process(proc: Path, pid: int, rss: int, pss: int | None) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "status").write_text(f"Name:\té\nVmHWM:\t  999999 kB\nVmRSS:\t{rss:>8} kB\n", encoding="utf-8")
    if pss is not None:
        (folder / "smaps_rollup").write_text(ROLLUP.format(rss=rss, pss=pss), encoding="ascii")


def test_a_process_that_has_ended_holds_nothing(tmp_path: Path) -> None:
    assert held_by([4], tmp_path) == Memory()


def test_one_that_lets_nobody_look_inside_counts_with_all_that_it_shares(tmp_path: Path) -> None:
    process(tmp_path, 7, rss=300, pss=None)
    assert held_by([7], tmp_path) == Memory(pss_kib=300, rss_kib=300)


def test_what_several_hold_is_added_up(tmp_path: Path) -> None:
    process(tmp_path, 1, rss=500, pss=200)
    process(tmp_path, 2, rss=700, pss=400)
    assert held_by([1, 2, 3], tmp_path) == Memory(pss_kib=600, rss_kib=1200)


def test_linux_is_understood() -> None:
    mine = held_by([os.getpid()])
    assert 1_000 < mine.pss_kib <= mine.rss_kib
