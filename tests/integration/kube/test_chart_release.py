# SPDX-License-Identifier: GPL-3.0-or-later
"""A release on a real API server, its chart from a repository at first and from a registry after that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from tests.integration.kube.applying import Fields, look
from tests.integration.kube.chart_sources import (
    GROUP,
    PLURAL,
    Account,
    Keys,
    Registry,
    Repository,
    write_chart,
)
from tests.integration.kube.cluster import Cluster
from tests.integration.kube.roleplay import HELM, Played, play

ACCOUNT = Account("puller", "pass-word-of-release-5127")
DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"


@dataclass
class Release:
    """A release of the chart, and the source of each version."""

    folder: Path
    cluster: Cluster
    client: Client
    namespace: str
    sources: dict[str, dict[str, Any]]

    def play(self, version: str, *arguments: str, **changes: Any) -> Played:
        given = {
            "helm_release_chart": "sample",
            "helm_release_name": "sample",
            "helm_release_namespace": self.namespace,
            "helm_release_connection": {"kubeconfig": str(self.cluster.kubeconfig)},
            **self.sources[version],
            **changes,
        }
        played = play(self.folder, "helm_release", *arguments, facts=("helm_release_result",), **given)
        assert not any(form in played.output for form in ACCOUNT.forms)
        return played

    @property
    def object(self) -> Fields | None:
        return look(self.client, f"/apis/{GROUP}/v1/namespaces/{self.namespace}/{PLURAL}/sample")

    def revisions(self) -> dict[str, str]:
        query = {"labelSelector": "owner=helm,name=sample"}
        found = self.client.pages(f"/api/v1/namespaces/{self.namespace}/secrets", query=query)
        return {item["metadata"]["labels"]["version"]: item["metadata"]["labels"]["status"] for item in found}


@pytest.fixture
def release(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Release]:
    for name in ("charts", "repository", "registry"):
        (tmp_path / name).mkdir()
    keys = Keys(tmp_path)
    old, new = write_chart(tmp_path / "charts", "1.0.0"), write_chart(tmp_path / "charts", "1.1.0", "second")
    with (
        cluster.client() as client,
        Repository(tmp_path / "repository", keys) as repository,
        Registry(tmp_path / "registry", keys, ACCOUNT) as registry,
    ):
        repository.publish(old)
        registry.push(new)
        account = {"username": ACCOUNT.username, "password": ACCOUNT.password}
        trust = {"helm_release_ca_bundle": str(keys.bundle)}
        checksum = f"sha256:{hashlib.sha256(old.read_bytes()).hexdigest()}"
        sources = {
            "1.0.0": {
                "helm_release_source": {"repository": repository.url, "version": "1.0.0", "checksum": checksum},
                "helm_release_helm": {"binary": str(HELM)},
                **trust,
            },
            "1.1.0": {
                "helm_release_source": {"repository": registry.url, "version": "1.1.0"},
                "helm_release_helm": {"binary": str(HELM), **account},
                **trust,
            },
        }
        made = Release(tmp_path, cluster, client, namespace, sources)
        try:
            yield made
            check_that_the_pinned_one_was_downloaded_once(repository)
        finally:
            if look(client, DEFINITION):
                client.request("DELETE", DEFINITION)


def check_that_the_pinned_one_was_downloaded_once(repository: Repository) -> None:
    assert repository.asked == ["/index.yaml", "/sample-1.0.0.tgz"]


def test_a_release_from_a_repository_goes_on_from_a_registry_and_its_definition_goes_first(release: Release) -> None:
    made = release.play("1.0.0").succeeded()
    assert made.facts["helm_release_result"]["changed"] is True
    assert "[WARNING]" not in made.output
    assert release.object is not None
    assert release.object["spec"] == {"first": "some"}

    again = release.play("1.0.0").succeeded()
    assert again.changed == 0
    assert again.facts["helm_release_result"]["changed"] is False
    assert "[WARNING]" not in again.output

    # Its object has a field that only the newer definition contains.
    assert release.play("1.1.0").succeeded().facts["helm_release_result"]["changed"] is True
    assert release.object["spec"] == {"second": "some"}
    definition = look(release.client, DEFINITION)
    assert definition is not None
    (version,) = definition["spec"]["versions"]
    assert list(version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]) == ["second"]
    assert release.revisions() == {"1": "superseded", "2": "deployed"}
    assert release.play("1.1.0", "--check", "--diff").succeeded().changed == 0
