# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of the objects of a set, as data and for readers. They contain no secrets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ...shared.plan_signs import SIGNS
from ..manifests.manifests import Identity
from .compare import Change

Action = Literal["create", "update", "replace", "delete", "none", "failed", "skipped"]
_CHANGING: frozenset[Action] = frozenset({"create", "update", "replace", "delete"})
_WORDS: Mapping[Action, tuple[str, str]] = {
    "create": ("to create", "created"),
    "update": ("to update", "updated"),
    "replace": ("to replace", "replaced"),
    "delete": ("to delete", "deleted"),
    "none": ("unchanged", "unchanged"),
    "failed": ("failed", "failed"),
    "skipped": ("left out", "left out"),
}
_SHOWN_CHARACTERS = 400
# Maximum length of one value in a result. The manifest, and the difference of --diff, contain the complete value.
_KEPT_CHARACTERS = 4000


@dataclass(frozen=True)
class ObjectResult:
    """The action on one object, or in check mode the planned action.

    changes: paths with former and new value, masked. error: cause of a failure and remedy, as one text. message,
    remedy: the same as separate fields, where they are known. reason: why the object was skipped, or why the action is
    taken. before, after: both states for a reader, masked; None for a missing state. done: actions before the failure.
    """

    identity: Identity
    action: Action
    changes: tuple[Change, ...] = ()
    error: str = ""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    duration_s: float = 0.0
    before: Any = None
    after: Any = None
    done: Action = "none"
    message: str = ""
    remedy: str = ""

    @classmethod
    def failure(cls, identity: Identity, message: str, remedy: str = "") -> ObjectResult:
        """Return the result of an object that could not be applied, with message and remedy as separate fields."""
        whole = f"{message}; {remedy}" if remedy else message
        return cls(identity, "failed", error=whole, message=message, remedy=remedy)

    @property
    def changed(self) -> bool:
        return self.action in _CHANGING or self.done in _CHANGING

    def failed_because(self, error: str) -> ObjectResult:
        """Return this result with a failure after its action."""
        return replace(self, action="failed", error=error, done=self.action)

    def to_data(self) -> dict[str, Any]:
        identity = self.identity
        return {
            "address": str(identity),
            "api_version": identity.api_version,
            "kind": identity.kind,
            "namespace": identity.namespace,
            "name": identity.name,
            "action": self.action,
            "changes": [change.to_data() for change in self.changes],
            "error": self.error,
            "message": self.message or self.error,
            "remedy": self.remedy,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "duration_s": round(self.duration_s, 3),
        }


def kept(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Return the changes with values limited in size, because a CRD of half a megabyte is unreadable."""
    return tuple(replace(change, before=_cut(change.before), after=_cut(change.after)) for change in changes)


def _cut(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= _KEPT_CHARACTERS else f"{text[:_KEPT_CHARACTERS]}... ({len(text)} characters)"


@dataclass(frozen=True)
class Outcome:
    """Results of a set, or in check mode the planned results. failure: the error that stopped the whole run."""

    objects: tuple[ObjectResult, ...]
    only_planned: bool
    warnings: tuple[str, ...] = ()
    failure: str = ""

    @property
    def changed(self) -> bool:
        return any(result.changed for result in self.objects)

    @property
    def failed(self) -> tuple[ObjectResult, ...]:
        return tuple(result for result in self.objects if result.action == "failed")

    @property
    def summary(self) -> str:
        """Return a summary in one line."""
        counts = Counter(result.action for result in self.objects)
        if not self.objects:
            return "Nothing to apply."
        if counts["none"] == len(self.objects):
            return f"No changes: {len(self.objects)} object{'' if len(self.objects) == 1 else 's'} as described."
        parts = [
            f"{counts[action]} {words[not self.only_planned]}" for action, words in _WORDS.items() if counts[action]
        ]
        return f"{'Plan' if self.only_planned else 'Done'}: {', '.join(parts)}."

    @property
    def text(self) -> str:
        """Return a text for readers: one line for each changed object, its changes below, and the summary last."""
        lines: list[str] = []
        for result in self.objects:
            if result.action != "none":
                lines.append(_line(result))
                if result.action != "create":
                    lines += [f"        {_change_line(change)}" for change in result.changes]
        return "\n".join([*lines, *([""] if lines else []), self.summary, ""])

    @property
    def message(self) -> str:
        """Return the failures, one line each."""
        failed, left_out = self.failed, [result for result in self.objects if result.action == "skipped"]
        head = [self.failure] if self.failure else []
        if failed:
            head.append(f"{len(failed)} of {len(self.objects)} objects failed:")
        lines = [f"  {result.identity}: {result.error}" for result in failed]
        rest = [f"  {result.identity}: left out: {result.reason}" for result in left_out] if failed else []
        return "\n".join([*head, *lines, *rest])

    def plan(self) -> list[dict[str, Any]]:
        """Return the actions as data, in the form of the engine's plans."""
        return [
            {
                "address": str(result.identity),
                "kind": result.identity.kind,
                "action": result.action,
                "changes": [change.to_data() for change in result.changes],
                "reason": result.reason or result.error,
            }
            for result in self.objects
        ]

    def diff(self, dump: Callable[[Any], str]) -> list[dict[str, str]]:
        """Return the differences for `--diff`. dump: writes a state as text."""
        return [
            {
                "before_header": str(result.identity),
                "after_header": str(result.identity),
                "before": "" if result.before is None else dump(result.before),
                "after": "" if result.after is None else dump(result.after),
            }
            for result in self.objects
            if result.changed
        ]


def _line(result: ObjectResult) -> str:
    why = result.error or result.reason
    return f"{SIGNS[result.action]:>5} {result.identity}  {result.action}{f' ({why})' if why else ''}"


def _change_line(change: Change) -> str:
    if change.before is None:
        return f"{change.path} = {_text(change.after)}"
    return f"{change.path}: {_text(change.before)} -> {_text(change.after)}"


def _text(value: Any) -> str:
    if value is None:
        return "(none)"
    written = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return (
        written
        if len(written) <= _SHOWN_CHARACTERS
        else f"{written[:_SHOWN_CHARACTERS]}... ({len(written)} characters)"
    )


def in_order(results: Iterable[ObjectResult], order: Sequence[Identity]) -> tuple[ObjectResult, ...]:
    """Return the results in the order of the manifests. Results of other objects follow."""
    places = {identity: place for place, identity in enumerate(order)}
    return tuple(sorted(results, key=lambda result: (places.get(result.identity, len(places)), str(result.identity))))
