# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove K3s from a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_wipe
short_description: Remove K3s from a host
version_added: "1.0.0"
description:
  - Stops the unit and the containers of this installation, unmounts the mount points of K3s, and deletes its files. It
    neither deletes files on other file systems nor follows symbolic links.
  - Volumes of local-path and their marker are kept unless O(delete_data=true).
  - Deletes only the installation of this collection. A unit, a binary or a data directory without its records is kept.
  - Before the first change, the module rejects an empty path, C(/), a path with one part, and a home or system
    directory. It also rejects a symbolic link, a foreign mount point, and the directory of another cluster.
  - Rules of iptables remain until the machine restarts.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  state:
    description: V(absent) removes K3s. V(examined) returns the planned removal and the state of O(data_dir).
    type: str
    choices: [absent, examined]
    default: absent
  cluster:
    description: Name of the cluster. The marker in O(data_dir) must contain the same name.
    type: str
    required: true
  data_dir:
    description: Data directory of K3s.
    type: str
    required: true
  storage:
    description: Directory of volumes, C(default-local-storage-path) of K3s. By default C(storage) in O(data_dir).
    type: str
    default: ""
  delete_data:
    description: Whether to delete volumes.
    type: bool
    default: false
  binary:
    description: Path of the binary.
    type: str
    default: /usr/local/bin/k3s
  record:
    description: File that records the installed release.
    type: str
    default: /usr/local/share/crypto-lakehouse/k3s.json
attributes:
  check_mode:
    support: full
    description: Returns the objects that would be removed.
  diff_mode:
    support: full
    description: Lists the removed objects.
seealso:
  - module: crypto_lakehouse.platform.k3s_plan
  - module: crypto_lakehouse.platform.k3s_binary
"""

EXAMPLES = r"""
- name: Remove K3s and keep its volumes
  crypto_lakehouse.platform.k3s_wipe:
    cluster: lake
    data_dir: /var/lib/rancher/k3s
  become: true
"""

RETURN = r"""
removed:
  description: Units, processes, mount points, interfaces and paths, in the order of their removal.
  returned: success
  type: list
  elements: str
  sample: [unit k3s.service, mount /run/k3s/containerd/1/rootfs, /var/lib/rancher/k3s/agent]
examined:
  description: State of the data directory, for a plan.
  returned: with O(state=examined)
  type: dict
problems:
  description: All problems, each with C(variable), C(message) and C(remedy).
  returned: when the removal is rejected
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s.shapes import as_plain
from ..module_utils.k3s.wiping import Scope, wipe_problems
from ..module_utils.k3s_host.wipe import Place, examine, remove
from ..module_utils.shared.problem import problem_list

ARGUMENT_SPEC = {
    "state": {"type": "str", "choices": ["absent", "examined"], "default": "absent"},
    "cluster": {"type": "str", "required": True},
    # The type path would expand an incomplete value to a home directory.
    "data_dir": {"type": "str", "required": True},
    "storage": {"type": "str", "default": ""},
    "delete_data": {"type": "bool", "default": False},
    "binary": {"type": "str", "default": "/usr/local/bin/k3s"},
    "record": {"type": "str", "default": "/usr/local/share/crypto-lakehouse/k3s.json"},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        run(module, module.params)
    except (HostError, OSError, TimeoutError) as error:
        module.fail_json(msg=message_of(error))


def run(module: AnsibleModule, given: dict[str, Any]) -> None:
    """Examine and remove the installation, and exit the module."""
    scope = Scope(given["cluster"], given["data_dir"], given["storage"], given["delete_data"])
    place = Place(scope, given["binary"], given["record"])
    found = examine(place)
    if given["state"] == "examined":
        module.exit_json(changed=False, removed=found.lines(), examined=as_plain(found.state))
    problems = wipe_problems(scope, "this host", found.state)
    if problems:
        module.fail_json(msg=problem_list(problems), problems=[vars(problem) for problem in problems])
    if not module.check_mode:
        remove(place, found)
    lines = found.lines()
    before = "".join(f"{line}\n" for line in lines)
    module.exit_json(changed=bool(lines), removed=lines, diff={"before": before, "after": ""})


if __name__ == "__main__":
    main()
