# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint under statements from a grammar, and under mutations of a corpus, in bounded time."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
import services
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_api_query import ATTACKS
from test_query_functions import REFUSED_CALLS, REFUSED_TABLES
from test_query_policy import REFUSED

from crypto_lakehouse.query import functions

# Each example is a request to real processes: their number bounds the time.
BOUNDED = settings(max_examples=120, deadline=None, phases=[Phase.explicit, Phase.generate])
ANSWERS = {200, 400, 403, 404, 422, 429, 503}
UNKNOWN_STORE = re.compile(r"(s3|https?|file)://|/etc/|/proc/|allowed_directories|memory_limit|root:")

columns = st.sampled_from(["day", "symbol", "close", "volume", "opened_at", "missing", "user", "current_date", "rowid"])
tables = st.sampled_from(["gold.api_candles", "api_candles", "x", "gold.x", "main.sqlite_master", "duckdb_tables"])
literals = st.sampled_from(
    ["1", "-1", "NULL", "'a'", "1.5", "[1, 2]", "{'a': 1}", "DATE '2024-01-01'", "'threads'", "true"]
)
every_call = sorted(
    {
        name
        for group in functions.read()["classes"].values()
        for kind, name in functions.members(group)
        if kind in functions.CALLS and re.fullmatch(r"\w+", name)
    }
)
every_table_function = sorted(
    {
        name
        for group in functions.read()["classes"].values()
        for kind, name in functions.members(group)
        if kind in ("table", "table_macro")
    }
)
operators = st.sampled_from(["+", "-", "*", "/", "||", "=", "<", "AND", "LIKE", "->", "IN", "::", ".", ":=", "~"])


def expressions() -> st.SearchStrategy[str]:
    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        call = st.builds("{}({})".format, st.sampled_from(every_call), st.lists(inner, max_size=3).map(", ".join))
        return st.one_of(
            call,
            st.builds("({} {} {})".format, inner, operators, inner),
            st.builds("CASE WHEN {} THEN {} END".format, inner, inner),
            st.builds("CAST({} AS VARCHAR)".format, inner),
            st.builds("list_transform([{}], lambda x: {})".format, inner, inner),
            st.builds("{} OVER (ORDER BY {})".format, call, inner),
            st.builds("(SELECT {} FROM {} LIMIT 1)".format, inner, sources(inner)),
            st.builds("main.{}".format, call),
        )

    return st.recursive(st.one_of(columns, literals), larger, max_leaves=8)


def sources(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    made = st.builds("{}({})".format, st.sampled_from(every_table_function), st.lists(inner, max_size=2).map(", ".join))
    return st.one_of(tables, made, st.just("range(3)"), st.builds("(SELECT {}) t".format, inner))


def statements() -> st.SearchStrategy[str]:
    inner = expressions()
    query = st.builds("SELECT {} FROM {}".format, inner, sources(inner))
    return st.one_of(
        query,
        st.builds("{} WHERE {} ORDER BY {} LIMIT 3".format, query, inner, inner),
        st.builds("WITH x AS ({}) SELECT * FROM x, {}".format, query, tables),
        st.builds("{} UNION ALL {}".format, query, query),
        st.builds("SELECT {} GROUP BY ALL HAVING {}".format, inner, inner),
        st.builds("FROM (PIVOT {} ON {} USING count(*))".format, tables, columns),
        st.builds(
            "{} {}".format, st.sampled_from(["DESCRIBE", "SUMMARIZE", "EXPLAIN", "PRAGMA", "CALL", "SHOW"]), query
        ),
    )


CORPUS = [
    *ATTACKS.values(),
    *REFUSED,
    *(f"SELECT {call}" for call in REFUSED_CALLS),
    *(f"FROM {call}" for call in REFUSED_TABLES),
]
PIECES = [
    ";",
    "--",
    "/*",
    "*/",
    "'",
    '"',
    "$$",
    "(",
    ")",
    ",",
    " ",
    "\n",
    "\t",
    "\u00a0",
    "\u200b",
    "\ufeff",
    "0x",
    "::",
    "..",
    "@",
    "{",
    "}",
    "%",
]


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """Return a statement from one or two of the corpus, with pieces inserted, removed, doubled and in other case."""
    text = draw(st.sampled_from(CORPUS))
    for _time in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        change = draw(st.sampled_from(["insert", "delete", "double", "case", "join", "comment"]))
        end = min(len(text), place + draw(st.integers(1, 6)))
        if change == "insert":
            text = text[:place] + draw(st.sampled_from(PIECES)) + text[place:]
        elif change == "delete":
            text = text[:place] + text[end:]
        elif change == "double":
            text = text[:end] + text[place:]
        elif change == "case":
            text = text[:place] + text[place:end].swapcase() + text[end:]
        elif change == "comment":
            text = text[:place] + "/**/" + text[place:]
        else:
            text = text[:place] + draw(st.sampled_from(CORPUS))[:40]
    return text


def harmless(api: services.ApiServer, store: services.ObjectStore, secret: str, sql: str) -> None:
    """Assert that the answer is a documented one, and shows nothing of the engine's surroundings."""
    response: httpx.Response = api.query(sql)
    # A text of blanks is rejected as a request.
    assert response.status_code in ANSWERS, (sql, response.text)
    keys = store.credentials["query"]
    for hidden in (services.API_TOKEN, secret, keys.access_key, keys.secret_key, "Traceback"):
        assert hidden not in response.text, sql
    if response.status_code == 200:
        # A statement may contain a path; only the engine could add one that it does not contain.
        for row in response.json()["rows"]:
            for found in UNKNOWN_STORE.finditer(str(row)):
                assert found.group() in sql, sql


Hidden = Callable[[str], None]


@pytest.fixture(scope="module")
def probe(api: services.ApiServer, object_store: services.ObjectStore, candles: services.Candles) -> Hidden:
    return lambda sql: harmless(api, object_store, candles.secret, sql)


@BOUNDED
@given(statements())
def test_statements_of_a_grammar_are_answered_or_refused(probe: Hidden, sql: str) -> None:
    probe(sql)


@BOUNDED
@given(mutations())
def test_mutated_attacks_are_answered_or_refused(probe: Hidden, sql: str) -> None:
    probe(sql)


def test_after_fuzzing_the_api_answers_and_the_table_is_whole(
    api: services.ApiServer, candles: services.Candles
) -> None:
    answer = api.query("SELECT count(*), sum(close), random() < 2 FROM gold.api_candles").json()
    assert answer["rows"] == [[candles.rows, "9975.00000000", True]]
    assert "Traceback" not in api.log.read_text()
