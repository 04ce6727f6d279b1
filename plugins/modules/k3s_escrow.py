# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Store the encrypted credentials of a K3s cluster beside its snapshots."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_escrow
short_description: Store the encrypted credentials of a K3s cluster beside its snapshots
version_added: "1.0.0"
description:
  - Encrypts tokens, CAs and the encryption configuration of a server for recipients of age. Stores the result beside
    the snapshots of the server and, with O(folder), on the controller. A snapshot without its token is useless.
  - The controller encrypts the credentials in memory. Run the task with C(no_log), so that verbose output of the
    connection does not contain them.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  recipients:
    description: Public keys of age, V(age1...).
    type: list
    elements: str
    default: []
  folder:
    description: Folder of the controller for a copy of the encrypted file outside of the cluster.
    type: path
  data_dir:
    description: Data directory of K3s.
    type: path
    default: /var/lib/rancher/k3s
  state:
    description: Step on the host. Set by the action.
    type: str
    choices: [read, stored]
    default: read
  sealed:
    description: Encrypted credentials. Set by the action.
    type: str
  cluster_id:
    description: Id of the cluster. Set by the action.
    type: str
    default: ""
  token_hash:
    description: Hash of the token. Set by the action.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Neither reads nor writes credentials.
  diff_mode:
    support: none
    description: The content is encrypted.
  action:
    support: full
    description: Encrypts on the controller.
seealso:
  - module: crypto_lakehouse.platform.k3s_snapshot
"""

EXAMPLES = r"""
- name: Store the encrypted credentials of the cluster
  crypto_lakehouse.platform.k3s_escrow:
    recipients: [age1rg8lu9lgsklt2g3cmtksvqpg3jc385zn6xcp9rgtykv5y64dj59sn9x8hp]
    folder: /srv/escrow
  become: true
  no_log: true
"""

RETURN = r"""
file:
  description: Name of the encrypted file.
  returned: success
  type: str
  sample: escrow-11111111-1111-4111-8111-111111111111-0123456789ab.age
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s.snapshots import Escrow
from ..module_utils.k3s_host.escrow import read_escrow, sealed_bytes, store_escrow

ARGUMENT_SPEC = {
    "recipients": {"type": "list", "elements": "str", "default": []},
    "folder": {"type": "path"},
    "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
    "state": {"type": "str", "choices": ["read", "stored"], "default": "read"},
    "sealed": {"type": "str"},
    "cluster_id": {"type": "str", "default": ""},
    # K3s itself records this hash without protection.
    "token_hash": {"type": "str", "default": "", "no_log": False},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    given = module.params
    data = Path(given["data_dir"])
    try:
        if given["state"] == "read":
            module.exit_json(changed=False, escrow=read_escrow(data))
        escrow = Escrow(given["cluster_id"], given["token_hash"])
        changed = store_escrow(data, escrow, sealed_bytes(given["sealed"] or ""))
    except (HostError, OSError, ValueError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
