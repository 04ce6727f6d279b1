# SPDX-License-Identifier: GPL-3.0-or-later
"""Timeouts of tests: those of a quiet machine, multiplied by the measured slowness of this one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError

# The work of a calibration, and its duration in seconds on a quiet machine.
WORK = 2_000_000
REFERENCE_S = 0.1
# Beyond this factor the machine is not slow: a program hangs.
HIGHEST_SLOWNESS = 20.0
# A started program that takes this long hangs.
HANG_S = 900.0


def slowness() -> float:
    """Return the current slowdown relative to a quiet machine, at least 1.0."""
    begun_s = time.monotonic()
    number = 0
    for each in range(WORK):
        number ^= each
    return min(max((time.monotonic() - begun_s) / REFERENCE_S, 1.0), HIGHEST_SLOWNESS)


def stretched(limit_s: float) -> float:
    """Return a limit in seconds for the current state of this machine, and print the factor."""
    factor = slowness()
    print(f"The machine is {factor:.1f} times slower than a quiet one: {limit_s:g} s become {limit_s * factor:.1f} s")
    return limit_s * factor


def is_within(begun_s: float, limit_s: float) -> bool:
    """Return whether no more than the limit has passed since a moment of the monotonic clock."""
    took_s = time.monotonic() - begun_s
    return took_s < limit_s or took_s < stretched(limit_s)


def wait_for(condition: Callable[[], bool], what: str, wait_s: float = 60.0, poll_s: float = 0.1) -> None:
    """Wait until a condition holds; a server without an answer counts as not ready.

    The machine is measured when the limit has passed, so that waiting on a quiet one costs nothing.
    """
    begun_s = time.monotonic()
    limit_s = wait_s
    while True:
        with contextlib.suppress(OSError, HostError):
            if condition():
                return
        if time.monotonic() - begun_s > limit_s:
            limit_s = max(limit_s, stretched(wait_s))
            if time.monotonic() - begun_s > limit_s:
                raise AssertionError(f"{what}: not within {limit_s:.0f} s")
        time.sleep(poll_s)
