# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on AWS, from an empty account to a destroyed one, with the playbooks and inventories of the repository.

One account, through its lifecycle in the order of this file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.aws.cloud import ACCOUNT_ID, Cloud, open_cloud
from tests.integration.aws.emulator import Emulator
from tests.integration.playbook import Run

BOUNDARY = "arn:aws:iam::aws:policy/PowerUserAccess"
TAGS = {"CostCenter": "4711", "Team": "data platform"}
# Settings that an organisation requires in every environment.
ORGANISATION = f"""
lakehouse_tags: {json.dumps(TAGS)}
lakehouse_aws_permissions_boundary: {BOUNDARY}
lakehouse_aws_ignore_tags: {{keys: [Owner], key_prefixes: ["scan:"]}}
lakehouse_aws_webhook_ports: [15017]
"""
CLUSTER = "crypto-lakehouse-development"
DATA: dict[str, Any] = {"lakehouse_destroy_data": True}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Return an account that is empty until a test uses `deployed`."""
    with open_cloud(tmp_path_factory.mktemp("cloud"), variables=ORGANISATION) as opened:
        yield opened


@pytest.fixture(scope="module")
def planned(cloud: Cloud) -> Run:
    """Return the run that planned the empty account."""
    return cloud.well("plan")


@pytest.fixture(scope="module")
def deployed(cloud: Cloud, planned: Run) -> Cloud:
    """Return the account with a reviewed plan applied. Each test restores its state."""
    assert planned.changed == 1
    run = cloud.well("deploy", "-t", "aws", lakehouse_plan=str(cloud.plan_file()))
    assert "is as described in account" in run.words
    return cloud


@dataclass(frozen=True)
class Planned:
    """A run that planned, and its plan."""

    run: Run
    plan: str


@pytest.fixture(scope="module")
def planned_again(deployed: Cloud) -> Planned:
    """Return a plan of the deployed account, with a complete report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANSIBLE_SHOW_CUSTOM_STATS", "true")
        run = deployed.well("plan", "-vvv")
    return Planned(run, deployed.plan_file().read_text("utf-8"))


def _resources(plan: Mapping[str, Any], action: str) -> list[str]:
    return [node["address"] for node in plan["nodes"] if node["action"] == action]


def test_a_plan_for_an_empty_account_is_complete_and_makes_nothing(cloud: Cloud, planned: Run) -> None:
    plan = json.loads(cloud.plan_file().read_text("utf-8"))

    assert planned.changed == 1
    assert _resources(plan, "create") == [node["address"] for node in plan["nodes"]]
    for address in ("vpc.main", "eks_cluster.main", "s3_bucket.gold", "budget.monthly"):
        assert f"+ {address}  create" in planned.output
    assert "(known after apply)" in planned.output
    assert cloud.contents() == []

    page = cloud.plan_file().with_name("plan.md")
    assert [path.stat().st_mode & 0o777 for path in (cloud.plan_file(), page)] == [0o600, 0o600]
    assert "```mermaid" in page.read_text("utf-8")


def test_check_mode_of_a_deployment_shows_the_plan_and_makes_nothing(cloud: Cloud) -> None:
    run = cloud.well("deploy", "--check", "--diff")
    assert run.changed == 1
    assert "+ vpc.main  create" in run.output
    assert "run it without --check" in run.words
    assert cloud.contents() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing says who signs the certificate of the database on RDS"),
        ({"lakehouse_database_ca_bundle": "/nonexistent/ca.pem"}, "/nonexistent/ca.pem cannot be read"),
        ({"lakehouse_database_ca_bundle": "/etc/hostname"}, "it holds no certificate"),
    ],
)
def test_nothing_is_made_before_the_services_could_verify_the_database(
    cloud: Cloud, given: dict[str, Any], message: str
) -> None:
    run = cloud.run("deploy", "-t", "aws,services", environment="production", **given)
    assert run.exit_code != 0
    assert f"lakehouse_database_ca_bundle: {message}" in run.words
    assert cloud.contents() == []


