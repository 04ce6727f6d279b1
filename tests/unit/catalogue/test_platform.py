# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's own description, rendered for a host in every environment."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import ENVIRONMENTS
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.version import COLLECTION_VERSION
from tests.unit.catalogue.descriptions import HOME, PLACES, ROLE, platform

PLATFORM = platform()
MARKER = re.compile(r"\$\{secret_value\.([a-z0-9_]+)(\|json)?\}")


def rendered(environment: str = "development", overrides: Any = None, **places: Any) -> dict[str, Any]:
    settings = {**PLATFORM["catalogue_settings"], **PLACES, **places}
    services, secrets = PLATFORM["catalogue_services"], PLATFORM["catalogue_secrets"]
    return render(services, secrets, "host", environment, overrides, settings, str(ROLE))


def contents(result: dict[str, Any]) -> dict[str, str]:
    return {file["path"].removeprefix(f"{HOME}/etc/"): file["content"] for file in result["files"]}


def with_values(text: str) -> str:
    """Return a text as the machine completes it; the value of each secret is its name."""
    return MARKER.sub(lambda match: json.dumps(match[1]) if match[2] else match[1], text)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_it_renders_with_every_service_that_the_platform_has(environment: str) -> None:
    result = rendered(environment)
    assert {program["name"] for program in result["programs"]} == {
        *("alertmanager", "api", "backup", "database", "grafana", "node-exporter"),
        *("object-store", "orchestrator", "prometheus", "worker"),
    }
    assert [job["name"] for job in result["jobs"]] == ["backup-run", "bootstrap", "restore", "verify"]
    assert result["omitted"] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_structured_file_can_be_read(environment: str) -> None:
    for path, content in contents(rendered(environment)).items():
        if path.endswith(".json"):
            json.loads(with_values(content))
        elif path.endswith(".yml"):
            yaml.safe_load(with_values(content))


def test_every_service_but_the_passive_ones_has_a_health_check() -> None:
    result = rendered()
    services = {
        name
        for name, words in PLATFORM["catalogue_services"].items()
        if words.get("kind") != "job" and "host" in words.get("only_on", ["host"])
    }
    assert {check["service"] for check in result["health"]} == services


def test_nothing_listens_beyond_loopback() -> None:
    assert {port["address"] for port in rendered(bind_address="192.0.2.7")["ports"]} == {"127.0.0.1"}


def test_every_web_page_asks_for_a_password() -> None:
    pages = [
        (name, port)
        for name, words in PLATFORM["catalogue_services"].items()
        for port in words.get("ports", {}).values()
        if port.get("web_page")
    ]
    assert {name for name, _port in pages} == {"alertmanager", "grafana", "orchestrator", "prometheus"}
    assert all(port["authenticated"] for _name, port in pages)


def test_no_secret_stands_in_a_command_or_in_the_supervisor_s_files() -> None:
    result = rendered()
    for program in [*result["programs"], *result["jobs"], *result["initialise"]]:
        assert not any("secret_value" in argument for argument in program["command"])
    for path, content in contents(result).items():
        if path.startswith("supervisor/"):
            assert "secret_value" not in content


def test_what_is_made_once_on_a_host_is_told_by_its_data_and_by_nothing_that_goes_with_a_restart() -> None:
    result = rendered()
    kept = {step["service"]: step["creates"] for step in result["initialise"]}
    assert kept["database"].endswith("/data/database/data/cluster/PG_VERSION")
    assert not any("/run/" in creates for creates in kept.values())


def test_each_process_gets_the_object_store_keys_of_its_own_role_only() -> None:
    result = rendered()
    holders = {
        secret["name"]: secret["services"]
        for secret in result["secrets"]
        if re.fullmatch(r"object_store_[a-z]+_(access|secret)_key", secret["name"])
    }
    expected = {
        "admin": ["bootstrap"],
        "pipeline": ["worker"],
        "query": ["api"],
        "verify": ["verify"],
        "backup": ["backup", "backup-run"],
        "restore": ["restore"],
    }
    for role, processes in expected.items():
        for kind in ("access", "secret"):
            assert sorted(holders[f"object_store_{role}_{kind}_key"]) == sorted([*processes, "object-store"])


