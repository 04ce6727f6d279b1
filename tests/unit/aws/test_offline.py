# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions that AWS would reject during a run are rejected before the first request."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import rehearsal
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.offline import Draft, description_faults
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, make_kinds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.stack import AwsStack, StackDescription
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import DescriptionError, Fault
from tests.integration.aws.wire import Wire
from tests.unit.aws.blueprint import blueprint

SECRET = "correct-horse-battery-staple" * 20
Described = Mapping[str, Mapping[str, Any]]
Case = tuple[Described, tuple[str, str, str]]


def statement(**changes: Any) -> dict[str, Any]:
    """Return a policy of one statement; a change to None removes an element."""
    whole = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", **changes}
    return {"Version": "2012-10-17", "Statement": [{key: item for key, item in whole.items() if item is not None}]}


def policy(document: Mapping[str, Any] | None = None, **changes: Any) -> Described:
    return {"iam_policy.a": {"name": "lake", "policy": document or statement(**changes)}}


def role(**properties: Any) -> Described:
    trust = statement(Action="sts:AssumeRole", Resource=None, Principal={"Service": "glue.amazonaws.com"})
    return {"iam_role.a": {"name": "lake", "assume_role_policy": trust, **properties}}


def trusted(**changes: Any) -> Described:
    whole = {"Action": "sts:AssumeRole", "Resource": None, "Principal": {"Service": "glue.amazonaws.com"}, **changes}
    return role(assume_role_policy=statement(**whole))


def bucket(**properties: Any) -> Described:
    return {"s3_bucket.a": {"name": "lake-bronze", **properties}}


def lifecycle(*transitions: tuple[int, str], expires: int | None = None) -> Described:
    rule: dict[str, Any] = {
        "id": "old",
        "transitions": [{"days": days, "storage_class": to} for days, to in transitions],
    }
    return bucket(lifecycle_rules=[{**rule, **({"expiration": {"days": expires}} if expires else {})}])


def database(**properties: Any) -> Described:
    given = {"identifier": "lake", "instance_class": "db.t4g.medium", "allocated_storage": 20}
    return {"db_instance.a": {**given, **properties}}


def nodes(**properties: Any) -> Described:
    given = {"cluster_name": "lake", "name": "main", "node_role_arn": ROLE, "subnet_ids": ["subnet-1", "subnet-2"]}
    return {"eks_nodegroup.a": {**given, **properties}}


def template(volume_type: str) -> Described:
    device = {"device_name": "/dev/xvda", "ebs": {"volume_size": 20, "volume_type": volume_type}}
    return {"launch_template.a": {"name": "lake", "block_device_mappings": [device]}}


def cluster(**properties: Any) -> Described:
    return {"eks_cluster.a": {"name": "lake", "role_arn": ROLE, "subnet_ids": ["subnet-1", "subnet-2"], **properties}}


def alarm(**properties: Any) -> Described:
    metric = {"namespace": "AWS/RDS", "metric_name": "CPUUtilization", "statistic": "Average", "period": 300}
    rest = {"name": "busy", "threshold": 80, "comparison_operator": "GreaterThanThreshold"}
    return {"metric_alarm.a": {**metric, **rest, **properties}}


def dashboard(**widget: Any) -> Described:
    drawn = {
        "type": "metric",
        "width": 6,
        "height": 6,
        "properties": {"region": "eu-central-1", "metrics": []},
        **widget,
    }
    return {"dashboard.a": {"name": "lake", "body": {"widgets": [drawn]}}}


def plan(schedule: str) -> Described:
    rule = {"rule_name": "daily", "target_backup_vault_name": "lake", "schedule_expression": schedule}
    return {"backup_plan.a": {"name": "lake", "rules": [rule]}}


def crawler(schedule: str) -> Described:
    given = {
        "name": "lake",
        "role": "lake",
        "database_name": "lake",
        "targets": {"s3_targets": [{"path": "s3://lake/"}]},
    }
    return {"glue_crawler.a": {**given, "schedule": schedule}}


def network(vpc: str, *subnets: str) -> Described:
    zone = "eu-central-1a"
    described = {"vpc_id": "${vpc.main.id}", "availability_zone": zone}
    parts = {f"subnet.{number}": {**described, "cidr_block": block} for number, block in enumerate(subnets)}
    return {"vpc.main": {"cidr_block": vpc}, **parts}


