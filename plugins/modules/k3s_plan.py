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
  - Returns the steps of an operation from the state of all hosts, or fails with every problem and its remedy at once.
    Runs on the controller and changes nothing.
  - A new cluster is initialised only if no server answers, every listed server is reachable, and none holds data.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  operation:
    description: Operation that is planned.
    type: str
    choices: [install, upgrade, snapshot, restore, remove]
    default: install
  options:
    description:
      - Options of O(operation). An unknown one is refused. V(install) has none.
      - V(upgrade) has C(mode) (V(auto), V(drain), V(cordon_only)) and C(via), releases between the installed and the
        asked one.
      - V(snapshot) has C(snapshots) and C(escrows) that exist.
      - V(restore) has C(kind) (V(same_hosts), V(quorum_loss), V(new_hosts)), C(confirm), C(snapshot), C(lost), C(host),
        C(snapshots) and C(escrows).
      - V(remove) has C(confirm), C(nodes), C(delete_data) and C(states), the data directory by host.
    type: dict
    default: {}
  cluster:
    description: The cluster that the inventory asks for, in the shape of C(ClusterSpec).
    type: dict
    required: true
  reports:
    description:
      - Results of M(crypto_lakehouse.platform.k3s_info) for the hosts of the whole inventory, also under C(--limit).
        A host without a report counts as unreachable.
    type: list
    elements: dict
    required: true
  hosts:
    description: Hosts of the play. Steps of other hosts are left out and named in RV(notices).
    type: list
    elements: str
    required: true
  kubeconfig:
    description:
      - Kubeconfig of the cluster on the controller. A cluster with another CA is refused.
      - A file that holds several clusters or contexts is refused as well for V(install) and V(restore), after which the
        role replaces it.
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
    description: An action on the controller.
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

- name: Plan an upgrade that evicts no pod
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
  description: Steps in their order. Those of a batch run side by side.
  returned: success
  type: list
  elements: list
text:
  description: A line for each step.
  returned: success
  type: list
  elements: str
  sample: ["1. initialise server1: no cluster exists, and every listed server is reachable and blank"]
differences:
  description:
    - Differences between hosts and their description that an installation found, a line for each. Files of hosts that
      run K3s by host and path, hosts that were not compared, and nodes and members of no listed host.
    - The steps of RV(batches) repair files. Empty for other operations.
  returned: success
  type: list
  elements: str
  sample: ["server1: /etc/rancher/k3s/config.yaml has mode 0644, not 0600"]
notices:
  description: Hosts that are left as they are.
  returned: success
  type: list
  elements: str
operation:
  description: Operation that was planned.
  returned: success
  type: str
states:
  description: A line on the state of every node.
  returned: always
  type: list
  elements: str
  sample: ["server1 v1.34.3+k3s1: healthy"]
problems:
  description: Every problem with C(variable), C(message) and C(remedy).
  returned: when the plan is refused
  type: list
  elements: dict
api_host:
  description: Server whose API is asked.
  returned: success
  type: str
cluster_id:
  description: Id of the cluster in the markers of its hosts.
  returned: success
  type: str
calendar:
  description: Schedule of snapshots as a calendar event of systemd; empty for other operations.
  returned: success
  type: str
  sample: "*-*-* 0/6:0:00"
ca_hash:
  description: Hash of the cluster's CA as in a token; empty before the cluster exists.
  returned: success
  type: str
"""
