# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find objects of a cluster that are not described, and remove those that grant access."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_foreign
short_description: Find and remove objects of a cluster that grant access
version_added: "1.0.0"
description:
  - Lists Roles, RoleBindings, NetworkPolicies, ServiceAccounts, Secrets and workloads of namespaces, and
    ClusterRoleBindings for their accounts or for anybody. Those that neither a set nor a release contains are foreign.
  - Removes those that grant access, as far as O(remove) names their group. Nothing that holds data is removed. Secrets
    and workloads are listed and stay; their content is not read.
  - An object belongs to a set when the server recorded that the set applied it and the set looks for its kind, whatever
    labels it carries. An object that a custom resource owns belongs to its operator.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
  - crypto_lakehouse.platform.foreign
options:
  namespaces:
    description:
      - Namespaces to compare, that of the lakehouse first.
      - The others are compared where they carry the label C(app.kubernetes.io/part-of=crypto-lakehouse).
    type: list
    elements: str
    required: true
  sets:
    description: Sets of P(crypto_lakehouse.platform.k8s_apply#module) that are described, as C(NAMESPACE/NAME).
    type: list
    elements: str
    default: []
  releases:
    description: Releases of Helm that are described, as C(NAMESPACE/NAME).
    type: list
    elements: str
    default: []
requirements:
  - urllib3
attributes:
  check_mode:
    support: full
    description: Reports what would be removed.
  diff_mode:
    support: full
    description: Shows what is removed, each with what it grants.
seealso:
  - module: crypto_lakehouse.platform.k8s_apply
"""

EXAMPLES = r"""
- name: Remove bindings that are not described
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
  description: Addresses C(KIND/NAME) of what was removed, or would be.
  returned: always
  type: list
  elements: str
  sample: [role-binding/crypto-lakehouse/evil]
grants:
  description: Lines about what grants access and stays.
  returned: always
  type: list
  elements: str
  sample: ["rbac-role/crypto-lakehouse/evil: get, list secrets [lakehouse_remove_foreign: roles]"]
behaviour:
  description: Lines about what changes behaviour.
  returned: always
  type: list
  elements: str
  sample: []
added:
  description: Lines about what users added.
  returned: always
  type: list
  elements: str
  sample: [secret/crypto-lakehouse/reporting]
expected:
  description: Lines about what is expected.
  returned: always
  type: list
  elements: str
  sample: []
calls:
  description: Requests that were sent, repeated ones included.
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
    """Return the result of the module; one that failed has `failed` and `msg`."""
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
