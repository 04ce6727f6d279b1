# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Schedules as AWS writes them: `cron(MINUTES HOURS DAY-OF-MONTH MONTH DAY-OF-WEEK YEAR)`. Pure."""

from __future__ import annotations

import re

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
# Name, minimum, maximum and keywords of each field.
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minutes", 0, 59, ()),
    ("hours", 0, 23, ()),
    ("day of month", 1, 31, ("?", "L", "W")),
    ("month", 1, 12, _MONTHS),
    ("day of week", 1, 7, ("?", "L", *_DAYS)),
    ("year", 1970, 2199, ()),
)
EXAMPLE = "cron(0 5 ? * * *)"


def cron_fault(value: str) -> str | None:
    """Return the problem of a schedule, or None. Source: "Cron expressions" in the guide of EventBridge."""
    match = re.fullmatch(r"cron\((.*)\)", value)
    if match is None:
        return f"{value!r} is not of the form cron(...)"
    fields = match[1].split()
    if len(fields) != len(_FIELDS):
        return f"{value!r} has {len(fields)} fields and not {len(_FIELDS)}"
    for text, (name, low, high, words) in zip(fields, _FIELDS, strict=True):
        for part in re.split(r"[,\-/]", text.removeprefix("*/")):
            if not _is_field(part, low, high, words):
                return f"{value!r} has {part!r} as {name}"
    if (fields[2] == "?") == (fields[4] == "?"):
        return f"{value!r} needs a ? as day of month or as day of week, and not as both"
    return None


def _is_field(part: str, low: int, high: int, words: tuple[str, ...]) -> bool:
    number = re.sub(r"[LW]$|#[1-5]$", "", part) if words else part
    return part == "*" or part.upper() in words or (number.isdigit() and low <= int(number) <= high)
