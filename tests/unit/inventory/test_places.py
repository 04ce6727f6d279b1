# SPDX-License-Identifier: GPL-3.0-or-later
"""Places at which an inventory variable appears: its definition, its documentation, and one use."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import check
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import cluster_preflight as cluster
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.chart_defaults import chart_defaults

ROOT = Path(__file__).resolve().parents[3]
MAPPED = sorted([*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "roles").glob("*/*/*.yml")])
# Preflight passes these variables to roles in groups.
GROUPED = {
    *(f"lakehouse_{setting}" for setting in cluster.CLUSTER_SETTINGS if setting != "namespace"),
    "lakehouse_chart_folder",
    "lakehouse_chart_repository",
    "lakehouse_chart_username",
    "lakehouse_charts",
    "lakehouse_database_ca_bundle",
    "lakehouse_helm_binary",
}


class Reads(dict[str, object]):
    """Settings that record the names that are read."""

    def __init__(self, settings: dict[str, object]) -> None:
        super().__init__(settings)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> object:
        self.names.add(name)
        return super().__getitem__(name)


def test_preflight_reads_the_grouped_variables_for_the_groups() -> None:
    settings, problems = check({"lakehouse_target": "k3s", "lakehouse_environment": "development"})
    assert problems == []
    reads = Reads(settings)
    cluster.charts(reads, chart_defaults(ROOT / "roles"))
    cluster.helm(reads)
    cluster.images(reads)
    cluster.catalogue_settings(reads, {}, {})
    cluster.read_bundles(reads)
    assert reads.names >= GROUPED


@pytest.mark.parametrize("name", sorted(GROUPED))
def test_a_grouped_variable_is_not_mapped_to_options_of_roles(name: str) -> None:
    assert [path for path in MAPPED if name in path.read_text("utf-8")] == []


def test_no_playbook_reads_the_files_of_a_role() -> None:
    assert [path for path in MAPPED if "playbook_dir ~ '/../roles" in path.read_text("utf-8")] == []
