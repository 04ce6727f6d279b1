# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures, their limits, and the table of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_DIGITS = {"s": 1, "CPU s": 2, "times": 2, "ms": 1, "%": 2}
HEAD = ("figure", "measured", "limit", "ratio")


@dataclass(frozen=True)
class Figure:
    """A measurement. One without a limit is only shown.

    limit: its maximum; its minimum with `at_least`.
    """

    name: str
    value: float
    unit: str = ""
    limit: float | None = None
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Return whether the figure respects its limit."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def ratio(self) -> float | None:
        """Return the used part of the limit; None without a limit, or if it is zero."""
        return self.value / self.limit if self.limit else None

    def cells(self) -> tuple[str, str, str, str]:
        """Return the figure's row of the table."""
        limit = "-" if self.limit is None else _number(self.limit, self.unit)
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        verdict = "" if self.holds else " TOO LITTLE" if self.at_least else " TOO MUCH"
        return self.name, _number(self.value, self.unit), limit, f"{ratio}{verdict}"

    def as_json(self) -> dict[str, Any]:
        """Return the figure for programs."""
        return {**asdict(self), "ratio": self.ratio, "holds": self.holds}


def _number(value: float, unit: str) -> str:
    text = f"{value:.{_DIGITS.get(unit, 0)}f}"
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
