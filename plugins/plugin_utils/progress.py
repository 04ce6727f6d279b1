# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The output of the ``progress`` callback, as pure functions of a task's result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# Return values that list a module's changes, the most relevant first.
NAMED_CHANGES = (
    "created",
    "generated",
    "given",
    "rotated",
    "written",
    "updated",
    "installed",
    "started",
    "restarted",
    "stopped",
    "removed",
    "deleted",
    "pruned",
)
# Return values that locate a change when the module does not list changes.
PLACES = ("dest", "path", "name")
MOST_NAMES_SHOWN = 6
_ASSERTIONS = frozenset({"assert", "ansible.builtin.assert"})
# Ansible's message of an assertion without its own message.
_BARE_ASSERTION = "Assertion failed"


def duration_text(seconds: float) -> str:
    """Return a duration in a readable form: ``0.4 s``, ``41.3 s``, ``2 min 05 s``.

    >>> duration_text(125)
    '2 min 05 s'
    """
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def enumeration(names: Sequence[str], most: int = MOST_NAMES_SHOWN) -> str:
    """Return names as a list of about one line.

    >>> enumeration(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def changes(result: Mapping[str, Any]) -> list[str]:
    """Return one line for each change in a result.

    A line contains names and paths only. A result that ``no_log`` censored has none, so that the list is empty.
    """
    named = [f"{key}: {enumeration(names)}" for key in NAMED_CHANGES if (names := _names(result.get(key)))]
    if named:
        return named
    paths = list(dict.fromkeys(_diff_paths(result.get("diff"))))
    if paths:
        return [enumeration(paths)]
    for key in PLACES:
        place = result.get(key)
        if isinstance(place, str) and place:
            return [place]
        if names := _names(place):
            return [enumeration(names)]
    return []


def _names(value: object) -> list[str]:
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(name, str) for name in value):
        return list(value)
    return []


def _diff_paths(diff: object) -> Iterable[str]:
    for part in diff if isinstance(diff, list) else [diff]:
        if not isinstance(part, Mapping):
            continue
        header = part.get("after_header") or part.get("before_header")
        if isinstance(header, str):
            # Ansible's template and copy actions write "PATH (content)".
            yield header.removesuffix(" (content)")


def is_worded_assertion(action: str, message: object) -> bool:
    """Return whether a failed assertion has its own message, which is more specific than the assertion."""
    return action in _ASSERTIONS and message != _BARE_ASSERTION


def message_lines(message: object) -> list[str] | None:
    """Return the lines of a ``debug: msg``, or None when it is data and not text."""
    if isinstance(message, str):
        return message.splitlines()
    if isinstance(message, list) and message and all(isinstance(line, str) for line in message):
        return [part for line in message for part in line.splitlines() or [""]]
    return None


def aligned(left: str, right: str, width: int, left_width: int | None = None) -> str:
    """Return ``left`` and ``right`` at the two ends of a line that is ``width`` columns wide.

    ``left_width`` is the number of columns of ``left`` when that differs from its length.
    """
    taken = len(left) if left_width is None else left_width
    return f"{left}{' ' * max(2, width - taken - len(right))}{right}"
