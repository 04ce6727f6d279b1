# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan an operation on a K3s cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_plan
short_description: Plan an operation on a K3s cluster
version_added: "1.0.0"
description:
  - Returns the steps of an operation from the state of all hosts, or fails with all problems and their remedies.
    Runs on the controller and changes nothing.
  - A new cluster is initialised only if no server answers, and all listed servers are reachable and without data.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  operation:
    description: Operation to plan.
    type: str
    choices: [install, upgrade, snapshot, restore, remove]
    default: install
  options:
    description:
      - Options of O(operation). Unknown options are rejected. V(install) does not have options.
      - V(upgrade) has C(mode) (V(auto), V(drain), V(cordon_only)) and C(via), releases between the installed and the
        desired release.
      - V(snapshot) has existing C(snapshots) and C(escrows).
      - V(restore) has C(kind) (V(same_hosts), V(quorum_loss), V(new_hosts)), C(confirm), C(snapshot), C(lost), C(host),
        C(snapshots) and C(escrows).
      - V(remove) has C(confirm), C(nodes), C(delete_data) and C(states), the data directory by host.
    type: dict
    default: {}
  cluster:
    description: Desired cluster of the inventory, in the shape of C(ClusterSpec).
    type: dict
    required: true
  reports:
    description:
      - Results of M(crypto_lakehouse.platform.k3s_info) for the hosts of the whole inventory, even with C(--limit).
        A host without a report counts as unreachable.
    type: list
    elements: dict
    required: true
  hosts:
    description: Hosts of the play. Steps of other hosts are skipped and listed in RV(notices).
    type: list
    elements: str
    required: true
  kubeconfig:
    description:
      - Kubeconfig of the cluster on the controller. A cluster with another CA is rejected.
      - A file with several clusters or contexts is also rejected for V(install) and V(restore), because the role
        replaces the file after these operations.
    type: path
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: full
    description: Lists the steps.
  action:
    support: full
    description: Runs on the controller.
seealso:
  - module: crypto_lakehouse.platform.k3s_info
"""

EXAMPLES = r"""
- name: Plan the cluster
  crypto_lakehouse.platform.k3s_plan:
    cluster:
      name: lake
      version: v1.34.3+k3s1
      servers: [server1]
    reports: "{{ [k3s] }}"
    hosts: [server1]
  register: plan

- name: Plan an upgrade without evictions of pods
  crypto_lakehouse.platform.k3s_plan:
    operation: upgrade
    options: {mode: cordon_only}
    cluster:
      name: lake
      version: v1.34.4+k3s1
      servers: [server1]
    reports: "{{ [k3s] }}"
    hosts: [server1]
"""

RETURN = r"""
batches:
  description: Steps in their order. The steps of a batch run concurrently.
  returned: success
  type: list
  elements: list
text:
  description: Description of each step.
  returned: success
  type: list
  elements: str
  sample: ["1. initialise server1: no cluster exists, and every listed server is reachable and blank"]
differences:
  description:
    - Differences between hosts and their description, one line each. They are files of hosts that run K3s, by host and
      path, hosts that were not compared, and nodes and members without a listed host.
    - The steps of RV(batches) repair files. Empty for operations other than V(install).
  returned: success
  type: list
  elements: str
  sample: ["server1: /etc/rancher/k3s/config.yaml has mode 0644, not 0600"]
notices:
  description: Hosts that are not changed, with reasons.
  returned: success
  type: list
  elements: str
operation:
  description: Operation that was planned.
  returned: success
  type: str
states:
  description: State of each node, one line each.
  returned: always
  type: list
  elements: str
  sample: ["server1 v1.34.3+k3s1: healthy"]
problems:
  description: All problems, each with C(variable), C(message) and C(remedy).
  returned: when the plan is rejected
  type: list
  elements: dict
api_host:
  description: Server whose API the operation uses.
  returned: success
  type: str
cluster_id:
  description: Id of the cluster in the markers of its hosts.
  returned: success
  type: str
calendar:
  description: Schedule of snapshots as a calendar event of systemd. Empty for other operations.
  returned: success
  type: str
  sample: "*-*-* 0/6:0:00"
ca_hash:
  description: Hash of the cluster's CA as in a token. Empty before the cluster exists.
  returned: success
  type: str
"""
