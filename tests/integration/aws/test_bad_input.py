# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors in a task are reported before any change: the cause, its location, and a remedy."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import stack as stack_module
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.arguments import CONNECTION_TOGETHER
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.plans import PlanPlaceError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.task import IncompleteError, StackTask
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    EngineError,
    OtherPlanError,
    PlanFormatError,
    ReadError,
    RefusedError,
    StalePlanError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.modules.aws_stack import ARGUMENT_SPEC
from tests.integration.aws.foundation import trust
from tests.integration.aws.lab import Described, Lab, resources
from tests.integration.aws.wire import Answer, Behaviour, Call

# Errors are found before any call, or the test answers instead of the service.
pytestmark = pytest.mark.emulators("ministack")

SECRET = "correct-horse-battery-staple"
UNHEARD = {"sts:GetCallerIdentity", "ec2:DescribeAvailabilityZones", "ec2:DescribeSubnets"}
VPC: Mapping[str, Any] = {"cidr_block": "10.0.0.0/16"}
GROUP: Mapping[str, Any] = {"name": "/lake/development/crawler"}
Edit = Callable[[dict[str, Any]], object]


def subnet(
    cidr_block: str = "10.0.1.0/24", zone: str = "eu-central-1a", vpc_id: str = "${vpc.main.id}"
) -> dict[str, Any]:
    return {"vpc_id": vpc_id, "cidr_block": cidr_block, "availability_zone": zone}


def role(**properties: Any) -> dict[str, Any]:
    return {"name": "lake-crawler", "assume_role_policy": trust("glue.amazonaws.com"), **properties}


def cluster(**properties: Any) -> dict[str, Any]:
    return {
        "name": "lake",
        "role_arn": "arn:aws:iam::111122223333:role/r",
        "subnet_ids": ["subnet-1", "subnet-2"],
        **properties,
    }


def task(lab: Lab, described: Described, *, check_mode: bool = False, **parameters: Any) -> StackTask:
    """Return the module's run with its own defaults, in the lab's account unless `parameters` differ."""
    access_key, secret_key = lab.emulator.key
    given = {
        "name": lab.name,
        "environment": lab.environment,
        "resources": [dict(item) for item in resources(described)],
        "region": lab.emulator.region,
        "endpoint_url": lab.emulator.url,
        "access_key": access_key,
        "secret_key": secret_key,
        **parameters,
    }
    checked = ArgumentSpecValidator(ARGUMENT_SPEC, required_together=CONNECTION_TOGETHER).validate(
        {name: value for name, value in given.items() if value is not None}
    )
    assert not checked.error_messages, checked.error_messages
    made = StackTask(checked.validated_parameters, check_mode=check_mode)
    lab.wire.attach(made.session)
    return made


def refusal(lab: Lab, described: Described, **parameters: Any) -> EngineError:
    """Return the error of the run, and prove that it changed nothing and shows no secret."""
    before = len(lab.wire.mutating)
    with pytest.raises(EngineError) as caught:
        task(lab, described, **parameters).run()
    changed = lab.wire.mutating[before:]
    assert not changed, f"{changed} before {caught.value}"
    assert SECRET not in str(caught.value)
    assert not isinstance(caught.value, IncompleteError)
    return caught.value


def assert_says(error: EngineError, kind: type[EngineError], *words: str) -> None:
    assert isinstance(error, kind), repr(error)
    missing = [word for word in words if word not in str(error)]
    assert not missing, f"{missing} not in: {error}"


ARCHIVING = {"id": "archive", "transitions": [{"days": 90, "storage_class": "GLACIER"}]}
RULE = {"protocol": "tcp", "from_port": 443, "to_port": 443, "cidr_ipv4": "10.0.0.0/8"}
ZONE_TOO_FAR = "${stack.availability_zones.7}"


def ingress(**changes: Any) -> dict[str, Any]:
    """Return a VPC, and a security group with one rule."""
    group = {"name": "a", "description": "b", "vpc_id": "${vpc.main.id}", "ingress": [{**RULE, **changes}]}
    return {"vpc.main": VPC, "security_group.a": group}


