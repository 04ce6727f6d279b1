# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hints for misspelled names. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar to `name`, or None when none is similar.

    cutoff: the least similarity, from 0 to 1, as in `difflib.get_close_matches`.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a question that names the closest known name, or a list of all when none is similar."""
    names = sorted(set(known))
    near = closest(name, names, cutoff=0.5)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"known are: {', '.join(names)}" if names else "there are none"


def replacement(name: str, known: Iterable[str]) -> str:
    """Return a remedy that names the closest known name, or all of them when none is similar."""
    names = sorted(known)
    near = closest(name, names, cutoff=0.5)
    if near is not None:
        return f"write {near}"
    return f"use one of: {', '.join(names)}" if names else "remove it, no name is valid here"
