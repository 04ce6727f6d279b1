# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health of an installation, as data and as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"
STATUSES = (UNHEALTHY, DEGRADED, HEALTHY)
LAYERS = (
    *("machine", "supervisor", "description"),
    *("cluster", "nodes", "workloads", "pods", "storage", "network", "certificates"),
    *("services", "data", "monitoring", "pipeline"),
)
TABLE_WIDTH_CHARACTERS = 140
MASK = "********"


@dataclass(frozen=True)
class Check:
    """One verdict. `remedy` is the next command or location to inspect; empty when no action is needed."""

    layer: str
    subject: str
    status: str
    detail: str
    remedy: str = ""
    response_time_ms: float | None = None

    @property
    def name(self) -> str:
        return f"{self.layer}/{self.subject}"

    def as_result(self) -> dict[str, Any]:
        fields = asdict(self)
        del fields["subject"]
        return {"name": self.name, **fields}


@dataclass(frozen=True)
class Report:
    """All verdicts, the worst first, then in the order of the layers."""

    checks: tuple[Check, ...]

    @classmethod
    def of(cls, checks: Iterable[Check], secrets: Sequence[str] = ()) -> Report:
        """Sort the checks, and mask occurrences of `secrets` in their texts."""
        return cls(tuple(sorted((_masked(check, secrets) for check in checks), key=_order)))

    @property
    def healthy(self) -> bool:
        """Whether no check is unhealthy. A degraded subject works, and needs attention."""
        return not self.unhealthy

    @property
    def unhealthy(self) -> list[str]:
        return [check.name for check in self.checks if check.status == UNHEALTHY]

    @property
    def degraded(self) -> list[str]:
        return [check.name for check in self.checks if check.status == DEGRADED]

    def as_result(self) -> dict[str, Any]:
        return {
            "msg": self.message(),
            "healthy": self.healthy,
            "checks": [check.as_result() for check in self.checks],
            "unhealthy": self.unhealthy,
            "degraded": self.degraded,
            "table": self.table(),
        }

    def table(self, width: int = TABLE_WIDTH_CHARACTERS) -> str:
        """Return a text table of at most `width` columns. Longer details are truncated; `checks` has them in full."""
        rows = [("STATUS", "CHECK", "TIME", "DETAIL")]
        rows += [(check.status, check.name, _time(check.response_time_ms), check.detail) for check in self.checks]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        room = max(20, width - sum(widths) - 2 * len(widths))
        lines = [
            f"{status:<{widths[0]}}  {name:<{widths[1]}}  {time:>{widths[2]}}  {_shortened(detail, room)}".rstrip()
            for status, name, time, detail in rows
        ]
        return "\n".join([*lines, "", self.summary()])

    def summary(self) -> str:
        """Return the counts, as in `24 checks: 1 unhealthy, 2 degraded, 21 healthy`."""
        counts = {status: sum(check.status == status for check in self.checks) for status in STATUSES}
        told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        return f"{len(self.checks)} {'check' if len(self.checks) == 1 else 'checks'}: {told or 'none was made'}"

    def message(self) -> str:
        """Return the unhealthy checks with their remedies, one line each; the summary when none is unhealthy."""
        failed = [check for check in self.checks if check.status == UNHEALTHY]
        if not failed:
            return self.summary()
        lines = [
            f"  - {check.name}: {check.detail}.{f' Next: {check.remedy}' if check.remedy else ''}" for check in failed
        ]
        return "\n".join([f"{len(failed)} of {len(self.checks)} checks are unhealthy:", *lines])


def _order(check: Check) -> tuple[int, int, str]:
    layer = LAYERS.index(check.layer) if check.layer in LAYERS else len(LAYERS)
    return STATUSES.index(check.status), layer, check.name


def _masked(check: Check, secrets: Sequence[str]) -> Check:
    detail, remedy = check.detail, check.remedy
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        detail, remedy = detail.replace(secret, MASK), remedy.replace(secret, MASK)
    # One line each, in a table and in a failure message.
    return replace(check, detail=" ".join(detail.split()), remedy=" ".join(remedy.split()))


def _time(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.0f} ms"


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 3].rstrip() + "..."
