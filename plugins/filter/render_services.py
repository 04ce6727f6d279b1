# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue's public door: the description of the services becomes what a target needs to run them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: render_services
version_added: "1.0.0"
short_description: Turn the description of the services into what a target needs to run them
description:
  - Merges the described services with the overrides of the inventory and the overlays of the target and the
    environment, checks all of it, and renders it for the target.
  - Pure. Nothing is read but templates and files below O(source), nothing is changed, and no value of a secret goes in
    or comes out.
  - Everything that is wrong is reported at once, each with the variable that it is found in and a remedy.
positional: target, environment
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  _input:
    description: Services in the words of the catalogue, which the README of the role C(catalogue) explains.
    type: dict
    required: true
  target:
    description: Where the services run. V(k3s), V(eks) and V(gke) are Kubernetes clusters.
    type: str
    choices: [host, k3s, eks, gke]
    required: true
  environment:
    description: The environment. It chooses overlays of the services, and settings that differ by environment.
    type: str
    choices: [development, staging, production]
    required: true
  secrets:
    description: Description of the secrets that the services may name.
    type: dict
    required: true
  overrides:
    description:
      - Services to add, and words of services to replace.
      - Maps are merged, lists are replaced, a null takes a word or an entry away.
    type: dict
    default: {}
  settings:
    description:
      - On a host, C(home) and C(software) are the folders of the platform and of its programs, C(bind_address) is
        where exposed ports listen, C(port_offset) is added to each port, and C(unavailable) maps services whose
        software cannot be had to the reason.
      - On a cluster, C(namespace) is where the objects go, C(image_registry), C(image_digests) and
        C(image_pull_secrets) say how images are pulled, C(storage_class) is that of every volume, C(ca_bundle) holds
        certificates in PEM and C(proxy_env) variables of proxies for every container. C(database_ca_bundle) holds
        certificates of the authorities that sign that of a database which the cloud provides.
      - C(autoscaled) lists services whose number of pods an autoscaler owns. C(ingress_services) lists those that are
        reached from outside, C(ingress_namespaces) and C(ingress_cidrs) say by whom; C(monitoring_namespace) is where
        metrics are read from, C(operator_namespace) where the operator of a database is. C(control_plane_cidrs) are
        networks that the API server reaches pods from, when the health of services is asked for. C(secret_versions)
        maps secrets to a text that changes with their value, so that what reads a secret is started again.
      - Every setting can be used as C(${setting.NAME}) in the words of a service and as C(settings.NAME) in templates.
        One that is a map is chosen by the environment.
    type: dict
    required: true
  source:
    description: Folder that holds C(templates/) and the files that services name.
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
    - For a host, lists C(programs) (in the order of their start), C(jobs), C(initialise), C(files), C(secret_files),
      C(directories), C(ports), C(health), C(metrics), C(secrets), C(omitted) (with the reason) and C(notices), and the
      map C(services).
    - For a cluster, the list C(manifests) of all objects but the C(namespace) and the C(jobs) that run on demand (a map
      by service), the lists C(workloads), C(health), C(secrets), C(images), C(operators) (that have to be there),
      C(omitted) and C(notices), and the maps C(services) and C(addresses).
    - Contents of files, and C(stringData) of Secrets, hold C(${secret_value.NAME}) where a secret is to be put in.
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
    """Return what `target` needs to run the services; raise ``AnsibleFilterError`` with everything that is wrong."""
    try:
        return render(services, secrets, target, environment, overrides, settings, str(source))
    except CatalogueError as error:
        raise AnsibleFilterError(problem_list(error.problems)) from None


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"render_services": render_services}
