# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports of pods a load balancer outside of the cluster has to reach, by the description of the services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.load import load
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.service import plain

# The port that an ingress leads to.
_PORT = "http"


def described_services(services: Any, secrets: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the services of the target and environment of the inventory by name, as plain JSON types.

    services, secrets: the description of the platform. What is wrong with an inventory's own services is judged where
    they are rendered, and left out here.
    """
    target, environment = settings["lakehouse_target"], settings["lakehouse_environment"]
    catalogue, _problems = load(services, secrets, target, environment, settings["lakehouse_services"])
    return {name: plain(service) for name, service in catalogue.services.items()}


def ingress_ports(settings: Mapping[str, Any], services: Mapping[str, Any]) -> list[int]:
    """Return the ports of the pods of exposed services, ascending. Nothing is exposed without a domain."""
    exposed = settings["lakehouse_ingress_services"] if settings["lakehouse_domain"] else []
    ports = [(services.get(name) or {}).get("ports") or {} for name in exposed]
    return sorted({found[_PORT]["port"] for found in ports if _PORT in found})
