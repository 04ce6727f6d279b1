# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions of the preflight, without Ansible and the machine."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleError, AnsibleUndefinedVariable

from ansible_collections.crypto_lakehouse.platform.plugins.action import preflight
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory import variables as inventory
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.version import COLLECTION_VERSION

HOME = "/srv/lakehouse"
MAJOR = int(COLLECTION_VERSION.partition(".")[0])
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here
EVERY_VERB = ("deploy", "plan", "drift", "upgrade", "health", "verify", "destroy")


def facts(**words: Any) -> dict[str, Any]:
    """Return the facts of the machine."""
    there = {"home": HOME, "user": "lakehouse", "uid": 0, "home_missing": True, "user_missing": True, "user_home": ""}
    return {**there, "marker": None, "software": {}, "obtainable": {}, **words}


def settings(**words: Any) -> dict[str, Any]:
    """Return the variables of an inventory."""
    return {**inventory.check({})[0], **words}


@pytest.mark.parametrize("verb", ["drift", "upgrade", "health", "verify"])
def test_a_verb_that_needs_a_lakehouse_is_refused_where_there_is_none(verb: str) -> None:
    (problem,) = preflight.version_problems(verb, facts())
    assert problem == Problem("lakehouse_home", f"{HOME} holds no lakehouse", "run playbooks/deploy.yml first")


@pytest.mark.parametrize("verb", ["deploy", "plan", "destroy"])
def test_a_verb_that_begins_or_ends_a_lakehouse_needs_none(verb: str) -> None:
    assert preflight.version_problems(verb, facts()) == []


@pytest.mark.parametrize("verb", EVERY_VERB)
@pytest.mark.parametrize("version", [f"{MAJOR}.999.0", f"{MAJOR + 1}.0.0"])
def test_no_verb_touches_what_a_newer_version_deployed(verb: str, version: str) -> None:
    (problem,) = preflight.version_problems(verb, facts(marker={"version": version}))
    assert f"version {version}, which is newer" in problem.message


@pytest.mark.parametrize("verb", ["deploy", "plan", "drift"])
def test_a_deployment_of_an_older_version_is_sent_to_the_upgrade(verb: str) -> None:
    (problem,) = preflight.version_problems(verb, facts(marker={"version": f"{MAJOR - 1}.9.9"}))
    assert problem.remedy == "run playbooks/upgrade.yml"


@pytest.mark.parametrize("verb", ["upgrade", "health", "verify", "destroy"])
def test_an_older_version_can_be_upgraded_looked_at_and_destroyed(verb: str) -> None:
    assert preflight.version_problems(verb, facts(marker={"version": f"{MAJOR - 1}.9.9"})) == []


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_every_verb_works_on_its_own_version(verb: str) -> None:
    assert preflight.version_problems(verb, facts(marker={"version": COLLECTION_VERSION})) == []


@pytest.mark.parametrize("marker", [None, {}, {"software": "gone"}, {"software": 5}])
def test_without_software_that_was_deployed_and_is_there_the_described_one_counts(marker: Any) -> None:
    assert preflight.running_digest(facts(marker=marker, software={"other": {}}), "described") == "described"


def test_the_software_that_was_deployed_last_is_the_one_that_runs() -> None:
    found = facts(marker={"software": "old"}, software={"old": {}, "described": {}})
    assert preflight.running_digest(found, "described") == "old"


@pytest.mark.parametrize(
    ("version", "software", "is_replaced"),
    [(COLLECTION_VERSION, "new", False), (COLLECTION_VERSION, "old", True), (f"{MAJOR}.0.0-before", "new", True)],
)
def test_an_upgrade_knows_what_is_installed_until_it_replaces_it(
    version: str, software: str, is_replaced: bool
) -> None:
    found = facts(marker={"version": version, "software": software}, software={"old": {}, "new": {}})
    told = preflight.installed(found, "new", lambda there: [{"name": "backup-run", "command": [there["software"]]}])
    path = f"{HOME}/software/{software}"
    jobs = [{"name": "backup-run", "command": [path]}] if is_replaced else []
    assert told == {"software": path, "jobs": jobs, "is_replaced": is_replaced}


@pytest.mark.parametrize(
    ("software", "obtainable", "left_out"),
    [
        ({}, {}, True),
        ({}, {"grafana": False}, True),
        ({}, {"grafana": True}, False),
        ({"d": {"prometheus": "2"}}, {"grafana": True}, True),
        ({"d": {"grafana": "11"}}, {}, False),
    ],
)
def test_grafana_is_left_out_where_it_is_neither_installed_nor_to_be_had(
    software: dict[str, Any], obtainable: dict[str, bool], left_out: bool
) -> None:
    placed = preflight.place(facts(software=software, obtainable=obtainable), "d")
    assert ("grafana" in placed["unavailable"]) == left_out
    assert placed["software"] == f"{HOME}/software/d"


def _told(*variables: str) -> list[dict[str, str]]:
    return [{"variable": variable, "message": "m", "remedy": "r"} for variable in variables]


def _named(problems: list[Problem]) -> list[str]:
    return [problem.variable for problem in problems]


EVERYTHING = _told("lakehouse_home", "lakehouse_environment", "lakehouse_port_offset", "lakehouse_min_memory_mib")


def test_a_verb_that_changes_is_stopped_by_everything() -> None:
    assert len(preflight.machine_problems("deploy", EVERYTHING, [])) == len(EVERYTHING)


