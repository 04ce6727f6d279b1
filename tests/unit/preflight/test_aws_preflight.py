# SPDX-License-Identifier: GPL-3.0-or-later
"""Rejections and messages of the preflight on AWS, without Ansible and AWS."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.action import preflight
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import check
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import aws_preflight
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.ingress_ports import (
    exposable_services,
    ingress_ports,
)

ROLES = Path(__file__).parents[3] / "roles"
_CATALOGUE = yaml.safe_load((ROLES / "catalogue" / "vars" / "main.yml").read_text("utf-8"))
DESCRIPTION = _CATALOGUE["catalogue_services"], _CATALOGUE["catalogue_secrets"]
GOOD: dict[str, Any] = {
    "lakehouse_target": "eks",
    "lakehouse_environment": "development",
    "lakehouse_aws_region": "eu-central-1",
}


def settings(**given: Any) -> dict[str, Any]:
    found, problems = check({**GOOD, **given})
    assert problems == []
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return a home without AWS configuration."""
    return {"HOME": str(tmp_path)}


def _configure(environment: dict[str, str], name: str, text: str) -> None:
    folder = Path(environment["HOME"]) / ".aws"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, "utf-8")


def _credentials(environment: dict[str, str], *, on_ec2: bool = False, **given: Any) -> list[str]:
    profiles = aws_preflight.shared_profiles(environment)
    found = aws_preflight.credential_problems(settings(**given), environment, profiles, on_ec2=on_ec2)
    return [problem.variable for problem in found]


def test_a_controller_without_any_credentials_is_told_where_to_put_them(environment: dict[str, str]) -> None:
    profiles = aws_preflight.shared_profiles(environment)
    (problem,) = aws_preflight.credential_problems(settings(), environment, profiles, on_ec2=False)
    assert "no AWS credentials" in problem.message
    assert "AWS_ACCESS_KEY_ID" in problem.remedy


@pytest.mark.parametrize(
    "variable", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"]
)
def test_credentials_of_the_environment_are_enough(environment: dict[str, str], variable: str) -> None:
    assert _credentials({**environment, variable: "x"}) == []


def test_an_instance_has_the_credentials_of_its_role(environment: dict[str, str]) -> None:
    assert _credentials(environment, on_ec2=True) == []


def test_a_profile_that_says_nothing_but_its_region_has_no_credentials(environment: dict[str, str]) -> None:
    _configure(environment, "config", "[default]\nregion = eu-central-1\n")
    assert _credentials(environment) == ["lakehouse_aws_profile"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("credentials", "[default]\naws_access_key_id = x\naws_secret_access_key = y\n"),
        ("config", "[default]\nsso_session = company\n"),
        ("config", "[default]\ncredential_process = /usr/local/bin/credentials\n"),
    ],
)
def test_the_default_profile_may_have_them_in_any_way(environment: dict[str, str], file: str, text: str) -> None:
    _configure(environment, file, text)
    assert _credentials(environment) == []


def test_the_profile_of_the_environment_counts(environment: dict[str, str]) -> None:
    _configure(environment, "config", "[profile work]\nsso_session = company\nregion = eu-west-1\n")
    working = {**environment, "AWS_PROFILE": "work"}
    assert _credentials(working) == []
    profiles = aws_preflight.shared_profiles(working)
    assert aws_preflight.region_problems(settings(lakehouse_aws_region=""), working, profiles) == []


def test_a_profile_that_does_not_exist_is_refused_with_the_ones_that_do(environment: dict[str, str]) -> None:
    _configure(environment, "config", "[profile work]\nregion = eu-west-1\n[profile home]\nregion = eu-west-1\n")
    profiles = aws_preflight.shared_profiles(environment)
    (problem,) = aws_preflight.profile_problems(settings(lakehouse_aws_profile="wrok"), profiles)
    assert problem.remedy == "name one of: home, work"


SSO = """\
[profile work]
sso_session = company
region = eu-west-1
[profile legacy]
sso_start_url = https://company.awsapps.example/start
[profile release]
role_arn = arn:aws:iam::111122223333:role/release
source_profile = work
[profile circle]
source_profile = circle
[sso-session company]
sso_start_url = https://company.awsapps.example/start
"""
NOW = dt.datetime(2026, 11, 30, tzinfo=dt.UTC)
LATER, EARLIER = "2026-11-30T08:00:00Z", "2026-11-29T08:00:00UTC"
REGISTERED = {"refreshToken": "r", "clientId": "c", "clientSecret": "s", "registrationExpiresAt": LATER}


