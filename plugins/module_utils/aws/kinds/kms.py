# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""KMS: keys, each with an alias as its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import EngineError
from ...engine.resource import READY, RETIRED, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import is_known
from ..kind import (
    TAGS,
    Actions,
    AwsKind,
    all_tags,
    document,
    given,
    owner_of,
    property_tags,
    tag_changes,
    tag_list,
    tag_map,
)
from ..policy import NEW_PRINCIPAL, policy_property

_ABSENT = ("NotFoundException",)
# A key policy hides foreign keys, never keys of the stack. A missing IAM action would hide all keys.
_HIDDEN = (*_ABSENT, "AccessDeniedException:no resource-based policy allows")
_NO_ROTATION = ("UnsupportedOperationException",)
_ALIAS = re.compile(r"alias/(?!aws/)[A-Za-z0-9/_-]{1,250}")
_ROTATION_DAYS = 365
# Values that KMS does not store: the alias that is a key's name, and the waiting period of its deletion.
_ALIAS_TAG, _WINDOW_TAG = "lakehouse:alias", "lakehouse:deletion-window-in-days"
_LONGEST_WINDOW_DAYS = 30


def _alias_fault(value: str) -> str | None:
    if _ALIAS.fullmatch(value):
        return None
    return f"{value!r} is not an alias: `alias/` and then letters, digits, `/`, `_`, `-`, but not `aws/`"


def _between(low: int, high: int) -> Any:
    def fault(value: int) -> str | None:
        return None if low <= value <= high else f"{value} is not between {low} and {high}"

    return fault


