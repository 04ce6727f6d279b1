# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that pods trust: clients of the database have its authority, and other pods do not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.catalogue.clusters import CERTIFICATE, container, of_kind, platform_on, pods, rendered
from tests.unit.catalogue.descriptions import service

CALLERS = {"orchestrator", "worker", "api", "bootstrap"}
NAME, FOLDER = "lakehouse-database-ca", "/etc/lakehouse-database-ca"
VERIFIED = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": f"{FOLDER}/ca.crt"}
OF_OPERATOR = {"secret": {"secretName": "database-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
OF_INVENTORY = {"configMap": {"name": NAME}}


def settings_of(result: dict[str, Any], name: str) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(result, name)["env"] if "value" in entry}


@pytest.mark.parametrize(("target", "source"), [("k3s", OF_OPERATOR), ("gke", OF_OPERATOR), ("eks", OF_INVENTORY)])
def test_who_calls_a_database_with_a_certificate_verifies_it(target: str, source: dict[str, Any]) -> None:
    result = platform_on(target, "production")
    assert {name for name in pods(result) if VERIFIED.items() <= settings_of(result, name).items()} == CALLERS
    for name, pod in pods(result).items():
        mounts = [mount for mount in container(result, name)["volumeMounts"] if mount["name"] == NAME]
        volumes = [volume for volume in pod["volumes"] if volume["name"] == NAME]
        assert mounts == [{"name": NAME, "mountPath": FOLDER, "readOnly": True}] * (name in CALLERS)
        assert volumes == [{"name": NAME, **source}] * (name in CALLERS)
    held = [NAME] if source is OF_INVENTORY else []
    assert [name for name in of_kind(result, "ConfigMap") if name == NAME] == held


def test_the_certificates_are_those_of_the_inventory() -> None:
    found = of_kind(platform_on("eks", "production", ca_bundle=CERTIFICATE.replace("MII", "MIJ")), "ConfigMap")
    assert found[NAME]["data"] == {"ca.crt": CERTIFICATE}
    assert found["lakehouse-ca"]["data"] == {"ca.crt": CERTIFICATE.replace("MII", "MIJ")}


@pytest.mark.parametrize("target", ["k3s", "gke", "eks"])
@pytest.mark.parametrize("environment", ["development", "staging"])
def test_a_database_in_a_pod_of_its_own_has_none_to_verify(target: str, environment: str) -> None:
    assert NAME not in json.dumps(platform_on(target, environment)["manifests"])


DATABASE = service(ports={"postgresql": {"port": 5432, "reached_at": "db.example.org:5432"}}, managed={"eks": "rds"})
WORKER = service(image="registry.example.org/image:1.2", depends_on=["database"])


def test_a_database_of_the_cloud_without_authorities_is_refused_and_what_is_no_database_is_not() -> None:
    _result, (problem,) = rendered({"database": DATABASE, "worker": WORKER}, target="eks")
    assert problem.variable == "lakehouse_database_ca_bundle"
    assert problem.message == "nothing says who signs the certificate of database"
    queue = service(ports={"amqp": {"port": 5671, "reached_at": "mq.example.org:5671"}}, managed={"eks": "mq"})
    assert rendered({"database": queue, "worker": WORKER}, target="eks")[1] == []


def test_a_service_s_own_words_win() -> None:
    own = {**WORKER, "environment": {"PGSSLMODE": "verify-ca"}}
    result, problems = rendered(
        {"database": DATABASE, "worker": own}, {"database_ca_bundle": CERTIFICATE}, target="eks"
    )
    assert problems == []
    assert settings_of(result, "worker")["PGSSLMODE"] == "verify-ca"
