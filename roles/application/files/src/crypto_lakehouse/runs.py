# SPDX-License-Identifier: GPL-3.0-or-later
"""The table `pipeline_runs` of the database `lakehouse`: the last processed data and the rate of each step.

There is one row per flow and partition. Its figures (and the processing rate that is computed from them) are
those of the last run that wrote something. A run that found everything in place updates `finished_at`, which
shows that the flow is alive, and the line counts, which rows of an earlier version lack.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString

from crypto_lakehouse.tables import Partition

if TYPE_CHECKING:
    import psycopg

COLUMNS: Final[Mapping[str, str]] = {
    "flow": "text",
    "exchange": "text",
    "symbol": "text",
    "kline_interval": "text",
    "day": "date",
    "rows": "bigint",
    "bytes": "bigint",
    "duration_s": "double precision",
    "finished_at": "timestamp with time zone",
    "source": "text",
    "lines_read": "bigint",
    "lines_accepted": "bigint",
    "lines_refused": "bigint",
    "lines_duplicated": "bigint",
    "refusals": "jsonb",
}
"""Names and types as PostgreSQL prints them; `bytes` is what the step read.

Line counts are those of `clean`, null for other flows; `refusals` holds numbers of lines by reason."""

CREATE_TABLE: Final[LiteralString] = """
CREATE TABLE IF NOT EXISTS pipeline_runs (
    flow text NOT NULL,
    exchange text NOT NULL,
    symbol text NOT NULL,
    kline_interval text NOT NULL,
    day date NOT NULL,
    "rows" bigint NOT NULL,
    "bytes" bigint NOT NULL,
    duration_s double precision NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    source text NOT NULL,
    lines_read bigint,
    lines_accepted bigint,
    lines_refused bigint,
    lines_duplicated bigint,
    refusals jsonb,
    PRIMARY KEY (flow, exchange, symbol, kline_interval, day)
)
"""

CREATE_INDEX: Final[LiteralString] = """
CREATE INDEX IF NOT EXISTS pipeline_runs_finished_at ON pipeline_runs (finished_at DESC)
"""

_INSERT: Final[LiteralString] = """
INSERT INTO pipeline_runs
       (flow, exchange, symbol, kline_interval, day, "rows", "bytes", duration_s, finished_at, source,
        lines_read, lines_accepted, lines_refused, lines_duplicated, refusals)
VALUES (%(flow)s, %(exchange)s, %(symbol)s, %(kline_interval)s, %(day)s,
        %(rows)s, %(bytes)s, %(duration_s)s, now(), %(source)s,
        %(lines_read)s, %(lines_accepted)s, %(lines_refused)s, %(lines_duplicated)s, %(refusals)s::jsonb)
ON CONFLICT (flow, exchange, symbol, kline_interval, day) DO """

_RENEW: Final[LiteralString] = """UPDATE SET finished_at = excluded.finished_at, lines_read = excluded.lines_read,
lines_accepted = excluded.lines_accepted, lines_refused = excluded.lines_refused,
lines_duplicated = excluded.lines_duplicated, refusals = excluded.refusals"""
_UPDATE: Final[LiteralString] = (
    _RENEW
    + """, "rows" = excluded."rows", "bytes" = excluded."bytes", duration_s = excluded.duration_s,
source = excluded.source"""
)


@dataclass(frozen=True, slots=True)
class Lines:
    """Number of lines that a run of `clean` read, by outcome.

    Each line read was accepted, refused, or a duplicate of an accepted one. reasons: refused and duplicated lines by
    class of reason (`clean.REASONS`).
    """

    read: int
    accepted: int
    refused: int
    duplicated: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """Result of one step on one partition. `changed`: data was written to the tier."""

    flow: str
    partition: Partition
    source: str
    rows: int
    bytes: int
    duration_s: float
    changed: bool
    lines: Lines | None = None

    def as_row(self) -> dict[str, Any]:
        """Return the values by column, without `finished_at`."""
        names = ("flow", "source", "rows", "bytes", "duration_s")
        row = {**self.partition.as_row(), **{name: getattr(self, name) for name in names}}
        for name in ("read", "accepted", "refused", "duplicated"):
            row[f"lines_{name}"] = getattr(self.lines, name) if self.lines else None
        row["refusals"] = json.dumps(self.lines.reasons, sort_keys=True) if self.lines else None
        return row

    def describe(self) -> str:
        """Return one line for a log."""
        outcome = "written" if self.changed else "already in place"
        return (
            f"{self.flow} {self.partition} from {self.source}: {self.rows} rows {outcome}{self._refusals()}, "
            f"{self.bytes} bytes read in {self.duration_s:.2f} s"
        )

    def _refusals(self) -> str:
        if not self.lines or not self.lines.reasons:
            return ""
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.lines.reasons.items()))
        counts = f"{self.lines.refused} of {self.lines.read} lines refused and {self.lines.duplicated} duplicated"
        return f", {counts} ({reasons})"


def record(connection: psycopg.Connection[Any], run: Run) -> None:
    """Write the run; if it changed nothing, only the time, unless its flow and partition have no row.

    The latter repairs a run that was killed between its last commit and this statement.

    Raises:
        psycopg.Error: when the database rejects the statement.
    """
    connection.execute(_INSERT + (_UPDATE if run.changed else _RENEW), run.as_row())
    connection.commit()
