# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what was changed in the installed software, and prepare its repair."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_software
short_description: Compare installed software with what was installed
version_added: "1.0.0"
description:
  - Compares each file below O(path) with the manifest of the installation, the application also with its source.
  - What differs is removed together with the mark of a complete installation, so that the installation is continued.
    A module does not install anything itself.
  - A file whose size, time of change and mode are the recorded ones is not read, but for files of the application.
    Python's caches of byte code are not compared.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  path:
    description: Folder of the installation.
    type: path
    required: true
  sources:
    description: SHA-256 of each file that is installed from, by its path below O(path).
    type: dict
    default: {}
  state:
    description:
      - V(intact) finds and removes what differs.
      - V(recorded) writes the manifest of an installation that has just been made.
    type: str
    choices: [intact, recorded]
    default: intact
attributes:
  check_mode:
    support: full
    description: Reports what differs and removes nothing.
  diff_mode:
    support: full
    description: Lists the files that differ.
seealso:
  - module: crypto_lakehouse.platform.host_files
"""

EXAMPLES = r"""
- name: Find what was changed in the software
  crypto_lakehouse.platform.host_software:
    path: /var/lib/crypto-lakehouse/software/4f1c0a9be210
    sources: "{{ preflight_result.software.sources }}"
"""

RETURN = r"""
damaged:
  description: Files that differ, are missing or do not belong there, below O(path), each with what was found.
  returned: always
  type: dict
  sample: {venv/lib/python3.13/site-packages/crypto_lakehouse/cli.py: differs}
everything:
  description: Whether the whole installation has to be made again, as nothing is known of it.
  returned: always
  type: bool
packages:
  description: Whether packages of the distribution have to be unpacked again.
  returned: always
  type: bool
distributions:
  description: Names of the Python packages that have to be installed again.
  returned: always
  type: list
  elements: str
  sample: [crypto-lakehouse]
changed_paths:
  description: The mark of a complete installation, when something differs, for the option of the same name elsewhere.
  returned: always
  type: list
  elements: str
versions:
  description: Name and version of the packages of the distribution that the installation had.
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