def _rules(desired: Mapping[str, Any], _actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    if desired["enable_key_rotation"] is False and desired["rotation_period_in_days"] != _ROTATION_DAYS:
        yield "rotation_period_in_days", "means nothing for a key that does not rotate", "remove it"


class KmsKey(AwsKind):
    """Symmetric encryption key with an alias.

    It is found by its alias. It is found by its tags where the alias is missing, not created yet, or names another key.
    """

    name = "kms_key"
    service = "kms"
    retires = True
    schema = Schema(
        {
            "alias": Property(
                required=True, check=_alias_fault, purpose="Alias, `alias/...`, unique in the account and region."
            ),
            "description": Property(purpose="Description."),
            "enabled": Property("boolean", default=True, purpose="Whether to enable the key."),
            "policy": policy_property("Key policy. If omitted, the IAM policies of the account decide.", computed=True),
            "enable_key_rotation": Property("boolean", default=True, purpose="Whether to rotate the key material."),
            "rotation_period_in_days": Property(
                "integer",
                when_unset=_ROTATION_DAYS,
                check=_between(90, 2560),
                purpose="Days between rotations.",
            ),
            "deletion_window_in_days": Property(
                "integer",
                default=7,
                check=_between(7, _LONGEST_WINDOW_DAYS),
                purpose="Waiting period of a deletion in days.",
            ),
            "tags": TAGS,
        },
        {
            "id": Output("ID that AWS assigned."),
            "arn": Output("ARN."),
            "alias_name": Output("Alias.", changes_with=("alias",)),
            "alias_arn": Output("ARN of the alias.", changes_with=("alias",)),
            "deletion_date": Output("Date of the scheduled deletion."),
        },
        protected=True,
        unique_by=("alias",),
        check=_rules,
    )
    actions = Actions(
        read=(
            "kms:DescribeKey",
            "kms:GetKeyPolicy",
            "kms:GetKeyRotationStatus",
            "kms:ListAliases",
            "kms:ListKeys",
            "kms:ListResourceTags",
            # Actions that find the resources of a key before a plan deletes it.
            "backup:ListBackupVaults",
            "backup:ListRecoveryPointsByBackupVault",
            "ec2:DescribeSnapshots",
            "logs:DescribeLogGroups",
            "rds:DescribeDBSnapshots",
            "secretsmanager:ListSecrets",
        ),
        create=("kms:CreateKey", "kms:TagResource", "kms:CreateAlias", "kms:EnableKeyRotation", "kms:DisableKey"),
        update=(
            "kms:CancelKeyDeletion",
            "kms:CreateAlias",
            "kms:DeleteAlias",
            "kms:DisableKey",
            "kms:DisableKeyRotation",
            "kms:EnableKey",
            "kms:EnableKeyRotation",
            "kms:PutKeyPolicy",
            "kms:TagResource",
            "kms:UntagResource",
            "kms:UpdateAlias",
            "kms:UpdateKeyDescription",
        ),
        delete=("kms:ScheduleKeyDeletion",),
    )

    def identify(self, desired: Mapping[str, Any]) -> str | None:
        return str(desired["alias"])

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return is_known(desired.get("alias"))

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        found = dict(super().read_all(subjects))
        missing = [subject for subject in subjects if not _is_there(found[subject.address], subject.owner)]
        # Tags need one call per key, so they are read only for keys without the right alias.
        owned = self.list_owned(missing[0].owner) if missing else ()
        for subject in missing:
            tagged = [self.managed_tags(actual, subject.desired) for actual in owned if actual.owner == subject.owner]
            others = found[subject.address]
            if tagged:
                found[subject.address] = [*tagged, *(() if isinstance(others, Later) else others)]
        return found

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        keys = [key["KeyId"] for key in self.session.pages("kms", "list_keys", "Keys")]
        owners = self.session.each(lambda key: owner_of(self._tags(key) or {}), keys)
        ours = [key for key, whose in zip(keys, owners, strict=True) if whose and whose.shares_stack_with(owner)]
        return [actual for actual in self.session.each(self.read, ours) if actual is not None]

    def read(self, id_: str) -> Actual | None:
        """Read a key by its id or by an alias."""
        answer = self.session.look("kms", "describe_key", _ABSENT, KeyId=id_)
        return self._actual(answer["KeyMetadata"], id_ if id_.startswith("alias/") else None) if answer else None

    def _actual(self, metadata: Mapping[str, Any], asked: str | None) -> Actual | None:
        key, arn = metadata["KeyId"], metadata["Arn"]
        questions = (self._tags, self._rotation, self._policy)
        tags, rotation, policy = self.session.each(lambda question: question(key), questions)
        if tags is None or rotation is None or policy is None:
            return None
        alias = self._alias(key, asked, tags.get(_ALIAS_TAG))
        properties = {
            "alias": alias,
            "description": metadata.get("Description") or None,
            "enabled": metadata["KeyState"] == "Enabled",
            "policy": policy["Policy"],
            "enable_key_rotation": rotation["KeyRotationEnabled"],
            "rotation_period_in_days": rotation.get("RotationPeriodInDays") if rotation["KeyRotationEnabled"] else None,
            "deletion_window_in_days": tags.get(_WINDOW_TAG),
            "tags": _described_tags(tags),
        }
        outputs = {"id": key, "arn": arn, **_alias_outputs(arn, alias), **_deletion_date(metadata)}
        status = _STATUSES.get(metadata["KeyState"], metadata["KeyState"])
        names = (arn, *(str(value) for name, value in outputs.items() if name.startswith("alias")))
        return Actual(key, properties, outputs, owner_of(tags), status, names)

    def _tags(self, key: str) -> dict[str, str] | None:
        # One answer holds as many tags as a key can have.
        answer = self.session.look("kms", "list_resource_tags", _HIDDEN, KeyId=key)
        return None if answer is None else tag_map(answer["Tags"], "TagKey", "TagValue")

    def _rotation(self, key: str) -> dict[str, Any] | None:
        codes = (*_ABSENT, *_NO_ROTATION)
        answer = self.session.look("kms", "get_key_rotation_status", codes, KeyId=key)
        return {"KeyRotationEnabled": False} if answer is None else answer

    def _policy(self, key: str) -> dict[str, Any] | None:
        return self.session.look("kms", "get_key_policy", _ABSENT, KeyId=key, PolicyName="default")

    def _alias(self, key: str, asked: str | None, named: str | None) -> str | None:
        """Return the alias that is a key's name: the one in its tag, else the existing one."""
        if asked is not None and named in {None, asked}:
            return asked
        aliases = {item["AliasName"] for item in self.session.pages("kms", "list_aliases", "Aliases", KeyId=key)}
        return next((alias for alias in (named, asked) if alias in aliases), None)

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        policy = wanted.get("policy")
        answer = self.session.call_once(
            "kms",
            "create_key",
            lambda: self._made(request.owner),
            retry_on=NEW_PRINCIPAL,
            **given({"Description": wanted["description"], "Policy": document(policy) if policy else None}),
            Tags=tag_list({**all_tags(request), **_own_tags(wanted)}, "TagKey", "TagValue"),
        )
        key = answer["KeyMetadata"]["KeyId"]
        self._write_alias(request, key, None)
        self._write_rotation(key, wanted)
        if not wanted["enabled"]:
            self.session.call("kms", "disable_key", retry_on=_ABSENT, KeyId=key)
        return Actual(key, wanted, {"id": key}, request.owner, "Creating")

    def _made(self, owner: Owner) -> dict[str, Any] | None:
        made = [actual for actual in self.list_owned(owner) if actual.owner == owner and actual.status != RETIRED]
        return {"KeyMetadata": {"KeyId": made[0].id}} if made else None

    def update(self, request: Request) -> Actual:
        key, wanted = request.existing.id, request.desired
        if request.existing.status == RETIRED:
            # A key whose deletion was cancelled meanwhile is not in deletion.
            self.session.look("kms", "cancel_key_deletion", ("KMSInvalidStateException",), KeyId=key)
        if wanted["enabled"] and request.changed("enabled"):
            self.session.call("kms", "enable_key", retry_on=("KMSInvalidStateException",), KeyId=key)
        if request.changed("alias"):
            self._write_alias(request, key, request.existing.properties.get("alias"))
        if request.changed("description"):
            self.session.call("kms", "update_key_description", KeyId=key, Description=wanted["description"] or "")
        if request.changed("policy"):
            self._write_policy(key, wanted["policy"])
        if request.changed("enable_key_rotation") or request.changed("rotation_period_in_days"):
            self._write_rotation(key, wanted)
        self._write_tags(request)
        if not wanted["enabled"] and request.changed("enabled"):
            self.session.call("kms", "disable_key", KeyId=key)
        return request.existing

    def _write_policy(self, key: str, policy: Any) -> None:
        self.session.call(
            "kms", "put_key_policy", retry_on=NEW_PRINCIPAL, KeyId=key, PolicyName="default", Policy=document(policy)
        )

    def _write_rotation(self, key: str, wanted: Mapping[str, Any]) -> None:
        # A key that was enabled seconds before may still reject the call; a disabled key always rejects it.
        retry_on = (*_ABSENT, "DisabledException") if wanted["enabled"] else _ABSENT
        if wanted["enable_key_rotation"]:
            days = wanted["rotation_period_in_days"]
            self.session.call("kms", "enable_key_rotation", retry_on=retry_on, KeyId=key, RotationPeriodInDays=days)
        else:
            self.session.call("kms", "disable_key_rotation", retry_on=retry_on, KeyId=key)

    def _write_alias(self, request: Request, key: str, before: str | None) -> None:
        """Point the alias to this key, and delete the stack's former alias. Raises EngineError where it is in use."""
        alias = request.desired["alias"]
        made = self.session.look(
            "kms", "create_alias", ("AlreadyExistsException",), retry_on=_ABSENT, AliasName=alias, TargetKeyId=key
        )
        if made is None and self._must_move(request, alias, key):
            self.session.call("kms", "update_alias", retry_on=_ABSENT, AliasName=alias, TargetKeyId=key)
        if before is not None and before != alias:
            self.session.look("kms", "delete_alias", _ABSENT, AliasName=before)

    def _must_move(self, request: Request, alias: str, key: str) -> bool:
        """Return whether to move an alias from another key. A key without owner can have it only by a manual change."""
        target = self.session.look("kms", "describe_key", _ABSENT, KeyId=alias)
        named = target["KeyMetadata"]["KeyId"] if target else None
        if named is None or named == key:
            return named is None
        owner = owner_of(self._tags(named) or {})
        if owner is not None and owner != request.owner:
            whose = f"{owner.address} of stack {owner.stack!r} in {owner.environment!r}"
            raise EngineError(f"{alias} names key {named}, which is {whose}; give this key another alias")
        return True

    def _write_tags(self, request: Request) -> None:
        key = request.existing.id
        changed, removed = tag_changes(request)
        if request.claim or request.changed("alias") or request.changed("deletion_window_in_days"):
            changed |= _own_tags(request.desired)
        if changed:
            self.session.call("kms", "tag_resource", KeyId=key, Tags=tag_list(changed, "TagKey", "TagValue"))
        if removed:
            self.session.call("kms", "untag_resource", KeyId=key, TagKeys=removed)

    def delete(self, request: Request) -> None:
        """Schedule the deletion. The alias stays on the key until then, so that a new run finds it."""
        days = int(request.existing.properties.get("deletion_window_in_days") or _LONGEST_WINDOW_DAYS)
        self.session.look(
            "kms",
            "schedule_key_deletion",
            (*_ABSENT, "KMSInvalidStateException:pending deletion"),
            KeyId=request.existing.id,
            PendingWindowInDays=days,
        )


# A disabled key counts as ready.
_STATUSES = {"Enabled": READY, "Disabled": READY, "PendingDeletion": RETIRED, "PendingReplicaDeletion": RETIRED}


def _is_there(found: Sequence[Actual] | Later, owner: Owner) -> bool:
    return not isinstance(found, Later) and any(actual.owner == owner for actual in found)


def _described_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in property_tags(tags).items() if key not in {_ALIAS_TAG, _WINDOW_TAG}}


def _own_tags(wanted: Mapping[str, Any]) -> dict[str, str]:
    return {_ALIAS_TAG: wanted["alias"], _WINDOW_TAG: str(wanted["deletion_window_in_days"])}


def _alias_outputs(arn: str, alias: str | None) -> dict[str, str]:
    return {"alias_name": alias, "alias_arn": f"{arn.rpartition(':')[0]}:{alias}"} if alias else {}


def _deletion_date(metadata: Mapping[str, Any]) -> dict[str, str]:
    date = metadata.get("DeletionDate")
    return {"deletion_date": date.isoformat()} if date else {}
