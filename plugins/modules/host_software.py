# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find changed files of the installed software, and prepare their repair."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_software
short_description: Compare installed software with its manifest
version_added: "1.0.0"
description:
  - Compares each file below O(path) with the manifest of the installation, the application also with its source.
  - Files that differ are removed together with the record of a complete installation, so that a later task continues
    the installation. The module itself does not install software.
  - Files with the recorded size, modification time and mode are not read, except files of the application.
    Python's bytecode caches are not compared.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  path:
    description: Folder of the installation.
    type: path
    required: true
  sources:
    description: SHA-256 of each source file of the installation, by its path below O(path).
    type: dict
    default: {}
  state:
    description:
      - V(intact) finds and removes files that differ.
      - V(recorded) writes the manifest of a new installation.
    type: str
    choices: [intact, recorded]
    default: intact
attributes:
  check_mode:
    support: full
    description: Reports the files that differ and removes none.
  diff_mode:
    support: full
    description: Lists the files that differ.
seealso:
  - module: crypto_lakehouse.platform.host_files
"""

EXAMPLES = r"""
- name: Find changed files of the software
  crypto_lakehouse.platform.host_software:
    path: /var/lib/crypto-lakehouse/software/4f1c0a9be210
    sources: "{{ preflight_result.software.sources }}"
"""

RETURN = r"""
damaged:
  description: Finding by file below O(path), for files that differ, are missing or are not in the manifest.
  returned: always
  type: dict
  sample: {venv/lib/python3.13/site-packages/crypto_lakehouse/cli.py: differs}
everything:
  description: Whether the whole installation must be repeated, because its manifest is missing.
  returned: always
  type: bool
packages:
  description: Whether packages of the distribution must be unpacked again.
  returned: always
  type: bool
distributions:
  description: Names of the Python packages that must be reinstalled.
  returned: always
  type: list
  elements: str
  sample: [crypto-lakehouse]
changed_paths:
  description:
    - Path of the record of a complete installation if files differ.
    - Pass it to O(crypto_lakehouse.platform.host_services#module:changed_paths).
  returned: always
  type: list
  elements: str
versions:
  description: Version by name of the distribution's packages in the installation.
  returned: always
  type: dict
"""

import contextlib
import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.host.installed import COMPLETE, Damage, clear, examine, record

ARGUMENT_SPEC = {
    "path": {"type": "path", "required": True},
    "sources": {"type": "dict", "default": {}},
    "state": {"type": "str", "choices": ["intact", "recorded"], "default": "intact"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    folder = Path(module.params["path"])
    versions, damage, changed = read_versions(folder), Damage({}), False
    try:
        if module.params["state"] == "recorded":
            changed = True
            if not module.check_mode:
                record(folder)
        else:
            damage = examine(folder, module.params["sources"])
            changed = bool(damage)
            if changed and not module.check_mode:
                clear(folder, damage)
    except (HostError, OSError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(
        changed=changed,
        damaged=dict(damage.paths),
        everything=damage.everything,
        packages=damage.packages or damage.everything,
        distributions=list(damage.distributions),
        changed_paths=[str(folder / COMPLETE)] if damage else [],
        versions=versions,
        diff={"before": "".join(f"{path}: {found}\n" for path, found in damage.paths.items()), "after": ""},
    )


def read_versions(folder: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads((folder / COMPLETE).read_bytes())["packages"])
    return {}


if __name__ == "__main__":
    main()
