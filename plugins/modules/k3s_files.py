# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write files of K3s on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_files
short_description: Write files of K3s on a host
version_added: "1.0.0"
description:
  - Writes a set of files, each atomically and with its mode from the start.
  - Removes other files of exclusive folders.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  files:
    description: Content of files by their path.
    type: dict
    default: {}
  former:
    description:
      - File of the host, with mode V(0600), for the former content of changed files until the change is proven.
        Former content is not kept when not set.
    type: path
  state:
    description:
      - V(present) writes O(files). V(restored) restores the content of O(former). V(proven) deletes O(former).
    type: str
    choices: [present, restored, proven]
    default: present
  modes:
    description: Mode of files by their path, as text of octal digits. V(0600) for other files.
    type: dict
    default: {}
  sensitive:
    description: Paths of files whose content a diff does not show.
    type: list
    elements: path
    default: []
  exclusive:
    description: Folders whose files outside of O(files) are removed.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    support: full
    description: Returns the files that would change.
  diff_mode:
    support: full
    description: Shows the content of files that are not sensitive.
seealso:
  - module: crypto_lakehouse.platform.k3s_plan
"""

EXAMPLES = r"""
- name: Write the configuration
  crypto_lakehouse.platform.k3s_files:
    files:
      /etc/rancher/k3s/config.yaml: |
        data-dir: /var/lib/rancher/k3s
    exclusive: [/etc/rancher/k3s/config.yaml.d]
  become: true
"""

RETURN = r"""
files:
  description: Paths of the files that changed.
  returned: success
  type: list
  elements: str
  sample: [/etc/rancher/k3s/config.yaml]
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import message_of
from ..module_utils.k3s_host.writing import Change, apply, changes, diff, remember, restore

ARGUMENT_SPEC = {
    # Values may contain credentials of registries and proxies.
    "files": {"type": "dict", "default": {}, "no_log": True},
    "former": {"type": "path"},
    "state": {"type": "str", "choices": ["present", "restored", "proven"], "default": "present"},
    "modes": {"type": "dict", "default": {}},
    "sensitive": {"type": "list", "elements": "path", "default": []},
    "exclusive": {"type": "list", "elements": "path", "default": []},
}


def plan(given: Mapping[str, Any]) -> list[Change]:
    """Return the changes of files that the arguments request."""
    record = Path(given["former"]) if given["former"] else None
    if given["state"] == "present":
        modes = {path: int(mode, 8) for path, mode in given["modes"].items()}
        return changes(given["files"], modes, given["exclusive"])
    return restore(record) if given["state"] == "restored" and record else []


def carry_out(given: Mapping[str, Any], planned: Sequence[Change]) -> None:
    """Write the files; keep or delete the record of their former content."""
    record = Path(given["former"]) if given["former"] else None
    if record and given["state"] == "present":
        remember(record, planned)
    apply(planned)
    if record and given["state"] != "present":
        record.unlink(missing_ok=True)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    # Ansible masks values of options without a log in every result, and these are texts such as `true`.
    module.no_log_values = set()
    given = module.params
    try:
        planned = plan(given)
        if not module.check_mode:
            carry_out(given, planned)
    except (OSError, ValueError) as error:
        module.fail_json(msg=message_of(error))
        return
    paths = [str(change.path) for change in planned]
    module.exit_json(changed=bool(planned), files=paths, diff=diff(planned, given["sensitive"]))


if __name__ == "__main__":
    main()