def _log_in(environment: dict[str, str], source: str, token: str) -> None:
    folder = Path(environment["HOME"]) / ".aws" / "sso" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    (folder / f"{name}.json").write_text(token, "utf-8")


def _sessions(environment: dict[str, str], profile: str = "work") -> list[str]:
    profiles = aws_preflight.shared_profiles(environment)
    chosen = settings(lakehouse_aws_profile=profile)
    return [problem.remedy for problem in aws_preflight.session_problems(chosen, environment, profiles, NOW)]


def test_a_session_of_sso_is_no_profile(environment: dict[str, str]) -> None:
    _configure(environment, "config", SSO)
    assert set(aws_preflight.shared_profiles(environment)) == {"work", "legacy", "release", "circle"}


@pytest.mark.parametrize(
    ("profile", "asked"),
    [
        ("work", ["run aws sso login --profile work"]),
        ("legacy", ["run aws sso login --profile legacy"]),
        ("release", ["run aws sso login --profile work"]),
        ("circle", []),
        ("missing", []),
    ],
)
def test_a_login_is_asked_for_where_the_profile_or_its_source_is_one_of_sso(
    environment: dict[str, str], profile: str, asked: list[str]
) -> None:
    _configure(environment, "config", SSO)
    assert _sessions(environment, profile) == asked


@pytest.mark.parametrize(
    ("token", "good"),
    [
        ("no JSON", False),
        ("[]", False),
        (json.dumps({"expiresAt": LATER}), False),
        (json.dumps({"accessToken": "t", "expiresAt": EARLIER}), False),
        (json.dumps({"accessToken": "t", "expiresAt": "soon"}), False),
        (json.dumps({"accessToken": "t", "expiresAt": EARLIER, **REGISTERED, "registrationExpiresAt": EARLIER}), False),
        (json.dumps({"accessToken": "t", "expiresAt": LATER}), True),
        (json.dumps({"accessToken": "t", "expiresAt": EARLIER, **REGISTERED}), True),
    ],
)
def test_a_token_counts_until_it_expires_or_cannot_be_renewed(
    environment: dict[str, str], token: str, good: bool
) -> None:
    _configure(environment, "config", SSO)
    _log_in(environment, "company", token)
    assert (_sessions(environment) == []) is good


def test_a_profile_without_a_session_is_never_renewed(environment: dict[str, str]) -> None:
    _configure(environment, "config", SSO)
    _log_in(
        environment,
        "https://company.awsapps.example/start",
        json.dumps({"accessToken": "t", "expiresAt": EARLIER, **REGISTERED}),
    )
    assert _sessions(environment, "legacy") == ["run aws sso login --profile legacy"]


def test_credentials_of_the_environment_come_before_a_profile_that_it_names(environment: dict[str, str]) -> None:
    _configure(environment, "config", SSO)
    named = {**environment, "AWS_PROFILE": "work"}
    assert _sessions(named, "") == ["run aws sso login --profile work"]
    assert _sessions({**named, "AWS_ACCESS_KEY_ID": "x"}, "") == []
    assert _sessions({**named, "AWS_ACCESS_KEY_ID": "x"}, "work") == ["run aws sso login --profile work"]


@pytest.mark.parametrize("name", ["lakehouse_aws_external_id", "lakehouse_aws_session_name"])
def test_what_is_said_of_a_role_needs_the_role(name: str) -> None:
    (problem,) = aws_preflight.role_problems(settings(**{name: "release-4711"}))
    assert (problem.variable, problem.message) == (name, "is set but `lakehouse_aws_assume_role_arn` is not")
    role = {"lakehouse_aws_assume_role_arn": "arn:aws:iam::111122223333:role/deployer"}
    assert aws_preflight.role_problems(settings(**role, **{name: "release-4711"})) == []


def test_a_group_does_not_begin_with_more_nodes_than_it_may_have() -> None:
    (problem,) = aws_preflight.node_problems(settings(lakehouse_node_count=12))
    assert problem.message == "12 is more than lakehouse_node_max, 10"
    assert aws_preflight.node_problems(settings(lakehouse_node_count=12, lakehouse_node_max=12)) == []


def test_a_configuration_that_cannot_be_read_says_nothing(environment: dict[str, str]) -> None:
    _configure(environment, "config", "no section\n")
    assert aws_preflight.shared_profiles(environment) == {}