def test_the_destination_s_credentials_are_given_to_backup_and_restore_alone() -> None:
    elsewhere = rendered(backup_endpoint_url="https://s3.example.org")
    holders = {secret["name"]: secret["services"] for secret in elsewhere["secrets"]}
    for kind in ("access", "secret"):
        assert holders[f"backup_create_{kind}_key"] == ["backup", "backup-run"]
        assert holders[f"backup_restore_{kind}_key"] == ["restore"]
    assert not any("backup-create" in identity["name"] for identity in identities(elsewhere))


def test_what_creates_backups_in_the_own_store_cannot_delete_them() -> None:
    config = json.loads(with_values(contents(rendered())["object-store/s3.json"]))
    policies = {policy["name"]: json.loads(policy["content"]) for policy in config["policies"]}
    attached = {identity["name"]: identity for identity in config["identities"] if "policyNames" in identity}
    assert set(attached) == set(policies) == {"backup-create", "backup-restore"}
    for name, policy in policies.items():
        statement, *more = policy["Statement"]
        assert attached[name]["actions"] == []
        assert buckets_of(statement) == {"crypto-lakehouse-backups-development"}
        changes = {action for action in statement["Action"] if not action.startswith(("s3:Get", "s3:List"))}
        assert changes <= {"s3:PutObject", "s3:PutObjectRetention", "s3:AbortMultipartUpload"}
        assert ("s3:PutObject" in statement["Action"]) == (name == "backup-create")
        # The store copies for one identity, which reads the copied objects.
        assert [each["Action"] for each in more] == [["s3:GetObject", "s3:GetObjectVersion"]] * (
            name == "backup-create"
        )
        assert not any("backup" in bucket for each in more for bucket in buckets_of(each))


def buckets_of(statement: dict[str, Any]) -> set[str]:
    """Return the buckets of a policy statement."""
    return {resource.removeprefix("arn:aws:s3:::").partition("/")[0] for resource in statement["Resource"]}


