# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy a snapshot, or the credentials of its cluster, from the controller to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_recovery
short_description: Copy a snapshot, or the credentials of its cluster, from the controller to a host
version_added: "1.0.0"
description:
  - Lists snapshots and escrows in a folder of the controller, copies a snapshot to a server, or writes the credentials
    of an escrow to it.
  - The controller decrypts an escrow in memory. The private key is never sent to a host. Run the task with C(no_log),
    so that verbose output of the connection does not contain the credentials.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  state:
    description:
      - V(listed) returns snapshots and escrows in O(folder). V(copied) copies the snapshot O(name). V(placed) writes
        the credentials of its cluster.
      - V(sealed) returns an encrypted escrow of the host. Used by the action.
    type: str
    choices: [listed, copied, placed, sealed]
    required: true
  folder:
    description: Folder of the controller with snapshots, their records C(NAME.json), and escrows.
    type: path
    default: ""
  name:
    description: Name of a snapshot.
    type: str
    default: ""
  identity:
    description: Private key of age that decrypts the escrow. It never leaves the controller.
    type: str
  cluster_id:
    description: Id of the cluster of the escrow.
    type: str
    default: ""
  token_hash:
    description: Hash of the token of the escrow.
    type: str
    default: ""
  data_dir:
    description: Data directory of K3s.
    type: path
    default: /var/lib/rancher/k3s
  escrow:
    description: Decrypted credentials. Set by the action.
    type: dict
attributes:
  check_mode:
    support: full
    description: Neither copies nor writes files.
  diff_mode:
    support: none
    description: Credentials are not shown.
  action:
    support: full
    description: Reads the folder and decrypts on the controller.
seealso:
  - module: crypto_lakehouse.platform.k3s_escrow
  - module: crypto_lakehouse.platform.k3s_snapshot
"""

EXAMPLES = r"""
- name: List snapshots of the controller
  crypto_lakehouse.platform.k3s_recovery:
    state: listed
    folder: /srv/escrow
  register: recovery
"""

RETURN = r"""
snapshots:
  description: Snapshots in the folder.
  returned: with O(state=listed)
  type: list
  elements: dict
escrows:
  description: Escrows in the folder.
  returned: with O(state=listed)
  type: list
  elements: dict
"""

import base64
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s.snapshots import Escrow
from ..module_utils.k3s_host.recovery import place
from ..module_utils.k3s_host.snapshots import RECORDS, escrow_file

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["listed", "copied", "placed", "sealed"], "required": True},
    "folder": {"type": "path", "default": ""},
    "name": {"type": "str", "default": ""},
    "identity": {"type": "str", "no_log": True},
    "cluster_id": {"type": "str", "default": ""},
    # The hash does not reveal the token.
    "token_hash": {"type": "str", "default": "", "no_log": False},
    "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
    "escrow": {"type": "dict", "no_log": True},
}


def main() -> None:
    """Run the steps on the host."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    given, data = module.params, Path(module.params["data_dir"])
    try:
        if given["state"] == "sealed":
            path = data / RECORDS / escrow_file(Escrow(given["cluster_id"], given["token_hash"]))
            sealed = path.read_bytes() if path.is_file() else b""
            module.exit_json(changed=False, sealed=base64.b64encode(sealed).decode())
        if given["state"] != "placed" or not given["escrow"]:
            module.fail_json(msg="cannot run without the controller. Run the task on a host of the inventory.")
        changed = place(data, given["escrow"], check_mode=module.check_mode)
    except (HostError, OSError, KeyError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
