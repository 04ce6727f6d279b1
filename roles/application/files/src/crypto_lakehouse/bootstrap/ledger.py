# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bootstrap run found in place, what it changed, and how it waits for a service that is starting."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

log = logging.getLogger("lakehouse.bootstrap")

T = TypeVar("T")

RETRY_DELAY_S = 0.5


class BootstrapError(RuntimeError):
    """Something cannot be brought into place; the message says what and what to do, on one line."""


class UnreachableError(BootstrapError):
    """A service did not answer in time."""


@dataclass
class Ledger:
    """One part's record. With `check` nothing is applied, and what would change is recorded all the same."""

    check: bool
    wait_s: float
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0

    def ensure(self, what: str, in_place: bool, apply: Callable[[], object]) -> None:
        """Count `what` as unchanged when it is in place; else apply it (not with `check`) and record it."""
        if in_place:
            self.unchanged += 1
            return
        if not self.check:
            apply()
            log.info("changed: %s", what)
        self.changed.append(what)

    def wait_for(self, service: str, probe: Callable[[], T], transient: tuple[type[Exception], ...]) -> T:
        """Return what `probe` gives, trying again on `transient` errors until `wait_s` is over.

        Raises:
            UnreachableError: naming the service and its last error. With `check` the first error is the last.
        """
        deadline = time.monotonic() + (0 if self.check else self.wait_s)
        while True:
            try:
                return probe()
            except transient as error:
                if time.monotonic() >= deadline:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise UnreachableError(f"{service} does not answer: {reason}") from error
                time.sleep(RETRY_DELAY_S)
