# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan, apply, compare and destroy a stack of AWS resources."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aws_stack
short_description: Plan, apply, compare and destroy a stack of AWS resources
version_added: "1.0.0"
description:
  - Reads the existing resources, compares them with their description, and calculates a plan. The plan is printed,
    saved or applied. Independent resources are read and changed concurrently.
  - There is no state file. A resource belongs to the stack by its tags C(lakehouse:stack) and C(lakehouse:address),
    with C(lakehouse:region) where it spans regions, or, where it cannot be tagged, by a name that only this stack uses.
  - A property may refer to another resource, C(${vpc.main.id}), to the account, C(${stack.account_id}) (also C(region),
    C(partition), C(dns_suffix), C(availability_zones), C(name) and C(environment)), or to a secret, C(${secret.NAME}).
    C(${stack.service_principals.SERVICE}) is the principal of a service in the partition, as C(ec2) or C(pods-eks).
    C(${stack.region_suffix}) separates a second region of the stack in names of resources that span regions. It is
    empty in the first region.
    C($${) is a literal C(${). A reference creates a dependency.
  - A failed resource skips its dependents only.
  - The next run completes an interrupted run.
  - The kinds, their properties and outputs are listed in C(docs/kinds.md).
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.aws
options:
  name:
    description: Name of the stack, which is also the tag C(Project) of all its resources.
    type: str
    required: true
  environment:
    description: Environment. Stacks with the same name and different environments can share an account.
    type: str
    required: true
  resources:
    description: Resources of the stack, in any order.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind of the resource.
        type: str
        required: true
      name:
        description: Name of the resource in the stack. Its address is C(KIND.NAME).
        type: str
        required: true
      properties:
        description: Desired properties.
        type: dict
        default: {}
      depends_on:
        description: Addresses of dependencies that no property references.
        type: list
        elements: str
        default: []
      adopt:
        description: Whether to adopt an existing resource without the stack's tags. The default is O(adopt).
        type: bool
      protect:
        description: Whether to reject deletion and replacement. The default is V(true) for kinds that hold data.
        type: bool
  secret_values:
    description:
      - Values of C(${secret.NAME}), by name. Plans, results and messages do not contain them.
    type: dict
    default: {}
  state:
    description:
      - V(planned) calculates the plan of V(present) and saves it to O(plan_path), without changes in AWS.
      - V(present) applies the plan, or exactly the saved plan of O(plan).
      - V(absent) deletes all resources with the stack's tags, described or not, dependents first.
    type: str
    choices: [planned, present, absent]
    default: present
  prune:
    description: Whether to delete resources with the stack's tags that are no longer described.
    type: bool
    default: false
  adopt:
    description: Whether to adopt existing resources without the stack's tags instead of failing.
    type: bool
    default: false
  unprotect:
    description: Addresses and kinds that may be deleted or replaced although they are protected.
    type: list
    elements: str
    default: []
  delete_contents:
    description:
      - Addresses and kinds whose contents may be deleted with them, such as objects with all their versions and
        unfinished uploads, images, the query history of workgroups, and recovery points.
      - The plan rejects the deletion of other resources with such contents.
    type: list
    elements: str
    default: []
  plan:
    description:
      - Saved plan to apply, as data, JSON text, a path, or C(s3://BUCKET/KEY).
      - A plan is rejected as stale when its inputs have changed; the message lists the changes.
    type: raw
  plan_path:
    description:
      - With O(state=planned), path (mode 0600) or C(s3://BUCKET/KEY) to which the plan is written.
      - Otherwise, path or C(s3://BUCKET/KEY) of the plan to apply, like O(plan).
    type: str
  page_path:
    description: Path or C(s3://BUCKET/KEY) to which a readable page with the graph is written with O(state=planned).
    type: str
  list_undescribed:
    description:
      - Whether RV(undescribed) and RV(notices) list resources with the stack's tags that are no longer described, with
        O(state=planned) and without O(prune).
    type: bool
    default: true
  tags:
    description:
      - Tags of every resource, in addition to C(Environment) and C(Project). Tags of a single resource take precedence.
      - Launch templates propagate them to instances, volumes and network interfaces, backup plans to recovery points.
      - C(Environment), C(Name), C(Project) in any case, and keys that begin with C(aws:) or C(lakehouse:) are rejected.
    type: dict
    default: {}
  ignore_tags:
    description:
      - Tags of other tools on any resource. They are neither compared nor removed, unless they are described.
    type: dict
    default: {}
    suboptions:
      keys:
        description: Keys of the tags.
        type: list
        elements: str
        default: []
      key_prefixes:
        description: Prefixes of keys.
        type: list
        elements: str
        default: []
  permissions_boundary:
    description:
      - ARN of the permissions boundary policy of every role without a described one.
      - Boundaries that are not described are removed when it is not set.
    type: str
  account_id:
    description: Id of the expected account. Credentials of another account fail before any other call.
    type: str
  availability_zones:
    description:
      - Names of the availability zones for C(${stack.availability_zones.N}), in any order. The default is all zones of
        the region that EKS supports.
      - Existing subnets, and other resources at their position, keep their zone.
    type: list
    elements: str
    default: []
  checks:
    description:
      - Properties of the account to compare with the requirements of a plan, before its first change.
      - V(permissions) uses the policy simulator of IAM, V(quotas) the quotas of VPCs, gateways, addresses, clusters,
        roles, policies, databases and virtual processors. A check is skipped where the caller has no read permission.
    type: list
    elements: str
    choices: [permissions, quotas]
    default: []
  variables:
    description:
      - Names of inventory variables, by the property C(ADDRESS.PROPERTY) that they set; the address may contain
        wildcards. A message about a property names its variable.
    type: dict
    default: {}
  remedies:
    description:
      - Remedies by option, V(unprotect), V(delete_contents), V(availability_zones), V(account_id), V(adopt), V(plan),
        V(plan_path), V(profile), V(region) or V(endpoint_url), and V(again) for a run that failed during its changes.
        They replace the default remedies, which name the option. C({address}) is replaced with the address of the
        resource, C({value}) with the valid value.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Calculates the plan without saving or applying it.
    support: full
  diff_mode:
    description: Returns the plan as the difference.
    support: full
"""

EXAMPLES = r"""
- name: Plan a network
  crypto_lakehouse.platform.aws_stack:
    name: crypto-lakehouse
    environment: development
    region: eu-central-1
    state: planned
    plan_path: ~/plans/development.json
    resources: &resources
      - kind: vpc
        name: main
        properties:
          cidr_block: 10.0.0.0/16
      - kind: subnet
        name: private_1
        properties:
          vpc_id: ${vpc.main.id}
          cidr_block: 10.0.10.0/24
          availability_zone: ${stack.availability_zones.0}

- name: Apply exactly that plan
  crypto_lakehouse.platform.aws_stack:
    name: crypto-lakehouse
    environment: development
    region: eu-central-1
    plan_path: ~/plans/development.json
    resources: *resources

- name: Destroy it
  crypto_lakehouse.platform.aws_stack:
    name: crypto-lakehouse
    environment: development
    region: eu-central-1
    state: absent
"""

RETURN = r"""
failures:
  description: Failures, with the addresses that failed for the same cause.
  returned: when resources failed
  type: list
  elements: dict
  sample:
    - action: create
      addresses: [vpc.main]
      cause: "ec2:CreateVpc: VpcLimitExceeded: The maximum number of VPCs has been reached."
      remedy: "correct the cause and run this again; completed changes are kept"
faults:
  description: Faults of the description, and changes that the plan rejects.
  returned: failure before the first change
  type: list
  elements: dict
  sample:
    - address: vpc.main
      path: cidr_block
      message: "'10.0.0.0/8' is too large: AWS takes /16 to /28"
      remedy: ""
      variable: lakehouse_aws_vpc_cidr
plan:
  description: The plan as data, with its fingerprint and evidence, without secrets.
  returned: success, or when resources failed
  type: dict
  sample:
    stack: crypto-lakehouse
    environment: development
    nodes:
      - {address: vpc.main, action: update, changes: [{path: enable_dns_support, before: false, after: true}]}
plan_text:
  description: The plan as text.
  returned: success, or when resources failed
  type: str
  sample: "    ~ vpc.main  update"
summary:
  description: The plan in one line.
  returned: success, or when resources failed
  type: str
  sample: "Plan: 1 to update, 45 unchanged."
outputs:
  description: Outputs of each resource for references, by address, without secrets.
  returned: success, or when resources failed
  type: dict
  sample: {vpc.main: {id: vpc-0a1b2c3d}}
resources:
  description: Result of each resource. Empty when the plan was not applied.
  returned: success, or when resources failed
  type: list
  elements: dict
  sample:
    - address: vpc.main
      kind: vpc
      action: update
      outcome: done
      changed: true
      duration_s: 0.412
      api_calls: 3
      id: vpc-0a1b2c3d
      message: ""
report_text:
  description: RV(resources) as text.
  returned: success, or when resources failed
  type: str
  sample: "       done vpc.main  update, 0.4 s, 3 API calls"
undescribed:
  description:
    - Addresses of resources with the stack's tags that are no longer described. Listed with O(state=planned) and
      without O(prune); a notice contains their number.
  returned: success, or when resources failed
  type: list
  elements: str
  sample: [glue_crawler.gold]
notices:
  description: Notices about the plan, such as kinds that were skipped because the region lacks their service.
  returned: success, or when resources failed
  type: list
  elements: str
  sample: []
left:
  description:
    - Resources that remain after a destruction. Resources that are scheduled for deletion have a date. The final
      snapshot of a database, and the key that encrypts it, remain until they are deleted manually.
    - C(readable_until) is the deletion date of the resource or its key, whichever is earlier.
  returned: success, or when resources failed
  type: list
  elements: dict
  sample:
    - address: kms_key.s3
      id: 1234abcd-12ab-34cd-56ef-1234567890ab
      status: scheduled for deletion
      deletion_date: "2026-12-01T00:00:00+00:00"
      readable_until: "2026-12-01T00:00:00+00:00"
account_id:
  description: Id of the account.
  returned: success, or when resources failed
  type: str
  sample: "111122223333"
region:
  description: The region.
  returned: success, or when resources failed
  type: str
  sample: eu-central-1
partition:
  description: The partition.
  returned: success, or when resources failed
  type: str
  sample: aws
api_calls:
  description: How many calls were sent, repeated ones included.
  returned: success, or when resources failed
  type: int
  sample: 63
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.aws.arguments import CONNECTION_SPEC, CONNECTION_TOGETHER
from ..module_utils.aws.task import outcome

RESOURCE_OPTIONS = {
    "kind": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "properties": {"type": "dict", "default": {}},
    "depends_on": {"type": "list", "elements": "str", "default": []},
    "adopt": {"type": "bool"},
    "protect": {"type": "bool"},
}
IGNORE_OPTIONS = {
    "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "key_prefixes": {"type": "list", "elements": "str", "default": [], "no_log": False},
}
ARGUMENT_SPEC = {
    **CONNECTION_SPEC,
    "name": {"type": "str", "required": True},
    "environment": {"type": "str", "required": True},
    "resources": {"type": "list", "elements": "dict", "default": [], "options": RESOURCE_OPTIONS},
    "secret_values": {"type": "dict", "default": {}, "no_log": True},
    "state": {"type": "str", "choices": ["planned", "present", "absent"], "default": "present"},
    "prune": {"type": "bool", "default": False},
    "adopt": {"type": "bool", "default": False},
    "unprotect": {"type": "list", "elements": "str", "default": []},
    "delete_contents": {"type": "list", "elements": "str", "default": []},
    "list_undescribed": {"type": "bool", "default": True},
    "tags": {"type": "dict", "default": {}},
    "ignore_tags": {"type": "dict", "default": {}, "options": IGNORE_OPTIONS},
    "permissions_boundary": {"type": "str"},
    "plan": {"type": "raw"},
    "plan_path": {"type": "str"},
    "page_path": {"type": "str"},
    "account_id": {"type": "str"},
    "availability_zones": {"type": "list", "elements": "str", "default": []},
    "checks": {"type": "list", "elements": "str", "choices": ["permissions", "quotas"], "default": []},
    "variables": {"type": "dict", "default": {}},
    "remedies": {"type": "dict", "default": {}},
}
EXCLUSIVE = [["plan", "plan_path"]]


def main() -> None:
    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        required_together=CONNECTION_TOGETHER,
        mutually_exclusive=EXCLUSIVE,
    )
    try:
        import boto3  # noqa: F401
    except ImportError:
        module.fail_json(msg=missing_required_lib("boto3"))
    result = outcome(module.params, check_mode=module.check_mode)
    for notice in result.get("notices", ()):
        module.warn(notice)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
