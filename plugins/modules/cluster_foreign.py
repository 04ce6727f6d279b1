# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find undescribed objects of a cluster, and remove those that grant access."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_foreign
short_description: Find and remove undescribed objects of a cluster that grant access
version_added: "1.0.0"
description:
  - Lists Roles, RoleBindings, NetworkPolicies, ServiceAccounts, Secrets and workloads of namespaces, and
    ClusterRoleBindings for their accounts or for all users. Objects outside of described sets and releases are foreign.
  - Removes foreign objects that grant access and whose group is in O(remove). Objects that hold data are kept. Secrets
    and workloads are listed and kept; their content is not read.
  - An object belongs to a set when its managed fields name the set and the set manages its kind, regardless of its
    labels. An object that a custom resource owns belongs to the operator.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
  - crypto_lakehouse.platform.foreign
options:
  namespaces:
    description:
      - Namespaces to compare, that of the lakehouse first.
      - The others are compared if they have the label C(app.kubernetes.io/part-of=crypto-lakehouse).
    type: list
    elements: str
    required: true
  sets:
    description: Described sets of P(crypto_lakehouse.platform.k8s_apply#module), as C(NAMESPACE/NAME).
    type: list
    elements: str
    default: []
  releases:
    description: Described Helm releases, as C(NAMESPACE/NAME).
    type: list
    elements: str
    default: []
requirements:
  - urllib3
attributes:
  check_mode:
    support: full
    description: Reports the objects that would be removed.
  diff_mode:
    support: full
    description: Shows the removed objects, each with the access that it grants.
seealso:
  - module: crypto_lakehouse.platform.k8s_apply
"""

EXAMPLES = r"""
- name: Remove undescribed bindings
  crypto_lakehouse.platform.cluster_foreign:
    kubeconfig: ~/.kube/config
    namespaces: [crypto-lakehouse, monitoring]
    sets: [crypto-lakehouse/lakehouse-services, monitoring/lakehouse-monitoring]
    releases: [monitoring/monitoring]
    expected: [role-binding/crypto-lakehouse/reporting-*]
    remove: [bindings]
"""

RETURN = r"""
removed:
  description: Addresses C(KIND/NAME) of the removed objects; in check mode of those that would be removed.
  returned: always
  type: list
  elements: str
  sample: [role-binding/crypto-lakehouse/evil]
grants:
  description: Objects that grant access and are kept, one line each.
  returned: always
  type: list
  elements: str
  sample: ["rbac-role/crypto-lakehouse/evil: get, list secrets [lakehouse_remove_foreign: roles]"]
behaviour:
  description: Objects that change the behaviour of services, one line each.
  returned: always
  type: list
  elements: str
  sample: []
added:
  description: Other objects that users added, one line each.
  returned: always
  type: list
  elements: str
  sample: [secret/crypto-lakehouse/reporting]
expected:
  description: Expected objects, one line each.
  returned: always
  type: list
  elements: str
  sample: []
calls:
  description: Number of requests, including retries.
  returned: always
  type: int
  sample: 31
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.cluster.access import (
    CLUSTER_EXCLUSIVE,
    CLUSTER_SPEC,
    CLUSTER_TOGETHER,
    cluster_connection,
    secrets_in,
)
from ..module_utils.cluster.expected import Described
from ..module_utils.cluster.foreign import compare
from ..module_utils.kube.client.client import Client
from ..module_utils.kube.client.errors import KubeError
from ..module_utils.shared.foreign import FOREIGN_SPEC

ARGUMENT_SPEC = {
    **CLUSTER_SPEC,
    "namespaces": {"type": "list", "elements": "str", "required": True},
    "sets": {"type": "list", "elements": "str", "default": []},
    "releases": {"type": "list", "elements": "str", "default": []},
    **FOREIGN_SPEC,
}


def outcome(parameters: Mapping[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """Return the result of the module; a failed result has `failed` and `msg`."""
    expected, remove = parameters["expected"], parameters["remove"]
    try:
        with Client(cluster_connection(parameters)) as client:
            return compare(client, Described.of(parameters), expected, remove, only_plans=check_mode)
    except KubeError as error:
        return {"failed": True, "msg": str(error)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        mutually_exclusive=CLUSTER_EXCLUSIVE,
        required_together=CLUSTER_TOGETHER,
        supports_check_mode=True,
    )
    module.no_log_values.update(secrets_in(module.params))
    result = outcome(module.params, check_mode=module.check_mode)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