ROLE = "arn:aws:iam::111122223333:role/lake"
LONG = [f"arn:aws:s3:::lake-bronze/{number:064}" for number in range(100)]
MANY = {f"key-{number}": "x" for number in range(51)}
GROUP = "log_group.a"
# Per case the description, and the fault's address, path, and a part of its text.
CASES: Mapping[str, Case] = {
    # Policy documents.
    "unknown key of a policy": (
        policy({**statement(), "Statements": []}),
        ("iam_policy.a", "policy.Statements", "is not an element of a policy; did you mean 'Statement'?"),
    ),
    "unknown key of a statement": (
        policy(Actions="s3:*"),
        ("iam_policy.a", "policy.Statement[0].Actions", "is not an element of a policy; did you mean 'Action'?"),
    ),
    "unknown version": (
        policy({**statement(), "Version": "2012-10-18"}),
        ("iam_policy.a", "policy.Version", "'2012-10-18' is not a version of the policy language; write 2012-10-17"),
    ),
    "superfluous Principal": (
        policy(Principal="*"),
        ("iam_policy.a", "policy.Statement[0].Principal", "a managed policy has no Principal; remove it"),
    ),
    "superfluous Principal of an inline policy": (
        role(inline_policies={"logs": statement(Principal="*")}),
        ("iam_role.a", "inline_policies.logs.Statement[0].Principal", "an inline policy of a role has no Principal"),
    ),
    "missing Principal of a bucket policy": (
        bucket(policy=statement()),
        ("s3_bucket.a", "policy.Statement[0].Principal", "is required and not given; add Principal or NotPrincipal"),
    ),
    "missing Principal of a trust policy": (
        trusted(Principal=None),
        ("iam_role.a", "assume_role_policy.Statement[0].Principal", "is required and not given"),
    ),
    "misspelt Principal": (
        trusted(Principal={"Services": "glue.amazonaws.com"}),
        ("iam_role.a", "assume_role_policy.Statement[0].Principal.Services", "did you mean 'Service'?"),
    ),
    "Resource of a trust policy": (
        trusted(Resource="*"),
        ("iam_role.a", "assume_role_policy.Statement[0].Resource", "a trust policy has no Resource; remove it"),
    ),
    "action of a trust policy": (
        trusted(Action="s3:GetObject"),
        ("iam_role.a", "assume_role_policy.Statement[0].Action", "is not an action of STS"),
    ),
    "missing Resource": (
        policy(Resource=None),
        ("iam_policy.a", "policy.Statement[0].Resource", "is required and not given; add Resource or NotResource"),
    ),
    "missing Action": (
        policy(Action=None),
        ("iam_policy.a", "policy.Statement[0].Action", "is required and not given; add Action or NotAction"),
    ),
    "action without a service": (
        policy(Action=["s3:GetObject", "GetObject"]),
        ("iam_policy.a", "policy.Statement[0].Action[1]", "'GetObject' is not an action; write SERVICE:ACTION"),
    ),
    "resource that is no ARN": (
        policy(Resource="lake-bronze/*"),
        ("iam_policy.a", "policy.Statement[0].Resource", "'lake-bronze/*' is not an ARN; write * or arn:"),
    ),
    "unknown operator of a condition": (
        policy(Condition={"StringEqual": {"aws:username": "x"}}),
        ("iam_policy.a", "policy.Statement[0].Condition.StringEqual", "did you mean 'StringEquals'?"),
    ),
    "Sid used twice": (
        policy({"Statement": [{**statement(Sid="One")["Statement"][0]}, {**statement(Sid="One")["Statement"][0]}]}),
        ("iam_policy.a", "policy.Statement", "'One' is the Sid of two statements"),
    ),
    "managed policy too long": (
        policy(Resource=LONG),
        ("iam_policy.a", "policy", "a managed policy has at most 6144: shorten it"),
    ),
    "trust policy too long": (
        trusted(Principal={"AWS": [f"arn:aws:iam::111122223333:role/{number:064}" for number in range(60)]}),
        ("iam_role.a", "assume_role_policy", "a trust policy has at most 4096"),
    ),
    "bucket policy too long": (
        bucket(policy=statement(Principal="*", Resource=LONG * 3)),
        ("s3_bucket.a", "policy", "a bucket policy has at most 20480"),
    ),
    "inline policies too long together": (
        role(inline_policies={"one": statement(Resource=LONG[:60]), "two": statement(Resource=LONG[:60])}),
        ("iam_role.a", "inline_policies", "a role has at most 10240 in all"),
    ),
    # Tags.
    "tags that IAM treats as the same": (
        role(tags={"Team": "lake", "team": "lake"}),
        ("iam_role.a", "tags", "has the keys Team, team; keep one of them: IAM treats Team and team as the same key"),
    ),
    "tag that IAM treats as one of the stack": (
        {"iam_policy.a": {"name": "lake", "policy": statement(), "tags": {"environment": "x"}}},
        ("iam_policy.a", "tags", "has the keys Environment, environment"),
    ),
    "too many tags": (
        {"vpc.main": {"cidr_block": "10.0.0.0/16", "tags": MANY}},
        ("vpc.main", "tags", "has 56 tags with those that the stack writes; AWS accepts 50"),
    ),
    "too many tags with those that keep what KMS does not": (
        {"kms_key.a": {"alias": "alias/lake", "tags": {f"key-{number}": "x" for number in range(45)}}},
        ("kms_key.a", "tags", "has 51 tags with those that the stack writes; AWS accepts 50"),
    ),
    "character of a tag": (
        {GROUP: {"name": "/lake", "tags": {"Team": "lake & house"}}},
        (GROUP, "tags.Team", "'lake & house' has other characters than tags have; use letters, digits"),
    ),
    # Lifecycle rules.
    "lifecycle in the wrong order": (
        lifecycle((90, "STANDARD_IA"), (60, "GLACIER")),
        (
            "s3_bucket.a",
            "lifecycle_rules[0].transitions",
            "GLACIER (60) follows STANDARD_IA (90); S3 accepts 120 days or",
        ),
    ),
    "archive too early after infrequent access": (
        lifecycle((30, "STANDARD_IA"), (45, "GLACIER")),
        ("s3_bucket.a", "lifecycle_rules[0].transitions", "GLACIER (45) follows STANDARD_IA (30); S3 accepts 60 days"),
    ),
    "expiration before a transition": (
        lifecycle((90, "GLACIER"), expires=60),
        ("s3_bucket.a", "lifecycle_rules[0].expiration", "expires after 60 days, and moves to another class after 90"),
    ),
    # Classes and disks.
    "instance type for a database": (
        database(instance_class="t3.medium"),
        ("db_instance.a", "instance_class", "'t3.medium' is not an instance class of RDS; write it like db.t4g.medium"),
    ),
    "class of a cache for a database": (
        database(instance_class="cache.t3.medium"),
        ("db_instance.a", "instance_class", "'cache.t3.medium' is not an instance class of RDS"),
    ),
    "class of a database for nodes": (
        nodes(instance_types=["m5.large", "db.m5.large"]),
        (
            "eks_nodegroup.a",
            "instance_types[1]",
            "'db.m5.large' is not an instance type of EC2; write it like t3.medium",
        ),
    ),
    "disk of a database too small": (
        database(allocated_storage=10),
        ("db_instance.a", "allocated_storage", "10 GiB is out of range for gp3; RDS accepts 20 to 65536 GiB"),
    ),
    "disk with provisioned speed too small": (
        database(allocated_storage=50, storage_type="io1", iops=1000),
        ("db_instance.a", "allocated_storage", "50 GiB is out of range for io1; RDS accepts 100 to 65536 GiB"),
    ),
    "speed of a small disk": (
        database(allocated_storage=100, iops=12000),
        ("db_instance.a", "iops", "cannot be chosen below 400 GiB of gp3"),
    ),
    # ARNs.
    "ARN that is a name": (
        cluster(role_arn="lake-cluster"),
        ("eks_cluster.a", "role_arn", "'lake-cluster' is not an ARN"),
    ),
    "ARN of something else": (
        cluster(role_arn="arn:aws:iam::111122223333:user/lake"),
        ("eks_cluster.a", "role_arn", "is the ARN of something else; write arn:aws:iam::111122223333:role/NAME"),
    ),
    "policy that is a name": (
        role(managed_policy_arns=["AmazonEKSClusterPolicy"]),
        ("iam_role.a", "managed_policy_arns[0]", "'AmazonEKSClusterPolicy' is not an ARN"),
    ),
    # Schedules.
    "schedule without cron()": (
        plan("0 5 ? * * *"),
        (
            "backup_plan.a",
            "rules[0].schedule_expression",
            "is not of the form cron(...); write it like cron(0 5 ? * * *)",
        ),
    ),
    "schedule of a crawler without cron()": (
        crawler("0 2 * * ? *"),
        ("glue_crawler.a", "schedule", "'0 2 * * ? *' is not a schedule like cron(0 2 * * ? *), in UTC"),
    ),
    "schedule with five fields": (
        plan("cron(0 5 * * *)"),
        ("backup_plan.a", "rules[0].schedule_expression", "has 5 fields and not 6"),
    ),
    "schedule at an hour that is none": (
        crawler("cron(0 25 * * ? *)"),
        ("glue_crawler.a", "schedule", "has '25' as hours"),
    ),
    "schedule with two days": (
        crawler("cron(0 2 1 * MON *)"),
        ("glue_crawler.a", "schedule", "needs a ? as day of month or as day of week"),
    ),
    # Networks.
    "VPC too large": (
        network("10.0.0.0/12"),
        ("vpc.main", "cidr_block", "'10.0.0.0/12' is too large: AWS accepts /16 to /28"),
    ),
    "VPC too small": (
        network("10.0.0.0/29"),
        ("vpc.main", "cidr_block", "'10.0.0.0/29' is too small: AWS accepts /16 to /28"),
    ),
    "subnet outside of its VPC": (
        network("10.0.0.0/16", "10.1.0.0/24"),
        ("subnet.0", "cidr_block", "10.1.0.0/24 is not inside 10.0.0.0/16 of vpc.main"),
    ),
    "subnets that overlap": (
        network("10.0.0.0/16", "10.0.0.0/20", "10.0.8.0/24"),
        ("subnet.0", "cidr_block", "10.0.0.0/20 overlaps 10.0.8.0/24 of subnet.1"),
    ),
    "private network for the internet": (
        cluster(endpoint_public_access=True, public_access_cidrs=["10.0.0.0/8"]),
        ("eks_cluster.a", "public_access_cidrs[0]", "10.0.0.0/8 is not a network of the internet"),
    ),
    "network for services": (
        cluster(service_ipv4_cidr="172.20.0.0/28"),
        ("eks_cluster.a", "service_ipv4_cidr", "172.20.0.0/28 is not a network for services; EKS accepts /12 to /24"),
    ),
    # Widgets and periods.
    "widget too wide": (
        dashboard(width=25),
        ("dashboard.a", "body.widgets[0].width", "25 is out of range; CloudWatch accepts 1 to 24"),
    ),
    "widget beyond the last column": (
        dashboard(x=20),
        ("dashboard.a", "body.widgets[0].width", "6 reaches from column 20 beyond the 24 columns; choose at most 4"),
    ),
    "widget of an unknown type": (
        dashboard(type="metrics"),
        ("dashboard.a", "body.widgets[0].type", "'metrics' is not a type of widget; did you mean 'metric'?"),
    ),
    "period of a widget": (
        dashboard(properties={"region": "eu-central-1", "metrics": [], "period": 90}),
        ("dashboard.a", "body.widgets[0].properties.period", "90 is neither 1, 5, 10, 20, 30 nor a multiple of 60"),
    ),
    "period of an alarm": (
        alarm(period=90),
        ("metric_alarm.a", "period", "90 is neither 10, 20 or 30 nor a multiple of 60"),
    ),
    "alarm that looks back too far": (
        alarm(period=300, evaluation_periods=300),
        ("metric_alarm.a", "evaluation_periods", "300 periods of 300 s are longer than 86400 s; give at most 288"),
    ),
    "alarm with more data than periods": (
        alarm(evaluation_periods=3, datapoints_to_alarm=5),
        ("metric_alarm.a", "datapoints_to_alarm", "5 is more than evaluation_periods (3); give at most 3"),
    ),
    "address of an email": (
        {"sns_topic.a": {"name": "lake", "subscriptions": [{"protocol": "email", "endpoint": "operations"}]}},
        ("sns_topic.a", "subscriptions[0].endpoint", "'operations' is not an email address"),
    ),
    # Rules in the models of botocore.
    "enumeration": (
        template("gp5"),
        (
            "launch_template.a",
            "block_device_mappings[0].ebs.volume_type",
            "'gp5' is not one of its choices; did you mean",
        ),
    ),
    "pattern": (
        {GROUP: {"name": "/lake", "kms_key_id": "x" * 257}},
        (GROUP, "kms_key_id", "has 257 characters; AWS accepts at most 256"),
    ),
    "length of a text": (
        role(description="d" * 1001),
        ("iam_role.a", "description", "has 1001 characters; AWS accepts at most 1000"),
    ),
    "too few entries": (
        {
            "fargate_profile.a": {
                "cluster_name": "lake",
                "name": "x",
                "pod_execution_role_arn": ROLE,
                "subnet_ids": ["s"],
            }
        },
        ("fargate_profile.a", "selectors", "is required and not given"),
    ),
    "range of a number": (
        nodes(scaling_config={"min_size": -1, "max_size": 3}),
        ("eks_nodegroup.a", "scaling_config.min_size", "-1 is out of range; AWS accepts at least 0"),
    ),
}


