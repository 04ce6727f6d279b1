# SPDX-License-Identifier: GPL-3.0-or-later
"""Cache of results, in bounded memory.

All inputs of a result identify it: the exact statement, the limits, the version of the engine and the versions of the
tables that it read. Those tables are known as soon as a process has examined the statement.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from crypto_lakehouse.query.locate import TableVersion

ENTRY_OVERHEAD_BYTES: Final = 1_024
MAX_STATEMENTS: Final = 10_000
LARGEST_SHARE: Final = 4
"""A result that needs more than this part of the memory is not stored."""
ID_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a query; `rows` is a JSON array of arrays, ready to be sent."""

    columns: list[dict[str, str]]
    rows: bytes
    row_count: int
    truncated: bool
    elapsed_ms: float
    cpu_ms: Mapping[str, float] = field(default_factory=dict)
    """Processor time of the query's processes by stage."""
    resident: bool = True
    """True when all tables that it read were in memory."""

    def document(self) -> bytes:
        """Return the result as JSON; the rows are JSON already, and are not parsed here."""
        tail = {"row_count": self.row_count, "truncated": self.truncated, "elapsed_ms": self.elapsed_ms}
        head = _compact({"columns": self.columns})
        return b"".join((head[:-1], b',"rows":', self.rows, b",", _compact(tail)[1:]))


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result with an identifier; `etag` identifies its bytes."""

    id: str
    etag: str
    body: bytes


class ResultCache:
    """The most recently used results, up to `max_bytes` of memory; 0 disables the cache."""

    def __init__(self, max_bytes: int, context: Mapping[str, Any]) -> None:
        self._max_bytes = max_bytes
        self._context = json.dumps(context, sort_keys=True)
        self._statements: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self._results: OrderedDict[str, StoredResult] = OrderedDict()
        self.used_bytes = 0

    def tables(self, sql: str, max_rows: int) -> tuple[str, ...] | None:
        """Return the tables that a statement reads, None when they are unknown or its results are not stored."""
        return self._statements.get(self._statement(sql, max_rows))

    def get(self, sql: str, max_rows: int, versions: Iterable[TableVersion]) -> StoredResult | None:
        """Return the statement's result on exactly these versions of its tables."""
        return self.by_id(self._identify(sql, max_rows, versions))

    def by_id(self, identifier: str) -> StoredResult | None:
        """Return a result by its identifier."""
        found = self._results.get(identifier)
        if found is not None:
            self._results.move_to_end(identifier)
        return found

    def put(self, sql: str, max_rows: int, versions: Iterable[TableVersion], result: Result) -> StoredResult | None:
        """Store a result of a repeatable statement; return None when it is too large."""
        body, read = result.document(), list(versions)
        size = len(body) + ENTRY_OVERHEAD_BYTES
        if size > self._max_bytes // LARGEST_SHARE:
            return None
        stored = StoredResult(
            self._identify(sql, max_rows, read), f'"{sha256(body).hexdigest()[:ID_CHARACTERS]}"', body
        )
        self._forget(stored.id)
        self._results[stored.id] = stored
        self.used_bytes += size
        self._statements[self._statement(sql, max_rows)] = tuple(sorted(version.name for version in read))
        self._statements.move_to_end(self._statement(sql, max_rows))
        while self.used_bytes > self._max_bytes:
            self._forget(next(iter(self._results)))
        while len(self._statements) > MAX_STATEMENTS:
            self._statements.popitem(last=False)
        return stored

    def _forget(self, identifier: str) -> None:
        found = self._results.pop(identifier, None)
        if found is not None:
            self.used_bytes -= len(found.body) + ENTRY_OVERHEAD_BYTES

    def _statement(self, sql: str, max_rows: int) -> bytes:
        return sha256(f"{max_rows} {sql}".encode()).digest()

    def _identify(self, sql: str, max_rows: int, versions: Iterable[TableVersion]) -> str:
        read = sorted((version.name, version.uuid, version.location, version.digest) for version in versions)
        identity = json.dumps([self._context, max_rows, sql, read])
        return sha256(identity.encode()).hexdigest()[:ID_CHARACTERS]


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
