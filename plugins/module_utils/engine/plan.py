# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as data: the action for each address, its reason, and the evidence that shows whether the plan is stale."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from .errors import NEW_PLAN, Fault, OtherPlanError, PlanFormatError, StalePlanError
from .resource import Change
from .value import decode, digest, encode

FORMAT = 1
Action = Literal["create", "adopt", "update", "replace", "delete", "none"]
ACTIONS: tuple[Action, ...] = get_args(Action)
_STACK = "stack"


@dataclass(frozen=True)
class Node:
    """The planned action for one address.

    id: of the existing resource, empty before creation. reason: of the action, where the changes do not show it.
    needs: the addresses it waits for. create_first: a replacement creates the new resource before it deletes the old.
    """

    address: str
    kind: str
    action: Action
    id: str = ""
    changes: tuple[Change, ...] = ()
    reason: str = ""
    needs: tuple[str, ...] = ()
    create_first: bool = False

    @property
    def forced_by(self) -> tuple[str, ...]:
        """The property paths that force a replacement."""
        return tuple(change.path for change in self.changes if change.forces_replacement)

    def to_data(self) -> dict[str, Any]:
        changes = [
            {
                "path": change.path,
                "before": encode(change.before),
                "after": encode(change.after),
                "forces_replacement": change.forces_replacement,
            }
            for change in self.changes
        ]
        return {**self.__dict__, "changes": changes, "needs": list(self.needs)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Node:
        changes = tuple(
            Change(str(item["path"]), decode(item["before"]), decode(item["after"]), bool(item["forces_replacement"]))
            for item in data["changes"]
        )
        if data["action"] not in ACTIONS:
            raise ValueError(f"{data['action']!r} is not an action")
        return cls(**{**data, "changes": changes, "needs": tuple(data["needs"])})


@dataclass(frozen=True)
class Plan:
    """All planned actions, in an order in which they can be applied.

    evidence: for `stack` and each address the digests of the inputs of the plan, by path. It contains no secrets.
    """

    stack: str
    environment: str
    state: Literal["present", "absent"]
    nodes: tuple[Node, ...]
    evidence: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over account, region, stack, version, description and the managed properties that were read."""
        return digest({"format": FORMAT, "state": self.state, "evidence": self.evidence})

    @property
    def changed(self) -> bool:
        return any(node.action != "none" for node in self.nodes)

    @property
    def counts(self) -> dict[Action, int]:
        counted = Counter(node.action for node in self.nodes)
        return {action: counted[action] for action in ACTIONS}

    def node(self, address: str) -> Node:
        return next(node for node in self.nodes if node.address == address)

    def to_data(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        return {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "stack": self.stack,
            "environment": self.environment,
            "state": self.state,
            "nodes": [node.to_data() for node in self.nodes],
            "evidence": {address: dict(paths) for address, paths in self.evidence.items()},
        }

    def to_json(self) -> str:
        return json.dumps(self.to_data(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_data(cls, data: Any) -> Plan:
        """Return the plan of `to_data`. Raises PlanFormatError for other data and for an edited plan."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise PlanFormatError("cannot read the saved plan: it is from another version")
        try:
            nodes = tuple(Node.from_data(item) for item in data["nodes"])
            plan = cls(data["stack"], data["environment"], data["state"], nodes, data["evidence"])
            intact = plan.fingerprint == data["fingerprint"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PlanFormatError(f"cannot read the saved plan: it is damaged: {error}") from error
        if not intact:
            raise PlanFormatError("cannot use the saved plan: it was edited, its fingerprint does not match")
        return plan

    @classmethod
    def from_json(cls, text: str) -> Plan:
        try:
            return cls.from_data(json.loads(text))
        except json.JSONDecodeError as error:
            raise PlanFormatError(f"cannot read the saved plan: it is not JSON: {error}") from error


_MOVED = {
    "stack": "changed",
    "described": "the description changed",
    "chosen": "the service now chooses another value",
    "read": "the resource changed",
}
_EXISTS = "read:id"
# Attributes that identify a place, and their names in messages.
_PLACES = {"account_id": "account", "region": "region"}


def moved(saved: Plan, fresh: Plan) -> tuple[Fault, ...]:
    """Return the differences between the evidence of `saved` and `fresh`, by address and path."""
    faults: list[Fault] = []
    for address in sorted({*saved.evidence, *fresh.evidence}):
        before, after = saved.evidence.get(address), fresh.evidence.get(address)
        if before is None or after is None:
            faults.append(Fault(address, "", "is new" if before is None else "is gone"))
        else:
            faults += _moved_at(address, before, after)
    if not faults and saved.nodes != fresh.nodes:
        faults.append(Fault(_STACK, "", "equal evidence leads to another plan"))
    return tuple(faults)


def _moved_at(address: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[Fault]:
    faults = []
    keys = {*before, *after}
    if (_EXISTS in before) != (_EXISTS in after):
        # One fault is enough; one for each of its properties would hide the others.
        faults.append(Fault(address, "", "exists now" if _EXISTS in after else "no longer exists"))
        keys = {key for key in keys if not key.startswith("read:")}
    for key in sorted(keys):
        origin, _separator, path = key.partition(":")
        if before.get(key) != after.get(key):
            faults.append(Fault(address, path, _MOVED.get(origin, "changed")))
    return faults


def check_purpose(saved: Plan, purpose: Mapping[str, str]) -> None:
    """Raise OtherPlanError unless a saved plan is for this run. purpose: its stack, environment and state."""
    for word, wanted in purpose.items():
        has = getattr(saved, word)
        if has != wanted:
            message = f"cannot apply the saved plan: it is for {word} {has!r}, and the run for {wanted!r}"
            raise OtherPlanError([Fault("", "", message, NEW_PLAN)])


def check_fresh(saved: Plan, fresh: Plan) -> None:
    """Raise StalePlanError with the differences if `fresh` differs from `saved`.

    Raises OtherPlanError if they have another purpose, account or region.
    """
    check_purpose(saved, {word: getattr(fresh, word) for word in ("stack", "environment", "state")})
    for word, name in _PLACES.items():
        key = f"stack:attributes.{word}"
        if saved.evidence.get(_STACK, {}).get(key) != fresh.evidence.get(_STACK, {}).get(key):
            message = f"cannot apply the saved plan: it was created in another {name}"
            raise OtherPlanError([Fault("", "", message, NEW_PLAN)])
    faults = moved(saved, fresh)
    if faults:
        raise StalePlanError(replace(fault, remedy=NEW_PLAN) for fault in faults)
