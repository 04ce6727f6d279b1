# SPDX-License-Identifier: GPL-3.0-or-later
"""Every test of this folder runs on a sample that a printed seed selects."""

from __future__ import annotations

import signal

pytest_plugins = ["tests.sweep", "pytester"]

# Background processes of a shell ignore interrupts, and so would all programs that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
