# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets Manager: secrets, whose values are written and never read."""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...engine.resource import READY, RETIRED, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import Secret, leaves
from ..kind import (
    STACK_TAG,
    TAGS,
    Actions,
    AwsKind,
    Retained,
    all_tags,
    document,
    given,
    owner_of,
    property_tags,
    tag_changes,
    tag_list,
    tag_map,
)
from ..naming import secret_name_fault
from ..policy import NEW_PRINCIPAL, policy_property

_ABSENT = ("ResourceNotFoundException",)
_SCHEDULED = (
    "InvalidRequestException:marked for deletion",
    "InvalidRequestException:scheduled for deletion",
    "InvalidRequestException:currently marked deleted",
)
_CURRENT = "AWSCURRENT"
# Tags for values that Secrets Manager does not store.
_WINDOW_TAG = "lakehouse:recovery-window-in-days"
_LONGEST_WINDOW_DAYS = 30
_DEFAULT_KEY = "alias/aws/secretsmanager"
_MOST_BYTES = 65_536
_SHORTEST, _LONGEST = 8, 4096
_EACH_ITS_OWN = "its user"


def _window_fault(value: int) -> str | None:
    return None if 7 <= value <= _LONGEST_WINDOW_DAYS else f"{value} is not between 7 and {_LONGEST_WINDOW_DAYS}"


def _length_fault(value: int) -> str | None:
    return None if _SHORTEST <= value <= _LONGEST else f"{value} is not between {_SHORTEST} and {_LONGEST}"


def _characters_fault(value: str) -> str | None:
    return None if len(set(value)) >= 2 else "does not have two different characters"


def _key_name(key: str) -> str:
    """Return the common form of a key's ARN and id, or of an alias and its ARN."""
    return key.rpartition(":")[2].removeprefix("key/")


