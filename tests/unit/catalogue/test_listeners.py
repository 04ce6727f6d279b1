# SPDX-License-Identifier: GPL-3.0-or-later
"""Every listener of the platform authenticates its callers, or lists its public paths with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import ENVIRONMENTS
from tests.unit.catalogue.clusters import PLATFORM, TARGETS, Entry, container, of_kind, platform_on, pods
from tests.unit.catalogue.descriptions import HOME, PLACES, ROLE

EVERYWHERE = [(target, environment) for target in ("host", *TARGETS) for environment in ENVIRONMENTS]
CLUSTERS = [(target, environment) for target, environment in EVERYWHERE if target != "host"]
AUTHORITY_KEY = "object_store_authority_key"
# Credentials of the object store's own processes, on each of their ports and as clients.
CERTIFIED = ("GRPC_MASTER", "GRPC_VOLUME", "GRPC_FILER", "GRPC_S3", "GRPC_CLIENT")
CERTIFIED_HTTPS = ("HTTPS_MASTER", "HTTPS_VOLUME", "HTTPS_FILER", "HTTPS_CLIENT")


def rendered(target: str, environment: str) -> Entry:
    if target != "host":
        return platform_on(target, environment)
    settings = {**PLATFORM["catalogue_settings"], **PLACES}
    described = PLATFORM["catalogue_services"], PLATFORM["catalogue_secrets"]
    return render(*described, "host", environment, {}, settings, str(ROLE))


def running(result: Entry) -> Iterator[tuple[str, str, Entry]]:
    """Yield service, name and description of every port of the enabled services."""
    left_out = {entry["service"] for entry in result["omitted"]}
    for name, service in result["services"].items():
        for port, words in service["ports"].items() if name not in left_out else ():
            yield name, port, words


@pytest.mark.parametrize(("target", "environment"), EVERYWHERE)
def test_a_port_asks_who_calls_or_says_what_it_answers_to_anyone(target: str, environment: str) -> None:
    ports = list(running(rendered(target, environment)))
    assert ports
    for service, name, words in ports:
        assert words["authenticated"] or words["open_paths"], f"{service}/{name}"
        for path, reason in words["open_paths"].items():
            assert len(reason.split()) >= 3, f"{service}/{name}{path} has no reason"


def test_open_paths_are_health_metrics_and_pages_of_sign_in() -> None:
    paths = {
        path for _service, _name, words in running(rendered("host", "development")) for path in words["open_paths"]
    }
    health = {"/api/health", "/api/ready", "/health", "/healthz", "/live", "/ready", "/status"}
    described = {"/openapi.json", "/v1/config"}
    sign_in = {"/login", "/public", "/robots.txt"}
    assert paths == health | {"/metrics"} | described | sign_in


@pytest.mark.parametrize(("target", "environment"), CLUSTERS)
def test_a_pod_listens_where_the_catalogue_says_and_its_network_is_closed(target: str, environment: str) -> None:
    result = platform_on(target, environment)
    numbers = {words["port"]: words for _service, _name, words in running(result)}
    policies = of_kind(result, "NetworkPolicy")
    assert policies["default-deny"]["spec"]["podSelector"] == {}
    for name in pods(result):
        spec = container(result, name)
        assert {port["containerPort"] for port in spec.get("ports", [])} <= numbers.keys()
        assert not [word for word in spec["command"] if "debug" in word or "pprof" in word]
        for rule in policies[name]["spec"].get("ingress", []):
            # A rule without peers allows every source.
            assert rule["from"], name
            assert rule["ports"], name
            assert not [port for port in rule["ports"] if numbers[port["port"]]["internal"]], name


@pytest.mark.parametrize("target", ["host", "k3s", "gke"])
def test_every_part_of_the_object_store_shows_its_certificate_and_asks_for_one(target: str) -> None:
    result = rendered(target, "development")
    given = result["services"]["object-store"]["environment"]
    for part in (*CERTIFIED, *CERTIFIED_HTTPS):
        assert given[f"WEED_{part}_CERT"] == "${secret.object_store_certificate}"
        assert given[f"WEED_{part}_KEY"] == "${secret.object_store_key}"
    for part in CERTIFIED_HTTPS:
        assert given[f"WEED_{part}_CA"] == "${secret.object_store_authority}"
    name = PLATFORM["catalogue_secrets"]["object_store_certificate"]["common_name"]
    assert {given[f"WEED_{part}_ALLOWED_COMMONNAMES"] for part in CERTIFIED[:-1]} == {name}
    assert given["WEED_GRPC_CA"] == "${secret.object_store_authority}"
    assert given["WEED_HTTPS_CLIENT_ENABLED"] == "true"


@pytest.mark.parametrize("target", ["host", "k3s", "gke"])
def test_the_object_store_answers_no_page_of_another_origin_by_default(target: str) -> None:
    result = rendered(target, "development")
    if target == "host":
        (command,) = [program["command"] for program in result["programs"] if program["name"] == "object-store"]
    else:
        command = container(result, "object-store")["command"]
    # Both allow every origin by default.
    assert {"-s3.allowedOrigins=none", "-filer.allowedOrigins=none"} <= set(command)


def test_the_key_of_the_authority_is_given_to_no_service() -> None:
    host = rendered("host", "development")
    assert AUTHORITY_KEY not in {file["secret"] for file in host["secret_files"]}
    assert {secret["name"]: secret["services"] for secret in host["secrets"]}[AUTHORITY_KEY] == []
    for target in ("k3s", "gke"):
        for name, secret in of_kind(platform_on(target, "development"), "Secret").items():
            assert AUTHORITY_KEY not in str(secret), name


def test_the_key_of_the_object_store_is_given_to_it_and_to_the_job_that_closes_identities() -> None:
    paths = {file["path"] for file in rendered("host", "development")["secret_files"] if "store_key" in file["secret"]}
    assert paths == {f"{HOME}/secrets/{name}/object_store_key" for name in ("bootstrap", "object-store")}
    holders = {
        name for name, words in of_kind(platform_on("k3s", "development"), "Secret").items() if _holds_key(words)
    }
    assert holders == {"object-store"}


def _holds_key(secret: Any) -> bool:
    return "secret.object_store_key" in secret["stringData"]


def test_on_eks_there_is_no_certificate_of_a_store_that_is_not_there() -> None:
    result = platform_on("eks", "development")
    assert [secret["name"] for secret in result["secrets"] if "authority" in secret["name"]] == []
    names = {entry["name"] for entry in container(result, "api")["env"]}
    assert "LAKEHOUSE_CERTIFICATE_FILES" not in names
