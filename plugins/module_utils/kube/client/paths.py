# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build request paths from validated segments. Pure.

HTTP clients resolve `.` and `..` before they send a path, so a name `..` addresses the parent of the object.

Source: k8s.io/apimachinery/pkg/api/validation/path (IsValidPathSegmentName), RFC 3986 sections 3.3 and 5.2.4.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from .errors import KubeError

# Control characters, and surrogates, which no encoding can represent.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_WRITTEN = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")
_RESERVED = frozenset({".", ".."})
_PROXY = re.compile(r"(/api/v1/namespaces/[^/]+/(?:services|pods)/[^/]+/proxy)(?:/(.*))?", re.DOTALL)


class PathError(KubeError):
    """The request would address another object than the intended one; nothing was sent."""


def segment_fault(segment: str) -> str:
    """Return the reason why a text cannot be a path segment, or nothing."""
    if not segment:
        return "is empty"
    if segment in _RESERVED:
        return f"is {segment!r}"
    found = next((mark for mark in ("/", "%") if mark in segment), "")
    if found:
        return f"contains {found!r}"
    return "contains a control character" if _CONTROL.search(segment) else ""


def path_of(*segments: str) -> str:
    """Return the path of the segments, each quoted. Raises PathError for a segment that changes the path."""
    for segment in segments:
        _check(segment, segment_fault(segment))
    return "".join(f"/{quote(segment, safe=':')}" for segment in segments)


def core_path(namespace: str, plural: str, *rest: str) -> str:
    """Return the path of objects of the core API in a namespace. rest: a name, and a subresource. Raises PathError."""
    return path_of("api", "v1", "namespaces", namespace, plural, *rest)


def check_path(path: str) -> None:
    """Raise PathError unless `path_of` accepts every segment of a quoted path.

    The path after the API server's proxy belongs to the service, and may end with a slash.
    """
    if path == "/":
        return
    proxied = _PROXY.fullmatch(path)
    own, behind = (proxied[1], (proxied[2] or "").removesuffix("/")) if proxied else (path, "")
    if not own.startswith("/"):
        _check(path, "does not begin with '/'")
    for segment in [*own[1:].split("/"), *(behind.split("/") if behind else ())]:
        written = "" if _WRITTEN.fullmatch(segment) else "contains characters that are not quoted"
        _check(segment, segment_fault(unquote(segment)) or written)


def place_in(path: str) -> tuple[str, str]:
    """Return the namespace (or an empty text) and the name of the object that a path addresses."""
    segments = [unquote(segment) for segment in path.split("/")]
    place = segments.index("namespaces") + 1 if "namespaces" in segments[:-2] else 0
    return segments[place], segments[-1]


def _check(segment: str, fault: str) -> None:
    if fault:
        raise PathError(f"cannot send the request: the path segment {segment!r} {fault}; correct the name or namespace")