@functools.cache
def connected() -> tuple[Session, Wire]:
    """Return a session without a network, and a recorder of its requests. Its models are loaded once."""
    session = Session(
        Connection(
            region="eu-central-1",
            endpoint_url="http://127.0.0.1:9",
            access_key="AKIATESTTESTTEST",
            secret_key="wJalrXUtnFEMI-a-secret-key",
        )
    )
    wire = Wire()
    return wire.attach(session), wire


def faults_of(described: Described, **words: Any) -> tuple[Fault, ...]:
    """Return the faults of a stack, and prove that there was no request."""
    session, wire = connected()
    listed = [
        dict(zip(("kind", "name"), address.split("."), strict=True)) | {"properties": dict(properties)}
        for address, properties in described.items()
    ]
    stack = AwsStack(session, StackDescription("lake", "development", listed, **words))
    with pytest.raises(DescriptionError) as caught:
        stack.propose()
    assert wire.calls == []
    assert session.calls == []
    return caught.value.faults


@pytest.mark.parametrize("case", CASES)
def test_what_aws_would_refuse_is_refused_before_any_request(case: str) -> None:
    described, (address, path, words) = CASES[case]

    faults = faults_of(described)

    assert [(fault.address, fault.path) for fault in faults] == [(address, path)], faults
    assert words in str(faults[0])