def test_what_the_services_will_need_is_missed_before_anything_is_made_and_told_at_once(cloud: Cloud) -> None:
    run = cloud.run(
        "deploy",
        "-t",
        "aws,services",
        lakehouse_helm_binary="/nonexistent/helm",
        lakehouse_aws_account_id="999999999999",
        lakehouse_aws_zones=6,
    )

    assert run.exit_code != 0
    assert "lakehouse_aws_account_id: the credentials are those of account" in run.words
    assert "lakehouse_aws_zones: eu-central-1 has 3 availability zones that EKS supports, not 6." in run.words
    assert "lakehouse_helm_binary: /nonexistent/helm is not a program" in run.words
    assert cloud.contents() == []


@pytest.mark.parametrize("environment", ["staging", "production"])
def test_every_environment_can_be_planned(cloud: Cloud, environment: str) -> None:
    run = cloud.well("plan", environment=environment)
    assert "to create" in run.output
    assert cloud.contents() == []


# One run shows all settings that depend on the inventory alone.
WRONG: dict[str, Any] = {
    "lakehouse_aws_regoin": "eu-central-1",
    "lakehouse_aws_region": "europe",
    "lakehouse_aws_profile": "nobody",
    "lakehouse_aws_assume_role_arn": "admin",
    "lakehouse_node_count": 11,
    "lakehouse_secrets": {"api_kye": "hunter2", "api_token": "hunter2-1234", "database_password": ""},
}


