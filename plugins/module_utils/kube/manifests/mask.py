# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mask the values of Secrets in all output, but not their changes. Pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...engine.value import SENSITIVE

NEW_VALUE = "(sensitive, new value)"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_HELD = ("data", "stringData")
# Shorter values would also match many other parts of messages.
_SHORTEST = 4


def is_secret(obj: Mapping[str, Any]) -> bool:
    return obj.get("kind") == "Secret" and obj.get("apiVersion") == "v1"


def masked_pair(before: Any, after: Any) -> tuple[Any, Any]:
    """Return both states of an object with masked values. A changed value shows as another masked value."""
    if not any(isinstance(side, Mapping) and is_secret(side) for side in (before, after)):
        return before, after
    return _masked(before, None), _masked(after, before)


def masked(obj: Any) -> Any:
    """Return an object with masked values."""
    return _masked(obj, None) if isinstance(obj, Mapping) and is_secret(obj) else obj


def _masked(obj: Any, compared: Any) -> Any:
    if not isinstance(obj, Mapping):
        return obj
    other = compared if isinstance(compared, Mapping) else None
    shown = {**obj}
    for field in _HELD:
        if field in obj:
            shown[field] = _masked_values(obj[field], other.get(field) if other is not None else None)
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    if isinstance(metadata, Mapping) and isinstance(annotations, Mapping) and LAST_APPLIED in annotations:
        applied = _masked_text(annotations[LAST_APPLIED], _last_applied(other))
        shown["metadata"] = {**metadata, "annotations": {**annotations, LAST_APPLIED: applied}}
    return shown


def _masked_values(values: Any, compared: Any) -> Any:
    if not isinstance(values, Mapping):
        return SENSITIVE if values is not None else None
    others = compared if isinstance(compared, Mapping) else values
    return {key: SENSITIVE if key in others and others[key] == value else NEW_VALUE for key, value in values.items()}


def _masked_text(text: Any, compared: Any) -> str:
    """Return the masked annotation with kubectl's copy of the object."""
    copy, other = _parsed(text), _parsed(compared)
    if copy is None:
        return SENSITIVE
    return json.dumps(_masked(copy, other), sort_keys=True)


def _parsed(text: Any) -> Any:
    try:
        parsed = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _last_applied(obj: Mapping[str, Any] | None) -> Any:
    metadata = obj.get("metadata") if obj is not None else None
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return annotations.get(LAST_APPLIED) if isinstance(annotations, Mapping) else None


def secret_values(objects: Iterable[Any]) -> set[str]:
    """Return the values of the Secrets among these objects, as text and in base64."""
    return {value for obj in objects if isinstance(obj, Mapping) and is_secret(obj) for value in _held(obj) if value}


def _held(obj: Mapping[str, Any]) -> Iterator[str]:
    for field in _HELD:
        values = obj.get(field)
        for value in values.values() if isinstance(values, Mapping) else ():
            yield from _forms(value, encoded=field == "data")
    copy = _parsed(_last_applied(obj))
    if copy is not None:
        yield from _held(copy)


def _forms(value: Any, *, encoded: bool) -> Iterator[str]:
    if value is None:
        return
    text = value if isinstance(value, str) else json.dumps(value)
    yield text
    if not encoded:
        yield base64.b64encode(text.encode()).decode()
        return
    try:
        yield base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return


def hidden_values(values: Iterable[str], shown: str) -> set[str]:
    """Return the values that can be removed from any text by a search.

    shown: the returned names. A value that is part of a name is omitted: its removal would remove the name, and it is
    visible anyway. A value of three letters is omitted because it occurs in almost all texts.
    """
    return {value for value in values if len(value) >= _SHORTEST and value not in shown}


class Hider:
    """Removes known values from texts of other sources: errors and warnings of the server."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = sorted(values, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, SENSITIVE)
        return text