def test_a_region_is_asked_for_where_nothing_names_one(environment: dict[str, str]) -> None:
    (problem,) = aws_preflight.region_problems(settings(lakehouse_aws_region=""), environment, {})
    assert problem.variable == "lakehouse_aws_region"
    named = {**environment, "AWS_DEFAULT_REGION": "eu-west-1"}
    assert aws_preflight.region_problems(settings(lakehouse_aws_region=""), named, {}) == []


def test_a_secret_that_nothing_reads_is_refused_and_its_value_not_told() -> None:
    given = {"api_keys": "x" * 20, "api_keyz": "hunter2"}
    (problem,) = aws_preflight.secret_problems(settings(lakehouse_secrets=given), {})
    assert "'api_keyz'" in problem.message
    assert problem.remedy == "did you mean 'api_keys'?"
    assert "hunter2" not in str(problem)


def test_a_secret_of_the_services_is_known() -> None:
    known = {"api_token": {"purpose": "Opens the API.", "kind": "token"}}
    given = settings(
        lakehouse_secrets={"api_token": "x" * 20, "licence_key": "y" * 20},
        lakehouse_services={"quotes": {"secrets": ["licence_key"]}},
    )
    assert aws_preflight.secret_problems(given, known) == []


def test_the_secrets_of_the_foundation_are_those_that_its_role_takes() -> None:
    specs = yaml.safe_load((ROLES / "aws_foundation/meta/argument_specs.yml").read_text(encoding="utf-8"))
    described = specs["argument_specs"]["describe"]["options"]["aws_foundation_given_secrets"]
    assert sorted(described["choices"]) == sorted(secret.name for secret in aws_preflight.SECRETS)


def _hints(verb: str = "deploy", source: str | None = "192.168.1.5", **given: Any) -> list[str]:
    return aws_preflight.hints(verb, settings(**given), lambda _destination: source)


def test_a_controller_outside_of_the_vpc_is_told_how_to_reach_a_private_cluster() -> None:
    (hint,) = _hints()
    assert "lakehouse_eks_public_access_cidrs" in hint
    assert "10.0.0.0/16" in hint


@pytest.mark.parametrize(
    "words",
    [
        {"source": "10.0.10.7"},
        {"lakehouse_eks_public_access_cidrs": ["203.0.113.5/32"]},
        {"verb": "drift"},
    ],
)
def test_nothing_is_said_where_the_cluster_is_reached_or_not_needed(words: dict[str, Any]) -> None:
    assert _hints(**words) == []


def test_a_machine_without_any_route_is_outside() -> None:
    assert len(_hints(source=None)) == 1


def _reach(verb: str = "deploy", source: str | None = "192.168.1.5", **given: Any) -> list[str]:
    environment = given.pop("environment", {})
    found = aws_preflight.reach_problems(verb, settings(**given), environment, lambda _destination: source)
    return [problem.variable for problem in found]


def test_services_are_not_deployed_where_the_cluster_could_not_be_reached() -> None:
    (problem,) = aws_preflight.reach_problems("deploy", settings(), {}, lambda _destination: "192.168.1.5")
    assert problem.variable == "lakehouse_eks_public_access_cidrs"
    assert "not inside of its VPC (10.0.0.0/16)" in problem.message
    assert "-t aws" in problem.remedy


@pytest.mark.parametrize(
    "words",
    [
        {"source": "10.0.10.7"},
        {"lakehouse_eks_public_access_cidrs": ["203.0.113.5/32"]},
        {"lakehouse_aws_private_access_cidrs": ["192.168.0.0/16"]},
        {"lakehouse_kubeconfig": "/home/me/.kube/config"},
        {"lakehouse_proxy_env": {"HTTPS_PROXY": "http://proxy.example:3128"}},
        {"lakehouse_aws_endpoint_url": "http://127.0.0.1:5055"},
        {"environment": {"AWS_ENDPOINT_URL_EKS": "http://127.0.0.1:5055"}},
        {"verb": "destroy"},
        {"verb": "plan"},
    ],
)
def test_a_way_to_the_cluster_is_taken_for_one(words: dict[str, Any]) -> None:
    assert _reach(**words) == []


def test_what_the_services_need_on_this_machine_is_missed_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(aws_preflight, "COLLECTIONS", ("nobody.nothing", "crypto_lakehouse.platform"))
    found = aws_preflight.program_problems("deploy", settings())
    assert [problem.message for problem in found] == [
        "the collection nobody.nothing is missing",
        "helm is not on the controller's search path",
    ]
    assert aws_preflight.program_problems("destroy", settings()) == []


