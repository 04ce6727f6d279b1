# SPDX-License-Identifier: GPL-3.0-or-later
"""Allowed content of a statement, checked on DuckDB's own syntax tree and never on the text.

Everything is an allow list: nodes, expressions, functions, table functions and qualified names. The list of functions,
`functions.json`, is generated from the engine's own catalogue (`functions`): each class has its reason, a macro is
classified by its expansion, and an unclassified function is rejected.

The engine is locked independently of this: no statement reaches files, other addresses, settings and extensions. This
module rejects functions that show a locked engine's state, bind a text as SQL or hold a process without computing,
and everything except queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from crypto_lakehouse.query.functions import SQL_VALUES, Functions, load

GOLD: Final = "gold"
FUNCTIONS: Final[Functions] = load()

MAX_TABLES: Final = 64
SHOWS: Final = frozenset({"DESCRIBE", "SUMMARY"})

# Every kind of node in queries. Others are rejected, so that a construct of a later DuckDB is
# reviewed before it is allowed.
NODES: Final = frozenset(
    {
        *("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"),
        *("BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SHOW_REF", "SUBQUERY", "TABLE_FUNCTION"),
        *("DISTINCT_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "ORDER_MODIFIER"),
        *("ASCENDING", "DESCENDING", "ORDER_DEFAULT"),
    }
)

EXPRESSIONS: Final[Mapping[str, frozenset[str]]] = {
    "BETWEEN": frozenset({"COMPARE_BETWEEN"}),
    "CASE": frozenset({"CASE_EXPR"}),
    "CAST": frozenset({"OPERATOR_CAST"}),
    "COLLATE": frozenset({"COLLATE"}),
    "COLUMN_REF": frozenset({"COLUMN_REF"}),
    "COMPARISON": frozenset(
        {
            *("COMPARE_EQUAL", "COMPARE_NOTEQUAL", "COMPARE_LESSTHAN", "COMPARE_GREATERTHAN"),
            *("COMPARE_LESSTHANOREQUALTO", "COMPARE_GREATERTHANOREQUALTO"),
            *("COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM"),
        }
    ),
    "CONJUNCTION": frozenset({"CONJUNCTION_AND", "CONJUNCTION_OR"}),
    "CONSTANT": frozenset({"VALUE_CONSTANT"}),
    "FUNCTION": frozenset({"FUNCTION"}),
    "LAMBDA": frozenset({"LAMBDA"}),
    "OPERATOR": frozenset(
        {
            *("OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL", "OPERATOR_COALESCE", "OPERATOR_NULLIF"),
            *("OPERATOR_TRY", "OPERATOR_UNPACK", "COMPARE_IN", "COMPARE_NOT_IN", "GROUPING_FUNCTION"),
            *("ARRAY_EXTRACT", "ARRAY_SLICE", "ARRAY_CONSTRUCTOR", "STRUCT_EXTRACT", "ARROW"),
        }
    ),
    "POSITIONAL_REFERENCE": frozenset({"POSITIONAL_REFERENCE"}),
    "STAR": frozenset({"STAR"}),
    "SUBQUERY": frozenset({"SUBQUERY"}),
    "WINDOW": frozenset(
        {
            *("WINDOW_AGGREGATE", "WINDOW_RANK", "WINDOW_RANK_DENSE", "WINDOW_NTILE", "WINDOW_PERCENT_RANK"),
            *("WINDOW_CUME_DIST", "WINDOW_ROW_NUMBER", "WINDOW_FIRST_VALUE", "WINDOW_LAST_VALUE", "WINDOW_NTH_VALUE"),
            *("WINDOW_LEAD", "WINDOW_LAG", "WINDOW_FILL"),
        }
    ),
}
"""Expressions by class; complete queries contain no parameters and no DEFAULT."""

CALL_MEMBERS: Final = frozenset(
    {
        *("class", "type", "alias", "query_location", "schema", "catalog", "function_name", "children"),
        *("distinct", "filter", "order_bys", "is_operator"),
    }
)
"""Members of a function call. `export_state` is not one of them: the state of an aggregate holds addresses and unused
bytes of the process's memory."""

QUALIFIERS: Final = frozenset({"", "main"})
FOREIGN_QUALIFIERS: Final = frozenset({"information_schema", "memory", "pg_catalog", "system", "temp", GOLD})
"""Schemas and catalogues of the engine; any other qualifier of a function is the value of a method call."""


class PolicyError(Exception):
    """The statement contains something that is not allowed; the message names it."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Tables that a statement reads, and whether the same versions of them give the same result again."""

    tables: frozenset[str]
    repeatable: bool


@dataclass(slots=True)
class _Walk:
    expressions: frozenset[str]
    resident: frozenset[str]
    tables: set[str] = field(default_factory=set)
    repeatable: bool = True


