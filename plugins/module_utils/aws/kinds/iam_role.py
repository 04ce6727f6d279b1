# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IAM: roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.resource import READY, Actual, Owner, Request
from ...engine.schema import Output, Property, Schema
from ..iam import ABSENT, BUSY, NEW, leave_profile, listed, owned, path_property, tagged, write_tags
from ..kind import TAGS, Actions, AwsKind, all_tags, document, given, owner_of, property_tags, tag_list, tag_map
from ..naming import policy_arn_fault, role_name_fault
from ..policy import NEW_PRINCIPAL, policy_property

_SESSION_S = 3600
# Policies of AWS always exist: a missing one is a wrong name, so it is not retried.
_NEW_ROLE = ("NoSuchEntity:The role with name", *BUSY)


def _session_fault(value: int) -> str | None:
    return None if _SESSION_S <= value <= 12 * _SESSION_S else f"{value} s is not between 1 and 12 hours"


class IamRole(AwsKind):
    """A role with its attachments: attachments outside of the description are detached."""

    name = "iam_role"
    service = "iam"
    schema = Schema(
        {
            "name": Property(
                required=True, replace=True, check=role_name_fault, purpose="Name, unique in the account."
            ),
            "assume_role_policy": policy_property(
                "Trust policy: the principals that may assume the role.", required=True
            ),
            "description": Property(purpose="Description."),
            "max_session_duration": Property(
                "integer", default=_SESSION_S, check=_session_fault, purpose="Maximum seconds of a session."
            ),
            "managed_policy_arns": Property("set", elements=Property("string"), purpose="ARNs of attached policies."),
            "inline_policies": Property(
                "map", elements=policy_property("Policy document."), purpose="Inline policies by name."
            ),
            "permissions_boundary": Property(check=policy_arn_fault, purpose="ARN of the permissions boundary."),
            "path": path_property(),
            "tags": TAGS,
        },
        {
            "id": Output("Name."),
            "arn": Output("ARN."),
            "unique_id": Output("Unique ID, which IAM never reuses."),
        },
        spans_regions=True,
        unique_by=("name",),
    )
    actions = Actions(
        read=("iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies"),
        list=("iam:ListRoles", "iam:ListRoleTags"),
        create=(
            "iam:CreateRole",
            "iam:TagRole",
            "iam:AttachRolePolicy",
            "iam:PutRolePermissionsBoundary",
            "iam:PutRolePolicy",
        ),
        update=(
            "iam:AttachRolePolicy",
            "iam:DeleteRolePermissionsBoundary",
            "iam:DeleteRolePolicy",
            "iam:DetachRolePolicy",
            "iam:PutRolePermissionsBoundary",
            "iam:PutRolePolicy",
            "iam:TagRole",
            "iam:UntagRole",
            "iam:UpdateAssumeRolePolicy",
            "iam:UpdateRole",
        ),
        delete=(
            "iam:DeleteRole",
            "iam:DeleteRolePolicy",
            "iam:DetachRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListInstanceProfilesForRole",
            "iam:ListRolePolicies",
            "iam:RemoveRoleFromInstanceProfile",
        ),
    )

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("iam", "get_role", ABSENT, RoleName=id_)
        return self._actual(answer["Role"]) if answer else None

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        roles = self.session.pages("iam", "list_roles", "Roles")
        names = [role["RoleName"] for role in roles if not role["Path"].startswith("/aws-service-role/")]
        ours = tagged(self.session, owner, names, "list_role_tags", "RoleName")
        return owned(self.session, owner, ours, self.read)

    def _actual(self, role: Mapping[str, Any]) -> Actual:
        name, tags = role["RoleName"], tag_map(role.get("Tags"))
        attached, inline = self.session.each(lambda question: question(name), (self._attached, self._inline))
        properties = {
            "name": name,
            "assume_role_policy": role["AssumeRolePolicyDocument"],
            "description": role.get("Description") or None,
            "max_session_duration": role.get("MaxSessionDuration", _SESSION_S),
            "managed_policy_arns": attached,
            "inline_policies": inline,
            "permissions_boundary": (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn"),
            "path": role["Path"],
            "tags": property_tags(tags),
        }
        outputs = {"id": name, "arn": role["Arn"], "unique_id": role["RoleId"]}
        return Actual(name, properties, outputs, owner_of(tags), READY, (role["Arn"], role["RoleId"]))

    def _attached(self, name: str) -> Any:
        found = listed(self.session, "list_attached_role_policies", "AttachedPolicies", RoleName=name)
        return [policy["PolicyArn"] for policy in found]

    def _inline(self, name: str) -> Any:
        names = listed(self.session, "list_role_policies", "PolicyNames", RoleName=name)
        answers = self.session.each(
            lambda policy: self.session.look("iam", "get_role_policy", ABSENT, RoleName=name, PolicyName=policy), names
        )
        return {policy: answer["PolicyDocument"] for policy, answer in zip(names, answers, strict=True) if answer}

    def create(self, request: Request) -> Actual:
        wanted, name = request.desired, request.desired["name"]
        self.session.call_once(
            "iam",
            "create_role",
            lambda: self._made(request),
            retry_on=(*NEW_PRINCIPAL, *NEW),
            RoleName=name,
            AssumeRolePolicyDocument=document(wanted["assume_role_policy"]),
            MaxSessionDuration=wanted["max_session_duration"],
            Path=wanted["path"],
            Tags=tag_list(all_tags(request)),
            **given({"Description": wanted["description"], "PermissionsBoundary": wanted["permissions_boundary"]}),
        )
        self._attach(name, wanted["managed_policy_arns"] or ())
        self._put_inline(name, wanted["inline_policies"] or {})
        return Actual(name, wanted, {"id": name}, request.owner)

    def _made(self, request: Request) -> dict[str, Any] | None:
        found = self.read(request.desired["name"])
        return {} if found and found.owner == request.owner else None

    def update(self, request: Request) -> Actual:
        name, wanted = request.existing.id, request.desired
        if request.changed("assume_role_policy"):
            self.session.call(
                "iam",
                "update_assume_role_policy",
                retry_on=(*NEW_PRINCIPAL, *BUSY),
                RoleName=name,
                PolicyDocument=document(wanted["assume_role_policy"]),
            )
        if request.changed("description") or request.changed("max_session_duration"):
            # The call sets both: an omitted value is reset to its default.
            self.session.call(
                "iam",
                "update_role",
                retry_on=BUSY,
                RoleName=name,
                Description=wanted["description"] or "",
                MaxSessionDuration=wanted["max_session_duration"],
            )
        if request.changed("permissions_boundary"):
            self._write_boundary(name, wanted["permissions_boundary"])
        self._update_policies(request)
        write_tags(self.session, "role", "RoleName", request)
        return request.existing

    def _update_policies(self, request: Request) -> None:
        """Remove policies before others are added, because a role has a quota of attached policies."""
        name, wanted, actual = request.existing.id, request.desired, request.existing.properties
        if request.changed("managed_policy_arns"):
            before, after = set(actual["managed_policy_arns"] or ()), set(wanted["managed_policy_arns"] or ())
            self._detach(name, sorted(before - after))
            self._attach(name, sorted(after - before))
        if request.changed("inline_policies"):
            policies = wanted["inline_policies"] or {}
            self._delete_inline(name, sorted(set(actual["inline_policies"] or ()) - set(policies)))
            self._put_inline(name, policies)

    def _write_boundary(self, name: str, boundary: str | None) -> None:
        if boundary is None:
            self.session.look("iam", "delete_role_permissions_boundary", ABSENT, retry_on=BUSY, RoleName=name)
        else:
            self.session.call(
                "iam", "put_role_permissions_boundary", retry_on=NEW, RoleName=name, PermissionsBoundary=boundary
            )

    def _attach(self, name: str, arns: Sequence[str]) -> None:
        for arn in arns:
            retry_on = _NEW_ROLE if ":iam::aws:policy/" in arn else NEW
            self.session.call("iam", "attach_role_policy", retry_on=retry_on, RoleName=name, PolicyArn=arn)

    def _detach(self, name: str, arns: Sequence[str]) -> None:
        for arn in arns:
            self.session.look("iam", "detach_role_policy", ABSENT, retry_on=BUSY, RoleName=name, PolicyArn=arn)

    def _put_inline(self, name: str, policies: Mapping[str, Any]) -> None:
        for policy, wanted in policies.items():
            self.session.call(
                "iam",
                "put_role_policy",
                retry_on=NEW,
                RoleName=name,
                PolicyName=policy,
                PolicyDocument=document(wanted),
            )

    def _delete_inline(self, name: str, policies: Sequence[str]) -> None:
        for policy in policies:
            self.session.look("iam", "delete_role_policy", ABSENT, retry_on=BUSY, RoleName=name, PolicyName=policy)

    def delete(self, request: Request) -> None:
        """Delete a role with all current attachments, including those that were added manually."""
        name = request.existing.id
        for profile in listed(self.session, "list_instance_profiles_for_role", "InstanceProfiles", RoleName=name):
            leave_profile(self.session, profile["InstanceProfileName"], name)
        self._detach(name, self._attached(name))
        self._delete_inline(name, listed(self.session, "list_role_policies", "PolicyNames", RoleName=name))
        self.session.look("iam", "delete_role", ABSENT, retry_on=("DeleteConflict", *BUSY), RoleName=name)
