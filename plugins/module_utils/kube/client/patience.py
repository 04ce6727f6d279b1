# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide which requests to retry, how often, and after which delay."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import ApiError, KubeError, UnreachableError

_INTERNAL_ATTEMPTS = 6


@dataclass(frozen=True)
class Tried:
    """Attempts so far: their number and duration. is_silent: whether the server has never answered."""

    attempts: int
    elapsed_s: float
    is_silent: bool = False


@dataclass(frozen=True)
class Patience:
    """Limits of retries.

    attempts: on throttling, 5xx and lost connections. silent_attempts: while the server has never answered. longest_s:
    longest delay, also for one that the server requests. webhook_s: timeout for a webhook that is not ready.
    """

    attempts: int = 10
    silent_attempts: int = 3
    first_s: float = 0.1
    longest_s: float = 30.0
    webhook_s: float = 90.0
    sleep: Callable[[float], object] = time.sleep

    def allows(self, error: KubeError, tried: Tried, *, repeatable: bool) -> bool:
        """Return whether to retry a request. repeatable: whether it may have its effect twice."""
        if isinstance(error, UnreachableError):
            attempts = self.silent_attempts if tried.is_silent else self.attempts
            return error.is_passing and (repeatable or not error.sent) and tried.attempts < attempts
        if not isinstance(error, ApiError):
            return False
        if error.is_webhook_down:
            return tried.elapsed_s < self.webhook_s
        # Internal errors of the server are often permanent.
        attempts = min(_INTERNAL_ATTEMPTS, self.attempts) if error.status == 500 else self.attempts
        return (error.is_undone or (repeatable and error.is_passing)) and tried.attempts < attempts

    def pause_s(self, attempt: int, asked_s: float | None = None) -> float:
        """Return the delay before the next attempt (0 is the first): exponential, with a random half."""
        exponential_s = min(8.0, self.first_s * 2.0 ** min(attempt, 16))
        # The random number is not a secret: it only distributes the requests of many threads.
        jittered_s = exponential_s * random.uniform(0.5, 1.0)  # noqa: S311
        return min(self.longest_s, jittered_s + (asked_s or 0.0))


def is_ambiguous(error: KubeError) -> bool:
    """Return whether the request may have had its effect despite the error."""
    if isinstance(error, UnreachableError):
        return error.sent
    return isinstance(error, ApiError) and not error.is_undone
