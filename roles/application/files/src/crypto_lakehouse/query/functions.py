# SPDX-License-Identifier: GPL-3.0-or-later
"""The functions of the engine, each in a class with a reason, which decides whether queries may call it.

`functions.json` contains the classes. `python -m crypto_lakehouse.query.functions` updates it from the catalogue of
the installed engine. It keeps the class of every known function, and puts a new one into the class `unclassified`.
Functions of that class are rejected, and a test fails until a person has classified them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import _duckdb

FILE: Final = "functions.json"
UNCLASSIFIED: Final = "unclassified"
BINDER: Final = "binder"
"""Functions that the engine's binder knows by name and its catalogue does not list."""
CALLS: Final = frozenset({"scalar", "aggregate", "macro", BINDER})
"""Kinds of functions that are called in an expression; window functions are aggregates of the catalogue."""
EXPANDED: Final = frozenset({"macro", "table_macro"})
PARSED: Final = "SELECT json_serialize_sql(?, skip_null := true, skip_empty := true, skip_default := true)"

SQL_VALUES: Final[Mapping[str, str | None]] = {
    "current_date": "current_date",
    "current_time": "get_current_time",
    "current_timestamp": "now",
    "localtime": "current_localtime",
    "localtimestamp": "current_localtimestamp",
    "current_catalog": None,
    "current_role": None,
    "current_schema": None,
    "current_user": None,
    "session_user": None,
    "user": None,
}
"""Names that the engine takes for a function where no column has them, with that function; None is rejected."""

CATALOGUE: Final = """
SELECT DISTINCT function_type, lower(function_name), coalesce(stability, ''), macro_definition
FROM duckdb_functions() ORDER BY ALL"""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the engine's catalogue; all overloads of one name and kind are one function."""

    kind: str
    name: str
    consistent: bool
    """True when the catalogue calls every overload CONSISTENT; a macro has no such entry."""
    definitions: tuple[str, ...] = ()
    """Expansions of a macro, as SQL."""


@dataclass(frozen=True, slots=True)
class Functions:
    """The allowed functions by name, and whether the same arguments give the same value again."""

    calls: Mapping[str, bool]
    tables: Mapping[str, bool]


@cache
def load() -> Functions:
    """Return the allowed functions.

    A name is allowed where all of its kinds are allowed: the engine chooses between a function and a macro.
    """
    document = read()
    return Functions(_allowed(document, CALLS), _allowed(document, {"table", "table_macro"}))


def read() -> dict[str, Any]:
    """Return the stored classes."""
    document: dict[str, Any] = json.loads(files("crypto_lakehouse.query").joinpath(FILE).read_text("utf-8"))
    return document


def members(group: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return the kind and the name of every function of a class."""
    for kind, names in group["functions"].items():
        yield from ((kind, name) for name in names)


def _allowed(document: Mapping[str, Any], kinds: Iterable[str]) -> dict[str, bool]:
    chosen = frozenset(kinds)
    allowed: dict[str, bool] = {}
    refused: set[str] = set()
    for group in document["classes"].values():
        for kind, name in members(group):
            if kind not in chosen:
                continue
            if group["allowed"]:
                allowed[name] = allowed.get(name, True) and group["repeatable"]
            else:
                refused.add(name)
    return {name: repeatable for name, repeatable in allowed.items() if name not in refused}


def catalogue(connection: _duckdb.DuckDBPyConnection) -> list[Function]:
    """Return every function of the engine, extensions included."""
    stabilities: dict[tuple[str, str], set[str]] = {}
    definitions: dict[tuple[str, str], list[str]] = {}
    for kind, name, stability, definition in connection.execute(CATALOGUE).fetchall():
        stabilities.setdefault((kind, name), set()).add(stability)
        if kind in EXPANDED and definition:
            definitions.setdefault((kind, name), []).append(definition)
    return [
        Function(kind, name, found == {"CONSISTENT"}, tuple(definitions.get((kind, name), ())))
        for (kind, name), found in sorted(stabilities.items())
    ]


def called(connection: _duckdb.DuckDBPyConnection, function: Function) -> frozenset[str] | None:
    """Return the functions that a macro's expansion calls, None when it reads a table or cannot be parsed."""
    names: set[str] = set()
    for definition in function.definitions:
        sql = definition if function.kind == "table_macro" else f"SELECT {definition}"
        row = connection.execute(PARSED, [sql]).fetchone()
        tree = json.loads(row[0]) if row else {}
        if tree.get("error", True) and not tree.get("statements"):
            return None
        for node in _objects(tree):
            if node.get("type") in ("BASE_TABLE", "TABLE_FUNCTION", "SHOW_REF"):
                return None
            if "function_name" in node:
                names.add(str(node["function_name"]).casefold())
            names |= set(_sql_values(node))
    return frozenset(names)


def _sql_values(node: Mapping[str, Any]) -> Iterator[str]:
    columns = node.get("column_names")
    if isinstance(columns, list) and len(columns) == 1 and str(columns[0]).casefold() in SQL_VALUES:
        column = str(columns[0]).casefold()
        yield SQL_VALUES[column] or column


def _objects(tree: Any) -> Iterator[Mapping[str, Any]]:
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def updated(document: Mapping[str, Any], found: Iterable[Function]) -> dict[str, Any]:
    """Return the classes with exactly the functions of `found`; a function without a class is `unclassified`."""
    known = {entry: name for name, group in document["classes"].items() for entry in members(group)}
    lists: dict[str, dict[str, list[str]]] = {
        name: {kind: list(names) for kind, names in group["functions"].items() if kind == BINDER}
        for name, group in document["classes"].items()
    }
    for function in found:
        home = known.get((function.kind, function.name), UNCLASSIFIED)
        lists[home].setdefault(function.kind, []).append(function.name)
    classes = {
        name: {**group, "functions": {kind: sorted(names) for kind, names in sorted(lists[name].items())}}
        for name, group in document["classes"].items()
    }
    return {**document, "classes": classes}


def main() -> int:
    """Write `functions.json` for the installed engine; return 1 when a function has no class."""
    from crypto_lakehouse.query import sandbox

    connection = sandbox.open_engine()
    row = connection.execute("SELECT version()").fetchone()
    document = {**updated(read(), catalogue(connection)), "engine": str(row[0]) if row else ""}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    Path(str(files("crypto_lakehouse.query").joinpath(FILE))).write_text(text, "utf-8")
    for kind, name in members(document["classes"][UNCLASSIFIED]):
        print(f"unclassified: {kind} {name}. Move it into a class of {FILE}")
    return 1 if document["classes"][UNCLASSIFIED]["functions"] else 0


if __name__ == "__main__":
    import sys

    sys.exit(main())
