# SPDX-License-Identifier: GPL-3.0-or-later
"""The table `pipeline_runs` of the database `lakehouse`: what each step last processed, and how fast.

There is one row a flow and partition. Its figures (and the processing rate that is computed from them) are
those of the last run that wrote something; a run that found everything in place renews `finished_at` alone,
which says that the flow is alive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
}
"""Names and types as PostgreSQL prints them; `bytes` is what the step read."""

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
    PRIMARY KEY (flow, exchange, symbol, kline_interval, day)
)
"""

CREATE_INDEX: Final[LiteralString] = """
CREATE INDEX IF NOT EXISTS pipeline_runs_finished_at ON pipeline_runs (finished_at DESC)
"""

_INSERT: Final[LiteralString] = """
INSERT INTO pipeline_runs
       (flow, exchange, symbol, kline_interval, day, "rows", "bytes", duration_s, finished_at, source)
VALUES (%(flow)s, %(exchange)s, %(symbol)s, %(kline_interval)s, %(day)s,
        %(rows)s, %(bytes)s, %(duration_s)s, now(), %(source)s)
ON CONFLICT (flow, exchange, symbol, kline_interval, day) DO """

_RENEW: Final[LiteralString] = "UPDATE SET finished_at = excluded.finished_at"
_UPDATE: Final[LiteralString] = """UPDATE SET "rows" = excluded."rows", "bytes" = excluded."bytes",
duration_s = excluded.duration_s, finished_at = excluded.finished_at, source = excluded.source"""


@dataclass(frozen=True, slots=True)
class Run:
    """What one step did on one partition. `changed`: something was written to the tier."""

    flow: str
    partition: Partition
    source: str
    rows: int
    refused: int
    bytes: int
    duration_s: float
    changed: bool

    def as_row(self) -> dict[str, Any]:
        """Return the values by column, without `finished_at`."""
        names = ("flow", "source", "rows", "bytes", "duration_s")
        return {**self.partition.as_row(), **{name: getattr(self, name) for name in names}}

    def describe(self) -> str:
        """Return one line for a log."""
        outcome = "written" if self.changed else "already in place"
        refused = f", {self.refused} lines refused" if self.refused else ""
        return (
            f"{self.flow} {self.partition} from {self.source}: {self.rows} rows {outcome}{refused}, "
            f"{self.bytes} bytes read in {self.duration_s:.2f} s"
        )


def record(connection: psycopg.Connection[Any], run: Run) -> None:
    """Write the run; of one that changed nothing only the time, unless none is known of its flow and partition.

    The latter heals a run that was killed between its last commit and this statement.

    Raises:
        psycopg.Error: when the database refuses.
    """
    connection.execute(_INSERT + (_UPDATE if run.changed else _RENEW), run.as_row())
    connection.commit()
