# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures, the limits that they are held against, and the table that shows both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

HEAD = ("figure", "measured", "limit", "ratio")


@dataclass(frozen=True)
class Figure:
    """Something measured. One without a limit is told, and judged by nobody."""

    name: str
    value: float
    unit: str = ""
    limit: float | None = None

    @property
    def holds(self) -> bool:
        """Tell whether the figure keeps its limit."""
        return self.limit is None or self.value <= self.limit

    @property
    def ratio(self) -> float | None:
        """Return the part of the limit that is used; None where there is no limit, or it is zero."""
        return self.value / self.limit if self.limit else None

    def cells(self) -> tuple[str, str, str, str]:
        """Return the figure's row of the table."""
        limit = "-" if self.limit is None else _number(self.limit, self.unit)
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        return self.name, _number(self.value, self.unit), limit, ratio if self.holds else f"{ratio} TOO MUCH"

    def as_json(self) -> dict[str, Any]:
        """Return the figure for programs."""
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}


def _number(value: float, unit: str) -> str:
    text = f"{value:.1f}" if unit == "s" else f"{value:.0f}"
    return f"{text} {unit}".rstrip()


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as text in columns, numbers to the right."""
    rows: Sequence[tuple[str, ...]] = [HEAD, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )
