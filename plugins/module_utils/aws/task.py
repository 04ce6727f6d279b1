# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Implementation of the module `aws_stack`: from its parameters to its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..engine import render
from ..engine.errors import DescriptionError, EngineError, Fault, FaultsError
from ..engine.execute import Report
from ..engine.planning import Proposal
from ..engine.value import Secret, leaves
from .arguments import connection
from .errors import CallError
from .failures import failures
from .plans import load_plan, save_text
from .session import Session
from .stack import AwsStack, StackDescription
from .tag_rules import IgnoredTags
from .wording import Wording


class IncompleteError(EngineError):
    """Some resources failed; `result` is the complete result of the module."""

    def __init__(self, message: str, result: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.result = dict(result)


def outcome(parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Run the module and return its result, which contains errors."""
    try:
        return StackTask(parameters, check_mode=check_mode).run()
    except IncompleteError as error:
        return {**error.result, "failed": True, "msg": str(error)}
    except FaultsError as error:
        return refusal(error, parameters)
    except CallError as error:
        return refusal(FaultsError([Fault("", "", error.cause.rstrip("."), error.remedy)]), parameters)
    except EngineError as error:
        return {"failed": True, "msg": str(error)}


def refusal(error: FaultsError, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a failure that names inventory variables instead of options."""
    worded = error.reworded(Wording(parameters["variables"], parameters["remedies"]).of)
    faults = [{name: str(value) for name, value in vars(fault).items()} for fault in worded.faults]
    return {"failed": True, "msg": str(worded), "faults": faults}


class StackTask:
    """One run of the module. Raises EngineError, whose text does not contain secrets."""

    def __init__(self, parameters: Mapping[str, Any], *, check_mode: bool) -> None:
        self.parameters = parameters
        self.session = Session(connection(parameters))
        self.only_plans = check_mode or parameters["state"] == "planned"
        self.writes = not check_mode
        self.stack = AwsStack(
            self.session,
            StackDescription(
                name=parameters["name"],
                environment=parameters["environment"],
                resources=parameters["resources"],
                secret_values=_texts(parameters["secret_values"] or {}),
                state="absent" if parameters["state"] == "absent" else "present",
                prune=parameters["prune"],
                adopt=parameters["adopt"],
                unprotect=tuple(parameters["unprotect"]),
                delete_contents=tuple(parameters["delete_contents"]),
                lists_undescribed=parameters["list_undescribed"] and parameters["state"] == "planned",
                account_id=parameters["account_id"] or "",
                availability_zones=tuple(parameters["availability_zones"]),
                tags={str(key): str(value) for key, value in parameters["tags"].items()},
                ignored_tags=_ignored(parameters["ignore_tags"]),
                permissions_boundary=parameters["permissions_boundary"] or "",
                checks=tuple(parameters["checks"]),
            ),
        )

    def run(self) -> dict[str, Any]:
        """Plan and, unless only a plan is requested, apply; return the module's result."""
        proposal = self._propose()
        if self.only_plans:
            return self._result(proposal, None)
        report = self.stack.apply(proposal)
        result = self._result(proposal, report)
        if not report.complete:
            told = failures(report, Wording(self.parameters["variables"], self.parameters["remedies"]))
            raise IncompleteError("\n".join(map(str, told)), {**result, "failures": [vars(item) for item in told]})
        return result

    def _propose(self) -> Proposal:
        given = self.parameters
        place = given["plan_path"]
        source = given["plan"] if given["plan"] is not None else (place if given["state"] != "planned" else None)
        # An empty plan comes from an earlier task that did not set it, and does not permit unreviewed changes.
        saved = load_plan(self.session, source) if source is not None else None
        proposal = self.stack.propose(saved)
        if given["state"] == "planned" and self.writes:
            if place:
                save_text(self.session, place, proposal.plan.to_json())
            if given["page_path"]:
                save_text(self.session, given["page_path"], render.page(proposal.plan))
        return proposal

    def _result(self, proposal: Proposal, report: Report | None) -> dict[str, Any]:
        identity = self.session.identity()
        plan = proposal.plan
        outputs = (
            {address: actual.outputs for address, actual in proposal.actuals.items()}
            if report is None
            else {result.address: result.outputs for result in report.results}
        )
        destroyed = report is not None and self.parameters["state"] == "absent"
        return {
            "changed": plan.changed if report is None else report.changed,
            "plan": plan.to_data(),
            "plan_text": render.text(plan),
            "summary": render.summary(plan),
            "outputs": {address: _shown(self._open(address, proposal, values)) for address, values in outputs.items()},
            "resources": [] if report is None else [result.to_data() for result in report.results],
            "report_text": "" if report is None else render.report_text(report),
            "undescribed": sorted({address.partition("#")[0] for address in proposal.undescribed}),
            "notices": self.stack.notices(proposal),
            "left": self.stack.left(proposal) if destroyed else [],
            "account_id": identity.account_id,
            "region": self.session.region,
            "partition": identity.partition,
            "api_calls": len(self.session.calls),
            "diff": {"prepared": render.text(plan) if plan.changed else ""},
        }

    def _open(self, address: str, proposal: Proposal, values: Mapping[str, Any]) -> dict[str, Any]:
        """Remove the outputs that the kind declares as sensitive."""
        kind = proposal.description.kinds.get(address.partition(".")[0])
        named = kind.schema.outputs if kind else {}
        return {name: value for name, value in values.items() if name in named and not named[name].sensitive}


def _ignored(given: Mapping[str, Any]) -> IgnoredTags:
    """Return the tags that others may add. Raises DescriptionError for a prefix that matches every key."""
    keys, prefixes = given.get("keys") or (), given.get("key_prefixes") or ()
    if "" in prefixes:
        message = "an empty prefix ignores every tag"
        raise DescriptionError([Fault("", "ignore_tags.key_prefixes", message, "remove it, or name the prefixes")])
    return IgnoredTags(frozenset(keys), tuple(prefixes))


def _texts(secrets: Mapping[str, Any]) -> dict[str, str]:
    """Return secrets as text. Raises DescriptionError for a value that cannot be converted to text."""
    wrong = [
        name for name, value in secrets.items() if isinstance(value, bool) or not isinstance(value, str | int | float)
    ]
    if wrong:
        remedy = "give a string, or omit the name"
        raise DescriptionError(Fault("", f"secret_values.{name}", "is not a string", remedy) for name in wrong)
    return {name: str(value) for name, value in secrets.items()}


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in values.items() if not any(isinstance(leaf, Secret) for leaf in leaves(value))
    }
