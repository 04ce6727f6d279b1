# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save, verify, list or delete snapshots of a K3s server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_snapshot
short_description: Save, verify, list or delete snapshots of a K3s server
version_added: "1.0.0"
description:
  - Runs one action on the snapshots of this server. A record beside the snapshots holds what a restore needs, such as
    the release, the nodes and the hash of the token, and no credential.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  action:
    description:
      - V(read) returns snapshots and escrows. V(save) saves a snapshot whose name begins with O(name). V(verify)
        compares the snapshot O(name), or the newest one that begins with it, with the hash that etcd appended to it;
        it fails where that differs. V(delete) deletes the snapshot O(name).
    type: str
    choices: [read, save, verify, delete]
    default: read
  name:
    description: Name of a snapshot.
    type: str
    default: ""
  host:
    description: Name of this host in the inventory.
    type: str
    required: true
  data_dir:
    description: Data directory of K3s.
    type: path
    default: /var/lib/rancher/k3s
  binary:
    description: Path of the binary.
    type: path
    default: /usr/local/bin/k3s
  port:
    description: Port of the API.
    type: int
    default: 6443
attributes:
  check_mode:
    support: full
    description: Changes nothing. An action other than V(read) is reported as a change.
  diff_mode:
    support: none
    description: An action is a line of the plan.
seealso:
  - module: crypto_lakehouse.platform.k3s_plan
"""

EXAMPLES = r"""
- name: Save a snapshot
  crypto_lakehouse.platform.k3s_snapshot:
    action: save
    name: lake-k3s-on-demand
    host: "{{ inventory_hostname }}"
  become: true
"""

RETURN = r"""
snapshot:
  description: The snapshot that was saved or verified.
  returned: with O(action=save) and O(action=verify)
  type: dict
snapshots:
  description: Snapshots on this host.
  returned: with O(action=read)
  type: list
  elements: dict
escrows:
  description: Escrows beside them, by the id of the cluster and the hash of the token.
  returned: with O(action=read)
  type: list
  elements: dict
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError, message_of
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.shapes import as_plain
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.access import AccessError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.snapshots import Store

ARGUMENT_SPEC = {
    "action": {"type": "str", "choices": ["read", "save", "verify", "delete"], "default": "read"},
    "name": {"type": "str", "default": ""},
    "host": {"type": "str", "required": True},
    "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
    "binary": {"type": "path", "default": "/usr/local/bin/k3s"},
    "port": {"type": "int", "default": 6443},
}


def run(store: Store, action: str, name: str) -> dict[str, Any]:
    """Run an action and return the result of the module."""
    if action == "read":
        return {"changed": False, "snapshots": as_plain(store.snapshots()), "escrows": as_plain(store.escrows())}
    if action == "delete":
        return {"changed": store.delete(name)}
    found = store.save(name) if action == "save" else store.verify(name)
    return {"changed": action == "save", "snapshot": as_plain(found)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    given = module.params
    if module.check_mode and given["action"] != "read":
        module.exit_json(changed=True)
    store = Store(given["host"], Path(given["data_dir"]), given["binary"], given["port"])
    try:
        found = run(store, given["action"], given["name"])
    except (AccessError, HostError, OSError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(**found)


if __name__ == "__main__":
    main()
