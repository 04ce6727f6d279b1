# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render the platform of the role `catalogue` for a target."""

from __future__ import annotations

DOCUMENTATION = r"""
name: render_catalogue
version_added: "1.0.0"
short_description: Render the platform of the role catalogue for a target
description:
  - Reads services, secrets and settings of the role C(catalogue), and renders them as
    P(crypto_lakehouse.platform.render_services#filter) does.
  - The description does not become variables of the play, which all later tasks would copy.
positional: target, environment
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  _input:
    description: Folder of the role C(catalogue).
    type: path
    required: true
  target:
    description: Target of the services. V(k3s), V(eks) and V(gke) are Kubernetes clusters.
    type: str
    choices: [host, k3s, eks, gke]
    required: true
  environment:
    description: Environment, which selects overlays of the services and settings that differ by environment.
    type: str
    choices: [development, staging, production]
    required: true
  given_secrets:
    description: Names of secrets with given values, which services of the inventory can reference.
    type: list
    elements: str
    default: []
  overrides:
    description: Services to add, and keys of services to override. Merged as by the filter C(render_services).
    type: dict
    default: {}
  settings:
    description: Settings that replace those of the catalogue. The filter C(render_services) describes them.
    type: dict
    default: {}
seealso:
  - plugin: crypto_lakehouse.platform.render_services
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Render the platform for a K3s cluster
  ansible.builtin.set_fact:
    rendered: >-
      {{ '/srv/collection/roles/catalogue'
         | crypto_lakehouse.platform.render_catalogue('k3s', 'production', settings={'namespace': 'lakehouse'}) }}
"""

RETURN = r"""
_value:
  description: Result of P(crypto_lakehouse.platform.render_services#filter).
  type: dict
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..plugin_utils.catalogue import Catalogue
from .render_services import render_services


def render_catalogue(
    source: str,
    target: str,
    environment: str,
    given_secrets: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the platform rendered for `target`. Raise ``AnsibleFilterError`` with all problems."""
    described = Catalogue.read(Path(source)).with_given_secrets(given_secrets)
    merged = {**described.settings, **(settings or {})}
    return render_services(described.services, target, environment, described.secrets, merged, source, overrides)


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"render_catalogue": render_catalogue}
