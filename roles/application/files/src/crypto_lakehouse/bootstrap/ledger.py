# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of a bootstrap run: unchanged and changed parts; and waiting for a starting service."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TypeVar

log = logging.getLogger("lakehouse.bootstrap")

T = TypeVar("T")

RETRY_DELAY_S = 0.5


class BootstrapError(RuntimeError):
    """A part cannot be created or updated; the message contains the cause and the remedy, on one line."""


class UnreachableError(BootstrapError):
    """A service did not answer in time. `error` is the last one that it was asked with."""

    def __init__(self, service: str, error: Exception) -> None:
        reason = " ".join(str(error).split()) or type(error).__name__
        super().__init__(f"{service} does not answer: {reason}")


@dataclass(frozen=True, order=True)
class Foreign:
    """An undescribed resource. `name` is unique among its kind; `detail` does not contain secrets."""

    kind: str
    name: str
    detail: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields as JSON types."""
        return asdict(self)


@dataclass
class Ledger:
    """One part's record. With `check`, changes are recorded without being applied.

    remove: kind and name of the foreign resources that this run removes.
    """

    check: bool
    wait_s: float
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    remove: frozenset[tuple[str, str]] = frozenset()
    foreign: list[Foreign] = field(default_factory=list)
    removed: list[Foreign] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def patience_s(self) -> float:
        """Return the seconds to wait for a service: none with `check`, where the first error is the last."""
        return 0.0 if self.check else self.wait_s

    def ensure(self, what: str, in_place: bool, apply: Callable[[], object]) -> None:
        """Count `what` as unchanged when it is in place; else apply it (not with `check`) and record it."""
        if in_place:
            self.unchanged += 1
            return
        if not self.check:
            apply()
            log.info("changed: %s", what)
        self.changed.append(what)

    def report(self, found: Foreign, remove: Callable[[], object] | None = None) -> None:
        """Record a foreign resource, or remove it where this run is requested to. A failure does not stop the run."""
        if remove is None or self.check or (found.kind, found.name) not in self.remove:
            self.foreign.append(found)
            return
        try:
            remove()
        except Exception as error:  # noqa: BLE001 - one that stays must not keep the others
            self.foreign.append(found)
            self.problems.append(f"cannot remove {found.kind} {found.name}: {' '.join(str(error).split())}")
        else:
            log.info("removed: %s %s", found.kind, found.name)
            self.removed.append(found)

    def wait_for(self, service: str, probe: Callable[[], T], transient: tuple[type[Exception], ...]) -> T:
        """Return the result of `probe`, retried on `transient` errors until `wait_s` is over.

        Raises:
            UnreachableError: naming the service and its last error.
        """
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return probe()
            except transient as error:
                if time.monotonic() >= deadline:
                    raise UnreachableError(service, error) from error
                time.sleep(RETRY_DELAY_S)
