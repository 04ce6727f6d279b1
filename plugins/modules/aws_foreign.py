# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and remove undescribed grants, access entries and pod identity associations of AWS."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aws_foreign
short_description: Find and remove undescribed access to an AWS stack
version_added: "1.0.0"
description:
  - Lists grants on KMS keys of a stack, and access entries and pod identity associations of its EKS clusters. Also
    lists pod identity associations of other clusters of the region that use roles of the stack. Undescribed ones are
    foreign, regardless of their tags.
  - Policies, attachments and rules belong to their resources. P(crypto_lakehouse.platform.aws_stack#module) compares
    and repairs them.
  - Grants for AWS services and for service-linked roles, and associations of addons, are not foreign. Access entries
    that EKS creates for the creator of a cluster, and for roles of described node groups and Fargate profiles, are
    not foreign either.
  - All of these kinds belong to the group V(bindings) of O(remove).
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.aws
  - crypto_lakehouse.platform.foreign
options:
  outputs:
    description:
      - Outputs of P(crypto_lakehouse.platform.aws_stack#module) by address, of described resources only.
    type: dict
    required: true
attributes:
  check_mode:
    description: Reports the resources that would be removed.
    support: full
  diff_mode:
    description: Shows the removed resources, each with the access that it grants.
    support: full
seealso:
  - module: crypto_lakehouse.platform.aws_stack
"""

EXAMPLES = r"""
- name: Compare a stack
  crypto_lakehouse.platform.aws_stack:
    name: crypto-lakehouse
    environment: development
    region: eu-central-1
    state: planned
    resources: "{{ resources }}"
  register: stack

- name: Remove undescribed grants and access entries
  crypto_lakehouse.platform.aws_foreign:
    region: eu-central-1
    outputs: "{{ stack.outputs }}"
    expected: ["access-entry/*/arn:aws:iam::111122223333:role/auditor"]
    remove: [bindings]
"""

RETURN = r"""
removed:
  description: Addresses C(KIND/NAME) of the removed resources; in check mode of those that would be removed.
  returned: success
  type: list
  elements: str
  sample: ["pod-identity/crypto-lakehouse-development/default/evil"]
grants:
  description: Resources that grant access and are kept, one line each.
  returned: success
  type: list
  elements: str
  sample: ["pod-identity/crypto-lakehouse-development/default/evil: role arn:aws:iam::111122223333:role/pipeline
    [lakehouse_remove_foreign: bindings]"]
expected:
  description: Expected resources, one line each.
  returned: success
  type: list
  elements: str
  sample: []
api_calls:
  description: Number of API calls, including retries.
  returned: success
  type: int
  sample: 14
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.aws.arguments import CONNECTION_SPEC, CONNECTION_TOGETHER
from ..module_utils.aws.foreign import outcome
from ..module_utils.shared.foreign import FOREIGN_SPEC

ARGUMENT_SPEC = {
    **CONNECTION_SPEC,
    "outputs": {"type": "dict", "required": True},
    **FOREIGN_SPEC,
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(ARGUMENT_SPEC, supports_check_mode=True, required_together=CONNECTION_TOGETHER)
    try:
        import boto3  # noqa: F401
    except ImportError:
        module.fail_json(msg=missing_required_lib("boto3"))
    result = outcome(module.params, check_mode=module.check_mode)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