def network(*blocks: str, **changes: str) -> dict[str, Any]:
    """Return a VPC with a subnet for each block, or with a default subnet. changes: of `subnet`."""
    subnets = {f"subnet.{number}": subnet(block) for number, block in enumerate(blocks)}
    return {"vpc.main": VPC, **(subnets or {"subnet.a": subnet(**changes)})}


def bucket(**properties: Any) -> dict[str, Any]:
    return {"s3_bucket.a": {"name": "lake-bronze", **properties}}


def listed(name: str = "main", **words: Any) -> dict[str, Any]:
    return {"kind": "vpc", "name": name, "properties": VPC, **words}


# Per case the description, and parts of the message: the cause, its location, and the remedy.
DESCRIPTIONS: Mapping[str, tuple[Described, tuple[str, ...]]] = {
    "unknown kind": ({"vcp.main": VPC}, ("vcp.main: there is no kind 'vcp'", "did you mean 'vpc'?")),
    "unknown property": (
        {"vpc.main": {**VPC, "enable_dns_suport": True}},
        ("vpc.main: enable_dns_suport: there is no such property", "did you mean 'enable_dns_support'?"),
    ),
    "unknown property of a map": (
        bucket(encryption={"sse_algoritm": "aws:kms"}),
        ("s3_bucket.a: encryption.sse_algoritm: there is no such property", "did you mean 'sse_algorithm'?"),
    ),
    "unknown property in a list": (
        bucket(lifecycle_rules=[{"id": "x", "expiry": 1}]),
        ("s3_bucket.a: lifecycle_rules[0].expiry: there is no such property", "did you mean 'expiration'?"),
    ),
    "reference to an unknown kind": (
        network(vpc_id="${vcp.main.id}"),
        ("subnet.a: vpc_id: ${vcp.main.id}: there is no resource 'vcp.main'", "did you mean 'vpc.main'?"),
    ),
    "reference to an unknown name": (
        network(vpc_id="${vpc.mian.id}"),
        ("subnet.a: vpc_id: ${vpc.mian.id}: there is no resource 'vpc.mian'", "did you mean 'vpc.main'?"),
    ),
    "reference to an unknown attribute": (
        network(vpc_id="${vpc.main.vpc_id}"),
        ("subnet.a: vpc_id: ${vpc.main.vpc_id}: vpc.main has no 'vpc_id'", "did you mean 'id'?"),
    ),
    "unknown word of the stack": (
        {"log_group.a": {"name": "/${stack.acount_id}"}},
        ("log_group.a: name: ${stack.acount_id}: stack has no", "did you mean 'account_id'?"),
    ),
    "malformed reference": (
        network(vpc_id="${vpc.main}"),
        ("subnet.a: vpc_id: ${vpc.main} is not a reference", "write ${kind.name.attribute}"),
    ),
    "unclosed reference": (
        network(vpc_id="${vpc.main.id"),
        ("subnet.a: vpc_id: '${vpc.main.id' is never closed", "write $${ for the text itself"),
    ),
    "cycle": (
        {
            "iam_role.a": role(description="${iam_role.b.arn}"),
            "iam_role.b": role(name="lake-other", description="${iam_role.a.arn}"),
        },
        ("iam_role.a (description) -> iam_role.b (description) -> iam_role.a", "remove one of these references"),
    ),
    "reference to itself": (
        {"log_group.a": {**GROUP, "kms_key_id": "${log_group.a.arn}"}},
        ("log_group.a: kms_key_id: needs itself", "remove one of these references"),
    ),
    "unknown dependency": (
        [listed(depends_on=["log_group.a"])],
        ("vpc.main: depends_on: there is no resource 'log_group.a'", "known are: vpc.main"),
    ),
    "dependency on itself": (
        [listed(depends_on=["vpc.main"])],
        ("vpc.main: depends_on: needs itself", "remove one of these references"),
    ),
    "overlapping subnets": (
        network("10.0.0.0/20", "10.0.8.0/24"),
        ("subnet.0: cidr_block: 10.0.0.0/20 overlaps 10.0.8.0/24 of subnet.1", "set a different network"),
    ),
    "subnet outside of its VPC": (
        network("10.1.0.0/24"),
        ("subnet.0: cidr_block: 10.1.0.0/24 is not inside 10.0.0.0/16 of vpc.main", "choose a part of the VPC's"),
    ),
    "network that is none": (
        {"vpc.main": {"cidr_block": "10.0.0.0/33"}},
        ("vpc.main: cidr_block: '10.0.0.0/33' is not an IPv4 network", "'33' is not a valid netmask"),
    ),
    "network with host bits": (
        {"vpc.main": {"cidr_block": "10.0.0.1/16"}},
        ("vpc.main: cidr_block: '10.0.0.1/16' is not an IPv4 network", "has host bits set"),
    ),
    "network too large": (
        {"vpc.main": {"cidr_block": "10.0.0.0/8"}},
        ("vpc.main: cidr_block: '10.0.0.0/8' is too large", "AWS accepts /16 to /28"),
    ),
    "rule for a network that is none": (
        ingress(cidr_ipv4="10.0.0.300/32"),
        ("security_group.a: ingress[0].cidr_ipv4: '10.0.0.300/32' is not an IPv4 network",),
    ),
    "rule for a port that is none": (
        ingress(to_port=80000),
        ("security_group.a: ingress[0].to_port: 80000 is not a port",),
    ),
    "zone that does not exist": (
        network(zone="eu-central-1z"),
        ("subnet.a: availability_zone: eu-central-1 has no zone 'eu-central-1z'", "did you mean 'eu-central-1"),
    ),
    "zone that the region does not have": (
        network(zone="${stack.region}z"),
        ("subnet.a: availability_zone: eu-central-1 has no zone 'eu-central-1z'", "did you mean 'eu-central-1"),
    ),
    "zone too far": (
        network(zone=ZONE_TOO_FAR),
        ("availability_zones: eu-central-1 has 3 zones, and the description needs 8; describe fewer zones",),
    ),
    "bucket's name too long": (
        bucket(name="b" * 64),
        ("s3_bucket.a: name: 'bbb", "is not a bucket's name", "3 to 63 small letters"),
    ),
    "bucket's name with capitals": (
        bucket(name="Lake_Bronze"),
        ("s3_bucket.a: name: 'Lake_Bronze' is not a bucket's name", "3 to 63 small letters"),
    ),
    "role's name too long": (
        {"iam_role.a": role(name="r" * 65)},
        ("iam_role.a: name: 'rrr", "is not 1 to 64 letters, digits"),
    ),
    "role's name with a space": (
        {"iam_role.a": role(name="lake crawler")},
        ("iam_role.a: name: 'lake crawler' is not 1 to 64 letters, digits",),
    ),
    "cluster's name too long": (
        {"eks_cluster.a": cluster(name="c" * 101)},
        ("eks_cluster.a: name: 'ccc", "up to 100 letters, digits, - and _"),
    ),
    "cluster's name with a hyphen first": (
        {"eks_cluster.a": cluster(name="-lake")},
        ("eks_cluster.a: name: '-lake' is not a name of a cluster", "a letter or digit first"),
    ),
    "log group's name too long": (
        {"log_group.a": {"name": "g" * 513}},
        ("log_group.a: name: 'ggg", "is not 1 to 512 letters, digits"),
    ),
    "log group's name with a colon": (
        {"log_group.a": {"name": "lake:crawler"}},
        ("log_group.a: name: 'lake:crawler' is not 1 to 512 letters, digits and any of ./#_-",),
    ),
    "empty name": ({"log_group.a": {"name": ""}}, ("log_group.a: name: '' is not 1 to 512 letters",)),
    "alias that is none": (
        {"kms_key.a": {"alias": "lake"}},
        ("kms_key.a: alias: 'lake' is not an alias", "`alias/` and then letters"),
    ),
    "two of one name": (
        {"log_group.a": GROUP, "log_group.b": GROUP},
        ("log_group.b: name: /lake/development/crawler already belongs to log_group.a", "keep it in only one of them"),
    ),
    "two roles of one name in two folders": (
        {"iam_role.a": role(), "iam_role.b": role(path="/lake/")},
        ("iam_role.b: name: lake-crawler already belongs to iam_role.a", "keep it in only one of them"),
    ),
    "two keys of one alias": (
        {"kms_key.a": {"alias": "alias/lake"}, "kms_key.b": {"alias": "alias/lake"}},
        ("kms_key.b: alias: alias/lake already belongs to kms_key.a", "keep it in only one of them"),
    ),
    "described twice": ([listed(), listed()], ("vpc.main: is described twice", "give one of them another name")),
    "name in the stack that is none": (
        [listed("the main one")],
        ("vpc.the main one: the name is not valid", "use letters, digits, - and _"),
    ),
    "policy that is no JSON": (
        {"iam_role.a": role(assume_role_policy="{'Version'")},
        ("iam_role.a: assume_role_policy: is not valid JSON", "line 1 column 2"),
    ),
    "policy without a statement": (
        {"iam_role.a": role(assume_role_policy={"Version": "2012-10-17"})},
        ("iam_role.a: assume_role_policy: is not a policy", "no `Statement`"),
    ),
    "policy without an effect": (
        {"iam_policy.a": {"name": "lake", "policy": {"Statement": [{"Effect": "allow"}]}}},
        ("iam_policy.a: policy: statement 1 is neither for `Effect: Allow` nor for `Effect: Deny`",),
    ),
    "inline policy that is no JSON": (
        {"iam_role.a": role(inline_policies={"logs": "nonsense"})},
        ("iam_role.a: inline_policies.logs: is not valid JSON",),
    ),
    "retention that AWS does not take": (
        {"log_group.a": {**GROUP, "retention_in_days": 31}},
        ("log_group.a: retention_in_days: 31 is not one of its choices", "did you mean 30?"),
    ),
    "unknown choice": (
        {"log_group.a": {**GROUP, "log_group_class": "CHEAP"}},
        ("log_group.a: log_group_class: 'CHEAP' is not one of its choices", "INFREQUENT_ACCESS, STANDARD"),
    ),
    "lifecycle that archives tables": (
        bucket(table_prefixes=["warehouse/"], lifecycle_rules=[ARCHIVING]),
        (
            "s3_bucket.a: lifecycle_rules[0].transitions: the entry 'archive' archives (GLACIER)",
            "'warehouse/'",
            "set a filter with a prefix without table files",
        ),
    ),
    "version of Kubernetes that is none": (
        {"eks_cluster.a": cluster(version="latest")},
        ("eks_cluster.a: version: 'latest' is not a version of Kubernetes", "write it in quotes"),
    ),
    "cluster in one subnet": (
        {"eks_cluster.a": cluster(subnet_ids=["subnet-1"])},
        ("eks_cluster.a: subnet_ids: a cluster needs at least two subnets", "two availability zones"),
    ),
    "boolean that is none": (
        {"vpc.main": {**VPC, "enable_dns_support": "perhaps"}},
        ("vpc.main: enable_dns_support: 'perhaps' is not a boolean",),
    ),
    "number that is none": (
        {"log_group.a": {**GROUP, "retention_in_days": "a month"}},
        ("log_group.a: retention_in_days: 'a month' is not a whole number",),
    ),
    "list that is none": (
        {"eks_cluster.a": cluster(subnet_ids="subnet-1")},
        ("eks_cluster.a: subnet_ids: 'subnet-1' is not a list",),
    ),
    "map that is none": ({"vpc.main": {**VPC, "tags": "Team"}}, ("vpc.main: tags: 'Team' is not a map",)),
    "tag of AWS": (
        {"vpc.main": {**VPC, "tags": {"aws:name": "lake"}}},
        ("vpc.main: tags: 'aws:name' is a tag that AWS itself writes", "remove it"),
    ),
    "tag of the stack": (
        {"vpc.main": {**VPC, "tags": {"lakehouse:stack": "other/development"}}},
        ("vpc.main: tags: 'lakehouse:stack' is a tag that the stack itself writes", "remove it"),
    ),
    "tag too long": (
        {"vpc.main": {**VPC, "tags": {"Team": "t" * 257}}},
        ("vpc.main: tags: 'Team' is too long", "a value 256"),
    ),
    "missing property": (
        {"vpc.main": {}},
        ("vpc.main: cidr_block: is required and not given", "IPv4 network."),
    ),
    "secret in an open property": (
        {"log_group.a": {"name": "${secret.password}"}},
        ("log_group.a: name: would show a secret", "only a property that is marked sensitive takes one"),
    ),
    "secret inside of an open property": (
        {"iam_role.a": role(description="it is ${secret.password}")},
        ("iam_role.a: description: would show a secret", "only a property that is marked sensitive takes one"),
    ),
    "missing secret": (
        {"secretsmanager_secret.a": {"name": "lake", "value": "${secret.pasword}"}},
        ("secretsmanager_secret.a: value: ${secret.pasword}: secret has no 'pasword'", "did you mean 'password'?"),
    ),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_a_wrong_description_is_refused_before_anything_is_read(lab: Lab, case: str) -> None:
    described, words = DESCRIPTIONS[case]

    error = refusal(lab, described, secret_values={"password": SECRET})

    assert_says(error, DescriptionError, *words)
    assert set(lab.wire.names()) <= UNHEARD


def test_everything_that_is_wrong_is_said_at_once(lab: Lab) -> None:
    error = refusal(lab, {"vpc.main": {}, "log_group.a": {**GROUP, "retention_in_days": 31, "retain": 1}})

    assert_says(error, DescriptionError, "vpc.main: cidr_block", "log_group.a: retain:", "log_group.a: retention_in")


@pytest.mark.parametrize(
    ("parameters", "kind", "words"),
    [
        ({"name": "lake/house"}, DescriptionError, ("name: 'lake/house' is not valid", "use up to 64 letters")),
        ({"environment": ""}, DescriptionError, ("environment: '' is not valid", "use up to 64 letters")),
        ({"unprotect": ["vcp"]}, DescriptionError, ("unprotect: 'vcp': there is no kind", "did you mean 'vpc'?")),
        (
            {"secret_values": {"password": None}},
            DescriptionError,
            ("secret_values.password: is not a string", "give a string, or omit the name"),
        ),
        (
            {"account_id": "999988887777"},
            DescriptionError,
            ("account_id: the credentials are those of account 1000000", "not of 999988887777", "correct account_id"),
        ),
        (
            {"access_key": None, "secret_key": None},
            CallError,
            ("sts:GetCallerIdentity: NoCredentialsError", "check the credentials: profile, access_key, secret_key"),
        ),
        (
            {"access_key": None, "secret_key": None, "assume_role_arn": "arn:aws:iam::111122223333:role/deployer"},
            CallError,
            ("sts:AssumeRole: NoCredentialsError", "check the credentials: profile, access_key, secret_key"),
        ),
        ({"region": None}, CallError, ("NoRegionError: You must specify a region", "set region")),
        ({"region": "eu central 1"}, CallError, ("'eu central 1'", "name a region, like eu-central-1")),
        (
            {"profile": "nobody", "access_key": None, "secret_key": None},
            CallError,
            ("ProfileNotFound", "(nobody)", "name a profile of the AWS configuration files"),
        ),
        (
            {"endpoint_url": "127.0.0.1:5000"},
            CallError,
            ("Invalid endpoint: 127.0.0.1:5000", "`endpoint_url`"),
        ),
        (
            {"endpoint_url": "http://127.0.0.1:9"},
            CallError,
            ("sts:GetCallerIdentity: EndpointConnectionError", "http://127.0.0.1:9", "check the region, endpoint_url"),
        ),
        (
            {"session_token": f"{SECRET}\n{SECRET}"},
            CallError,
            ("sts:GetCallerIdentity: HTTPClientError", "check the credentials for line breaks"),
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_the_task_says_wrong_of_the_stack_or_the_connection_is_refused(
    lab: Lab, parameters: dict[str, Any], kind: type[EngineError], words: tuple[str, ...]
) -> None:
    error = refusal(lab, {"vpc.main": VPC}, **parameters)

    assert_says(error, kind, *words)
    assert set(lab.wire.names()) <= UNHEARD


@contextlib.contextmanager
def web_page(status: int) -> Iterator[str]:
    """Yield the address of a server that answers every request with a web page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            page = b"<html><body>Nothing to see here</body></html>"
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing, so that the test's output stays readable."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_endpoint_that_is_not_aws_is_named_as_such(lab: Lab, status: int) -> None:
    with web_page(status) as url:
        error = refusal(lab, {"vpc.main": VPC}, endpoint_url=url)

    assert_says(error, CallError, "sts:GetCallerIdentity", "check `endpoint_url`, the region and the proxy")


def deployer(lab: Lab) -> tuple[str, str]:
    """Return the key of a user without permissions."""
    iam = lab.client("iam")
    iam.create_user(UserName="deployer")
    key = iam.create_access_key(UserName="deployer")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.mark.emulators("strict")  # Only this emulator verifies signatures.
@pytest.mark.parametrize(
    ("access_key", "code"), [("AKIAUNKNOWN", "InvalidClientTokenId"), ("", "SignatureDoesNotMatch")]
)
def test_wrong_credentials_are_named_and_not_shown(lab: Lab, access_key: str, code: str) -> None:
    known, _secret = deployer(lab)

    error = refusal(lab, {"vpc.main": VPC}, access_key=access_key or known, secret_key=SECRET)

    assert_says(error, CallError, f"sts:GetCallerIdentity: {code}", "check the credentials: profile, access_key")


@pytest.mark.emulators("strict")  # Only this emulator evaluates policies.
def test_a_missing_permission_to_read_is_named(lab: Lab) -> None:
    access_key, secret_key = deployer(lab)

    error = refusal(lab, {"vpc.main": VPC}, access_key=access_key, secret_key=secret_key)

    assert_says(error, ReadError, "vpc: cannot be read: ec2:DescribeVpcs", "allow ec2:DescribeVpcs to the identity")


def make_bucket(lab: Lab, name: str, region: str = "") -> None:
    there = region or lab.emulator.region
    client = lab.emulator.client("s3", there)
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": there})


def test_a_bucket_of_another_account_is_not_touched(lab: Lab) -> None:
    name = f"taken-{lab.emulator.account_id}"
    make_bucket(Lab(lab.emulator.server.account()), name)

    error = refusal(lab, bucket(name=name))

    assert_says(error, RefusedError, f"s3_bucket.a: {name} belongs to another AWS account", "another name")


def test_a_bucket_of_another_region_is_not_touched(lab: Lab) -> None:
    name = f"elsewhere-{lab.emulator.account_id}"
    make_bucket(lab, name, "eu-west-1")

    error = refusal(lab, bucket(name=name))

    assert_says(error, ReadError, f"the bucket {name} is in eu-west-1 and not in eu-central-1", "another name")


def test_what_exists_without_our_tags_is_not_touched(lab: Lab) -> None:
    lab.client("logs").create_log_group(logGroupName=GROUP["name"])

    error = refusal(lab, {"log_group.a": GROUP})

    assert_says(error, RefusedError, "log_group.a: exists as", GROUP["name"], "set `adopt: true` on it to adopt it")


def test_what_another_stack_has_made_is_not_touched(lab: Lab) -> None:
    lab.other(environment="staging").apply({"log_group.a": GROUP})

    error = refusal(lab, {"log_group.a": GROUP}, adopt=True)

    assert_says(error, RefusedError, "log_group.a:", "belongs to stack 'lake' in 'staging'", "another name")


def test_what_is_taken_over_but_cannot_become_what_is_described_is_not_touched(lab: Lab) -> None:
    lab.client("logs").create_log_group(logGroupName=GROUP["name"], logGroupClass="INFREQUENT_ACCESS")

    error = refusal(lab, {"log_group.a": GROUP}, adopt=True)

    assert_says(error, RefusedError, "log_group.a: log_group_class: cannot be adopted", "describe the existing value")


@pytest.mark.parametrize(
    ("described", "parameters", "words"),
    [
        ({}, {"state": "absent"}, ("would be deleted", "add log_group.a to `unprotect`")),
        ({}, {"prune": True}, ("would be deleted", "add log_group.a to `unprotect`")),
        (
            {"log_group.a": {**GROUP, "log_group_class": "INFREQUENT_ACCESS"}},
            {},
            ("would be replaced (log_group_class)", "set `protect: false` on it, or add log_group.a to `unprotect`"),
        ),
    ],
    ids=["destroyed", "pruned", "replaced"],
)
def test_what_holds_data_is_neither_deleted_nor_replaced(
    lab: Lab, described: Described, parameters: dict[str, Any], words: tuple[str, ...]
) -> None:
    lab.apply({"log_group.a": GROUP})
    lab.every_kind = False
    with lab._kinds({"log_group"}):
        error = refusal(lab, described, **parameters)

    assert_says(error, RefusedError, "log_group.a: is protected", *words)


def edited(data: dict[str, Any], edit: Edit) -> dict[str, Any]:
    edit(data)
    return data


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (lambda plan: plan.clear(), PlanFormatError, ("from another version", "create a new plan")),
        (lambda plan: plan.update(format=2), PlanFormatError, ("from another version", "create a new plan")),
        (lambda plan: plan.pop("nodes"), PlanFormatError, ("it is damaged: 'nodes'", "create a new plan")),
        (lambda plan: plan.update(nodes=[7]), PlanFormatError, ("it is damaged", "create a new plan")),
        (lambda plan: plan.update(evidence=[]), PlanFormatError, ("was edited", "fingerprint", "create a new plan")),
        (lambda plan: plan.update(fingerprint="0" * 64), PlanFormatError, ("was edited", "fingerprint")),
        (
            lambda plan: plan["nodes"][0].update(action="destroy"),
            PlanFormatError,
            ("it is damaged: 'destroy' is not an action", "create a new plan"),
        ),
        (lambda plan: plan["nodes"][0].update(action="none"), StalePlanError, ("leads to another plan",)),
    ],
    ids=["empty", "another version", "cut off", "no node", "no evidence", "fingerprint", "unknown action", "action"],
)
def test_a_plan_that_was_damaged_or_edited_is_refused(
    lab: Lab, edit: Edit, kind: type[EngineError], words: tuple[str, ...]
) -> None:
    plan = edited(lab.plan({"log_group.a": GROUP}).to_data(), edit)

    assert_says(refusal(lab, {"log_group.a": GROUP}, plan=plan), kind, *words)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"name": "pond"}, OtherPlanError, ("it is for stack 'lake', and the run for 'pond'",)),
        ({"environment": "staging"}, OtherPlanError, ("for environment 'development', and the run for 'staging'",)),
        ({"prune": True}, StalePlanError, ("stack: prune: changed",)),
        ({"state": "absent"}, OtherPlanError, ("it is for state 'present', and the run for 'absent'",)),
        (
            {"resources": [{"kind": "log_group", "name": "b", "properties": GROUP}]},
            StalePlanError,
            ("log_group.a: is gone", "b: is new"),
        ),
    ],
    ids=["another stack", "another environment", "other options", "another state", "another description"],
)
def test_a_plan_for_something_else_is_refused(
    lab: Lab, changes: dict[str, Any], kind: type[EngineError], words: tuple[str, ...]
) -> None:
    plan = lab.plan({"log_group.a": GROUP}).to_data()
    with lab._kinds({"log_group"}):
        error = refusal(lab, {"log_group.a": GROUP}, plan=plan, **changes)

    assert_says(error, kind, *words)
    first, *others = str(error).splitlines()
    assert first.startswith("cannot apply the saved plan: ")
    assert first.endswith("; create a new plan with `state: planned`")
    assert bool(others) is (kind is StalePlanError)


def test_a_plan_of_another_account_is_one_line(lab: Lab) -> None:
    plan = lab.plan({"log_group.a": GROUP}).to_data()
    elsewhere = Lab(lab.emulator.server.account())

    error = refusal(elsewhere, {"log_group.a": GROUP}, plan=plan)

    assert_says(
        error, OtherPlanError, "cannot apply the saved plan: it was created in another account; create a new plan"
    )
    assert len(str(error).splitlines()) == 1


def test_an_empty_plan_is_no_leave_to_do_anything(lab: Lab) -> None:
    assert_says(refusal(lab, {"log_group.a": GROUP}, plan=""), PlanFormatError, "`plan` is empty", "state=planned")


def test_a_plan_is_refused_when_the_world_moved(lab: Lab) -> None:
    lab.apply({"log_group.a": GROUP})
    described = {"log_group.a": {**GROUP, "retention_in_days": 30}}
    plan = lab.plan(described).to_json()
    lab.client("logs").put_retention_policy(logGroupName=GROUP["name"], retentionInDays=7)

    assert_says(
        refusal(lab, described, plan=plan), StalePlanError, "log_group.a: retention_in_days: the resource changed"
    )


def test_a_plan_is_refused_by_another_version(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = lab.plan({"log_group.a": GROUP}).to_json()
    monkeypatch.setattr(stack_module, "COLLECTION_VERSION", "99.0.0")

    assert_says(refusal(lab, {"log_group.a": GROUP}, plan=plan), StalePlanError, "stack: version: changed")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{folder}/none.json", ("cannot read", "No such file", "none.json", "name the plan that state=planned wrote")),
        ("{folder}", ("cannot read", "Is a directory", "name the plan that state=planned wrote")),
        ("~nobody-of-that-name/plan.json", ("cannot read", "home directory")),
        ("{folder}/binary", ("cannot read", "utf-8")),
        ("{folder}/text", ("is not JSON", "create a new plan")),
        ("s3://{bucket}", ("is not of the form s3://BUCKET/KEY",)),
        ("s3://{bucket}/binary", ("is not JSON", "create a new plan")),
    ],
)
def test_a_plan_that_cannot_be_read_is_refused(lab: Lab, tmp_path: Path, path: str, words: tuple[str, ...]) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "text").write_text("a plan", encoding="utf-8")
    name = f"plans-{lab.emulator.account_id}"
    make_bucket(lab, name)
    lab.client("s3").put_object(Bucket=name, Key="binary", Body=b"\xff\xfe")

    error = refusal(lab, {"log_group.a": GROUP}, plan_path=path.format(folder=tmp_path, bucket=name))

    assert_says(error, PlanFormatError, *words)


@pytest.mark.parametrize("option", ["plan_path", "page_path"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{folder}/file/plan.json", ("file",)),
        ("{folder}", ("Is a directory",)),
        ("~nobody-of-that-name/plan.json", ("home directory",)),
    ],
)
def test_a_plan_that_cannot_be_written_is_told(
    lab: Lab, tmp_path: Path, option: str, path: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "file").touch()

    error = refusal(lab, {"log_group.a": GROUP}, state="planned", **{option: path.format(folder=tmp_path)})

    assert_says(error, EngineError, "cannot write the plan to", *words, "name another path")


def test_a_plan_from_a_bucket_that_is_not_there_is_refused(lab: Lab) -> None:
    place = f"s3://none-{lab.emulator.account_id}/plan.json"
    error = refusal(lab, {"log_group.a": GROUP}, plan_path=place)

    assert_says(error, PlanPlaceError, f"cannot read the saved plan {place}: s3:GetObject: NoSuchBucket")


def test_a_plan_for_a_bucket_that_is_not_there_is_told_with_its_address(lab: Lab) -> None:
    place = f"s3://none-{lab.emulator.account_id}/plan.json"
    with pytest.raises(PlanPlaceError) as caught:
        task(lab, {"log_group.a": GROUP}, state="planned", plan_path=place).run()

    cause = "s3:PutObject: NoSuchBucket: The specified bucket does not exist"
    assert str(caught.value) == f"cannot write the plan to {place}: {cause}; name another path"


def test_no_plan_holds_a_secret(lab: Lab) -> None:
    described = {"secretsmanager_secret.a": {"name": "lake", "value": "${secret.password}"}}

    result = task(lab, described, secret_values={"password": SECRET}, check_mode=True).run()

    assert SECRET not in json.dumps(result)


class Full(Behaviour):
    """An account that has reached its quota of VPCs."""

    def before(self, call: Call) -> Answer | None:
        full = call.operation == "CreateVpc"
        return Answer.error("VpcLimitExceeded", "The maximum number of VPCs has been reached.") if full else None


def test_a_failed_call_is_one_line_however_much_waited_for_it(lab: Lab) -> None:
    lab.wire.behaviour = Full()
    made = task(lab, network(*(f"10.0.{number}.0/24" for number in range(20))))

    with pytest.raises(IncompleteError) as caught:
        made.run()

    cause = "ec2:CreateVpc: VpcLimitExceeded: The maximum number of VPCs has been reached"
    remedy = "correct the cause and run this again; completed changes are kept"
    assert str(caught.value) == f"cannot create vpc.main: {cause}; {remedy}"
    assert [failure["addresses"] for failure in caught.value.result["failures"]] == [("vpc.main",)]

    lab.wire.behaviour = Behaviour()
    again = task(lab, network(*(f"10.0.{number}.0/24" for number in range(20)))).run()
    assert {item["outcome"] for item in again["resources"]} == {"done"}
