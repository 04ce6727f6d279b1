# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS Backup: plans with what they select."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import UsedTokenError
from ...engine.resource import READY, Actual, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ..backup import ABSENT, read_tags, write_tags
from ..backup_plans import (
    RULES,
    SELECTIONS,
    plan_parameters,
    read_rules,
    read_selection,
    selection_parameters,
    selection_text,
)
from ..kind import TAGS, Actions, AwsKind, all_tags, owner_of, property_tags

_PLAN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,50}")
# The role was created seconds before.
_NEW_ROLE = ("InvalidParameterValueException:role", "InvalidParameterValueException:Role")


def _rules(desired: Mapping[str, Any], _actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    if desired["rules"] is None:
        yield "rules", "needs one rule at least", ""


def _plan_name_fault(value: str) -> str | None:
    return None if _PLAN_NAME.fullmatch(value) else f"{value!r} is not 1 to 50 letters, digits, '-', '_' and '.'"


class BackupPlan(AwsKind):
    """A plan: schedule, target and retention of backups. Every change of its rules creates a new version."""

    name = "backup_plan"
    service = "backup"
    found_by = "tags"
    schema = Schema(
        {
            "name": Property(required=True, check=_plan_name_fault, purpose="Name."),
            "rules": RULES,
            "selections": SELECTIONS,
            "tags": TAGS,
        },
        {
            "id": Output("ID that AWS assigned."),
            "arn": Output("ARN."),
            "version_id": Output("ID of the current version.", changes_with=("name", "rules")),
        },
        check=_rules,
    )
    actions = Actions(
        read=(
            "backup:GetBackupPlan",
            "backup:GetBackupSelection",
            "backup:ListBackupPlans",
            "backup:ListBackupSelections",
            "backup:ListTags",
        ),
        create=("backup:CreateBackupPlan", "backup:CreateBackupSelection", "backup:TagResource", "iam:PassRole"),
        update=(
            "backup:CreateBackupSelection",
            "backup:DeleteBackupSelection",
            "backup:TagResource",
            "backup:UntagResource",
            "backup:UpdateBackupPlan",
            "iam:PassRole",
        ),
        delete=("backup:DeleteBackupPlan", "backup:DeleteBackupSelection"),
    )

    @classmethod
    def with_tags(cls, properties: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """Add the tags to recovery points, because not every service copies the tags of the source."""
        tagged, rules = super().with_tags(properties, tags), properties.get("rules")
        if not tags or not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
            return tagged
        name = "recovery_point_tags"
        return {**tagged, "rules": [{**rule, name: {**tags, **(rule.get(name) or {})}} for rule in rules]}

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        plans = self._plans()
        tags = self.session.each(lambda plan: read_tags(self.session, plan["BackupPlanArn"]), plans)
        owners = {plan["BackupPlanId"]: owner_of(found) for plan, found in zip(plans, tags, strict=True)}
        ours = [id_ for id_, whose in owners.items() if whose is not None and whose.shares_stack_with(owner)]
        return [actual for actual in self.session.each(self.read, ours) if actual is not None]

    def _plans(self) -> list[dict[str, Any]]:
        return self.session.pages("backup", "list_backup_plans", "BackupPlansList")

    def lookalikes(self, subject: Subject) -> Sequence[Actual]:
        name = subject.desired["name"]
        ids = [plan["BackupPlanId"] for plan in self._plans() if plan["BackupPlanName"] == name]
        actuals = self.session.each(self.read, ids)
        return [actual for actual in actuals if actual is not None and actual.owner is None]

    def read(self, id_: str) -> Actual | None:
        plan = self._plan(id_)
        if plan is None or plan.get("DeletionDate"):
            return None
        arn = plan["BackupPlanArn"]
        tags, chosen = read_tags(self.session, arn), self._selections(id_)
        properties = {
            "name": plan["BackupPlan"]["BackupPlanName"],
            "rules": read_rules(plan["BackupPlan"]),
            "selections": list(chosen.values()),
            "tags": property_tags(tags),
        }
        outputs = {"id": id_, "arn": arn, "version_id": plan.get("VersionId")}
        return Actual(id_, properties, outputs, owner_of(tags), READY, (arn,))

    def _plan(self, id_: str) -> dict[str, Any] | None:
        """Return a plan; AWS still returns a deleted one, with the date of its deletion."""
        return self.session.look("backup", "get_backup_plan", ABSENT, BackupPlanId=id_)

    def _selections(self, plan_id: str) -> dict[str, dict[str, Any]]:
        """Return the selections of a plan by their ids."""
        listed = self.session.pages("backup", "list_backup_selections", "BackupSelectionsList", BackupPlanId=plan_id)
        ids = [item["SelectionId"] for item in listed]
        answers = self.session.each(
            lambda id_: self.session.look(
                "backup", "get_backup_selection", ABSENT, BackupPlanId=plan_id, SelectionId=id_
            ),
            ids,
        )
        read = zip(ids, answers, strict=True)
        return {id_: read_selection(answer["BackupSelection"]) for id_, answer in read if answer is not None}

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        answer = self.session.call(
            "backup",
            "create_backup_plan",
            BackupPlan=plan_parameters(wanted),
            BackupPlanTags=all_tags(request),
            CreatorRequestId=request.token,
        )
        id_ = answer["BackupPlanId"]
        if (self._plan(id_) or {}).get("DeletionDate"):
            raise UsedTokenError(request.token)
        self._write_selections(id_, wanted["selections"] or [])
        return Actual(id_, wanted, {"id": id_, "arn": answer["BackupPlanArn"]}, request.owner)

    def _write_selections(self, plan_id: str, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Create and delete selections of a plan. A changed one is replaced, because AWS cannot update selections."""
        wanted_texts = {selection_text(item): item for item in wanted}
        kept: set[str] = set()
        for id_, item in self._selections(plan_id).items():
            text = selection_text(item)
            if text in wanted_texts and text not in kept:
                kept.add(text)
            else:
                self._delete_selection(plan_id, id_)
        for text, selection in wanted_texts.items():
            if text not in kept:
                self._create_selection(plan_id, selection)

    def _create_selection(self, plan_id: str, selection: Mapping[str, Any]) -> None:
        text = selection_text(selection)

        def made() -> dict[str, Any] | None:
            found = self._selections(plan_id).values()
            return {} if any(selection_text(item) == text for item in found) else None

        self.session.call_once(
            "backup",
            "create_backup_selection",
            made,
            retry_on=_NEW_ROLE,
            BackupPlanId=plan_id,
            BackupSelection=selection_parameters(selection),
        )

    def _delete_selection(self, plan_id: str, id_: str) -> None:
        self.session.look("backup", "delete_backup_selection", ABSENT, BackupPlanId=plan_id, SelectionId=id_)

    def update(self, request: Request) -> Actual:
        id_, wanted = request.existing.id, request.desired
        if request.changed("name") or request.changed("rules"):
            self.session.call("backup", "update_backup_plan", BackupPlanId=id_, BackupPlan=plan_parameters(wanted))
        if request.changed("selections"):
            self._write_selections(id_, wanted["selections"] or [])
        write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        id_ = request.existing.id
        if self.read(id_) is None:
            return
        for selection_id in self._selections(id_):
            self._delete_selection(id_, selection_id)
        # AWS may still return the last selection just after its deletion.
        remains = ("InvalidRequestException:selections",)
        self.session.look("backup", "delete_backup_plan", ABSENT, retry_on=remains, BackupPlanId=id_)