def test_a_helm_that_works_is_no_problem(tmp_path: Path) -> None:
    program = tmp_path / "helm"
    program.write_text("#!/bin/sh\necho v3.16.2+g13654a5\n")
    program.chmod(0o755)
    given = settings(lakehouse_helm_binary=str(program))
    assert [problem for problem in aws_preflight.program_problems("deploy", given) if "helm" in problem.message] == []


class Account(Session):
    """An account of two zones whose calls fail as scripted by a test."""

    def __init__(self, failing: Mapping[str, CallError] | None = None, in_use: Sequence[str] = ()) -> None:
        super().__init__(Connection(region="us-west-1"))
        self.failing, self.in_use = failing or {}, in_use

    @property
    def region(self) -> str:
        return "us-west-1"

    def call(self, service: str, operation: str, *, retry_on: Sequence[str] = (), **parameters: Any) -> dict[str, Any]:
        if operation in self.failing:
            raise self.failing[operation]
        if operation == "get_caller_identity":
            return {"Account": "111122223333", "Arn": "arn:aws:iam::111122223333:user/me"}
        zones = [{"ZoneName": f"us-west-1{letter}", "ZoneId": f"usw1-az{letter}"} for letter in "ac"]
        return {"AvailabilityZones": zones}

    def pages(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any]:
        assert parameters["Filters"] == [{"Name": "tag:lakehouse:stack", "Values": ["crypto-lakehouse/development"]}]
        return [{"AvailabilityZone": zone} for zone in self.in_use]


def test_what_aws_has_against_a_run_is_told_together() -> None:
    given = settings(lakehouse_aws_account_id="999988887777", lakehouse_aws_zones=3)
    account, zones = aws_preflight.account_problems(given, Account())
    assert str(account) == (
        "lakehouse_aws_account_id: the credentials are those of account 111122223333"
        " (arn:aws:iam::111122223333:user/me), not of 999988887777. Remedy: use other credentials, or correct it."
    )
    assert str(zones) == (
        "lakehouse_aws_zones: us-west-1 has 2 availability zones that EKS supports, not 3."
        " Remedy: set it to 2, or use another region."
    )
    listed = settings(lakehouse_aws_zones=["us-west-1a", "us-west-1b"])
    (problem,) = aws_preflight.account_problems(listed, Account())
    assert (problem.variable, problem.remedy) == ("lakehouse_aws_zones", "did you mean 'us-west-1c'?")
    assert aws_preflight.account_problems(settings(lakehouse_aws_zones=2), Account()) == []


def test_a_zone_of_existing_subnets_counts_whatever_aws_lists() -> None:
    account = Account(in_use=["us-west-1a", "us-west-1b"])
    for wanted in (3, ["us-west-1a", "us-west-1b"]):
        assert aws_preflight.account_problems(settings(lakehouse_aws_zones=wanted), account) == []


def test_a_refused_number_of_zones_is_not_compared_with_the_region() -> None:
    given = settings(lakehouse_aws_zones=6)
    assert aws_preflight.account_problems(given, Account(), {"lakehouse_aws_zones"}) == []
    (problem,) = aws_preflight.zone_problems(given, "us-west-1", ["us-west-1a"])
    assert (problem.message, problem.remedy) == (
        "us-west-1 has 1 availability zone that EKS supports, not 6",
        "use another region",
    )


@pytest.mark.parametrize(
    ("operation", "code", "variable", "remedy"),
    [
        ("get_caller_identity", "ExpiredToken", "lakehouse_aws_profile", "check the credentials"),
        ("get_caller_identity", "EndpointConnectionError", "lakehouse_aws_region", "check the region"),
        ("describe_availability_zones", "OptInRequired", "lakehouse_aws_region", "enable the region"),
        ("describe_availability_zones", "UnauthorizedOperation", "lakehouse_aws_region", "allow ec2:Describe"),
    ],
)
def test_why_aws_refuses_is_told_with_the_variable(operation: str, code: str, variable: str, remedy: str) -> None:
    error = CallError("ec2:Describe", code, "no")
    (problem,) = aws_preflight.account_problems(settings(), Account({operation: error}))
    assert (problem.variable, problem.message) == (variable, f"ec2:Describe: {code}: no")
    assert problem.remedy.startswith(remedy)


