# SPDX-License-Identifier: GPL-3.0-or-later
"""Render the catalogue for a cluster, and index its objects by name, for the tests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.kubernetes.cluster import Cluster
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.kubernetes.render import (
    render_kubernetes,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from tests.unit.catalogue.descriptions import ROLE, Texts, catalogues, loaded, platform, service
from tools.check_manifests import FOUNDATION

Entry = dict[str, Any]
Drawn = tuple[dict[str, Any], dict[str, Any]]

NAMESPACE, IMAGE = "crypto-lakehouse", "registry.example.org/image:1.2"
TARGETS = ("k3s", "eks", "gke")
CERTIFICATE = FOUNDATION["database_ca_bundle"]
PLATFORM = platform()


def on_cluster(**words: Any) -> Entry:
    """Return the description of a small service with an image."""
    return service(**{"image": IMAGE, **words})


def rendered(
    services: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    texts: Texts | None = None,
    target: str = "k3s",
    **words: Any,
) -> tuple[Entry, list[Problem]]:
    """Render a description; `settings` are those of the cluster."""
    cluster, wrong = Cluster.read(settings or {})
    catalogue, problems = loaded(services, target=target, **words)
    result, more = render_kubernetes(catalogue, cluster, texts or Texts())
    return result, [*wrong, *problems, *more]


def well_rendered(services: Mapping[str, Any], *arguments: Any, **words: Any) -> Entry:
    """Render a valid description."""
    result, problems = rendered(services, *arguments, **words)
    assert problems == []
    return result


def platform_on(target: str, environment: str = "development", overrides: Any = None, **settings: Any) -> Entry:
    """Render the collection's own description; callers do not change the result."""
    if overrides or settings:
        return _rendered(target, environment, overrides, settings)
    return _rendered_as_described(target, environment)


@cache
def _rendered_as_described(target: str, environment: str) -> Entry:
    return _rendered(target, environment, None, {})


def _rendered(target: str, environment: str, overrides: Any, settings: Mapping[str, Any]) -> Entry:
    chosen = {**PLATFORM["catalogue_settings"], **FOUNDATION, **settings}
    services, secrets = PLATFORM["catalogue_services"], PLATFORM["catalogue_secrets"]
    return render(services, secrets, target, environment, overrides, chosen, str(ROLE))


def everything(result: Entry) -> list[Entry]:
    """Return all objects of a result, including the namespace and jobs that are run on demand."""
    return [result["namespace"], *result["manifests"], *result["jobs"].values()]


def of_kind(result: Entry, kind: str) -> dict[str, Entry]:
    """Return the objects of a kind by name."""
    return {each["metadata"]["name"]: each for each in everything(result) if each["kind"] == kind}


def workloads(result: Entry) -> dict[str, Entry]:
    """Return the workloads by the name of the service."""
    kinds = ("Deployment", "StatefulSet", "Job")
    return {
        each["metadata"]["labels"]["app.kubernetes.io/name"]: each
        for each in everything(result)
        if each["kind"] in kinds
    }


def pods(result: Entry) -> dict[str, Entry]:
    """Return the pod specifications by the name of the service."""
    return {name: each["spec"]["template"]["spec"] for name, each in workloads(result).items()}


def container(result: Entry, name: str) -> Entry:
    """Return the container of a service."""
    (found,) = pods(result)[name]["containers"]
    return dict(found)


@st.composite
def cluster_catalogues(draw: st.DrawFn) -> Drawn:
    """Draw valid services for a cluster: each has an image, and its volumes have different mount paths."""
    services, secrets = draw(catalogues())
    for words in services.values():
        words["image"] = IMAGE
        places = {volume["path"]: name for name, volume in words["volumes"].items()}
        kept = set(places.values())
        gone = [f"${{volume.{name}}}" for name in words["volumes"] if name not in kept]
        words["volumes"] = {name: volume for name, volume in words["volumes"].items() if name in kept}
        for command in (words["command"], words.get("health", {}).get("command", [])):
            command[:] = [word for word in command if not any(name in word for name in gone)]
    return services, secrets
