# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for asynchronous operations of AWS."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from ..engine.resource import activity
from .errors import WaitError

_Answer = TypeVar("_Answer")
_FIRST_S = 0.25


def wait_until(
    look: Callable[[], _Answer | None],
    what: str,
    *,
    timeout_s: float,
    interval_s: float = 15.0,
    last: Callable[[], str] = lambda: "",
) -> _Answer:
    """Poll until there is an answer, first at short intervals, then at `interval_s`, and return it.

    `what` completes "waited for"; `last` describes the last state. Raises WaitError on timeout or cancellation.
    """
    deadline_s = time.monotonic() + timeout_s
    pause_s = _FIRST_S
    while True:
        answer = look()
        if answer is not None:
            return answer
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            seen = last()
            raise WaitError(f"waited {timeout_s:.0f} s for {what}{f'; it is {seen}' if seen else ''}")
        if activity().sleep(min(left_s, pause_s)):
            raise WaitError(f"stopped waiting for {what}; it may still get there, a new run finds it")
        pause_s = min(interval_s, pause_s * 2)


def backoff_s(attempt: int, cap_s: float = 20.0) -> float:
    """Return the pause before the next attempt (0 is the first) in seconds: exponential with full jitter."""
    # Not security-relevant: it only distributes the calls of many runs.
    return random.uniform(0.05, min(cap_s, 0.25 * 2.0 ** min(attempt, 16)))  # noqa: S311