def test_what_the_roles_are_given_on_aws_holds_no_secret_and_no_plan() -> None:
    chosen = settings(lakehouse_secrets={"api_keys": "hunter2"}, lakehouse_plan={"format": 1, "nodes": ["hunter3"]})
    given = preflight.cloud_outcome(chosen)
    assert "hunter" not in str(given)
    assert given["connection"] == {"region": "eu-central-1"}


def test_an_account_is_asked_by_the_connection_that_the_roles_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(
        lakehouse_aws_assume_role_arn="arn:aws:iam::111122223333:role/deployer",
        lakehouse_aws_external_id="ours",
        lakehouse_aws_session_name="nightly",
        lakehouse_aws_account_id="111122223333",
    )
    asked: list[Connection] = []
    monkeypatch.setattr(
        aws_preflight, "account_problems", lambda _settings, session, _refused: asked.append(session.connection)
    )
    preflight.account_problems(chosen, [])

    given = preflight.cloud_outcome(chosen)["connection"]
    assert {word: getattr(asked[0], word) for word in given if word != "account_id"} == {
        "region": "eu-central-1",
        "assume_role_arn": "arn:aws:iam::111122223333:role/deployer",
        "external_id": "ours",
        "role_session_name": "nightly",
    }


@pytest.mark.parametrize("variable", ["lakehouse_aws_external_id", "lakehouse_ca_bundle", "lakehouse_aws_region"])
def test_an_account_is_not_asked_where_its_connection_is_wrong(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(aws_preflight, "account_problems", lambda *given: asked.append(given))
    preflight.account_problems(settings(), [Problem(variable, "is wrong", "correct it")])
    assert asked == []
    preflight.account_problems(settings(), [Problem("lakehouse_node_count", "is wrong", "correct it")])
    assert len(asked) == 1


def test_connections_name_what_is_set_and_nothing_else() -> None:
    chosen = settings(
        lakehouse_aws_profile="work", lakehouse_aws_account_id="111122223333", lakehouse_ca_bundle="/etc/ca"
    )
    given = preflight.cloud_outcome(chosen)["connection"]
    assert given == {
        "region": "eu-central-1",
        "profile": "work",
        "account_id": "111122223333",
        "ca_bundle": "/etc/ca",
    }


@pytest.mark.parametrize(
    ("verb", "given", "refused"),
    [
        ("deploy", {"lakehouse_aws_database": True}, True),
        ("upgrade", {"lakehouse_aws_database": True}, True),
        ("deploy", {}, False),
        ("destroy", {"lakehouse_aws_database": True}, False),
        ("deploy", {"lakehouse_aws_database": True, "lakehouse_database_ca_bundle": "/etc/rds.pem"}, False),
    ],
)
def test_no_database_is_made_whose_certificate_nobody_could_verify(
    verb: str, given: dict[str, Any], refused: bool
) -> None:
    found = aws_preflight.database_problems(verb, settings(**given))
    assert [problem.variable for problem in found] == ["lakehouse_database_ca_bundle"] * refused
    assert all("global-bundle.pem" in problem.remedy for problem in found)


@pytest.mark.parametrize(
    ("given", "place", "remedy"),
    [
        (
            {"lakehouse_services": {"extra": {"image": "x/y:1", "ports": {"http": 9191}}}},
            "lakehouse_services.extra.ports.http",
            "write it as `key: value` lines",
        ),
        ({"lakehouse_services": {"api": {"prots": {}}}}, "lakehouse_services.api.prots", "write ports"),
        (
            {"lakehouse_domain": "example.org", "lakehouse_ingress_services": ["apii"]},
            "lakehouse_ingress_services",
            "write api",
        ),
    ],
)
def test_services_that_the_load_balancer_could_not_reach_are_refused_before_aws_is_asked(
    given: dict[str, Any], place: str, remedy: str
) -> None:
    _services, problems = exposable_services(*DESCRIPTION, settings(**given))
    assert [(problem.variable, problem.remedy) for problem in problems] == [(place, remedy)]


def test_an_added_service_is_reached_on_its_own_port() -> None:
    extra = {"purpose": "A notebook.", "image": "x/y:1", "ports": {"http": {"port": 9191}}}
    given = settings(
        lakehouse_domain="example.org",
        lakehouse_ingress_services=["api", "extra"],
        lakehouse_services={"extra": {**extra, "command": ["/bin/x"], "health": {"type": "http", "port": "http"}}},
    )
    services, problems = exposable_services(*DESCRIPTION, given)
    assert problems == []
    assert 9191 in ingress_ports(given, services)