def _rules(desired: Mapping[str, Any], _actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    value = desired.get("value")
    if value is not None and desired["generate"] is not None:
        yield "generate", "the value is given as well", "remove one of them"
    if isinstance(value, Secret) and value.value is not None:
        size = len(_text(value.reveal()).encode())
        if not 0 < size <= _MOST_BYTES:
            yield "value", f"has {size} bytes", f"a secret has 1 to {_MOST_BYTES}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else document(value)


class SecretsManagerSecret(AwsKind):
    """A secret whose value is given, generated once, or set by others.

    The version id of a given value is the version of the value itself. So a changed value is detected without a read.
    The kind is not called `secret`, because references like `${secret.NAME}` begin with that.
    """

    name = "secretsmanager_secret"
    service = "secretsmanager"
    retires = True
    schema = Schema(
        {
            "name": Property(
                required=True, replace=True, check=secret_name_fault, purpose="Name, unique in the account and region."
            ),
            "description": Property(purpose="Description."),
            "kms_key_id": Property(when_unset=_DEFAULT_KEY, canonical=_key_name, purpose="ARN of the encryption key."),
            "value": Property(
                "any",
                sensitive=True,
                computed=True,
                purpose="Value, as `${secret.NAME}`. Maps and lists are stored as JSON. Unmanaged if omitted.",
            ),
            "generate": Property(
                "map",
                fields={
                    "length": Property(
                        "integer",
                        default=32,
                        owned_by=_EACH_ITS_OWN,
                        check=_length_fault,
                        purpose="Number of characters.",
                    ),
                    "characters": Property(
                        default=string.ascii_letters + string.digits,
                        owned_by=_EACH_ITS_OWN,
                        check=_characters_fault,
                        purpose="Permitted characters.",
                    ),
                },
                purpose="Generation of a value for a secret without one. Never repeated.",
            ),
            "recovery_window_in_days": Property(
                "integer", default=7, check=_window_fault, purpose="Days until a deletion is final."
            ),
            "policy": policy_property("Resource policy, in addition to IAM policies."),
            "tags": TAGS,
        },
        {
            "id": Output("ARN."),
            "arn": Output("ARN."),
            "version_id": Output("ID of the current version.", changes_with=("value", "generate")),
            "deletion_date": Output("Date of the scheduled deletion."),
        },
        protected=True,
        unique_by=("name",),
        check=_rules,
    )
    actions = Actions(
        read=("secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy"),
        list=("secretsmanager:ListSecrets",),
        create=(
            "secretsmanager:CreateSecret",
            "secretsmanager:PutResourcePolicy",
            "secretsmanager:TagResource",
            "kms:Decrypt",
            "kms:GenerateDataKey",
        ),
        update=(
            "secretsmanager:DeleteResourcePolicy",
            "secretsmanager:PutResourcePolicy",
            "secretsmanager:PutSecretValue",
            "secretsmanager:RestoreSecret",
            "secretsmanager:TagResource",
            "secretsmanager:UntagResource",
            "secretsmanager:UpdateSecret",
            "secretsmanager:UpdateSecretVersionStage",
            "kms:Decrypt",
            "kms:Encrypt",
            "kms:GenerateDataKey",
        ),
        delete=("secretsmanager:DeleteSecret",),
    )

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        wanted = {subject.address: subject.desired for subject in subjects}
        return {
            address: actuals
            if isinstance(actuals, Later)
            else [_compared(actual, wanted[address]) for actual in actuals]
            for address, actuals in super().read_all(subjects).items()
        }

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        tagged = {"Key": "tag-key", "Values": [STACK_TAG]}
        secrets_ = self.session.pages(
            "secretsmanager", "list_secrets", "SecretList", IncludePlannedDeletion=True, Filters=[tagged]
        )
        owners = {secret["ARN"]: owner_of(tag_map(secret.get("Tags"))) for secret in secrets_}
        ours = [arn for arn, whose in owners.items() if whose is not None and whose.shares_stack_with(owner)]
        return [actual for actual in self.session.each(self.read, ours) if actual is not None]

    def read(self, id_: str) -> Actual | None:
        """Read a secret by its ARN or its name, without its value."""
        secret = self.session.look("secretsmanager", "describe_secret", _ABSENT, SecretId=id_)
        return None if secret is None else self._actual(secret)

    def _actual(self, secret: Mapping[str, Any]) -> Actual:
        arn, tags = secret["ARN"], tag_map(secret.get("Tags"))
        version = _current_version(secret)
        date = secret.get("DeletedDate")
        properties = {
            "name": secret["Name"],
            "description": secret.get("Description") or None,
            "kms_key_id": secret.get("KmsKeyId") or None,
            "value": Secret(version) if version else None,
            "generate": {} if version else None,
            "recovery_window_in_days": tags.get(_WINDOW_TAG),
            "policy": self._policy(arn),
            "tags": {key: value for key, value in property_tags(tags).items() if key != _WINDOW_TAG},
        }
        outputs = {"id": arn, "arn": arn, "version_id": version}
        if date is not None:
            outputs["deletion_date"] = date.isoformat()
        return Actual(arn, properties, outputs, owner_of(tags), RETIRED if date else READY, (secret["Name"],))

    def _policy(self, arn: str) -> Any:
        # A secret that is scheduled for deletion does not return its policy.
        absent = (*_ABSENT, *_SCHEDULED)
        answer = self.session.look("secretsmanager", "get_resource_policy", absent, SecretId=arn)
        return (answer or {}).get("ResourcePolicy") or None

    def create(self, request: Request) -> Actual:
        wanted = request.desired
        tags = {**all_tags(request), _WINDOW_TAG: str(wanted["recovery_window_in_days"])}
        answer = self.session.call_once(
            "secretsmanager",
            "create_secret",
            lambda: self._made(request),
            # A secret that was deleted without recovery blocks its name for a while.
            retry_on=("InvalidRequestException:scheduled for deletion",),
            Name=wanted["name"],
            Tags=tag_list(tags),
            **given({"Description": wanted["description"], "KmsKeyId": _given_key(wanted)}),
            **self._version(request),
        )
        arn = answer["ARN"]
        if wanted["policy"] is not None:
            self._write_policy(arn, wanted["policy"])
        return Actual(arn, wanted, {"id": arn, "arn": arn}, request.owner)

    def _made(self, request: Request) -> dict[str, Any] | None:
        actual = self.read(request.desired["name"])
        return {"ARN": actual.id} if actual and actual.owner == request.owner else None

    def _version(self, request: Request) -> dict[str, str]:
        """Return the parameters of a version, or none; its content is masked in all later messages."""
        value = request.desired.get("value")
        if isinstance(value, Secret):
            text, token = _text(self.revealed(request, "value")), value.version
            self.session.hide(text, *map(str, leaves(value.reveal())))
            return {"SecretString": text, "ClientRequestToken": token}
        generate = request.desired["generate"]
        if generate is None:
            return {}
        text = "".join(secrets.choice(generate["characters"]) for _position in range(generate["length"]))
        self.session.hide(text)
        return {"SecretString": text}

    def update(self, request: Request) -> Actual:
        arn, wanted = request.existing.id, request.desired
        retired = request.existing.status == RETIRED
        if retired:
            self.session.call("secretsmanager", "restore_secret", SecretId=arn)
        if request.changed("description") or request.changed("kms_key_id"):
            self.session.call(
                "secretsmanager",
                "update_secret",
                SecretId=arn,
                Description=wanted["description"] or "",
                KmsKeyId=_given_key(wanted) or "",
            )
        if request.changed("value") or request.changed("generate"):
            self._write_value(arn, self._version(request))
        if request.changed("policy") or retired:
            self._write_policy(arn, wanted["policy"])
        self._write_tags(request)
        return request.existing

    def _write_value(self, arn: str, version: Mapping[str, str]) -> None:
        """Make a version the current one. The first call does not change the stage of an existing version."""
        answer = self.session.call("secretsmanager", "put_secret_value", SecretId=arn, **version)
        secret = self.session.call("secretsmanager", "describe_secret", SecretId=arn)
        current = _current_version(secret)
        if current != answer["VersionId"]:
            self.session.call(
                "secretsmanager",
                "update_secret_version_stage",
                SecretId=arn,
                VersionStage=_CURRENT,
                MoveToVersionId=answer["VersionId"],
                **given({"RemoveFromVersionId": current}),
            )

    def _write_policy(self, arn: str, policy: Any) -> None:
        if policy is None:
            self.session.call("secretsmanager", "delete_resource_policy", SecretId=arn)
            return
        self.session.call(
            "secretsmanager",
            "put_resource_policy",
            retry_on=NEW_PRINCIPAL,
            SecretId=arn,
            ResourcePolicy=document(policy),
            BlockPublicPolicy=True,
        )

    def _write_tags(self, request: Request) -> None:
        arn = request.existing.id
        changed, removed = tag_changes(request)
        if request.changed("recovery_window_in_days"):
            changed[_WINDOW_TAG] = str(request.desired["recovery_window_in_days"])
        if changed:
            self.session.call("secretsmanager", "tag_resource", SecretId=arn, Tags=tag_list(changed))
        if removed:
            self.session.call("secretsmanager", "untag_resource", SecretId=arn, TagKeys=removed)

    def retains(self, existing: Actual) -> Sequence[Retained]:
        """Return the secret itself, which can be restored until its deletion."""
        key = existing.properties.get("kms_key_id")
        return (Retained(existing.id, f"the secret {existing.id}", str(key), _window(existing)),) if key else ()

    def delete(self, request: Request) -> None:
        """Schedule the deletion."""
        days = _window(request.existing)
        self.session.look(
            "secretsmanager",
            "delete_secret",
            (*_ABSENT, *_SCHEDULED),
            SecretId=request.existing.id,
            RecoveryWindowInDays=days,
        )


def _window(existing: Actual) -> int:
    return int(existing.properties.get("recovery_window_in_days") or _LONGEST_WINDOW_DAYS)


def _current_version(secret: Mapping[str, Any]) -> str | None:
    stages = secret.get("VersionIdsToStages") or {}
    return next((version for version, names in stages.items() if _CURRENT in names), None)


def _given_key(wanted: Mapping[str, Any]) -> str | None:
    key = wanted["kms_key_id"]
    return None if _key_name(key) == _DEFAULT_KEY else str(key)


def _compared(actual: Actual, desired: Mapping[str, Any]) -> Actual:
    """Remove the source of the value from the observed properties, unless the description contains a source."""
    left_alone = {name for name in ("value", "generate") if name in desired and desired[name] is None}
    kept = {name: None if name in left_alone else value for name, value in actual.properties.items()}
    return replace(actual, properties=kept)
