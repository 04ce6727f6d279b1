# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return the version, API versions and selected objects of a cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_facts
short_description: Return version, API versions and objects of a Kubernetes cluster
version_added: "1.0.0"
description:
  - Returns the version of a cluster, its API versions, and whether objects exist, for roles that install only missing
    components.
  - Changes nothing and sets no facts.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  objects:
    description: Objects to look for.
    type: list
    elements: dict
    default: []
    suboptions:
      api_version:
        description: API version, such as V(apps/v1).
        type: str
        required: true
      kind:
        description: Kind of the object.
        type: str
        required: true
      namespace:
        description: Namespace. Empty for objects without a namespace.
        type: str
        default: ""
      name:
        description: Name of the object.
        type: str
        required: true
  kubernetes_version:
    description: Version of a planned cluster, which has no objects yet. By default the cluster is read.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: The module changes nothing.
  diff_mode:
    support: none
    description: The module changes nothing.
seealso:
  - module: crypto_lakehouse.platform.k8s_apply
"""

EXAMPLES = r"""
- name: Look for the metrics API of the cluster
  crypto_lakehouse.platform.cluster_facts:
    kubeconfig: ~/.kube/config
    objects:
      - {api_version: apiregistration.k8s.io/v1, kind: APIService, name: v1beta1.metrics.k8s.io}
  register: cluster

- name: Show whether the cluster serves resource metrics
  ansible.builtin.debug:
    msg: "{{ cluster.objects[0].found }}"
"""

RETURN = r"""
version:
  description: Version of the API server.
  returned: success
  type: str
  sample: v1.35.2
minor:
  description: Major and minor number of the version.
  returned: success
  type: str
  sample: "1.35"
api_versions:
  description: API versions that the cluster serves, including those of unavailable aggregated API servers.
  returned: success
  type: list
  elements: str
  sample: [apps/v1, v1]
objects:
  description: Results for O(objects), in the same order.
  returned: success
  type: list
  elements: dict
  contains:
    found: {description: Whether the object exists., type: bool}
    labels: {description: Labels of the object., type: dict}
    annotations: {description: Annotations of the object., type: dict}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.cluster import facts as cluster_facts
from ..module_utils.cluster.access import (
    CLUSTER_EXCLUSIVE,
    CLUSTER_SPEC,
    CLUSTER_TOGETHER,
    cluster_connection,
    secrets_in,
)
from ..module_utils.kube.client.client import Client
from ..module_utils.kube.client.errors import KubeError

OBJECT: dict[str, Any] = {
    "api_version": {"type": "str", "required": True},
    "kind": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": ""},
    "name": {"type": "str", "required": True},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CLUSTER_SPEC,
            "objects": {"type": "list", "elements": "dict", "default": [], "options": OBJECT},
            "kubernetes_version": {"type": "str", "default": ""},
        },
        mutually_exclusive=CLUSTER_EXCLUSIVE,
        required_together=CLUSTER_TOGETHER,
        supports_check_mode=True,
    )
    module.no_log_values.update(secrets_in(module.params))
    parameters = module.params
    try:
        if parameters["kubernetes_version"]:
            result = cluster_facts.planned(parameters["kubernetes_version"], parameters["objects"])
        else:
            result = cluster_facts.gather(Client(cluster_connection(parameters)), parameters["objects"])
    except KubeError as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
