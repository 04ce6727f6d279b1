# SPDX-License-Identifier: GPL-3.0-or-later
"""API servers of all supported versions accept every object; unknown fields are errors."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import ENVIRONMENTS
from tests.sweep import examples
from tests.unit.catalogue.clusters import (
    CERTIFICATE,
    TARGETS,
    Drawn,
    Entry,
    cluster_catalogues,
    everything,
    on_cluster,
    platform_on,
    well_rendered,
)

VERSIONS = ("1.33", "1.34", "1.35", "1.36")
FOREIGN = ("monitoring.coreos.com/v1", "postgresql.cnpg.io/v1")
"""Kinds without a schema from Kubernetes; the integration tests apply them where their CRDs are available."""
SETTINGS: dict[str, Any] = {
    "ca_bundle": CERTIFICATE,
    "proxy_env": {"HTTPS_PROXY": "http://proxy.example.org:3128"},
    "image_registry": "mirror.example.org:5000/hub",
    "image_pull_secrets": ["pull"],
    "storage_class": "fast",
    "autoscaled": ["api"],
    "ingress_services": ["api"],
    "ingress_namespaces": ["traefik"],
    "ingress_cidrs": ["10.0.0.0/16"],
}


def known(result: Entry) -> list[Entry]:
    return [each for each in everything(result) if each["apiVersion"] not in FOREIGN]


def refusals(manifest: Entry, version: str) -> list[str]:
    try:
        kubernetes_validate.validate(manifest, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{manifest['kind']} {manifest['metadata']['name']} on {version}: {error}"]
    return []


@cache
def _platform() -> tuple[str, ...]:
    """Return each object of the platform in any target and environment once."""
    results = [
        platform_on(target, environment, **given)
        for target in TARGETS
        for environment in ENVIRONMENTS
        for given in ({}, SETTINGS)
    ]
    return tuple(sorted({json.dumps(each, sort_keys=True) for result in results for each in known(result)}))


def test_a_field_that_no_server_knows_is_found() -> None:
    (deployment,) = (each for each in known(well_rendered({"api": on_cluster()})) if each["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    assert all(refusals(deployment, version) for version in VERSIONS)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_of_the_platform_is_valid(version: str) -> None:
    found = [json.loads(text) for text in _platform()]
    assert {each["kind"] for each in found} >= {"Deployment", "StatefulSet", "Job", "NetworkPolicy", "Namespace"}
    assert [refusal for manifest in found for refusal in refusals(manifest, version)] == []


@given(cluster_catalogues())
@settings(max_examples=examples(10))
def test_whatever_is_described_becomes_valid_objects(drawn: Drawn) -> None:
    services, secrets = drawn
    result = well_rendered(services, secrets=secrets)
    problems = [refusal for manifest in known(result) for refusal in refusals(manifest, VERSIONS[0])]
    assert problems == []
