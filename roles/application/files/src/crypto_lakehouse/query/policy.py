# SPDX-License-Identifier: GPL-3.0-or-later
"""What a statement may contain, decided on DuckDB's own syntax tree and never on the text.

The engine is locked without this: files, other addresses, settings and extensions are out of reach of any
statement. What is refused here is what a locked engine still shows of itself (its secrets' key ids, its
settings, the list of files behind a table) and everything that is not a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

GOLD: Final = "gold"

TABLE_FUNCTIONS: Final = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})
"""Functions in FROM that compute from their arguments alone."""

REFUSED_FUNCTIONS: Final = frozenset(
    {"current_query", "current_setting", "currval", "getenv", "getvariable", "nextval", "write_log"}
)
"""Scalar functions that look at or change the engine instead of computing from their arguments."""

SHOWS: Final = frozenset({"DESCRIBE", "SUMMARY"})

# Every kind of node that a query is made of; expressions carry a `class` and are not listed.
# What is not here is refused, so that a construct of a later DuckDB is looked at before it is let in.
NODES: Final = frozenset(
    {
        *("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"),
        *("BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SHOW_REF", "SUBQUERY", "TABLE_FUNCTION"),
        *("DISTINCT_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER"),
        *("ASCENDING", "DESCENDING", "ORDER_DEFAULT"),
    }
)


class PolicyError(Exception):
    """The statement contains something that is not allowed; the message says what."""


def gold_tables(statement: Mapping[str, Any], reserved: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the names of the gold tables that the statement reads, in lower case, without the namespace.

    `statement` is one entry of `statements` as DuckDB's `json_serialize_sql` gives it. `reserved` are the names
    of the engine's own views: a common table expression of such a name would make a reference ambiguous.

    Raises:
        PolicyError: when the statement contains anything but a query over gold tables.
    """
    expressions = {name.casefold() for name in _common_table_expressions(statement)}
    for name in sorted(expressions & reserved):
        raise PolicyError(f"the name {name} is reserved")
    tables = set()
    for node in _objects(statement):
        _check_function(node)
        kind = node.get("type")
        if "class" in node or not isinstance(kind, str):
            continue
        if kind not in NODES and not kind.endswith("_TYPE_INFO"):
            raise PolicyError(f"{kind.lower().replace('_', ' ')} is not allowed in a query")
        if kind == "SHOW_REF" and (node.get("show_type") not in SHOWS or "query" not in node):
            raise PolicyError("SHOW is not allowed; GET /v1/tables lists the tables")
        if kind == "TABLE_FUNCTION":
            _check_table_function(node)
        elif kind == "BASE_TABLE":
            tables |= _referenced(node, expressions)
    return frozenset(tables)


def _objects(tree: Any) -> Iterator[Mapping[str, Any]]:
    # A stack, since a statement may nest deeper than Python's own.
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _common_table_expressions(statement: Mapping[str, Any]) -> Iterator[str]:
    for node in _objects(statement):
        if isinstance(table := node.get("cte_map"), Mapping):
            yield from (str(entry.get("key", "")) for entry in table.get("map", []))
        if isinstance(name := node.get("cte_name"), str):
            yield name


def _check_function(node: Mapping[str, Any]) -> None:
    name = node.get("function_name")
    if isinstance(name, str) and (name.casefold() in REFUSED_FUNCTIONS or name.casefold().startswith("iceberg_")):
        raise PolicyError(f"the function {name} is not allowed")


def _check_table_function(node: Mapping[str, Any]) -> None:
    function = node.get("function")
    name = function.get("function_name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or name.casefold() not in TABLE_FUNCTIONS:
        raise PolicyError(f"the table function {name} is not allowed")


def _referenced(node: Mapping[str, Any], expressions: set[str]) -> set[str]:
    name = str(node.get("table_name", "")).casefold()
    schema = str(node.get("schema_name", "")).casefold()
    if node.get("catalog_name") or schema not in ("", GOLD) or not name:
        given = ".".join(str(node[key]) for key in ("catalog_name", "schema_name", "table_name") if node.get(key))
        raise PolicyError(f"{given} is not a table of the gold tier")
    return set() if not schema and name in expressions else {name}
