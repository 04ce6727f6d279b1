# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue's description of a deployed lakehouse."""

from __future__ import annotations

import json
from typing import Any

import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.render import render
from ansible_collections.crypto_lakehouse.platform.tests.integration.deploy.lakehouse import Lakehouse


def described_ports(lakehouse: Lakehouse) -> list[dict[str, Any]]:
    """Return every port of the machine, with its description in the catalogue."""
    rendered = _rendered(lakehouse)
    services = rendered["services"]
    return [{**services[port["service"]]["ports"][port["name"]], **port} for port in rendered["ports"]]


def described_services(lakehouse: Lakehouse) -> dict[str, dict[str, Any]]:
    """Return the catalogue's description of each service."""
    services: dict[str, dict[str, Any]] = _rendered(lakehouse)["services"]
    return services


def _rendered(lakehouse: Lakehouse) -> dict[str, Any]:
    described = yaml.safe_load((lakehouse.collection / "roles/catalogue/vars/main.yml").read_text(encoding="utf-8"))
    packages = json.loads((lakehouse.programs.parent / ".complete").read_text())["packages"]
    place = {
        "home": str(lakehouse.home),
        "software": str(lakehouse.programs.parent),
        "port_offset": lakehouse.port_offset,
        "unavailable": {} if "grafana" in packages else {"grafana": "its package cannot be had"},
    }
    return render(
        described["catalogue_services"],
        described["catalogue_secrets"],
        "host",
        "development",
        {},
        {**described["catalogue_settings"], **place},
        str(lakehouse.collection / "roles/catalogue"),
    )
