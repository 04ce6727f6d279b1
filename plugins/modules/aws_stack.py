# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole stack of AWS resources in one task: planned, reviewed, applied, compared, destroyed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: aws_stack
short_description: Plan, apply, compare and destroy a stack of AWS resources
version_added: "1.0.0"
description:
  - Reads what exists, compares it with what is described, and makes a plan. The plan is printed, saved, or carried out;
    independent resources are read and changed at the same time.
  - There is no state file. A resource belongs to the stack by its tags C(lakehouse:stack) and C(lakehouse:address),
    with C(lakehouse:region) where it spans regions, or, where it cannot be tagged, by a name that only this stack uses.
  - A property may refer to another resource, C(${vpc.main.id}), to the account, C(${stack.account_id}) (also C(region),
    C(partition), C(dns_suffix), C(availability_zones), C(name) and C(environment)), or to a secret, C(${secret.NAME}).
    C(${stack.service_principals.SERVICE}) is the principal of a service in the partition, as C(ec2) or C(pods-eks).
    C(${stack.region_suffix}), in the names of resources that span regions, keeps a second region of the stack apart; it
    is empty in the first one.
    C($${) is a literal C(${). A reference makes the dependency.
  - A failed resource stops what depends on it and nothing else.
  - A run that is cut off at any moment is completed by the next one.
  - The kinds, their properties and outputs are listed in C(docs/kinds.md).
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.aws
options:
  name:
    description: The name of the stack. It is also the tag C(Project) of everything in it.
    type: str
    required: true
  environment:
    description: The environment. Stacks of one name and different environments live side by side in one account.
    type: str
    required: true
  resources:
    description: The resources, in any order.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: What it is.
        type: str
        required: true
      name:
        description: What it is called in the stack. Together with O(resources[].kind) its address, C(KIND.NAME).
        type: str
        required: true
      properties:
        description: What it is to be like.
        type: dict
        default: {}
      depends_on:
        description: Addresses of resources that have to be there first although no property refers to them.
        type: list
        elements: str
        default: []
      adopt:
        description: Whether to take over something that exists without the stack's tags. By default as O(adopt) says.
        type: bool
      protect:
        description: Whether it may neither be deleted nor replaced. By default true for kinds that hold data.
        type: bool
  secret_values:
    description:
      - Values of C(${secret.NAME}), by name. They are kept out of plans, results and messages.
    type: dict
    default: {}
  state:
    description:
      - V(planned) makes the plan of V(present) and saves it to O(plan_path); nothing in AWS is changed.
      - V(present) carries the plan out, or exactly the saved one of O(plan).
      - V(absent) deletes everything that carries the stack's tags, described or not, dependents first.
    type: str
    choices: [planned, present, absent]
    default: present
  prune:
    description: Whether to delete what carries the stack's tags and is not described any more.
    type: bool
    default: false
  adopt:
    description: Whether to take over what exists without the stack's tags, instead of refusing to.
    type: bool
    default: false
  unprotect:
    description: Addresses and kinds that may be deleted or replaced although they are protected.
    type: list
    elements: str
    default: []
  delete_contents:
    description:
      - Addresses and kinds whose contents may be deleted with them, as objects with all their versions and unfinished
        uploads, images, the query history of workgroups, and recovery points.
      - The plan refuses to delete what holds such contents and is not named.
    type: list
    elements: str
    default: []
  plan:
    description:
      - A saved plan to carry out. The plan itself, its JSON text, a path, or C(s3://BUCKET/KEY).
      - It is refused when anything that it was made from has changed since; the message says what.
    type: raw
  plan_path:
    description:
      - With O(state=planned) where the plan is written, a path (mode 0600) or C(s3://BUCKET/KEY).
      - Otherwise where the plan to carry out is read from, like O(plan).
    type: str
  page_path:
    description: With O(state=planned) where a readable page with the graph is written, a path or C(s3://BUCKET/KEY).
    type: str
  list_undescribed:
    description:
      - Whether RV(undescribed) and RV(notices) list what carries the stack's tags and is not described any more, with
        O(state=planned) and without O(prune).
    type: bool
    default: true
  tags:
    description:
      - Tags of every resource, beside C(Environment) and C(Project). Those of a resource itself have precedence.
      - Launch templates pass them on to instances, volumes and network interfaces, backup plans to recovery points.
      - C(Environment), C(Name), C(Project) in any case, and keys that begin with C(aws:) or C(lakehouse:) are refused.
    type: dict
    default: {}
  ignore_tags:
    description:
      - Tags that others may add to any resource. They are neither compared nor removed,
        except where they are described.
    type: dict
    default: {}
    suboptions:
      keys:
        description: Their keys.
        type: list
        elements: str
        default: []
      key_prefixes:
        description: Beginnings of their keys.
        type: list
        elements: str
        default: []
  permissions_boundary:
    description:
      - ARN of the policy that is the permissions boundary of every role whose description names none.
      - Without it, a boundary that no description names is removed.
    type: str
  account_id:
    description: The account that is meant. With the credentials of another one nothing is called.
    type: str
  availability_zones:
    description:
      - Names of the availability zones from which C(${stack.availability_zones.N}) is chosen, in any order.
        By default all zones of the region that EKS supports.
      - A zone is chosen once. A subnet that exists keeps its zone, and so does everything else at its position,
        whatever AWS lists later.
    type: list
    elements: str
    default: []
  checks:
    description:
      - Properties of the account to compare with the needs of a plan that changes anything, before the first change.
      - V(permissions) asks the policy simulator of IAM, V(quotas) the quotas of VPCs, gateways, addresses, clusters,
        roles, policies, databases and virtual processors. Where the caller may not read them, nothing is refused.
    type: list
    elements: str
    choices: [permissions, quotas]
    default: []
  variables:
    description:
      - Names of variables by the properties that they set, C(ADDRESS.PROPERTY); the address may contain wildcards.
      - A message about a property names its variable.
    type: dict
    default: {}
  remedies:
    description:
      - Remedies by option, V(unprotect), V(delete_contents), V(availability_zones), V(account_id), V(adopt), V(plan),
        V(plan_path), V(profile), V(region) or V(endpoint_url), and V(again) for a run that failed on its way. A message
        gives them instead of naming the option. C({address}) stands for the address of the resource, C({value}) for the
        value that would be right.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Makes the plan, and neither saves it nor changes anything.
    support: full
  diff_mode:
    description: The difference is the plan.
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
  description: What failed, with the addresses that failed for the same cause.
  returned: when resources failed
  type: list
  elements: dict
  sample:
    - action: create
      addresses: [vpc.main]
      cause: "ec2:CreateVpc: VpcLimitExceeded: The maximum number of VPCs has been reached."
      remedy: "correct the cause and run this again: what is done stays"
faults:
  description: Everything that is wrong with the description, or that the plan refuses.
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
  description: The plan as data, with its fingerprint and the evidence that it was made from. It holds no secret.
  returned: success, or when resources failed
  type: dict
  sample:
    stack: crypto-lakehouse
    environment: development
    nodes:
      - {address: vpc.main, action: update, changes: [{path: enable_dns_support, before: false, after: true}]}
plan_text:
  description: The plan for readers.
  returned: success, or when resources failed
  type: str
  sample: "    ~ vpc.main  update"
summary:
  description: The plan in one line.
  returned: success, or when resources failed
  type: str
  sample: "Plan: 1 to update, 45 unchanged."
outputs:
  description: What each resource answers to references, by address. Secrets are left out.
  returned: success, or when resources failed
  type: dict
  sample: {vpc.main: {id: vpc-0a1b2c3d}}
resources:
  description: What became of each resource. Empty when only a plan was made.
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
  description: The same for readers.
  returned: success, or when resources failed
  type: str
  sample: "       done vpc.main  update, 0.4 s, 3 API calls"
undescribed:
  description:
    - Addresses of what carries the stack's tags and is not described any more. Listed with O(state=planned) where
      O(prune) is not set; a notice says how many there are.
  returned: success, or when resources failed
  type: list
  elements: str
  sample: [glue_crawler.gold]
notices:
  description: What to know beside the plan, as the kinds that were not looked for where the region lacks their service.
  returned: success, or when resources failed
  type: list
  elements: str
  sample: []
left:
  description:
    - What a destruction leaves. What is scheduled for deletion has the date on which it will be gone; a final snapshot
      of a database stays until somebody deletes it, and so does the key that encrypts it.
    - C(readable_until) is the date on which it or its key is gone, whichever is earlier.
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
  description: The account.
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