def test_everything_that_is_wrong_in_an_inventory_is_refused_together(cloud: Cloud) -> None:
    run = cloud.run("deploy", **WRONG)
    assert run.exit_code != 0
    for message in (
        "lakehouse_aws_regoin: no variable of the collection has this name. Remedy: write lakehouse_aws_region.",
        "lakehouse_aws_region: 'europe' is not a region of AWS",
        "lakehouse_aws_profile: the AWS configuration has no profile 'nobody'",
        "lakehouse_aws_assume_role_arn: 'admin' is not the ARN of a role",
        "lakehouse_node_count: 11 is more than lakehouse_node_max, 10",
        "secret 'api_kye' is unknown",
        "secret 'api_token' is shorter than 16 characters",
        "secret 'database_password' is empty",
    ):
        assert run.words.count(message) == 1, message
    assert "8 problems, nothing was changed" in run.words
    assert "hunter2" not in run.output
    assert "Traceback" not in run.output
    assert cloud.contents() == []


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an account that is another one": (
        {"lakehouse_aws_account_id": "999999999999"},
        "not of 999999999999; use other credentials, or correct `lakehouse_aws_account_id`",
    ),
    "a region that has none of these zones": (
        {"lakehouse_aws_zones": 6},
        "eu-central-1 has 3 zones, and the description needs 6; set `lakehouse_aws_zones` to 3",
    ),
    "an instance class of another service": (
        {"lakehouse_aws_database": True, "lakehouse_aws_database_instance_class": "cache.t3.micro"},
        "write it like db.t4g.medium (set by `lakehouse_aws_database_instance_class`)",
    ),
    "an endpoint that does not answer": (
        {"lakehouse_aws_endpoint_url": "http://127.0.0.1:1"},
        "check `lakehouse_aws_region`, `lakehouse_aws_endpoint_url`, the network and the proxy",
    ),
    "a plan that is not there": ({"lakehouse_plan": "/nonexistent/plan.json"}, "cannot read the saved plan"),
    "a plan of another making": ({"lakehouse_plan": {"format": 99}}, "from another version; run plan.yml again"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_before_anything_is_made(cloud: Cloud, case: str) -> None:
    given, message = BAD[case]
    run = cloud.run("deploy", **given)
    assert run.exit_code != 0
    assert message in run.words
    assert "Traceback" not in run.output
    assert cloud.contents() == []


ALONE = f"""
- hosts: lakehouse_controller
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {{name: crypto_lakehouse.platform.aws_foundation}}
      vars:
        aws_foundation_stack: alone
        aws_foundation_environment: development
        aws_foundation_connection: &connection {{region: eu-central-1}}
    - ansible.builtin.import_role: {{name: crypto_lakehouse.platform.eks}}
      vars:
        eks_stack: cluster-alone
        eks_environment: development
        eks_subnet_ids: &subnets [subnet-0aaaaaaa, subnet-0bbbbbbb]
        eks_node_subnet_ids: *subnets
        eks_security_group_ids: &groups [sg-0ccccccc]
        eks_node_security_group_ids: *groups
        eks_secrets_key_arn: &key arn:aws:kms:eu-central-1:{ACCOUNT_ID}:key/11111111-2222-3333-4444-555555555555
        eks_data_key_arn: *key
        eks_connection: *connection
"""


def test_each_role_can_be_used_alone(cloud: Cloud) -> None:
    playbook = cloud.folder / "alone.yml"
    playbook.write_text(ALONE, "utf-8")
    run = cloud.well(str(playbook), "--check", "--diff")
    assert "Plan for stack alone in development" in run.output
    assert "Plan for stack cluster-alone in development" in run.output
    assert "+ vpc.main  create" in run.output
    assert "+ eks_nodegroup.on-demand  create" in run.output
    assert cloud.contents() == []


@pytest.mark.parametrize("verb", ["health", "verify", "upgrade"])
def test_a_verb_that_needs_a_lakehouse_says_that_there_is_none(cloud: Cloud, verb: str) -> None:
    run = cloud.run(verb)
    assert run.exit_code != 0
    assert "holds no lakehouse. Remedy: run playbooks/deploy.yml first" in run.words


def test_a_run_that_leaves_out_the_controller_fails_with_a_message(cloud: Cloud) -> None:
    run = cloud.run("plan", "--limit", "nobody")
    assert run.exit_code != 0


def test_a_second_deployment_changes_nothing(deployed: Cloud) -> None:
    run = deployed.well("deploy", "--diff", "-t", "aws")
    assert run.changed == 0
    assert "unless the run excludes them (-t aws)" in run.words


def test_drift_finds_nothing_where_nothing_was_changed(deployed: Cloud) -> None:
    run = deployed.well("drift")
    assert run.changed == 0
    assert "AWS is as described" in run.words


def test_whatever_was_created_has_the_tags_and_the_boundary_of_the_organisation(deployed: Cloud) -> None:
    account, eks = deployed.account.client, Emulator(deployed.complement, ACCOUNT_ID).client("eks")
    of_ec2: dict[str, dict[str, str]] = {}
    for tag in account("ec2").get_paginator("describe_tags").paginate().build_full_result()["Tags"]:
        of_ec2.setdefault(tag["ResourceId"], {})[tag["Key"]] = tag["Value"]
    tagged = [tags for tags in of_ec2.values() if "lakehouse:stack" in tags]
    assert len(tagged) > 20

    name = eks.list_clusters()["clusters"][0]
    within = {"clusterName": name}
    tagged.append(eks.describe_cluster(name=name)["cluster"]["tags"])
    for listed, key, described, argument in (
        ("list_nodegroups", "nodegroups", "describe_nodegroup", "nodegroupName"),
        ("list_addons", "addons", "describe_addon", "addonName"),
    ):
        word = argument.removesuffix("Name")
        found = [getattr(eks, described)(**within, **{argument: item}) for item in getattr(eks, listed)(**within)[key]]
        tagged += [item[word]["tags"] for item in found]
    ids = [item["associationId"] for item in eks.list_pod_identity_associations(**within)["associations"]]
    found = [eks.describe_pod_identity_association(**within, associationId=id_)["association"] for id_ in ids]
    tagged += [item["tags"] for item in found]

    iam = account("iam")
    roles = [role["RoleName"] for role in iam.list_roles()["Roles"] if "crypto-lakehouse" in role["RoleName"]]
    assert len(roles) > 8
    for role in (iam.get_role(RoleName=name)["Role"] for name in roles):
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY
        tagged.append({tag["Key"]: tag["Value"] for tag in role["Tags"]})
    for tags in tagged:
        assert tags.items() >= TAGS.items()


def test_tags_of_other_tools_are_no_drift(deployed: Cloud) -> None:
    tags = [{"Key": "Owner", "Value": "somebody"}, {"Key": "scan:date", "Value": "2026-11-30"}]
    deployed.account.client("ec2").create_tags(Resources=[_vpc_id(deployed)], Tags=tags)
    deployed.account.client("iam").tag_role(RoleName="crypto-lakehouse-pipeline-role-development", Tags=tags)
    assert deployed.well("drift").changed == 0


def _vpc_id(cloud: Cloud) -> str:
    found = cloud.account.client("ec2").describe_vpcs(
        Filters=[{"Name": "tag:lakehouse:address", "Values": ["vpc.main"]}]
    )
    return str(found["Vpcs"][0]["VpcId"])


def _edit(cloud: Cloud) -> list[str]:
    """Make typical manual changes; return the addresses."""
    client = cloud.account.client
    client("ec2").modify_vpc_attribute(VpcId=_vpc_id(cloud), EnableDnsHostnames={"Value": False})
    bucket = f"crypto-lakehouse-gold-development-{cloud.account.account_id}"
    client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    client("logs").put_retention_policy(logGroupName="/aws/crypto-lakehouse/development", retentionInDays=7)
    client("iam").tag_role(
        RoleName="crypto-lakehouse-pipeline-role-development", Tags=[{"Key": "Environment", "Value": "none"}]
    )
    client("iam").delete_role_permissions_boundary(RoleName="crypto-lakehouse-query-role-development")
    client("glue").delete_crawler(Name="crypto-lakehouse-bronze-crawler-development")
    evil = f"arn:aws:iam::{cloud.account.account_id}:role/evil"
    kms = client("kms")
    key = kms.describe_key(KeyId="alias/crypto-lakehouse-data-development")["KeyMetadata"]["KeyId"]
    kms.create_grant(KeyId=key, GranteePrincipal=evil, Operations=["Decrypt"])
    eks = Emulator(cloud.complement, ACCOUNT_ID).client("eks")
    eks.create_access_entry(clusterName=CLUSTER, principalArn=evil)
    roles = ["iam_role.pipeline", "iam_role.query"]
    foreign = [f"kms-grant/kms_key.data/{evil}/", f"access-entry/{CLUSTER}/{evil}"]
    return ["vpc.main", "s3_bucket.gold", "log_group.application", *roles, "glue_crawler.bronze", *foreign]


def test_drift_names_what_was_changed_by_hand_a_stale_plan_is_refused_and_a_deployment_repairs_it(
    deployed: Cloud, planned_again: Planned, tmp_path: Path
) -> None:
    saved = tmp_path / "plan.json"
    saved.write_text(planned_again.plan, "utf-8")
    edited = _edit(deployed)

    drift = deployed.run("drift")
    assert drift.exit_code != 0
    assert all(address in drift.output for address in edited)
    assert "Remedy: run playbooks/deploy.yml" in drift.words

    stale = deployed.run("deploy", lakehouse_plan=str(saved))
    assert stale.exit_code != 0
    assert "vpc.main: enable_dns_hostnames" in stale.words
    first = next(line for line in stale.output.splitlines() if "saved plan" in line)
    assert re.search(r"cannot apply the saved plan: it is stale, \d+ differences; run plan.yml again$", first.strip())

    # Foreign objects are removed on request only, and the plan says so.
    remove = {"lakehouse_remove_foreign": ["bindings"]}
    planned = deployed.well("plan", **remove)
    assert all(f"removal of {address}" in planned.output for address in edited if "/" in address)
    repaired = deployed.well("deploy", lakehouse_plan=str(deployed.plan_file()), **remove)
    assert repaired.changed == 2
    assert deployed.well("drift").changed == 0


def test_a_plan_may_be_kept_in_a_bucket_and_handed_over_as_data(deployed: Cloud) -> None:
    deployed.account.client("s3").create_bucket(
        Bucket="plans", CreateBucketConfiguration={"LocationConstraint": deployed.account.region}
    )
    place = "s3://plans/development/plan.json"
    deployed.well("plan", lakehouse_plan_path=place)
    assert deployed.well("deploy", lakehouse_plan=place).changed == 0
    body = deployed.account.client("s3").get_object(Bucket="plans", Key="development/plan.json")["Body"].read()
    assert deployed.well("deploy", lakehouse_plan=json.loads(body)).changed == 0


def test_the_plan_is_published_for_the_next_job(planned_again: Planned) -> None:
    output = planned_again.run.output
    published = output[output.index("CUSTOM STATS") :]
    fingerprint = json.loads(planned_again.plan)["fingerprint"]
    assert "lakehouse_plan" in published
    assert fingerprint in published


def test_another_environment_lives_beside_it(deployed: Cloud) -> None:
    run = deployed.well("plan", environment="staging")
    plan = json.loads(deployed.plan_file("staging").read_text("utf-8"))
    assert _resources(plan, "create") == [node["address"] for node in plan["nodes"]]
    assert "belongs to" not in run.output

    other = deployed.run("deploy", lakehouse_plan=str(deployed.plan_file("staging")))
    assert other.exit_code != 0
    (line,) = [line.strip() for line in other.output.splitlines() if "saved plan" in line]
    words = "it is for environment 'staging', and the run for 'development'; run plan.yml again"
    assert line == f"cannot apply the saved plan: {words}"


def test_generated_secrets_are_nowhere_to_be_read(deployed: Cloud, planned_again: Planned) -> None:
    secrets = deployed.account.client("secretsmanager")
    name = "crypto-lakehouse-encryption-keys-development"
    value = secrets.get_secret_value(SecretId=name)["SecretString"]
    assert len(value) >= 64
    assert value not in planned_again.run.output
    assert value not in planned_again.plan


def test_destruction_asks_for_the_name_of_the_environment(deployed: Cloud) -> None:
    for confirmed in ("", "production"):
        run = deployed.run("destroy", lakehouse_destroy_confirm=confirmed, **DATA)
        assert run.exit_code != 0
        assert "add -e lakehouse_destroy_confirm=development" in run.words
    assert deployed.well("drift").changed == 0


def test_destruction_refuses_what_holds_data_unless_data_is_named(deployed: Cloud) -> None:
    run = deployed.run("destroy", lakehouse_destroy_confirm="development")
    assert run.exit_code != 0
    assert "s3_bucket.gold: is protected and would be deleted; set `lakehouse_destroy_data` to true" in run.words
    assert "or name s3_bucket.gold in `lakehouse_destroy_unprotect`" in run.words
    assert deployed.well("drift").changed == 0


def test_destruction_leaves_nothing_but_what_it_lists_and_a_deployment_takes_that_back(deployed: Cloud) -> None:
    run = deployed.well("destroy", lakehouse_destroy_confirm="development", **DATA)
    assert deployed.contents() == []
    for address in ("kms_key.data", "kms_key.eks", "kms_key.s3", "secretsmanager_secret.database-password"):
        assert re.search(rf"{re.escape(address)} \(\S+\): scheduled for deletion, \d{{4}}-\d\d-\d\d", run.words)
    assert deployed.well("destroy", lakehouse_destroy_confirm="development", **DATA).changed == 0

    deployed.well("deploy")
    assert deployed.well("deploy").changed == 0


def test_what_aws_itself_protects_is_not_half_destroyed(cloud: Cloud) -> None:
    run = cloud.run("destroy", environment="production", lakehouse_destroy_confirm="production", **DATA)
    assert run.exit_code != 0
    assert "with -e lakehouse_aws_deletion_protection=false" in run.words
