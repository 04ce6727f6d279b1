# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encode requests to an API server, and decode its answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlencode

from .errors import api_error
from .paths import check_path

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

Query: TypeAlias = Mapping[str, Any] | Sequence[tuple[str, Any]]
JSON = "application/json"
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


def encoded(query: Query) -> str:
    """Return a query in encoded form, with booleans as Go parses them."""
    pairs = query.items() if isinstance(query, Mapping) else query
    texts = {True: "true", False: "false"}
    return urlencode([(key, texts[value] if isinstance(value, bool) else value) for key, value in pairs])


def target_of(path: str, query: Query) -> str:
    """Return the request target. Raises PathError where the path resolves to another one than its segments."""
    check_path(path)
    return f"{path}?{encoded(query)}" if query else path


def payload_of(body: Any) -> bytes | None:
    """Return the request body: texts and bytes unchanged, other values as JSON."""
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=dict)
    # Surrogates are sent, because the server's error is clearer than that of the codec.
    return text.encode(errors="surrogatepass")


def warnings_of(response: BaseHTTPResponse) -> tuple[str, ...]:
    """Return the distinct warnings in `Warning` headers."""
    texts = _WARNING.findall(", ".join(response.headers.getlist("Warning")))
    return tuple(re.sub(r"\\(.)", r"\1", text) for text in dict.fromkeys(texts))


def checked(response: BaseHTTPResponse, action: str) -> Any:
    """Return the parsed answer. Raises ApiError for a rejection, or an answer of another server than an API server."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
    text = response.data.decode(errors="replace")
    body: Any = text
    if kind == JSON:
        try:
            body = json.loads(text)
        except ValueError:
            kind = ""
    if response.status >= 300:
        if location := response.headers.get("Location"):
            body = f"redirected to {location.partition('?')[0]}"
        raise api_error(response.status, body, action=action, retry_after_s=_retry_after_s(response))
    if kind not in {JSON, "text/plain"}:
        raise api_error(response.status, text or "an empty answer", action=action)
    return body


def is_status(response: BaseHTTPResponse) -> bool:
    """Return whether a rejection is a Status of the API server."""
    try:
        body = json.loads(response.data)
    except ValueError:
        return False
    return isinstance(body, dict) and (body.get("apiVersion"), body.get("kind")) == ("v1", "Status")


def _retry_after_s(response: BaseHTTPResponse) -> float | None:
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:
        # A date, which API servers do not send, or an empty value.
        return None
