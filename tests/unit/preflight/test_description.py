# SPDX-License-Identifier: GPL-3.0-or-later
"""The digest of a description is equal for the same lakehouse, and different for any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.catalogue import Catalogue
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.description import description_digest

FOLDER = Path(__file__).resolve().parents[3] / "roles/catalogue"
PLACE = {"home": "/srv/lakehouse", "software": "/srv/lakehouse/software/1", "user": "lakehouse", "unavailable": {}}
K3S = {"namespace": "crypto-lakehouse"}


def rendered(target: str = "host", overrides: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    read = Catalogue.read(FOLDER)
    place = {**read.settings, **(PLACE if target == "host" else K3S), **settings}
    found: dict[str, Any] = render(
        read.services, read.secrets, target, "development", overrides or {}, place, str(FOLDER)
    )
    return found


@pytest.mark.parametrize("target", ["host", "k3s"])
def test_two_runs_with_the_same_inventory_have_the_same_digest(target: str) -> None:
    first = description_digest(rendered(target))
    assert first == description_digest(dict(reversed(rendered(target).items())))
    assert len(first) == 16
    assert set(first) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "other",
    [
        {"software": "/srv/lakehouse/software/2"},
        {"overrides": {"api": {"environment": {"LAKEHOUSE_QUERY_MAX_ROWS": "5"}}}},
        {"port_offset": 1},
    ],
)
def test_another_lakehouse_has_another_digest(other: dict[str, Any]) -> None:
    assert description_digest(rendered(**other)) != description_digest(rendered())
