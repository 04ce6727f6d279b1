# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Render the description of the services for a target."""

from __future__ import annotations

DOCUMENTATION = r"""
name: render_services
version_added: "1.0.0"
short_description: Render the description of the services for a target
description:
  - Merges the described services with the overrides of the inventory and the overlays of target and environment.
    Validates the result, and renders it for the target.
  - Reads only templates and files below O(source), and changes nothing. Values of secrets are neither read nor
    returned.
  - All problems are reported together, each with its variable and remedy.
positional: target, environment
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  _input:
    description: Services with the keys of the catalogue, which the README of the role C(catalogue) lists.
    type: dict
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
  secrets:
    description: Described secrets that the services can reference.
    type: dict
    required: true
  overrides:
    description:
      - Services to add, and keys of services to override.
      - Maps are merged and lists are replaced. A null removes a key or an entry.
    type: dict
    default: {}
  settings:
    description:
      - On a host, C(home) and C(software) are the folders of the platform and of its programs. Exposed ports listen on
        C(bind_address), and C(port_offset) is added to each port. C(unavailable) maps services with unavailable
        software to the reason.
      - On a cluster, C(namespace) is the namespace of the objects. C(image_registry), C(image_digests) and
        C(image_pull_secrets) configure image pulls. C(storage_class) is the class of all volumes. C(ca_bundle) contains
        certificates in PEM, and C(proxy_env) proxy variables, for all containers. C(database_ca_bundle) contains the
        certificates of the authorities of a managed cloud database.
      - C(autoscaled) lists services whose number of pods an autoscaler manages. C(ingress_services) lists services with
        an ingress, C(ingress_namespaces) and C(ingress_cidrs) the sources of their requests. Metrics are read from
        C(monitoring_namespace). C(operator_namespace) is the namespace of the database operator. The API server
        connects to pods from C(control_plane_cidrs) for health checks. C(secret_versions) maps secrets to a text that
        changes with their value, so that workloads that read a secret restart.
      - All settings are available as C(${setting.NAME}) in the keys of a service and as C(settings.NAME) in templates.
        The environment selects the entry of a setting that is a map.
    type: dict
    required: true
  source:
    description: Folder with C(templates/) and the files of the services.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Render the platform for a machine
  ansible.builtin.set_fact:
    rendered: >-
      {{ catalogue_services
         | crypto_lakehouse.platform.render_services('host', 'development', secrets=catalogue_secrets,
           overrides=lakehouse_services | default({}), settings=catalogue_settings | combine(places),
           source=role_path) }}
  vars:
    places:
      home: /srv/lakehouse
      software: /srv/lakehouse/software/1
      user: lakehouse

- name: Render the platform for a cluster
  ansible.builtin.set_fact:
    rendered: >-
      {{ catalogue_services
         | crypto_lakehouse.platform.render_services('k3s', 'production', secrets=catalogue_secrets,
           settings=catalogue_settings | combine({'namespace': 'lakehouse', 'autoscaled': ['api']}),
           source=role_path) }}
"""

RETURN = r"""
_value:
  description:
    - For a host, the lists C(programs) (in start order), C(jobs), C(initialise), C(files), C(secret_files),
      C(directories), C(ports), C(sockets) (relative to C(home)), C(health), C(incomplete), C(metrics), C(secrets),
      C(omitted) (with reasons) and C(notices), and the map C(services).
    - For a cluster, the list C(manifests) of all objects except the C(namespace) and the C(jobs) on demand (a map by
      service), the lists C(workloads), C(health), C(secrets), C(images), C(operators) (required ones), C(omitted) and
      C(notices), and the maps C(services) and C(addresses).
    - Contents of files, and C(stringData) of Secrets, contain the placeholder C(${secret_value.NAME}) for each secret.
  type: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.catalogue.render import render
from ..module_utils.catalogue.words import CatalogueError
from ..module_utils.shared.problem import problem_list


def render_services(
    services: Mapping[str, Any],
    target: str,
    environment: str,
    secrets: Mapping[str, Any],
    settings: Mapping[str, Any],
    source: str,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the services rendered for `target`. Raise ``AnsibleFilterError`` with all problems."""
    try:
        return render(services, secrets, target, environment, overrides, settings, str(source))
    except CatalogueError as error:
        raise AnsibleFilterError(problem_list(error.problems)) from None


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"render_services": render_services}
