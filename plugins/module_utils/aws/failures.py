# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failures of a run for readers: which resources, why, and what to do. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from ..engine.errors import Fault, OptionRemedy
from ..engine.execute import Report, Result
from .errors import CallError
from .wording import Wording

_MOST_ADDRESSES = 6
_VERBS = {
    "none": "read",
    "adopt": "adopt",
    "create": "create",
    "delete": "delete",
    "replace": "replace",
    "update": "update",
}
_AGAIN = OptionRemedy("correct the cause and run this again; completed changes are kept", "again")


@dataclass(frozen=True)
class Failure:
    """One cause of failed resources. addresses: all resources with the same cause."""

    action: str
    addresses: tuple[str, ...]
    cause: str
    remedy: str

    def __str__(self) -> str:
        shown, more = self.addresses[:_MOST_ADDRESSES], len(self.addresses) - _MOST_ADDRESSES
        listed = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        return f"cannot {_VERBS.get(self.action, self.action)} {listed}: {self.cause.rstrip('.')}; {self.remedy}"


def failures(report: Report, words: Wording) -> list[Failure]:
    """Return failures, each cause once. An interrupted run without a failure is one."""
    alike: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for result in report.failed:
        cause, remedy = _told(result)
        worded = words.of(Fault(result.address, "", cause, remedy or _AGAIN)).remedy
        alike[result.action, cause, worded].append(result.address)
    found = [Failure(action, tuple(names), cause, remedy) for (action, cause, remedy), names in alike.items()]
    if found or not report.interrupted:
        return found
    left = tuple(result.address for result in report.results if result.outcome not in {"done", "unchanged"})
    remedy = words.of(Fault("", "", "", _AGAIN)).remedy
    return [Failure("finish", left, "the run was stopped", remedy)]


def _told(result: Result) -> tuple[str, str]:
    error = result.error
    return (error.cause, error.remedy) if isinstance(error, CallError) else (result.message, "")
