# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return the ports of pods that a load balancer outside of the cluster uses, from the description of the services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..module_utils.catalogue.load import load
from ..module_utils.catalogue.service import plain
from ..module_utils.shared.problem import Problem
from .cluster_preflight import exposure_problems

# The backend port of an ingress.
_PORT = "http"


def described_services(
    services: Any, secrets: Any, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the services of the target and environment of the inventory by name, as plain JSON types, and problems.

    services, secrets: the description of the platform. A service that cannot be read is left out.
    """
    target, environment = settings["lakehouse_target"], settings["lakehouse_environment"]
    catalogue, problems = load(services, secrets, target, environment, settings["lakehouse_services"])
    return {name: plain(service) for name, service in catalogue.services.items()}, problems


def exposable_services(
    services: Any, secrets: Any, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Problem]]:
    """Return the services that a load balancer may use, and all problems of their description.

    The platform's own services are valid, and services are not exposed without a domain. A missing environment is
    already a problem, and the services cannot be selected without it.
    """
    added = settings["lakehouse_services"]
    if not settings["lakehouse_environment"] or not (settings["lakehouse_domain"] or added):
        return {}, []
    found, problems = described_services(services, secrets, settings)
    # An unreadable service is already a problem.
    return found, [*problems, *exposure_problems(settings, {*found, *added})]


def ingress_ports(settings: Mapping[str, Any], services: Mapping[str, Any]) -> list[int]:
    """Return the ports of the pods of exposed services, ascending. Services are not exposed without a domain."""
    exposed = settings["lakehouse_ingress_services"] if settings["lakehouse_domain"] else []
    ports = [(services.get(name) or {}).get("ports") or {} for name in exposed]
    return sorted({found[_PORT]["port"] for found in ports if _PORT in found})