def gold_tables(statement: Mapping[str, Any], reserved: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the names of the gold tables that the statement reads; see `judge`."""
    return judge(statement, reserved).tables


def judge(
    statement: Mapping[str, Any],
    reserved: frozenset[str] = frozenset(),
    resident: frozenset[str] = frozenset(),
) -> Judgement:
    """Return the gold tables that the statement reads, in lower case and without the namespace.

    Args:
        statement: one entry of `statements` as DuckDB's `json_serialize_sql` gives it.
        reserved: names of the engine's own views: a common table expression of such a name would make a reference
            ambiguous.
        resident: tables that the engine holds; one whose name a common table expression has may be read as well.

    Raises:
        PolicyError: when the statement contains anything but a query over gold tables.
    """
    expressions = frozenset(name.casefold() for name in _common_table_expressions(statement))
    for name in sorted(expressions & reserved):
        raise PolicyError(f"the name {name} is reserved")
    walk = _Walk(expressions, resident)
    for node in _objects(statement):
        _check_node(node, walk)
    if len(walk.tables) > MAX_TABLES:
        raise PolicyError(f"a query may read {MAX_TABLES} tables at most")
    return Judgement(frozenset(walk.tables), walk.repeatable)


def _objects(tree: Any) -> Iterator[Mapping[str, Any]]:
    # A stack, since a statement may nest deeper than Python's own.
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            yield item
            waiting.extend(_children(item))
        elif isinstance(item, list):
            waiting.extend(item)


def _children(node: Mapping[str, Any]) -> Iterator[Any]:
    for value in node.values():
        # A table function is an expression with an allow list of its own: its arguments follow.
        if node.get("type") == "TABLE_FUNCTION" and isinstance(value, Mapping) and "function_name" in value:
            yield from value.values()
        else:
            yield value


def _common_table_expressions(statement: Mapping[str, Any]) -> Iterator[str]:
    for node in _objects(statement):
        if isinstance(table := node.get("cte_map"), Mapping):
            yield from (str(entry.get("key", "")) for entry in table.get("map", []))
        if isinstance(name := node.get("cte_name"), str):
            yield name


def _check_node(node: Mapping[str, Any], walk: _Walk) -> None:
    if "function_name" in node:
        _check_function(node, walk)
    if node.get("sample"):
        walk.repeatable = False
    kind = node.get("type")
    if "class" in node:
        _check_expression(node, walk)
        return
    if not isinstance(kind, str):
        return
    if kind not in NODES and not kind.endswith("_TYPE_INFO"):
        raise PolicyError(f"{_words(kind)} is not allowed in a query")
    if kind == "SHOW_REF":
        _check_show(node, walk)
    elif kind == "TABLE_FUNCTION":
        _check_table_function(node, walk)
    elif kind == "BASE_TABLE":
        _add_table(node, walk)


def _check_expression(node: Mapping[str, Any], walk: _Walk) -> None:
    kind, name = node.get("type"), node.get("class")
    if not isinstance(name, str) or not isinstance(kind, str) or kind not in EXPRESSIONS.get(name, ()):
        raise PolicyError(f"the expression {_words(str(kind))} is not allowed in a query")
    if name == "FUNCTION":
        _check_call(node)
    names = node.get("column_names")
    if name == "COLUMN_REF" and isinstance(names, list) and len(names) == 1:
        column = str(names[0]).casefold()
        if column not in SQL_VALUES:
            return
        if SQL_VALUES[column] is None:
            raise PolicyError(f"{column} is not allowed; a column of that name is read as TABLE.{column}")
        walk.repeatable = False


def _check_function(node: Mapping[str, Any], walk: _Walk) -> None:
    name = str(node["function_name"]).casefold()
    schema, catalog = (str(node.get(key, "")).casefold() for key in ("schema", "catalog"))
    if {schema, catalog} & FOREIGN_QUALIFIERS or (catalog and schema in QUALIFIERS):
        raise PolicyError(f"the function {name} is not allowed with the name of a schema")
    repeatable = FUNCTIONS.calls.get(name)
    if repeatable is None:
        raise PolicyError(f"the function {name} is not allowed")
    walk.repeatable = walk.repeatable and repeatable


def _check_call(node: Mapping[str, Any]) -> None:
    for member in sorted(member for member, value in node.items() if value and member not in CALL_MEMBERS):
        raise PolicyError(f"{member.upper()} is not allowed in the call of a function")


def _check_table_function(node: Mapping[str, Any], walk: _Walk) -> None:
    function = node.get("function")
    if not isinstance(function, Mapping) or function.get("schema") or function.get("catalog"):
        raise PolicyError("this form of a table function is not allowed")
    name = str(function.get("function_name", "")).casefold()
    repeatable = FUNCTIONS.tables.get(name)
    if repeatable is None:
        raise PolicyError(f"the table function {name} is not allowed")
    walk.repeatable = walk.repeatable and repeatable


def _check_show(node: Mapping[str, Any], walk: _Walk) -> None:
    if str(node.get("show_type")) not in SHOWS or "query" not in node:
        raise PolicyError("SHOW is not allowed; GET /v1/tables lists the tables")
    # The figures of a summary are approximate.
    walk.repeatable = walk.repeatable and node["show_type"] == "DESCRIBE"


def _add_table(node: Mapping[str, Any], walk: _Walk) -> None:
    name = str(node.get("table_name", "")).casefold()
    schema = str(node.get("schema_name", "")).casefold()
    if node.get("catalog_name") or schema not in ("", GOLD) or not name:
        given = ".".join(str(node[key]) for key in ("catalog_name", "schema_name", "table_name") if node.get(key))
        raise PolicyError(f"{given} is not a table of the gold tier")
    if node.get("at_clause"):
        raise PolicyError("AT is not allowed; a query reads the newest snapshot")
    if schema or name not in walk.expressions or name in walk.resident:
        walk.tables.add(name)


def _words(kind: str) -> str:
    return kind.lower().replace("_", " ")
