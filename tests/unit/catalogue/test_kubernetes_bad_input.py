# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions that a cluster does not support are reported together, each with its variable and a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.kubernetes.cluster import Cluster
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.words import CatalogueError
from tests.unit.catalogue.clusters import CERTIFICATE, IMAGE, on_cluster, platform_on, rendered
from tests.unit.catalogue.descriptions import service

HTTP = {"http": {"port": 80}}
AGENT = {"name": "cloudnative-pg", "image": "registry.example.org/postgresql:17.1"}


@pytest.mark.parametrize(
    ("settings", "variable", "message", "remedy"),
    [
        ({"namespace": "Lake"}, "namespace", "'Lake' is not a usable name", "lower case"),
        ({"namespace": 5}, "namespace", "it is not a text", "write a text"),
        ({"monitoring_namespace": "a.b"}, "monitoring_namespace", "'a.b' is not a usable name", "lower case"),
        ({"operator_namespace": "a.b"}, "operator_namespace", "'a.b' is not a usable name", "lower case"),
        ({"ingress_namespaces": ["_"]}, "ingress_namespaces", "'_' is not a usable name", "lower case"),
        ({"image_registry": "https://x"}, "image_registry", "'https://x' is not a registry", "without https://"),
        ({"image_registry": "x/"}, "image_registry", "'x/' is not a registry", "without a / at its end"),
        ({"image_pull_secrets": "pull"}, "image_pull_secrets", "it is not a list of names", "[one, two]"),
        ({"image_pull_secrets": ["A"]}, "image_pull_secrets", "'A' is not the name of an object", "lower case"),
        ({"image_digests": {IMAGE: "1234"}}, "image_digests", f"'1234' is not the digest of {IMAGE}", "sha256:"),
        ({"image_digests": ["x"]}, "image_digests", "it is not a map of texts", "`name: value`"),
        ({"ca_bundle": "/etc/ca.pem"}, "ca_bundle", "it holds no certificate", "in PEM"),
        ({"database_ca_bundle": "x"}, "database_ca_bundle", "it holds no certificate", "in PEM"),
        (
            {"proxy_env": {"HTTPS_PROXY": "http://u:p@h:1"}},
            "proxy_env",
            "HTTPS_PROXY holds a password",
            "asks for none",
        ),
        ({"proxy_env": {"HTTPS_PROXY": 1}}, "proxy_env", "it is not a map of texts", "`name: value`"),
        ({"storage_class": "gp 3"}, "storage_class", "'gp 3' is not the name of an object", "lower case"),
        ({"ingress_cidrs": ["10.0.0.1/16"]}, "ingress_cidrs", "'10.0.0.1/16' is not a network", "10.0.0.0/16"),
        ({"autoscaled": ["apy"]}, "autoscaled", "there is no service 'apy' here", "write api"),
        ({"ingress_services": ["apy"]}, "ingress_services", "there is no service 'apy' here", "write api"),
    ],
)
def test_a_wrong_setting_is_named_with_its_variable(
    settings: dict[str, Any], variable: str, message: str, remedy: str
) -> None:
    _result, problems = rendered({"api": on_cluster()}, settings)
    assert [(problem.variable, problem.message) for problem in problems] == [(f"lakehouse_{variable}", message)]
    assert remedy in problems[0].remedy


def test_a_password_of_a_proxy_is_not_repeated() -> None:
    _result, problems = rendered({}, {"proxy_env": {"HTTPS_PROXY": "http://user:hunter2@proxy:3128"}})
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("words", "path", "message", "remedy"),
    [
        ({"image": None}, "api.image", "it is missing", "a cluster runs nothing else"),
        (
            {"volumes": {"a": {"path": "/x"}, "b": {"path": "/x"}}},
            "api.volumes.b.path",
            "a is mounted at /x too",
            "another path",
        ),
        ({"volumes": {"a": {"path": "/etc/lakehouse"}}}, "api.volumes.a.path", "taken by the platform", "another path"),
        ({"volumes": {"lakehouse-a": {"path": "/x"}}}, "api.volumes.lakehouse-a", "the platform's own", "another name"),
        (
            {"ports": {"a": {"port": 80}, "b": {"port": 80}}},
            "api.ports",
            "api (a) and api (b) both listen on port 80 of one pod",
            "another port",
        ),
        (
            {"files": {"a": {"content": "${instance}"}}},
            "api.files[a]",
            "known only when a pod has started",
            "`command`",
        ),
        (
            {"secrets": ["known"], "environment": {"A": "${instance}${secret_value.known}"}},
            "api.environment.A",
            "known only when a pod has started",
            "without a secret",
        ),
        (
            {"health": {"type": "command", "command": ["x", "${instance}"]}},
            "api.health.command[1]",
            "known only when a pod has started",
            "`command`",
        ),
        ({"files": {"a": {"content": "x" * 1_000_001}}}, "api.files", "more than a ConfigMap can hold", "large files"),
        ({"operated_by": {"k3s": AGENT}}, "api.operated_by", "administrator has no password", "catalogue_secrets"),
        ({"calls": ["apy"]}, "api.calls[0]", "there is no service 'apy'", "use one of: cloud"),
        ({"on_demand": True}, "api.on_demand", "only a job is asked for", "make it a job"),
        ({"scale": {"min": 3, "max": 2}}, "api.scale.max", "2 is below the minimum 3", "exchange the numbers"),
        ({"login": "known", "ports": {}}, "api.login", "no port http, which an ingress exposes", "describe this port"),
        (
            {"command": ["x", "${service.cloud.endpoint.http}"]},
            "api.command[1]",
            "cloud is provided by s3 here, which is found nowhere",
            "catalogue_services.cloud.ports.http.reached_at",
        ),
        (
            {"command": ["x", "${service.cloud.volume.data}"]},
            "api.command[1]",
            "the folder data of cloud is in another pod",
            "ask the service",
        ),
    ],
)
def test_what_a_cluster_cannot_have_is_named(words: dict[str, Any], path: str, message: str, remedy: str) -> None:
    cloud = on_cluster(managed={"k3s": "s3"}, ports=HTTP, volumes={"data": {"path": "/data"}})
    described = {key: value for key, value in on_cluster(**words).items() if value is not None}
    _result, problems = rendered({"api": described, "cloud": cloud})
    assert [problem.variable for problem in problems] == [f"catalogue_services.{path}"]
    assert message in problems[0].message
    assert remedy in problems[0].remedy


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * 53, "the name is too long for a cluster"),
        ("1api", "a cluster asks for a name that begins with a letter"),
        ("lakehouse-secrets", "names that begin with lakehouse- are the platform's own"),
    ],
)
def test_a_name_that_objects_cannot_have_is_refused(name: str, message: str) -> None:
    _result, problems = rendered({name: on_cluster()})
    assert [(problem.variable, problem.message) for problem in problems] == [(f"catalogue_services.{name}", message)]


