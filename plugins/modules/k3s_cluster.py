# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for, or change, members and nodes of a K3s cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_cluster
short_description: Wait for, or change, members and nodes of a K3s cluster
version_added: "1.0.0"
description:
  - Runs one action of a plan on a server of the cluster, with K3s' API and etcd of that host. V(wait_ready) runs on an
    agent and uses the servers' API with the credentials of its kubelet.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  action:
    description:
      - V(wait_voter) waits until O(name), the node of this server, is Ready and EtcdIsVoter. V(wait_ready) waits until
        O(name), the node of this agent, is Ready. Both fail immediately when O(unit) fails repeatedly.
      - V(wait_learners) waits until etcd has no learner. V(wait_settled) waits until the member O(name) is removed and
        the voters are unchanged for longer than 7 s.
      - V(remove_member) removes the etcd member O(name). V(delete_node) deletes the Node O(name). V(delete_password)
        deletes its node-password Secret.
      - V(apply_registration) applies changed labels and taints to the Node O(name).
      - V(cordon) makes the Node O(name) unschedulable and records O(owner); a cordoned node is not changed.
        V(uncordon) makes it schedulable if O(owner) cordoned it. V(drain) evicts its pods and respects budgets.
        After O(timeout_s), it lists each remaining pod with the budget that blocks it.
    type: str
    choices:
      - wait_voter
      - wait_ready
      - wait_learners
      - wait_settled
      - remove_member
      - delete_node
      - delete_password
      - apply_registration
      - cordon
      - drain
      - uncordon
    required: true
  name:
    description: Name of the node or the member.
    type: str
    default: ""
  owner:
    description: Operation that cordons the node.
    type: str
    default: k3s_upgrade
  version:
    description: Release that the node must run before V(wait_voter) or V(wait_ready) ends.
    type: str
    default: ""
  changed:
    description: Whether to require that O(unit) runs for 20 s before V(wait_voter) or V(wait_ready) ends, because its
      settings changed.
    type: bool
    default: false
  unit:
    description:
      - Unit of the node on this host. V(wait_voter) and V(wait_ready) read it in every poll. They fail with the last
        fatal error of its log if it failed, or restarted three times with a permanent error.
      - The kubelet must renew the Lease of its node after the start of the unit.
    type: str
    default: ""
  data_dir:
    description: Data directory of K3s.
    type: path
    default: /var/lib/rancher/k3s
  port:
    description: Port of the API.
    type: int
    default: 6443
  timeout_s:
    description: Timeout of a wait in seconds.
    type: int
    default: 600
  before:
    description: Former settings C(node-label) and C(node-taint).
    type: dict
    default: {}
  after:
    description: Settings C(node-label) and C(node-taint) to apply.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
    description: Reports the action as a change, without waiting or changing the cluster.
  diff_mode:
    support: none
    description: An action is a line of the plan.
seealso:
  - module: crypto_lakehouse.platform.k3s_plan
"""

EXAMPLES = r"""
- name: Wait until a server votes
  crypto_lakehouse.platform.k3s_cluster:
    action: wait_voter
    name: server2
    unit: k3s.service
  become: true
"""

RETURN = r"""#"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s_host import cluster, drain, readiness
from ..module_utils.k3s_host.access import AccessError, Api
from ..module_utils.k3s_host.cluster import Site

ACTIONS = (
    "wait_voter",
    "wait_ready",
    "wait_learners",
    "wait_settled",
    "remove_member",
    "delete_node",
    "delete_password",
    "apply_registration",
    "cordon",
    "drain",
    "uncordon",
)
ARGUMENT_SPEC = {
    "action": {"type": "str", "choices": list(ACTIONS), "required": True},
    "name": {"type": "str", "default": ""},
    "owner": {"type": "str", "default": "k3s_upgrade"},
    "version": {"type": "str", "default": ""},
    "changed": {"type": "bool", "default": False},
    "unit": {"type": "str", "default": ""},
    "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
    "port": {"type": "int", "default": 6443},
    "timeout_s": {"type": "int", "default": 600},
    "before": {"type": "dict", "default": {}},
    "after": {"type": "dict", "default": {}},
}


def calls(site: Site, given: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return the call of each action."""
    name, unit, version, changed = given["name"], given["unit"], given["version"], given["changed"]
    return {
        "wait_voter": lambda: readiness.wait_voter(site, name, unit, version, changed=changed),
        "wait_ready": lambda: readiness.wait_ready(site, name, unit, version, changed=changed),
        "wait_learners": lambda: cluster.wait_learners(site),
        "wait_settled": lambda: cluster.wait_settled(site, name),
        "remove_member": lambda: cluster.remove_member(site, name),
        "delete_node": lambda: cluster.delete_node(site, name),
        "delete_password": lambda: cluster.delete_password(site, name),
        "apply_registration": lambda: cluster.register(site, name, given["before"], given["after"]),
        "cordon": lambda: drain.cordon(site, name, given["owner"]),
        "drain": lambda: drain.drain(site, name),
        "uncordon": lambda: drain.uncordon(site, name, given["owner"]),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    given = module.params
    waits = given["action"].startswith("wait_")
    if module.check_mode:
        module.exit_json(changed=not waits)
    data = Path(given["data_dir"])
    site = Site(data, Api(data, given["port"]), given["timeout_s"])
    try:
        changed = bool(calls(site, given)[given["action"]]())
    except (AccessError, HostError, OSError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
