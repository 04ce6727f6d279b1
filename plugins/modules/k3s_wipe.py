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
  - Stops the unit, ends containers of this installation, unmounts what K3s mounted, and deletes its files. It deletes
    nothing on another file system and follows no symbolic link.
  - Volumes of local-path stay unless O(delete_data). Their marker stays with them.
  - Deletes what this collection installed alone. A unit, a binary or a data directory without its records stays.
  - Refused before anything is touched are an empty path, C(/), a path with one part, a home or system directory, a
    symbolic link, a mount point of others, and the directory of another cluster.
  - Rules of iptables stay until the next start of the machine.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  state:
    description: V(absent) removes K3s. V(examined) returns what it would do.
    type: str
    choices: [absent, examined]
    default: absent
  cluster:
    description: Name of the cluster. The marker in O(data_dir) must name the same.
    type: str
    required: true
  data_dir:
    description: Data directory of K3s.
    type: str
    required: true
  storage:
    description: Directory of volumes, C(default-local-storage-path) of K3s. When empty, C(storage) in O(data_dir).
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
    description: Returns what would be removed.
  diff_mode:
    support: full
    description: Lists what is removed.
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
  description: State of the data directory, from which a plan decides.
  returned: with O(state=examined)
  type: dict
problems:
  description: Every problem with C(variable), C(message) and C(remedy).
  returned: when the removal is refused
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
    # Not of the type path: it would make a home directory of an unfinished text.
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
    """Examine, remove, and end the module."""
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
