# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program and record its usage: `launch.py RESULT PROGRAM ARGUMENTS...`

Linux counts the memory of the parent as the program's own, so a small process starts the program.
"""

from __future__ import annotations

import os
import sys
import time


def main() -> int:
    started_s = time.monotonic()
    process = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
    # The usage of the program and its awaited children: the memory is that of the largest of them.
    status, usage = os.wait4(process, 0)[1:]
    took_s = time.monotonic() - started_s
    with open(sys.argv[1], "w", encoding="ascii") as file:  # noqa: PTH123 - what this imports is memory, too
        file.write(f"{took_s} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss}")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
