# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits and access of a query."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one query."""

    timeout_s: float
    memory_mb: int
    max_rows: int
    max_result_bytes: int


@dataclass(frozen=True, slots=True)
class Grant:
    """Read-only access to the files of the gold tables, and to nothing else."""

    scope: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str
    endpoint: str | None
    url_style: str | None
    tls: bool
