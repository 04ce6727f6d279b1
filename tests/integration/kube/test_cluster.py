# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster of the tests, and that a started one is usable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.kube.cluster import Cluster, given_assets, given_kubeconfig
from tests.integration.kube.roleplay import HELM, helm_program


def test_assets_without_a_program_are_an_error_and_no_reason_to_leave_tests_out(tmp_path: Path) -> None:
    (tmp_path / "etcd").touch()

    with pytest.raises(FileNotFoundError, match="lacks kube-apiserver"):
        given_assets({"KUBEBUILDER_ASSETS": str(tmp_path)})


def test_helm_is_the_one_beside_the_control_plane_or_that_of_the_tools(tmp_path: Path) -> None:
    assert helm_program(tmp_path) == HELM
    (tmp_path / "helm").touch()
    assert helm_program(tmp_path) == tmp_path / "helm"


@pytest.mark.parametrize("environment", [{}, {"KUBECONFIG": "", "KUBEBUILDER_ASSETS": ""}])
def test_nothing_given_is_no_cluster(environment: dict[str, str]) -> None:
    assert given_kubeconfig(environment) is None
    assert given_assets(environment) is None


def test_a_namespace_is_there_and_empty(cluster: Cluster, namespace: str) -> None:
    client = cluster.client()

    assert client.request("GET", f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Active"
    assert client.request("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"] == []
    assert cluster.kubeconfig.stat().st_mode & 0o077 == 0
