# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The body of a dashboard of CloudWatch: its widgets and their limits. Pure.

Source: "Dashboard body structure and syntax" in the API reference of CloudWatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..engine.schema import ValidationError, shown
from ..engine.value import join
from ..shared.nearest import suggestion

_TYPES = ("alarm", "custom", "explorer", "log", "metric", "text")
_MOST_WIDGETS = 500
_COLUMNS, _HIGHEST = 24, 1000
# Required properties of a widget, by its type.
_REQUIRED = {"alarm": "alarms", "log": "region", "metric": "region", "text": "markdown"}
_SHORT_PERIODS_S = (1, 5, 10, 20, 30)


def period_fault(value: Any) -> str | None:
    """Return the problem of a metric's period in a graph, or None."""
    if not isinstance(value, int) or value in _SHORT_PERIODS_S or (value > 0 and value % 60 == 0):
        return None
    return f"{value} is neither {', '.join(map(str, _SHORT_PERIODS_S))} nor a multiple of 60"


def body_validation_errors(body: Any) -> Iterator[ValidationError]:
    """Yield every problem of a dashboard's body."""
    widgets = body.get("widgets") if isinstance(body, Mapping) else None
    if not isinstance(widgets, list):
        yield "body", "has no list `widgets`", "add the list `widgets`"
        return
    if len(widgets) > _MOST_WIDGETS:
        yield "body.widgets", f"has {len(widgets)} widgets", f"CloudWatch accepts at most {_MOST_WIDGETS}"
    for index, widget in enumerate(widgets):
        if isinstance(widget, Mapping):
            yield from _widget(widget, join("body.widgets", index))


def _widget(widget: Mapping[str, Any], path: str) -> Iterator[ValidationError]:
    type_ = widget.get("type")
    if isinstance(type_, str) and type_ not in _TYPES:
        yield join(path, "type"), f"{type_!r} is not a type of widget", suggestion(type_, _TYPES)
    x, width = widget.get("x", 0), widget.get("width", 6)
    yield from _between(widget, "x", 0, _COLUMNS - 1, path)
    yield from _between(widget, "y", 0, None, path)
    yield from _between(widget, "width", 1, _COLUMNS, path)
    yield from _between(widget, "height", 1, _HIGHEST, path)
    if isinstance(x, int) and isinstance(width, int) and x < _COLUMNS and width <= _COLUMNS < x + width:
        message = f"{width} reaches from column {x} beyond the {_COLUMNS} columns"
        yield join(path, "width"), message, f"choose at most {_COLUMNS - x}"
    properties = widget.get("properties")
    if not isinstance(properties, Mapping):
        return
    needed = _REQUIRED.get(str(type_))
    if needed and properties.get(needed) is None:
        yield join(join(path, "properties"), needed), "is required and not given", f"a {type_} widget has it"
    fault = period_fault(properties.get("period"))
    if fault:
        yield join(join(path, "properties"), "period"), fault, "choose a multiple of 60"


def _between(widget: Mapping[str, Any], name: str, low: int, high: int | None, path: str) -> Iterator[ValidationError]:
    value = widget.get(name)
    if value is None or (isinstance(value, int) and low <= value and (high is None or value <= high)):
        return
    allowed = f"at least {low}" if high is None else f"{low} to {high}"
    yield join(path, name), f"{shown(value)} is out of range", f"CloudWatch accepts {allowed}"
