# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions: permitted transitions between deployments."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.version import (
    COLLECTION_VERSION,
    parse_version,
    upgrade_refusal,
)


@pytest.mark.parametrize("text", ["1.0", "1.0.0.0", "v1.0.0", "1.0.x", "", "1.0.-1", "१.0.0"])
def test_anything_but_three_numbers_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="MAJOR"):
        parse_version(text)


@pytest.mark.parametrize(
    ("deployed", "ours", "refused"),
    [
        ("1.1.0", "1.0.9", "newer"),
        ("2.0.0", "1.9.9", "newer"),
        ("1.0.0", "3.0.0", "2.x comes next"),
        ("1.0.0", "1.0.0", None),
        ("1.0.0", "1.9.3", None),
        ("1.4.2", "2.0.0", None),
    ],
)
def test_a_deployment_moves_forward_one_major_version_at_a_time(deployed: str, ours: str, refused: str | None) -> None:
    said = upgrade_refusal(deployed, ours)
    assert said is None if refused is None else refused in str(said)


def test_the_version_is_the_one_in_galaxy_yml() -> None:
    galaxy = yaml.safe_load((Path(__file__).parents[3] / "galaxy.yml").read_text(encoding="utf-8"))
    assert galaxy["version"] == COLLECTION_VERSION
