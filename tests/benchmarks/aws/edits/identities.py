# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits of keys, identities and secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.benchmarks.aws.edits.hand import Altered, Edit, Hand, document


def of_kms_key(hand: Hand, address: str) -> Iterator[Edit]:
    fixed = {"KeyId": hand.id(address)}
    described = hand.described[address]
    alias = {"AliasName": described["alias"]}
    yield Edit(
        address,
        "alias",
        hand.call("kms", "delete_alias", **alias),
        hand.call("kms", "create_alias", TargetKeyId=hand.id(address), **alias),
    )
    yield hand.switch(
        address,
        "description",
        ("kms", "update_key_description"),
        fixed,
        {"Description": "somebody's"},
        {"Description": described["description"]},
    )
    yield Edit(address, "enabled", hand.call("kms", "disable_key", **fixed), hand.call("kms", "enable_key", **fixed))
    yield Edit(
        address,
        "enable_key_rotation",
        hand.call("kms", "disable_key_rotation", **fixed),
        hand.call("kms", "enable_key_rotation", **fixed),
    )
    # The emulator accepts another period and still returns one year.
    period = Altered("kms", "GetKeyRotationStatus", lambda answer: answer.update(RotationPeriodInDays=100), fixed)
    yield Edit(address, "rotation_period_in_days", altered=period)
    own = hand.client("kms").get_key_policy(**fixed, PolicyName="default")["Policy"]
    other = own.replace("kms:*", "kms:Decrypt")
    yield hand.switch(
        address,
        "policy",
        ("kms", "put_key_policy"),
        {**fixed, "PolicyName": "default"},
        {"Policy": other},
        {"Policy": own},
    )


def of_iam_role(hand: Hand, address: str) -> Iterator[Edit]:
    fixed = {"RoleName": hand.id(address)}
    described = hand.described[address]
    own = json.dumps(described["assume_role_policy"])
    other = own.replace(".amazonaws.com", ".somebodys.com")
    call = ("iam", "update_assume_role_policy")
    yield hand.switch(address, "assume_role_policy", call, fixed, {"PolicyDocument": other}, {"PolicyDocument": own})
    words, length = described["description"], 3600
    update = ("iam", "update_role")
    yield hand.switch(
        address,
        "description",
        update,
        fixed,
        {"Description": "somebody's", "MaxSessionDuration": length},
        {"Description": words, "MaxSessionDuration": length},
    )
    yield hand.switch(
        address,
        "max_session_duration",
        update,
        fixed,
        {"Description": words, "MaxSessionDuration": 7200},
        {"Description": words, "MaxSessionDuration": length},
    )
    for arn in described["managed_policy_arns"]:
        yield _attachment(hand, address, arn, attached=True)
    yield _attachment(hand, address, "arn:aws:iam::aws:policy/AdministratorAccess", attached=False)
    inline = {**fixed, "PolicyName": "somebodys"}
    yield Edit(
        address,
        "inline_policies",
        hand.call("iam", "put_role_policy", PolicyDocument=document("s3:*"), **inline),
        hand.call("iam", "delete_role_policy", **inline),
    )
    boundary = {"PermissionsBoundary": hand.arn("iam_policy.s3-access")}
    yield Edit(
        address,
        "permissions_boundary",
        hand.call("iam", "put_role_permissions_boundary", **fixed, **boundary),
        hand.call("iam", "delete_role_permissions_boundary", **fixed),
    )


def _attachment(hand: Hand, address: str, arn: str, *, attached: bool) -> Edit:
    fixed = {"RoleName": hand.id(address), "PolicyArn": arn}
    detach, attach = (hand.call("iam", f"{verb}_role_policy", **fixed) for verb in ("detach", "attach"))
    return Edit(address, "managed_policy_arns", *((detach, attach) if attached else (attach, detach)))


def of_iam_policy(hand: Hand, address: str) -> Iterator[Edit]:
    iam, fixed = hand.client("iam"), {"PolicyArn": hand.arn(address)}
    own = iam.get_policy(**fixed)["Policy"]["DefaultVersionId"]
    made: list[str] = []

    def make() -> None:
        version = iam.create_policy_version(**fixed, PolicyDocument=document("s3:*"), SetAsDefault=True)
        made.append(version["PolicyVersion"]["VersionId"])

    def undo() -> None:
        iam.set_default_policy_version(**fixed, VersionId=own)
        iam.delete_policy_version(**fixed, VersionId=made.pop())

    yield Edit(address, "policy", make, undo)


def of_secretsmanager_secret(hand: Hand, address: str) -> Iterator[Edit]:
    fixed = {"SecretId": hand.arn(address)}
    words = hand.described[address]["description"]
    update = ("secretsmanager", "update_secret")
    yield hand.switch(address, "description", update, fixed, {"Description": "somebody's"}, {"Description": words})
    other, own = {"KmsKeyId": hand.arn("kms_key.s3")}, {"KmsKeyId": hand.arn("kms_key.data")}
    yield hand.switch(address, "kms_key_id", update, fixed, other, own)
    yield Edit(
        address,
        "policy",
        hand.call(
            "secretsmanager", "put_resource_policy", ResourcePolicy=document("secretsmanager:*", Principal="*"), **fixed
        ),
        hand.call("secretsmanager", "delete_resource_policy", **fixed),
    )
    yield _secret_value(hand, address, fixed)


def _secret_value(hand: Hand, address: str, fixed: Mapping[str, Any]) -> Edit:
    own = str(hand.outputs[address]["version_id"])
    made: list[str] = []

    def make() -> None:
        answer = hand.client("secretsmanager").put_secret_value(**fixed, SecretString="somebody's own value")
        made.append(answer["VersionId"])

    def undo() -> None:
        hand.client("secretsmanager").update_secret_version_stage(
            **fixed, VersionStage="AWSCURRENT", MoveToVersionId=own, RemoveFromVersionId=made.pop()
        )

    return Edit(address, "value", make, undo)