def test_everything_is_told_at_once() -> None:
    cases = ("superfluous Principal", "widget too wide", "disk of a database too small", "VPC too large", "enumeration")
    described = {address: item for case in cases for address, item in CASES[case][0].items()}
    described = {**described, GROUP: {"name": "/lake", "retention_in_days": 31, "kms_key_id": "x" * 257}}
    described |= {"subnet.a": {"vpc_id": "${vpc.mian.id}", "cidr_block": "10.0.0.0/24", "availability_zone": 1}}

    told = {(fault.address, fault.path) for fault in faults_of(described)}

    expected = {CASES[case][1][:2] for case in cases} | {(GROUP, "retention_in_days"), (GROUP, "kms_key_id")}
    expected |= {("subnet.a", "vpc_id")}
    assert told == expected


def test_a_secret_beyond_a_limit_is_not_shown() -> None:
    described = database(master_user_password="${secret.password}", manage_master_user_password=False)
    topic = {"sns_topic.a": {"name": "lake", "display_name": "x" * 101}}

    faults = faults_of({**described, **topic, **policy(Principal="*")}, secret_values={"password": SECRET})

    assert SECRET not in str(faults)
    assert ("db_instance.a", "master_user_password") in {(fault.address, fault.path) for fault in faults}


@pytest.mark.parametrize("environment", ["development", "production"])
def test_the_environments_of_the_repository_have_no_problem(environment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    endings: list[BaseException] = []

    def perform(*given: Any) -> BaseException | None:
        error = rehearsed(*given)
        endings.extend([error] if error else [])
        return error

    rehearsed = rehearsal.perform
    monkeypatch.setattr(rehearsal, "perform", perform)
    found = blueprint(environment, lakehouse_aws_alarm_emails=["operations@example.org"])
    session, wire = connected()
    resources = list(found.resources.values())
    kinds = make_kinds(session, KINDS)

    faults = description_faults(session, Draft("crypto-lakehouse", environment, "0", resources, kinds, {}))

    assert faults == []
    assert endings == [], "a creation was not rehearsed to its end"
    assert wire.calls == []


@pytest.mark.parametrize(("region", "partition"), [("eu-central-1", "aws"), ("cn-north-1", "aws-cn")])
def test_an_arn_of_another_partition_is_refused_once(region: str, partition: str) -> None:
    other, own = {"aws": ("aws-cn", "aws"), "aws-cn": ("aws", "aws-cn")}[partition]
    arn = f"arn:{other}:iam::111122223333:policy/limits"
    fitting = [f"arn:{own}:iam::111122223333:policy/a", "arn:${stack.partition}:iam::aws:policy/b"]
    described = {
        "iam_role.a": {**role()["iam_role.a"], "managed_policy_arns": fitting, "permissions_boundary": arn},
        "iam_role.b": {**role()["iam_role.a"], "name": "other", "permissions_boundary": arn},
    }
    resources = [
        {"kind": address.partition(".")[0], "name": address.partition(".")[2], "properties": properties}
        for address, properties in described.items()
    ]
    stack = AwsStack(Session(Connection(region=region)), StackDescription("lake", "development", resources))
    found = [str(fault) for fault in stack._offline_faults() if "partition" in str(fault)]
    fault = f"{arn} is in the partition {other}, and the region in {own}; name a resource of {own}"
    assert found == [f"iam_role.a: permissions_boundary: {fault}"]
