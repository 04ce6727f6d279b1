# SPDX-License-Identifier: GPL-3.0-or-later
"""Inventory variables: rejected, normalised and computed values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import (
    VARIABLES,
    check,
    described,
    document,
    no_proxy,
)

GOOD: dict[str, Any] = {"lakehouse_target": "host", "lakehouse_environment": "development"}

_TEXT = st.text(alphabet="aZ/.~-_ \n\0é0", max_size=12)
_VALUES = st.one_of(
    st.none(), _TEXT, st.integers(), st.lists(_TEXT, max_size=2), st.dictionaries(_TEXT, st.integers(), max_size=2)
)

RECIPIENT = "age19zy5q8c8jetkwnsd59scf38fm60c82a5yh0u42x49cvellqf739s6uh4mk"

BAD: dict[str, tuple[str, Any, str]] = {
    "an unknown target": ("lakehouse_target", "hots", "did you mean 'host'"),
    "a target of the wrong type": ("lakehouse_target", ["host"], "set it to one of"),
    "an unknown environment": ("lakehouse_environment", "prod", "set it to one of: development, staging, production"),
    "a relative home": ("lakehouse_home", "data/lakehouse", "absolute"),
    "a home that climbs": ("lakehouse_home", "/var/lib/../../etc", ".."),
    "a top-level home": ("lakehouse_home", "/var", "top-level"),
    "the root folder as home": ("lakehouse_home", "/", "top-level"),
    "a home with a line break": ("lakehouse_home", "/var/lib/a\nb", "control character"),
    "a home of the wrong type": ("lakehouse_home", 5, "not a string"),
    "root as the service user": ("lakehouse_service_user", "root", "unprivileged"),
    "a service user with a space": ("lakehouse_service_user", "lake house", "lower case"),
    "an empty service user": ("lakehouse_service_user", "", "lower case"),
    "a bind address that is a name": ("lakehouse_bind_address", "localhost", "not an IPv4 address"),
    "a bind address of the other IP": ("lakehouse_bind_address", "::1", "not an IPv4 address"),
    "a bind address of the wrong type": ("lakehouse_bind_address", 127, "not a string"),
    "a port offset that is text": ("lakehouse_port_offset", "many", "whole number"),
    "a port offset below zero": ("lakehouse_port_offset", -1, "whole number"),
    "a port offset that is a boolean": ("lakehouse_port_offset", True, "whole number"),
    "services as a list": ("lakehouse_services", [{"name": "api"}], "not a mapping"),
    "secrets as text": ("lakehouse_secrets", "s3cr3t-value", "not a mapping"),
    "a secret without a name": ("lakehouse_secrets", {5: "s3cr3t-value"}, "not a mapping"),
    "a token whose name has a space": ("lakehouse_api_tokens", {"my token": 1}, "cannot name a token"),
    "a token without a share": ("lakehouse_api_tokens", {"dashboards": 0}, "not a whole number from 1 to 1000"),
    "a list of tokens": ("lakehouse_api_tokens", ["dashboards"], "not a mapping"),
    "a group of foreign resources that there is not": ("lakehouse_remove_foreign", ["role"], "did you mean 'roles'"),
    "foreign groups as a mapping": ("lakehouse_remove_foreign", {"roles": True}, "not a list of texts"),
    "a pattern without a kind": ("lakehouse_expected_foreign", ["reporting"], "KIND/NAME"),
    "a pattern for everything": ("lakehouse_expected_foreign", "*/*", "does not name a kind"),
    "a rotation that is no boolean": ("lakehouse_rotate_secrets", "maybe", "not a boolean"),
    "a relative certificate bundle": ("lakehouse_ca_bundle", "ca.pem", "absolute"),
    "proxy variables as text": ("lakehouse_proxy_env", "http://proxy:3128", "not a mapping"),
    "a proxy that is a number": ("lakehouse_proxy_env", {"HTTPS_PROXY": 3128}, "not a string"),
    "a package index without scheme": ("lakehouse_package_index", "mirror.example.org/simple", "http(s)"),
    "a package index with a password": (
        "lakehouse_package_index",
        "https://u:p@mirror.example.org/simple",
        "credentials",
    ),
    "a market archive that is no address": ("lakehouse_market_archive_url", "ftp://example.org", "http(s)"),
    "disk as text": ("lakehouse_min_free_disk_gib", "lots", "whole number"),
    "memory below zero": ("lakehouse_min_memory_mib", -5, "whole number"),
    "data destruction that is no boolean": ("lakehouse_destroy_data", "perhaps", "not a boolean"),
    "an unknown cluster size": ("lakehouse_cluster_size", "huge", "set it to one of: small, medium, large"),
    "no node at all": ("lakehouse_node_count", 0, "whole number from 1 to 450"),
    "more nodes than EKS allows": ("lakehouse_node_max", 451, "whole number from 1 to 450"),
    "a release by its version": ("lakehouse_node_release", "1.35", "not a release of the node image"),
    "a port that there is not": ("lakehouse_aws_webhook_ports", [70000], "whole number from 1 to 65535"),
    "ports as a mapping": ("lakehouse_aws_webhook_ports", {"istio": 15017}, "not a list of whole numbers"),
    "instance types as a mapping": ("lakehouse_instance_types", {"t3.medium": 2}, "not a list of texts"),
    "an unknown level of monitoring": ("lakehouse_monitoring", "full", "basic, enhanced, comprehensive"),
    "backups kept longer than a database keeps them": ("lakehouse_backup_retention_days", 90, "from 1 to 35"),
    "a bucket of backups in capitals": ("lakehouse_backup_bucket", "Backups", "not the name of a bucket"),
    "a bucket of backups with a path": ("lakehouse_backup_bucket", "backups/../x", "not the name of a bucket"),
    "a bucket of backups that is an address": ("lakehouse_backup_bucket", "192.0.2.1", "not the name of a bucket"),
    "a backup endpoint without scheme": ("lakehouse_backup_endpoint_url", "s3.example.org", "http(s)"),
    "a backup endpoint with a password": ("lakehouse_backup_endpoint_url", "https://k:s@s3.example.org", "credentials"),
    "a relative folder of backups": ("lakehouse_backup_folder", "backups", "absolute"),
    "a region of backups with a blank": ("lakehouse_backup_region", "eu central", "not a region"),
    "a time of day that YAML read as a number": ("lakehouse_backup_times", 120, "quote each time of day"),
    "a time of day that there is not": ("lakehouse_backup_times", ["24:00"], "not a time of day"),
    "no time of day": ("lakehouse_backup_times", [], "list at least one"),
    "a recipient that is a name": ("lakehouse_backup_recipients", ["alice"], "not a public key of age"),
    "a recipient twice": ("lakehouse_backup_recipients", [RECIPIENT, RECIPIENT], "listed twice"),
    "an encryption that there is not": ("lakehouse_backup_encryption", "AES-256", "did you mean 'AES256'"),
    "a key with a blank": ("lakehouse_backup_kms_key_id", "my key", "write it as alias/backups"),
    "archived objects that are ignored": ("lakehouse_backup_archived_objects", "ignore", "fail, skip_recorded"),
    "a bandwidth below zero": ("lakehouse_backup_bandwidth_mb", -1, "whole number"),
    "a set by its day": ("lakehouse_backup_set", "2026-11-30", "not the id of a backup set"),
    "a set that is a path": ("lakehouse_backup_set", "../20261130T020000Z-abcdef", "not the id of a backup set"),
    "a third level of verification": ("lakehouse_backup_level", 3, "from 1 to 2"),
    "backups that are not kept": ("lakehouse_backup_retention_days", 0, "from 1 to 35"),
    "authorities of backups beside the inventory": ("lakehouse_backup_ca_bundle", "ca.pem", "absolute"),
    "half the snapshots": ("lakehouse_backup_only_current_snapshots", "some", "not a boolean"),
    "a backup before that is a moment": ("lakehouse_backup_before", "02:00", "not a boolean"),
    "a restore that may replace a table": ("lakehouse_restore_overwrite", "gold.klines", "not a boolean"),
    "a new name that is a path": ("lakehouse_restore_as", "gold./tmp/x", "not the name of a table"),
    "a table of a tier that there is not": ("lakehouse_restore_tables", ["platinum.klines"], "not the name of a table"),
    "a component that there is not": ("lakehouse_restore_components", ["table"], "did you mean 'tables'"),
    "a table without its tier": ("lakehouse_restore_tables", ["klines"], "not the name of a table"),
    "a table of a namespace without a name": ("lakehouse_restore_tables", ["gold..klines"], "not the name of a table"),
    "a new name in capitals": ("lakehouse_restore_as", "gold.Copy", "not the name of a table"),
    "a zone as the region": ("lakehouse_aws_region", "eu-central-1a", "not a region of AWS"),
    "an emulator without scheme": ("lakehouse_aws_endpoint_url", "127.0.0.1:5000", "http(s)"),
    "an account of eleven digits": ("lakehouse_aws_account_id", "11112222333", "not the id of an AWS account"),
    "a role by its name": ("lakehouse_aws_assume_role_arn", "deployer", "not the ARN of a role"),
    "a name of a session with a space": ("lakehouse_aws_session_name", "my run", "not the name of a session"),
    "an external id of one letter": ("lakehouse_aws_external_id", "x", "not an external id"),
    "a role as the boundary": (
        "lakehouse_aws_permissions_boundary",
        "arn:aws:iam::111122223333:role/boundary",
        "not the ARN of a policy",
    ),
    "tags as a list": ("lakehouse_tags", ["CostCenter"], "not a mapping"),
    "a tag that is a number": ("lakehouse_tags", {"CostCenter": 4711}, "the value of 'CostCenter' is not a string"),
    "a tag of AWS": ("lakehouse_tags", {"aws:cost": "x"}, "AWS itself writes"),
    "a tag that the stack writes": ("lakehouse_tags", {"environment": "x"}, "the stack itself writes"),
    "ignored tags as a list": ("lakehouse_aws_ignore_tags", ["Owner"], "not a mapping"),
    "ignored tags by prefix": ("lakehouse_aws_ignore_tags", {"prefixes": ["Owner"]}, "unsupported key 'prefixes'"),
    "an empty prefix of ignored tags": ("lakehouse_aws_ignore_tags", {"key_prefixes": [""]}, "not a list of texts"),
    "a user as the role": ("lakehouse_aws_assume_role_arn", "arn:aws:iam::111122223333:user/me", "the ARN of a role"),
    "a VPC that is too small": ("lakehouse_aws_vpc_cidr", "10.0.0.0/24", "not a private /16"),
    "a VPC in the internet": ("lakehouse_aws_vpc_cidr", "52.20.0.0/16", "not a private /16"),
    "a VPC with host bits": ("lakehouse_aws_vpc_cidr", "10.0.0.1/16", "not an IPv4 network"),
    "a VPC of link-local addresses": ("lakehouse_aws_vpc_cidr", "169.254.0.0/16", "not a private /16"),
    "a VPC of loopback addresses": ("lakehouse_aws_vpc_cidr", "127.0.0.0/16", "not a private /16"),
    "an endpoint twice": ("lakehouse_aws_interface_endpoints", ["sts", "sts"], "list each entry once"),
    "an endpoint for what has a gateway": ("lakehouse_aws_interface_endpoints", ["s3"], "remove s3 from the list"),
    "an endpoint by its whole name": (
        "lakehouse_aws_interface_endpoints",
        ["com.amazonaws.eu-central-1.sts"],
        "write it as ecr.api, without the region",
    ),
    "an endpoint by its title": ("lakehouse_aws_interface_endpoints", ["Secrets Manager"], "not a service of AWS"),
    "an administrator twice": (
        "lakehouse_eks_admin_arns",
        ["arn:aws:iam::111122223333:role/a"] * 2,
        "arn:aws:iam::111122223333:role/a is listed twice",
    ),
    "a network twice": ("lakehouse_aws_private_access_cidrs", ["10.8.0.0/16", "10.8.0.0/16"], "list each entry once"),
    "an instance type twice": ("lakehouse_instance_types", "m5.large,m5.large", "m5.large is listed twice"),
    "one zone": ("lakehouse_aws_zones", 1, "from 2 to 6"),
    "one zone by name": ("lakehouse_aws_zones", ["eu-central-1a"], "list 2 to 6 of them"),
    "a zone twice": ("lakehouse_aws_zones", ["eu-central-1a", "eu-central-1a"], "list each availability zone once"),
    "a region as a zone": ("lakehouse_aws_zones", ["eu-central-1", "eu-central-1a"], "not an availability zone"),
    "an ingress network that is a name": ("lakehouse_aws_ingress_cidrs", ["office"], "not an IPv4 network"),
    "a public network of numbers": ("lakehouse_eks_public_access_cidrs", [10], "not a list of texts"),
    "a version of two numbers too many": ("lakehouse_eks_version", "1.35.2", "not a version of Kubernetes"),
    "a version that YAML read as a number": ("lakehouse_eks_version", 1.35, "not a string"),
    "an administrator by name": ("lakehouse_eks_admin_arns", ["alice"], "not the ARN of a role or user"),
    "a bucket suffix in capitals": ("lakehouse_aws_bucket_suffix", "ABC", "not the end of a bucket's name"),
    "a budget of nothing": ("lakehouse_aws_budget_usd", 0, "whole number"),
    "a plan that is cut off": ("lakehouse_plan", '{"format": 1', "not JSON"),
    "a plan in no bucket": ("lakehouse_plan", "s3:/plan.json", "not the address of an object"),
    "a plan path in no bucket": ("lakehouse_plan_path", "s3://bucket", "not the address of an object"),
    "an unprotected number": ("lakehouse_destroy_unprotect", 5, "not a list of texts"),
    "the default namespace": ("lakehouse_namespace", "default", "name a namespace of its own"),
    "a namespace of Kubernetes itself": ("lakehouse_namespace", "kube-system", "name a namespace of its own"),
    "a namespace in capitals": ("lakehouse_namespace", "Lakehouse", "not a namespace"),
    "an empty namespace": ("lakehouse_namespace", "", "name a namespace of its own"),
    "a registry with a scheme": ("lakehouse_image_registry", "https://registry.example.org", "not a registry"),
    "a digest that is a version": ("lakehouse_image_digests", {"prom/prometheus": "3.8.1"}, "sha256: and 64"),
    "pull secrets as a mapping": ("lakehouse_image_pull_secrets", {"name": "pull"}, "not a list of texts"),
    "a domain with a scheme": ("lakehouse_domain", "https://example.org", "not a domain"),
    "a certificate by name": ("lakehouse_ingress_certificate_arn", "example.org", "the ARN of a certificate"),
    "half an identity provider": (
        "lakehouse_ingress_oidc",
        {"issuer": "https://id.example.org"},
        "it lacks authorization",
    ),
    "a scale that is not a mapping": ("lakehouse_scale", ["api"], "not a mapping"),
    "a scale that is cut off": ("lakehouse_scale", '{"api": ', "not JSON"),
    "charts from a website": ("lakehouse_chart_repository", "http://charts.example.org", "address of a repository"),
    "a chart with an unknown word": ("lakehouse_charts", {"traefik": {"tag": "1"}}, "traefik has tag"),
    "half a replica": ("lakehouse_scale", {"api": 1.5}, "not a whole number"),
    "fewer nodes than none": ("lakehouse_scale_nodes", {"spot": -1}, "not a whole number"),
    "a misspelt variable": ("lakehouse_enviroment", "staging", "write lakehouse_environment"),
}


def test_a_private_key_among_the_recipients_is_refused_and_not_shown() -> None:
    key = "AGE-SECRET-KEY-1QQPSWTSTTWTSRCZS0TXSTMG29TZKVR3TDMJZ2DQEKPWVTRTQ9TZQR3SPYF"
    _settings, (problem,) = check({**GOOD, "lakehouse_backup_recipients": [RECIPIENT, key]})
    assert "entry 2 is a private key" in problem.message
    assert key[16:] not in str(problem)


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_bad_value_is_one_problem_that_names_variable_and_remedy(case: str) -> None:
    name, value, expected = BAD[case]
    _settings, problems = check({**GOOD, name: value})
    assert [problem.variable for problem in problems] == [name]
    assert expected in str(problems[0])
    assert problems[0].remedy


def test_a_secret_never_enters_a_message() -> None:
    for value in ("hunter2-text", ["hunter2"], {5: "hunter2"}):
        _settings, problems = check({**GOOD, "lakehouse_secrets": value})
        assert problems
        assert "hunter2" not in "".join(map(str, problems))


def test_every_problem_is_reported_at_once() -> None:
    values = {name: value for name, value, _message in BAD.values()}
    _settings, problems = check(values)
    assert {problem.variable for problem in problems} == set(values)


def test_required_variables_are_asked_for() -> None:
    _settings, problems = check({})
    assert {problem.variable for problem in problems} == {"lakehouse_target", "lakehouse_environment"}


def test_a_good_inventory_has_no_problem_and_every_default() -> None:
    settings, problems = check(GOOD)
    assert problems == []
    assert settings.keys() == {variable.name for variable in VARIABLES}


@pytest.mark.parametrize(("given_value", "expected"), [("yes", True), ("False", False), (True, True), ("0", False)])
def test_booleans_may_be_words_as_extra_vars_give_them(given_value: object, expected: bool) -> None:
    settings, problems = check({**GOOD, "lakehouse_rotate_secrets": given_value})
    assert (settings["lakehouse_rotate_secrets"], problems) == (expected, [])


def test_tables_of_any_namespace_can_be_restored() -> None:
    found, problems = check({**GOOD, "lakehouse_restore_tables": "gold.klines,silver.desk.fx.trades"})
    assert (found["lakehouse_restore_tables"], problems) == (["gold.klines", "silver.desk.fx.trades"], [])


def test_numbers_may_be_text_as_extra_vars_give_them() -> None:
    settings, problems = check({**GOOD, "lakehouse_port_offset": "1200"})
    assert (settings["lakehouse_port_offset"], problems) == (1200, [])


@pytest.mark.parametrize(
    ("name", "given_value", "expected"),
    [
        ("lakehouse_eks_public_access_cidrs", "203.0.113.0/24, 198.51.100.7/32", ["203.0.113.0/24", "198.51.100.7/32"]),
        ("lakehouse_aws_account_id", 12345678901, "012345678901"),
        ("lakehouse_aws_zones", "3", 3),
        ("lakehouse_aws_zones", "eu-central-1b, eu-central-1a", ["eu-central-1b", "eu-central-1a"]),
        ("lakehouse_plan", '{"format": 1}', {"format": 1}),
        ("lakehouse_plan", "s3://plans/development.json", "s3://plans/development.json"),
        ("lakehouse_plan", {"format": 1}, {"format": 1}),
        ("lakehouse_aws_region", "us-gov-west-1", "us-gov-west-1"),
        ("lakehouse_scale", '{"api": 5}', {"api": 5}),
        ("lakehouse_scale", {"api": "5"}, {"api": 5}),
        ("lakehouse_image_registry", "registry.example.org:5000/mirror", "registry.example.org:5000/mirror"),
    ],
)
def test_values_of_clouds_and_clusters_may_be_written_as_extra_vars_and_yaml_give_them(
    name: str, given_value: object, expected: object
) -> None:
    settings, problems = check({**GOOD, name: given_value})
    assert (settings[name], problems) == (expected, [])


@given(st.dictionaries(st.sampled_from([variable.name for variable in VARIABLES]), _VALUES))
def test_any_values_give_settings_and_problems_but_never_an_exception(values: dict[str, Any]) -> None:
    settings, problems = check(values)
    assert settings.keys() == {variable.name for variable in VARIABLES}
    assert all(problem.variable.startswith("lakehouse_") for problem in problems)


def test_no_proxy_keeps_given_entries_and_adds_the_platforms_own() -> None:
    variables = no_proxy(
        {"https_proxy": "http://proxy.example.org:3128", "NO_PROXY": "intranet.example.org"}, ["10.0.0.5"]
    )
    assert variables["HTTPS_PROXY"] == variables["https_proxy"] == "http://proxy.example.org:3128"
    assert variables["NO_PROXY"].split(",") == ["intranet.example.org", "localhost", "127.0.0.1", "::1", "10.0.0.5"]


def test_without_a_proxy_nothing_is_set() -> None:
    assert no_proxy({}, ["10.0.0.5"]) == {}


# Its values differ from the defaults and contain characters that could break JSON and secret placeholders.
DESCRIPTION: dict[str, Any] = {
    **GOOD,
    "lakehouse_environment": "production",
    "lakehouse_port_offset": 100,
    "lakehouse_services": {"own": {"environment": {"TEXT": "${secret_value.api_token} \u00e9"}}},
    "lakehouse_backup_times": ["01:00", "13:00"],
    "lakehouse_backup_recipients": [RECIPIENT],
    "lakehouse_expected_foreign": ["role/reporting"],
}


def test_what_describes_a_lakehouse_is_recorded_without_secrets_and_choices_of_one_run() -> None:
    of_run = {"lakehouse_rotate_secrets": True, "lakehouse_restore_overwrite": True, "lakehouse_backup_before": False}
    secret = {"lakehouse_secrets": {"api_token": "hunter2hunter2"}, "lakehouse_restore_identity": "AGE-SECRET-KEY-1X"}
    settings, problems = check({**DESCRIPTION, **of_run, **secret})
    assert problems == []
    assert described(settings) == DESCRIPTION


def test_a_record_of_the_inventory_describes_the_same_lakehouse_and_no_marker_of_a_secret() -> None:
    settings, _problems = check(DESCRIPTION)
    text = document(settings)
    assert check(json.loads(text)) == (settings, [])
    assert "$" not in text