def test_two_objects_of_one_name_are_refused() -> None:
    services = {"db": on_cluster(volumes={"a": {"path": "/x"}}), "db-pods": on_cluster(ports=HTTP)}
    _result, problems = rendered(services)
    assert [problem.message for problem in problems] == ["two objects of kind Service are called db-pods"]


def test_a_service_whose_process_does_not_run_here_is_refused() -> None:
    services = {
        "store": on_cluster(managed={"k3s": "s3"}),
        "catalog": on_cluster(command=[], provided_by="store", ports=HTTP),
    }
    _result, problems = rendered(services)
    assert [(problem.variable, problem.message) for problem in problems] == [
        ("catalogue_services.catalog.provided_by", "store does not run on this target")
    ]


@pytest.mark.parametrize("text", ["db", "db:", ":5432", "db:0", "http://db:5432", "db:70000"])
def test_where_a_stand_in_is_found_has_to_be_an_address(text: str) -> None:
    services = {"db": on_cluster(managed={"k3s": "rds"}, ports={"sql": {"port": 5432, "reached_at": text}})}
    _result, problems = rendered(services)
    assert [problem.variable for problem in problems] == ["catalogue_services.db.ports.sql.reached_at"]
    assert "is not an address with a port" in problems[0].message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    services = {"api": service(ports={"a": {"port": 80}, "b": {"port": 80}}), "web": on_cluster(files={"a": {}})}
    _result, problems = rendered(services, {"namespace": "X", "autoscaled": ["x"]})
    assert {problem.variable for problem in problems} == {
        *("lakehouse_namespace", "lakehouse_autoscaled", "catalogue_services.api.image"),
        *("catalogue_services.api.ports", "catalogue_services.web.files.a"),
    }


def test_a_service_that_the_target_does_not_have_cannot_be_switched_on() -> None:
    services = {"trino": on_cluster(only_on=["eks"], enabled=False)}
    assert rendered(services)[1] == rendered(services, overrides={"trino": {"replicas": 2}})[1] == []
    _result, problems = rendered(services, overrides={"trino": {"enabled": True}})
    assert [(problem.variable, problem.message) for problem in problems] == [
        ("lakehouse_services.trino.enabled", "the target k3s does not have trino")
    ]


def test_the_platform_on_eks_asks_for_the_address_of_its_database() -> None:
    with pytest.raises(CatalogueError) as caught:
        platform_on("eks", "production", database_endpoint="")
    (problem,) = {found for found in caught.value.problems if "database" in found.variable}
    assert problem.variable == "catalogue_services.database.ports.postgresql.reached_at"


def test_an_image_comes_from_the_registry_and_by_the_digest_that_the_cluster_says() -> None:
    digest = "sha256:" + "a" * 64
    plain = Cluster()
    assert plain.image("nginx:1.2") == "docker.io/library/nginx:1.2"
    assert plain.image("me/app:1") == "docker.io/me/app:1"
    assert plain.image("ghcr.io/me/app:1") == "ghcr.io/me/app:1"
    mirrored = Cluster(image_registry="mirror:5000/hub", image_digests={"ghcr.io/me/app:1": digest, "me/lib": digest})
    assert mirrored.image("nginx:1.2") == "mirror:5000/hub/library/nginx:1.2"
    assert mirrored.image("ghcr.io/me/app:1") == f"mirror:5000/hub/me/app:1@{digest}"
    assert mirrored.image("me/lib:2") == f"mirror:5000/hub/me/lib:2@{digest}"
    assert mirrored.image(f"me/lib:2@sha256:{'b' * 64}") == f"mirror:5000/hub/me/lib:2@{digest}"


def test_certificates_and_proxies_reach_every_container_and_own_words_win() -> None:
    given = {"ca_bundle": CERTIFICATE, "proxy_env": {"https_proxy": "http://proxy:3128", "NO_PROXY": "intern"}}
    services = {"api": on_cluster(environment={"SSL_CERT_FILE": "/own"}, ports=HTTP)}
    result, problems = rendered(services, given)
    assert problems == []
    (deployment,) = (each for each in result["manifests"] if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    assert variables["HTTPS_PROXY"] == variables["https_proxy"] == "http://proxy:3128"
    assert {"intern", ".svc", "api.crypto-lakehouse.svc"} <= set(variables["NO_PROXY"].split(","))
    assert (variables["SSL_CERT_FILE"], variables["AWS_CA_BUNDLE"]) == ("/own", "/etc/lakehouse-ca/ca.crt")
    assert {"name": "lakehouse-ca", "mountPath": "/etc/lakehouse-ca", "readOnly": True} in container["volumeMounts"]
