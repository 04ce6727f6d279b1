# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move aside, copy, reset or restore the datastore of a stopped K3s server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_datastore
short_description: Move aside, copy, reset or restore the datastore of a stopped K3s server
version_added: "1.0.0"
description:
  - Changes the etcd datastore of a server whose service is stopped. Datastores are never deleted. A moved or copied
    datastore is C(etcd-aside-TIME) in the same folder.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  state:
    description:
      - V(moved) renames the datastore. V(copied) copies it.
      - V(reset) makes the member of this host the only one of its cluster.
      - V(restored) does the same with the data of O(snapshot).
    type: str
    choices: [moved, copied, reset, restored]
    required: true
  snapshot:
    description: Path of a snapshot on the host, for V(restored).
    type: path
    default: ""
  data_dir:
    description: Data directory of K3s.
    type: path
    default: /var/lib/rancher/k3s
  binary:
    description: Path of the binary.
    type: path
    default: /usr/local/bin/k3s
  environment_file:
    description: Environment of the service.
    type: path
    default: /etc/systemd/system/k3s.service.env
  timeout_s:
    description: Timeout of a reset or a restore in seconds.
    type: int
    default: 900
attributes:
  check_mode:
    support: full
    description: Reports the action as a change without running it.
  diff_mode:
    support: none
    description: An action is a line of the plan.
seealso:
  - module: crypto_lakehouse.platform.k3s_plan
"""

EXAMPLES = r"""
- name: Make this server the only member
  crypto_lakehouse.platform.k3s_datastore:
    state: reset
  become: true
"""

RETURN = r"""
path:
  description: Path of the datastore that was moved or copied. Empty without a datastore.
  returned: with O(state=moved) and O(state=copied), outside of check mode
  type: str
  sample: /var/lib/rancher/k3s/server/db/etcd-aside-20261130T120000Z
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s_host import datastore
from ..module_utils.k3s_host.datastore import Datastore

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["moved", "copied", "reset", "restored"], "required": True},
    "snapshot": {"type": "path", "default": ""},
    "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
    "binary": {"type": "path", "default": "/usr/local/bin/k3s"},
    "environment_file": {"type": "path", "default": "/etc/systemd/system/k3s.service.env"},
    "timeout_s": {"type": "int", "default": 900},
}


def calls(given: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return the call of each state."""
    store = Datastore(Path(given["data_dir"]))
    how = (store, given["binary"], Path(given["environment_file"]), given["timeout_s"])
    return {
        "moved": lambda: datastore.move_aside(store),
        "copied": lambda: datastore.copy_aside(store),
        "reset": lambda: datastore.reset(*how),
        "restored": lambda: datastore.reset(*how, given["snapshot"]),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        required_if=[("state", "restored", ["snapshot"])],
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        datastore.require_stopped()
        path = calls(module.params)[module.params["state"]]()
    except (HostError, OSError, TimeoutError) as error:
        module.fail_json(msg=message_of(error))
        return
    kept = {"path": path} if module.params["state"] in ("moved", "copied") else {}
    module.exit_json(changed=path != "", **kept)


if __name__ == "__main__":
    main()
