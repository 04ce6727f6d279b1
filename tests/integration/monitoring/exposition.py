# SPDX-License-Identifier: GPL-3.0-or-later
"""Existing metrics, and the metrics in PromQL expressions."""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request

from tests.integration.patience import is_within

# Labels and series that Prometheus itself adds.
SYNTHETIC = frozenset({"up", "ALERTS"})
WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'")
BRACES = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
FUNCTION = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\s*(?=\()")
KEYWORDS = frozenset({"and", "or", "unless", "offset", "bool", "by", "without", "on", "ignoring"})
NUMBER = re.compile(r"\b\d[\w.]*\b")


def metrics_of(expression: str) -> set[str]:
    """Return the names of the series that an expression selects."""
    bare = expression
    for noise in (STRING, BRACES, GROUPING, NUMBER):
        bare = noise.sub(" ", bare)
    # A name before a bracket is a function or an aggregation, whose grouping has been removed already.
    return {word for word in WORD.findall(FUNCTION.sub(" ", bare)) if word not in KEYWORDS}


def exported_names(exposition: str) -> set[str]:
    """Return the sample names in Prometheus' text format. A histogram has three names, also before its first sample."""
    names = {line.partition("{")[0].split(" ")[0] for line in exposition.splitlines() if line and line[0] != "#"}
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE):
        names |= {name} if kind != "histogram" else {f"{name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def missing_names(url: str, wanted: set[str], limit_s: float = 30.0) -> set[str]:
    """Return the `wanted` names that a service does not export in time: some series begin with the first event."""
    begun_s = time.monotonic()
    while missing := wanted - exported_names(get(url).decode()):
        if not is_within(begun_s, limit_s):
            break
        time.sleep(0.5)
    return missing


def get(url: str, method: str = "GET", data: bytes | None = None, timeout_s: float = 30.0) -> bytes:
    """Return the body of an answer of a server on this machine. Raises `OSError`."""
    asked = urllib.request.Request(url, method=method, data=data)  # noqa: S310  the tests' own addresses
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=timeout_s) as answer:
            body: bytes = answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        raise
    return body
