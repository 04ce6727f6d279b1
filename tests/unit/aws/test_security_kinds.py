# SPDX-License-Identifier: GPL-3.0-or-later
"""Security kinds: descriptions that they reject before any call, and behaviour of services that no emulator has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.iam import (
    InstanceProfile,
    OidcProvider,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.iam_policy import IamPolicy
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.iam_role import IamRole
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.kms import KmsKey
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.secrets import SecretsManagerSecret
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.kinds.waf import (
    WebAcl,
    as_stored,
    from_api,
    to_api,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.policy import policy_property
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.diff import diff
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import DescriptionError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.execute import Report, execute
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.plan import Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.planning import Options, propose
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource, Stack
from tests.integration.aws.wire import Answer, Scripted, Wire

KINDS = (KmsKey, IamRole, IamPolicy, InstanceProfile, OidcProvider, SecretsManagerSecret, WebAcl)
ACCOUNT = "111122223333"
STACK = Stack("lake", "development", "1.0.0", {"account_id": ACCOUNT})
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def session_of(script: Mapping[str, Any]) -> tuple[Session, Wire]:
    """Return a session whose calls are all answered by the script."""
    answers = {"sts:GetCallerIdentity": lambda **_given: IDENTITY, **script}
    wire = Wire(Scripted(answers))
    made = Session(Connection(region="eu-central-1", access_key="AKIATESTTESTTEST", secret_key="unused"))
    return wire.attach(made), wire


IDENTITY = {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/lead", "UserId": "AIDATEST"}


def run(script: Mapping[str, Any], described: Mapping[str, Any], **options: Any) -> tuple[Plan, Report, Wire]:
    session, wire = session_of(script)
    names = {address.partition(".")[0] for address in described}
    kinds = [kind(session) for kind in KINDS if kind.name in names]
    split = [(address.partition("."), properties) for address, properties in described.items()]
    resources = [Resource(kind, name, properties) for (kind, _dot, name), properties in split]
    proposal = propose(STACK, kinds, resources, {"database": STACK.secret("a-first-value")}, Options(**options))
    return proposal.plan, execute(proposal), wire


def refusal(address: str, properties: Mapping[str, Any]) -> str:
    """Return the error that a description raises before any call."""
    with pytest.raises(DescriptionError) as raised:
        run({}, {address: properties})
    return str(raised.value)


@pytest.mark.parametrize(
    ("address", "properties", "message"),
    [
        ("kms_key.k", {"alias": "no-prefix"}, "'no-prefix' is not an alias"),
        ("kms_key.k", {"alias": "alias/aws/s3"}, "'alias/aws/s3' is not an alias"),
        ("kms_key.k", {"alias": "alias/" + "x" * 251}, "is not an alias"),
        ("kms_key.k", {"alias": "alias/k", "rotation_period_in_days": 30}, "30 is not between 90 and 2560"),
        ("kms_key.k", {"alias": "alias/k", "deletion_window_in_days": 6}, "6 is not between 7 and 30"),
        (
            "kms_key.k",
            {"alias": "alias/k", "enable_key_rotation": False, "rotation_period_in_days": 90},
            "means nothing for a key that does not rotate",
        ),
        ("kms_key.k", {"alias": "alias/k", "policy": []}, "is not a policy"),
        ("kms_key.k", {"alias": "alias/k", "policy": "{"}, "is not valid JSON"),
        ("iam_role.r", {"name": "r"}, "assume_role_policy: is required"),
        ("iam_role.r", {"name": "r", "assume_role_policy": {"Statement": [{}]}}, "statement 1 is neither"),
        ("iam_role.r", {"name": "r", "assume_role_policy": TRUST, "path": "lake"}, "does not begin and end with `/`"),
        ("iam_role.r", {"name": "r", "assume_role_policy": TRUST, "max_session_duration": 60}, "60 s is not between"),
        ("iam_role.r", {"name": "r", "assume_role_policy": TRUST, "inline_policies": {"a": {}}}, "inline_policies.a"),
        ("iam_policy.p", {"name": "p", "policy": {"Statement": []}}, "is not a policy"),
        ("oidc_provider.o", {"url": "http://issuer"}, "is not an address of https"),
        ("oidc_provider.o", {"url": "https://i.x", "thumbprint_list": ["short"]}, "is not a SHA-1 digest"),
        ("secretsmanager_secret.s", {"name": "s", "value": "x", "generate": {}}, "the value is given as well"),
        ("secretsmanager_secret.s", {"name": "s", "value": ""}, "has 0 bytes"),
        ("secretsmanager_secret.s", {"name": "s", "value": "x" * 65_537}, "has 65537 bytes"),
        ("secretsmanager_secret.s", {"name": "s", "generate": {"length": 3}}, "3 is not between 8 and 4096"),
        ("secretsmanager_secret.s", {"name": "s", "generate": {"characters": "aa"}}, "two different characters"),
        ("secretsmanager_secret.s", {"name": "s", "recovery_window_in_days": 3}, "3 is not between 7 and 30"),
        ("secretsmanager_secret.s", {"name": "s", "description": "${secret.database}"}, "would show a secret"),
        ("web_acl.w", {"name": "w", "rules": [{"name": "A"}]}, "every rule needs a priority of its own"),
        ("web_acl.w", {"name": "w", "rules": {"name": "A"}}, "is not a list of rules"),
        ("web_acl.w", {"name": "w", "default_action": {"count": {}}}, "is neither"),
        ("web_acl.w", {"name": "w", "scope": "GLOBAL"}, "is not one of its choices"),
    ],
)
def test_bad_input_is_refused_before_anything_is_called(address: str, properties: Any, message: str) -> None:
    assert message in refusal(address, properties)


def test_a_refused_value_is_not_shown() -> None:
    assert "a-first-value" not in refusal("secretsmanager_secret.s", {"name": "${secret.database}"})


def test_no_kind_has_the_name_that_a_reference_to_a_secret_begins_with() -> None:
    assert not {kind.name for kind in KINDS} & {"secret", "stack"}


def same(described: Any, read: Any) -> bool:
    item = policy_property("A policy.")
    return not diff({"policy": item}, {"policy": described}, {"policy": read})


def statement(principal: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": "Allow", "Principal": principal, "Action": "s3:*"}]}


@pytest.mark.parametrize(
    ("described", "read"),
    [
        ({"AWS": ACCOUNT}, {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}),
        ({"AWS": [ACCOUNT]}, {"AWS": f"arn:aws-us-gov:iam::{ACCOUNT}:root"}),
        ("*", {"AWS": "*"}),
        ({"Service": ["b.amazonaws.com", "a.amazonaws.com"]}, {"Service": ["a.amazonaws.com", "b.amazonaws.com"]}),
    ],
)
def test_spellings_of_a_principal_that_mean_the_same_are_no_difference(described: Any, read: Any) -> None:
    assert same(statement(described), statement(read))


@pytest.mark.parametrize("read", ["AROAEXAMPLEEXAMPLE012", "arn:aws:iam::111122223333:role/other", "444455556666"])
def test_another_principal_is_a_difference(read: str) -> None:
    assert not same(statement({"AWS": f"arn:aws:iam::{ACCOUNT}:role/reader"}), statement({"AWS": read}))


JSON = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Name", "body", "IPSet"]), inner),
    max_leaves=8,
)


@given(JSON)
def test_the_stored_form_of_rules_is_stable(value: Any) -> None:
    assert as_stored(as_stored(value)) == as_stored(value)


def rules_shape() -> Any:
    model = session_of({})[0].client("wafv2").meta.service_model
    return model.operation_model("CreateWebACL").input_shape.members["Rules"]


def test_names_in_rules_are_spelled_as_the_api_does() -> None:
    snake = [{"statement": {"ip_set_reference_statement": {"arn": "a", "ip_set_forwarded_ip_config": {}}}}]
    api = [{"Statement": {"IPSetReferenceStatement": {"ARN": "a", "IPSetForwardedIPConfig": {}}}}]
    assert to_api(rules_shape(), snake) == api
    assert to_api(rules_shape(), api) == api
    assert from_api(api) == snake


def test_what_the_api_does_not_know_stays_for_botocore_to_refuse() -> None:
    assert to_api(rules_shape(), [{"nmae": "typo"}]) == [{"nmae": "typo"}]


def test_bytes_that_are_no_text_are_a_difference_and_no_crash() -> None:
    assert from_api([{"SearchString": b"admin"}, {"SearchString": b"\xff"}]) == [
        {"search_string": "admin"},
        {"search_string": "\\xff"},
    ]


class Secrets:
    """Secrets Manager with its real rules: versions are immutable, and retired versions return no value."""

    def __init__(self) -> None:
        self.versions: dict[str, tuple[str, set[str]]] = {}
        self.tags: dict[str, str] = {}
        self.name = ""
        self.policy: str | None = None
        self.deleted: datetime | None = None
        self.arn = f"arn:aws:secretsmanager:eu-central-1:{ACCOUNT}:secret:s-AbCdEf"

    @property
    def script(self) -> dict[str, Any]:
        return {
            "secrets-manager:DescribeSecret": self.describe,
            "secrets-manager:CreateSecret": self.create,
            "secrets-manager:PutSecretValue": self.put,
            "secrets-manager:UpdateSecretVersionStage": self.move,
            "secrets-manager:GetResourcePolicy": self.show_policy,
            "secrets-manager:PutResourcePolicy": self.put_policy,
            "secrets-manager:DeleteResourcePolicy": self.drop_policy,
            "secrets-manager:DeleteSecret": self.delete,
            "secrets-manager:RestoreSecret": self.restore,
            "secrets-manager:ListSecrets": self.listed,
        }

    def describe(self, **_given: Any) -> Any:
        if not self.name:
            return Answer.error("ResourceNotFoundException")
        stages = {version: sorted(names) for version, (_value, names) in self.versions.items() if names}
        shown = {"ARN": self.arn, "Name": self.name, "VersionIdsToStages": stages, "Tags": self._pairs()}
        return {**shown, **({"DeletedDate": self.deleted} if self.deleted else {})}

    def _pairs(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.tags.items()]

    def create(self, **given: Any) -> Any:
        self.name = given["Name"]
        self.tags = {tag["Key"]: tag["Value"] for tag in given["Tags"]}
        if "SecretString" in given:
            self.put(**given)
        return {"ARN": self.arn, "Name": self.name}

    def put(self, **given: Any) -> Any:
        version, value = given["ClientRequestToken"], given["SecretString"]
        if version not in self.versions:
            for _value, names in self.versions.values():
                names.discard("AWSPREVIOUS")
                if "AWSCURRENT" in names:
                    names.clear()
                    names.add("AWSPREVIOUS")
            self.versions[version] = (value, {"AWSCURRENT"})
        elif self.versions[version][0] != value:
            return Answer.error("ResourceExistsException")
        return {"ARN": self.arn, "Name": self.name, "VersionId": version}

    def move(self, **given: Any) -> Any:
        self.versions[given["RemoveFromVersionId"]][1].remove(given["VersionStage"])
        self.versions[given["MoveToVersionId"]][1].add(given["VersionStage"])
        return {"ARN": self.arn}

    def show_policy(self, **_given: Any) -> Any:
        if self.deleted:
            message = "You can't perform this operation on the secret because it was marked for deletion."
            return Answer.error("InvalidRequestException", message)
        return {"ARN": self.arn, **({"ResourcePolicy": self.policy} if self.policy else {})}

    def put_policy(self, **given: Any) -> Any:
        assert given["BlockPublicPolicy"]
        self.policy = given["ResourcePolicy"]
        return {"ARN": self.arn}

    def drop_policy(self, **_given: Any) -> Any:
        self.policy = None
        return {"ARN": self.arn}

    def delete(self, **_given: Any) -> Any:
        self.deleted = datetime(2026, 12, 1, tzinfo=UTC)
        return {"ARN": self.arn}

    def restore(self, **_given: Any) -> Any:
        self.deleted = None
        return {"ARN": self.arn}

    def listed(self, **_given: Any) -> Any:
        return {"SecretList": [{"ARN": self.arn, "Tags": self._pairs()}] if self.name else []}

    @property
    def current(self) -> str:
        return next(value for value, names in self.versions.values() if "AWSCURRENT" in names)


SECRET = "secretsmanager_secret.database"
GIVEN = {SECRET: {"name": "database", "value": "${secret.database}"}}


def test_a_value_is_made_with_the_secret_in_one_call_and_its_version_is_the_values_own() -> None:
    service = Secrets()
    _plan, report, wire = run(service.script, GIVEN)
    assert report.complete
    assert [call.operation for call in wire.mutating] == ["CreateSecret"]
    assert list(service.versions) == [STACK.secret("a-first-value").version]
    assert not run(service.script, GIVEN)[0].changed


def test_an_earlier_version_that_has_no_stage_any_more_is_put_in_force() -> None:
    service = Secrets()
    run(service.script, GIVEN)
    for number in range(3):
        service.put(ClientRequestToken=f"{number:032}", SecretString=f"by hand {number}")
    plan, report, _wire = run(service.script, GIVEN)
    assert [change.path for change in plan.node(SECRET).changes] == ["value"]
    assert report.complete
    assert service.current == "a-first-value"
    assert not run(service.script, GIVEN)[0].changed


def test_a_secret_that_is_made_without_a_value_gets_one_when_it_is_to_be_generated() -> None:
    service = Secrets()
    run(service.script, {SECRET: {"name": "database"}})
    assert not service.versions
    assert run(service.script, {SECRET: {"name": "database", "generate": {}}})[1].complete
    assert len(service.current) == 32
    assert not run(service.script, {SECRET: {"name": "database", "generate": {"length": 50}}})[0].changed


def test_a_policy_that_is_not_described_any_more_does_not_come_back_with_the_secret() -> None:
    service = Secrets()
    policy = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "*", "Resource": "*"}]}
    run(service.script, {SECRET: {**GIVEN[SECRET], "policy": policy}})
    assert "ResourcePolicy" in service.show_policy()
    assert run(service.script, GIVEN, state="absent", unprotect=frozenset({SECRET}))[1].complete
    assert "DeletedDate" in service.describe()
    plan, report, _wire = run(service.script, GIVEN)
    assert plan.node(SECRET).reason == "its deletion is cancelled"
    assert report.complete
    assert "ResourcePolicy" not in service.show_policy()
    assert "DeletedDate" not in service.describe()


def test_keys_that_hide_behind_their_own_policy_belong_to_others() -> None:
    told = "is not authorized to perform: kms:ListResourceTags because no resource-based policy allows it"
    script = {
        "kms:DescribeKey": lambda **_given: Answer.error("NotFoundException"),
        "kms:ListKeys": lambda **_given: {"Keys": [{"KeyId": "hidden"}], "Truncated": False},
        "kms:ListResourceTags": lambda **_given: Answer.error("AccessDeniedException", told),
    }
    session, _wire = session_of(script)
    assert KmsKey(session).list_owned(STACK.owner("")) == []


def test_keys_that_the_caller_may_not_ask_at_all_are_an_error() -> None:
    told = "is not authorized to perform: kms:ListResourceTags because no identity-based policy allows it"
    script = {
        "kms:ListKeys": lambda **_given: {"Keys": [{"KeyId": "k"}], "Truncated": False},
        "kms:ListResourceTags": lambda **_given: Answer.error("AccessDeniedException", told),
    }
    session, _wire = session_of(script)
    with pytest.raises(Exception, match="allow kms:ListResourceTags"):
        KmsKey(session).list_owned(STACK.owner(""))


def test_keys_are_listed_to_the_last_page() -> None:
    pages = {None: ("a", "next"), "next": ("b", "")}

    def list_keys(**given: Any) -> dict[str, Any]:
        key, marker = pages[given.get("Marker")]
        return {"Keys": [{"KeyId": key}], "Truncated": bool(marker), **({"NextMarker": marker} if marker else {})}

    asked: list[str] = []

    def list_tags(**given: Any) -> dict[str, Any]:
        asked.append(given["KeyId"])
        return {"Tags": [], "Truncated": False}

    session, _wire = session_of({"kms:ListKeys": list_keys, "kms:ListResourceTags": list_tags})
    assert KmsKey(session).list_owned(STACK.owner("")) == []
    assert sorted(asked) == ["a", "b"]