@pytest.mark.parametrize("verb", ["health", "verify", "destroy"])
def test_a_verb_that_looks_is_stopped_by_the_folder_alone(verb: str) -> None:
    found = preflight.machine_problems(verb, EVERYTHING, [])
    assert _named(found) == ["lakehouse_home", "lakehouse_environment"]


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ("lakehouse_home", ["lakehouse_port_offset", "lakehouse_min_memory_mib"]),
        ("lakehouse_port_offset", ["lakehouse_home", "lakehouse_environment", "lakehouse_min_memory_mib"]),
        ("lakehouse_market_api_url", [problem["variable"] for problem in EVERYTHING]),
    ],
)
def test_what_follows_from_the_default_of_a_refused_variable_is_not_reported(refused: str, left: list[str]) -> None:
    assert _named(preflight.machine_problems("deploy", EVERYTHING, [Problem(refused, "m", "r")])) == left


def test_addresses_are_those_that_a_client_on_the_machine_uses() -> None:
    ports = [
        {"service": "api", "name": "http", "address": EVERYWHERE, "port": 8080},
        {"service": "object-store", "name": "s3", "address": "10.0.0.5", "port": 8333},
        {"service": "object-store", "name": "master", "address": "127.0.0.1", "port": 9333},
    ]
    assert preflight.addresses(ports) == {"api": "http://127.0.0.1:8080", "object-store": "http://10.0.0.5:8333"}


def test_clients_are_given_nothing_that_the_inventory_does_not_say() -> None:
    assert preflight.client_environment(settings(), {"127.0.0.1"}) == {}


def test_a_proxy_is_never_asked_for_the_platforms_own_addresses() -> None:
    found = preflight.client_environment(
        settings(lakehouse_proxy_env={"https_proxy": "http://proxy:3128", "NO_PROXY": "intranet"}), {"10.0.0.5"}
    )
    assert found["HTTPS_PROXY"] == found["https_proxy"] == "http://proxy:3128"
    assert {"intranet", "localhost", "127.0.0.1", "10.0.0.5"} <= set(found["no_proxy"].split(","))


def test_every_client_trusts_the_certificates_that_are_given() -> None:
    found = preflight.client_environment(settings(lakehouse_ca_bundle="/etc/ca.pem"), set())
    assert found == dict.fromkeys(
        ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"), "/etc/ca.pem"
    )


def test_the_reason_of_a_failed_expression_is_told() -> None:
    problem = preflight.expression_problem("lakehouse_home", AnsibleError("no such lookup"))
    assert problem.message == "its expression fails: no such lookup"


def test_the_reason_why_an_expression_of_secrets_fails_is_not_told_since_filters_quote_their_input() -> None:
    problem = preflight.expression_problem("lakehouse_secrets", AnsibleError("mapping values: hunter2"))
    assert "hunter2" not in str(problem)
    assert problem.variable == "lakehouse_secrets"


def test_an_entry_of_secrets_whose_expression_fails_is_named() -> None:
    problem = preflight.expression_problem(
        "lakehouse_secrets", AnsibleUndefinedVariable("'x' is undefined"), "api_token"
    )
    assert problem.message == "the expression of 'api_token' fails: 'x' is undefined"


def test_the_name_of_an_undefined_variable_of_secrets_is_told() -> None:
    problem = preflight.expression_problem("lakehouse_secrets", AnsibleUndefinedVariable("'vault_token' is undefined"))
    assert "'vault_token' is undefined" in problem.message


def test_what_the_roles_are_given_holds_no_secret() -> None:
    chosen = settings(
        lakehouse_secrets={"api_token": "hunter2hunter2"}, lakehouse_target="host", lakehouse_environment="development"
    )
    given = preflight.outcome(chosen, facts(), {"ports": [], "programs": []})
    assert "hunter2" not in str(given)
    assert json.loads(given["inventory"]) == {"lakehouse_target": "host", "lakehouse_environment": "development"}
    assert given["become"] is True
    assert (given["deployed"], given["deployed_version"]) == (False, None)


@pytest.mark.parametrize(
    ("there", "made_home", "made_user"),
    [
        ({}, True, True),
        ({"home_missing": False}, False, True),
        ({"user_missing": False}, True, False),
        ({"home_missing": False, "user_missing": False}, False, False),
        # An interrupted run created both before it recorded them.
        ({"home_missing": False, "user_missing": False, "user_home": HOME}, True, True),
        # An unprivileged user may deploy into the user's own home.
        ({"uid": 1000, "home_missing": False, "user_missing": False, "user_home": HOME}, False, False),
        # The record of the first deployment about the folder is decisive.
        (
            {"home_missing": False, "user_missing": False, "user_home": HOME, "marker": {"made_home": False}},
            False,
            True,
        ),
    ],
)
def test_only_what_was_made_for_the_lakehouse_counts_as_made(
    there: dict[str, Any], made_home: bool, made_user: bool
) -> None:
    chosen = settings(lakehouse_target="host", lakehouse_environment="development")
    given = preflight.outcome(chosen, facts(**there), {"ports": []})
    assert (given["marker"]["made_home"], given["marker"]["made_user"]) == (made_home, made_user)


def test_a_controller_without_the_package_installer_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "installer", lambda: None)
    (problem,) = preflight.installer_problems(facts(architecture="x86_64"))
    assert problem.remedy == "install it beside Ansible: pip install uv"


def test_a_machine_of_another_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "installer", lambda: "/usr/bin/uv")
    monkeypatch.setattr(preflight, "platform", SimpleNamespace(machine=lambda: "x86_64"))
    (problem,) = preflight.installer_problems(facts(architecture="aarch64"))
    assert problem.variable == "inventory_hostname"
    assert preflight.installer_problems(facts(architecture="x86_64")) == []
