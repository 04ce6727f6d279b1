# SPDX-License-Identifier: GPL-3.0-or-later
"""The error of a query that was not answered."""

from __future__ import annotations

from typing import Final


class QueryError(Exception):
    """A query that was not answered. `kind` is one of `QueryError.KINDS`.

    `retry_after_s` is the time before a useful retry, where it is known.
    """

    KINDS: Final = (
        "invalid",
        "not-allowed",
        "unknown-table",
        "timeout",
        "memory",
        "result-size",
        "busy",
        "storage",
        "internal",
    )

    def __init__(self, kind: str, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.kind = kind if kind in self.KINDS else "internal"
        self.detail = detail
        self.retry_after_s = retry_after_s
