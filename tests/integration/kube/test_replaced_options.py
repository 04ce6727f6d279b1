# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles reject options of earlier releases, before they connect to a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.kube.roleplay import play

RELEASE = {"helm_release_name": "sample", "helm_release_namespace": "samples", "helm_release_chart": "sample"}


@pytest.mark.parametrize(
    ("role", "given", "message"),
    [
        (
            "services",
            {"services_operator_chart_version": "0.29.0"},
            "services_operator_chart_version was replaced by services_operator_chart.version.",
        ),
        (
            "services:absent",
            {"services_helm_binary": "/opt/helm"},
            "services_helm_binary was replaced by services_helm.binary.",
        ),
        (
            "monitoring",
            {"monitoring_chart_password": "word-7713"},
            "monitoring_chart_password was replaced by monitoring_helm.password.",
        ),
        (
            "autoscaling",
            {"autoscaling_min_replicas": 5},
            "autoscaling_min_replicas was replaced by autoscaling_replicas.min.",
        ),
        (
            "ingress",
            {"ingress_image_registry": "mirror.example.org"},
            "ingress_image_registry was replaced by ingress_images.registry.",
        ),
        (
            "helm_release",
            {**RELEASE, "helm_release_repository": "https://charts.example.org"},
            "helm_release_repository was replaced by helm_release_source.repository.",
        ),
    ],
    ids=["services", "services:absent", "monitoring", "autoscaling", "ingress", "helm_release"],
)
def test_a_role_rejects_a_replaced_option(role: str, given: dict[str, Any], message: str, tmp_path: Path) -> None:
    played = play(tmp_path, role, **given).failed()
    assert message in " ".join(played.output.split())
    assert played.changed == 0
    assert "word-7713" not in played.output


def test_a_role_rejects_an_unknown_key_of_a_grouped_option(tmp_path: Path) -> None:
    played = play(tmp_path, "monitoring", monitoring_chart={"repo": "https://charts.example.org"}).failed()
    assert "monitoring_chart.repo" in " ".join(played.output.split())
    assert played.changed == 0
