# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM: managed policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.resource import Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError, comparable, found
from ...engine.value import canonical, is_known
from ..iam import ABSENT, BUSY, listed, owned, path_property, tagged, write_tags
from ..kind import TAGS, Actions, AwsKind, all_tags, document, given, owner_of, property_tags, tag_list, tag_map
from ..naming import iam_name_fault
from ..policy import policy_property

# Source: "IAM and AWS STS quotas" in the user guide of IAM.
_MOST_VERSIONS = 5


def _policy_rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    """Yield an error for a changed description. A replacement is not possible: it would remove all attachments."""
    before, after = (actual or {}).get("description"), desired.get("description")
    if actual is not None and after is not None and is_known(after) and after != before:
        message = f"is {before or ''!r} and stays so: IAM never changes it"
        yield "description", message, "describe it as it is, remove it, or give the policy another name"


class IamPolicy(AwsKind):
    """A managed policy of the account. It is found by its ARN, and under another path by its name."""

    name = "iam_policy"
    service = "iam"
    schema = Schema(
        {
            "name": Property(required=True, replace=True, check=iam_name_fault, purpose="Name, unique in the account."),
            "policy": policy_property("Policy document.", required=True),
            "description": Property(computed=True, purpose="Description. IAM never changes it."),
            "path": path_property(),
            "tags": TAGS,
        },
        {
            "id": Output("ARN."),
            "arn": Output("ARN."),
            "default_version_id": Output("ID of the default version.", changes_with=("policy",)),
        },
        spans_regions=True,
        unique_by=("name",),
        check=_policy_rules,
    )
    actions = Actions(
        read=("iam:GetPolicy", "iam:GetPolicyVersion", "iam:ListPolicies"),
        list=("iam:ListPolicyTags",),
        create=("iam:CreatePolicy", "iam:TagPolicy"),
        update=(
            "iam:CreatePolicyVersion",
            "iam:DeletePolicyVersion",
            "iam:ListPolicyVersions",
            "iam:TagPolicy",
            "iam:UntagPolicy",
        ),
        delete=(
            "iam:DeletePolicy",
            "iam:DeletePolicyVersion",
            "iam:DetachGroupPolicy",
            "iam:DetachRolePolicy",
            "iam:DetachUserPolicy",
            "iam:ListEntitiesForPolicy",
            "iam:ListPolicyVersions",
        ),
    )

    def identify(self, desired: Mapping[str, Any]) -> str | None:
        identity = self.session.identity()
        return f"arn:{identity.partition}:iam::{identity.account_id}:policy{desired['path']}{desired['name']}"

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return is_known([desired.get("name"), desired.get("path")])

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        answers = dict(super().read_all(subjects))
        missing = [subject for subject in subjects if answers[subject.address] == []]
        arns = {arn.rpartition("/")[2]: arn for arn in self._arns()} if missing else {}
        for subject in missing:
            arn = arns.get(subject.desired["name"])
            actual = self.read(arn) if arn else None
            answers[subject.address] = [self.managed_tags(actual, subject.desired)] if actual else []
        return answers

    def _arns(self) -> list[str]:
        return [policy["Arn"] for policy in self.session.pages("iam", "list_policies", "Policies", Scope="Local")]

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        ours = tagged(self.session, owner, self._arns(), "list_policy_tags", "PolicyArn")
        return owned(self.session, owner, ours, self.read)

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("iam", "get_policy", ABSENT, PolicyArn=id_)
        if answer is None:
            return None
        policy = answer["Policy"]
        tags, version = tag_map(policy.get("Tags")), policy["DefaultVersionId"]
        document_ = self.session.look("iam", "get_policy_version", ABSENT, PolicyArn=id_, VersionId=version)
        properties = {
            "name": policy["PolicyName"],
            "policy": document_["PolicyVersion"]["Document"] if document_ else None,
            "description": policy.get("Description") or None,
            "path": policy["Path"],
            "tags": property_tags(tags),
        }
        outputs = {"id": id_, "arn": id_, "default_version_id": version}
        return Actual(id_, properties, outputs, owner_of(tags))

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        answer = self.session.call_once(
            "iam",
            "create_policy",
            lambda: self._made(request),
            retry_on=BUSY,
            PolicyName=wanted["name"],
            Path=wanted["path"],
            PolicyDocument=document(wanted["policy"]),
            Tags=tag_list(all_tags(request)),
            **given({"Description": wanted.get("description")}),
        )
        arn = answer["Policy"]["Arn"]
        return Actual(arn, wanted, {"id": arn, "arn": arn}, request.owner)

    def _made(self, request: Request) -> dict[str, Any] | None:
        actual = self.read(str(self.identify(request.desired)))
        return {"Policy": {"Arn": actual.id}} if actual and actual.owner == request.owner else None

    def update(self, request: Request) -> Actual:
        if request.changed("policy"):
            self._write_version(request.existing.id, request.desired["policy"])
        write_tags(self.session, "policy", "PolicyArn", request)
        return request.existing

    def _write_version(self, arn: str, policy: Any) -> None:
        """Create a new default version, and delete the oldest versions above the quota first."""
        versions = self._versions(arn)
        spare = sorted((v for v in versions if not v["IsDefaultVersion"]), key=lambda v: int(v["VersionId"][1:]))
        for version in spare[: max(0, len(versions) - _MOST_VERSIONS + 1)]:
            self._delete_version(arn, version["VersionId"])
        self.session.call_once(
            "iam",
            "create_policy_version",
            lambda: self._written(arn, policy),
            retry_on=BUSY,
            PolicyArn=arn,
            PolicyDocument=document(policy),
            SetAsDefault=True,
        )

    def _written(self, arn: str, policy: Any) -> dict[str, Any] | None:
        """Return the answer for a new version where the default version has the wanted content."""
        actual, item = self.read(arn), self.schema.properties["policy"]
        if actual is None:
            return None
        read = found({"policy": item}, actual.properties, "")["policy"]
        return {} if canonical(comparable(item, read)) == canonical(comparable(item, policy)) else None

    def _versions(self, arn: str) -> list[Any]:
        return listed(self.session, "list_policy_versions", "Versions", PolicyArn=arn)

    def _delete_version(self, arn: str, version: str) -> None:
        self.session.look("iam", "delete_policy_version", ABSENT, retry_on=BUSY, PolicyArn=arn, VersionId=version)

    def delete(self, request: Request) -> None:
        """Delete a policy with all attachments. IAM rejects this for a permissions boundary, as intended."""
        arn = request.existing.id
        self.session.each(lambda kind: self._detach(arn, kind), ("Role", "User", "Group"))
        for version in self._versions(arn):
            if not version["IsDefaultVersion"]:
                self._delete_version(arn, version["VersionId"])
        # A policy that was detached seconds before may still count as attached.
        retry_on = ("DeleteConflict:attached", *BUSY)
        self.session.look("iam", "delete_policy", ABSENT, retry_on=retry_on, PolicyArn=arn)

    def _detach(self, arn: str, kind: str) -> None:
        attached = listed(
            self.session,
            "list_entities_for_policy",
            f"Policy{kind}s",
            PolicyArn=arn,
            EntityFilter=kind,
            PolicyUsageFilter="PermissionsPolicy",
        )
        for entity in attached:
            which = {f"{kind}Name": entity[f"{kind}Name"], "PolicyArn": arn}
            self.session.look("iam", f"detach_{kind.lower()}_policy", ABSENT, retry_on=BUSY, **which)