def identities(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the identities in the configuration of the object store."""
    found: list[dict[str, Any]] = json.loads(with_values(contents(result)["object-store/s3.json"]))["identities"]
    return found


def test_identities_of_the_object_store_have_least_rights() -> None:
    rights = {identity["name"]: set(identity["actions"]) for identity in identities(rendered())}
    state = {f"{action}:crypto-lakehouse-backup-state-development" for action in ("Read", "Write", "List")}
    tiers = [
        f"crypto-lakehouse-{tier}{kind}-development"
        for tier in ("bronze", "silver", "gold")
        for kind in ("", "-tables")
    ]
    reads = ("Read", "List")
    assert rights["query"] == {f"{action}:{bucket}" for bucket in tiers if "gold" in bucket for action in reads}
    assert rights["verify"] == {f"{action}:{bucket}" for bucket in tiers for action in reads}
    assert rights["pipeline"] == {f"{action}:{bucket}" for bucket in tiers for action in (*reads, "Write", "Tagging")}
    assert rights["backup"] == {f"{action}:{bucket}" for bucket in tiers for action in reads} | state
    assert rights["restore"] == {f"{action}:{bucket}" for bucket in tiers for action in (*reads, "Write")} | state
    assert "Admin" in rights["admin"]


def test_a_store_without_backups_has_no_identity_for_them() -> None:
    off: dict[str, Any] = {"backup": {"enabled": False}}
    names = {identity["name"] for identity in identities(rendered(overrides=off))}
    assert names == {"admin", "pipeline", "query", "verify"}


def test_the_database_lets_nobody_in_without_a_password_but_the_service_user_on_the_socket() -> None:
    lines = contents(rendered(user="someone"))["database/pg_hba.conf"].splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    passwordless = [rule[:3] for rule in rules if rule[-1] not in ("scram-sha-256", "reject")]
    assert passwordless == [["local", "all", "postgres"]]
    assert rules[0] == ["local", "all", "postgres", "peer", "map=administrator"]
    assert ["host", "all", "postgres", "all", "reject"] in rules
    assert 'administrator  "someone"  postgres' in contents(rendered(user="someone"))["database/pg_ident.conf"]


@pytest.mark.parametrize("is_exposed", [False, True])
def test_only_backups_replicate_and_they_enter_the_database_postgres_alone(is_exposed: bool) -> None:
    overrides: dict[str, Any] = {"database": {"ports": {"postgresql": {"expose": True}}}} if is_exposed else {}
    lines = contents(rendered(overrides=overrides))["database/pg_hba.conf"].splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]
    assert [rule for rule in rules if rule[1] == "replication"] == [
        ["host", "replication", "backup", "127.0.0.1/32", "scram-sha-256"]
    ]
    of_backup = [rule[:2] + rule[3:] for rule in rules if rule[2] == "backup" and rule[1] != "replication"]
    assert of_backup == [
        ["host", "postgres", "127.0.0.1/32", "scram-sha-256"],
        ["local", "all", "reject"],
        ["host", "all", "all", "reject"],
    ]
    assert [rule[2] for rule in rules][-2:] == ["all", "all"], "the first rule that matches decides"


@pytest.mark.parametrize(("environment", "kept_mb"), [("development", 1280), ("staging", 5120), ("production", 25600)])
def test_a_slot_that_nobody_reads_leaves_most_of_the_database_s_volume_free(environment: str, kept_mb: int) -> None:
    lines = contents(rendered(environment))["database/postgresql.conf"].splitlines()
    described = dict(line.split(" = ") for line in lines if " = " in line)
    assert described["max_slot_wal_keep_size"] == f"{kept_mb}MB"
    assert described["wal_level"] == "replica"
    assert int(described["max_wal_senders"]) >= 4
    assert int(described["max_replication_slots"]) >= 2


def test_prometheus_scrapes_every_service_that_has_metrics_with_its_password() -> None:
    result = rendered()
    config = yaml.safe_load(contents(result)["prometheus/prometheus.yml"])
    scrapes = {scrape["job_name"]: scrape for scrape in config["scrape_configs"]}
    assert set(scrapes) == {entry["service"] for entry in result["metrics"]}
    for entry in result["metrics"]:
        scrape = scrapes[entry["service"]]
        (target,) = scrape["static_configs"][0]["targets"]
        assert f"http://{target}{scrape['metrics_path']}" == entry["url"]
        if entry["secret"]:
            assert scrape["basic_auth"]["password_file"] == f"{HOME}/secrets/prometheus/{entry['secret']}"
    (alerting,) = config["alerting"]["alertmanagers"]
    assert alerting["basic_auth"]["password_file"] == f"{HOME}/secrets/prometheus/alertmanager_password"


def test_prometheus_does_not_look_for_an_alertmanager_that_is_switched_off() -> None:
    off: dict[str, Any] = {"alertmanager": {"enabled": False}, "verify": {"enabled": False}}
    config = yaml.safe_load(contents(rendered(overrides=off))["prometheus/prometheus.yml"])
    assert "alerting" not in config
    assert "alertmanager" not in [scrape["job_name"] for scrape in config["scrape_configs"]]


def test_grafana_s_dashboards_are_rendered_where_grafana_cannot_be_had() -> None:
    result = rendered(unavailable={"grafana": "no package"})
    assert result["omitted"] == [{"service": "grafana", "reason": "no package"}]
    boards = [path for path in contents(result) if path.startswith("grafana/dashboards/")]
    assert boards == [
        f"grafana/dashboards/{name}.json" for name in ("backup", "cost", "lakehouse", "pipeline", "storage")
    ]


@pytest.mark.parametrize(("environment", "days"), [("development", 7), ("staging", 14), ("production", 30)])
def test_metrics_are_kept_as_long_as_the_environment_asks(environment: str, days: int) -> None:
    (prometheus,) = (program for program in rendered(environment)["programs"] if program["name"] == "prometheus")
    assert f"--storage.tsdb.retention.time={days}d" in prometheus["command"]


def test_memory_of_the_database_follows_its_limit() -> None:
    conf = contents(rendered(overrides={"database": {"resources": {"limits": {"memory": "8Gi"}}}}))
    assert "shared_buffers = 2048MB" in conf["database/postgresql.conf"]


def test_the_application_s_image_is_of_the_collection_s_version() -> None:
    images = {words.get("image") for words in PLATFORM["catalogue_services"].values()}
    assert f"docker.io/crypto-lakehouse/application:{COLLECTION_VERSION}" in images
    assert len([image for image in images if image and "crypto-lakehouse/" in image]) == 1


def test_every_secret_that_is_described_is_named_by_a_service() -> None:
    named = {name for words in PLATFORM["catalogue_services"].values() for name in words.get("secrets", [])}
    sources = {words.get("of") for words in PLATFORM["catalogue_secrets"].values()}
    scraped = {"node_exporter_password"}
    assert set(PLATFORM["catalogue_secrets"]) - named - sources - scraped == set()
