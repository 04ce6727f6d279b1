# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a set of files and folders on a host, and insert secrets there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Write a set of files with secrets that are inserted on the host
version_added: "1.0.0"
description:
  - Replaces only files that differ, each atomically, and removes undescribed files from the folders in O(prune).
  - A placeholder C(${secret_value.NAME}) in a file's content is replaced by the secret's value from the store on the
    host. The value never passes through the controller. C(${secret_value.NAME|url}) inserts it percent-encoded,
    C(${secret_value.NAME|json}) as a quoted JSON string.
  - The diff of a file contains placeholders, and neither current nor former values.
  - Symbolic links below O(root) are rejected. All files and folders below it must belong to the running user.
  - All problems are reported together, before the first change. In check mode, a file or folder that cannot be
    repaired is one of the reported differences.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  files:
    description: Described files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file.
        type: path
        required: true
      content:
        description: Content of the file, with placeholders for secrets.
        type: str
        required: true
      mode:
        description: Quoted octal mode. A file with a placeholder must not be accessible to other users.
        type: raw
        default: "0600"
      service:
        description: Service that reads the file. Ignored; accepted with the renderer's result.
        type: str
  directories:
    description:
      - Described folders.
      - Missing parent folders of described paths are created with mode V(0700).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the folder.
        type: path
        required: true
      mode:
        description: Quoted octal mode.
        type: raw
        default: "0700"
      service:
        description: Service that owns the folder. Ignored; accepted with the renderer's result.
        type: str
  secrets:
    description:
      - Path of the store of M(crypto_lakehouse.platform.secret_store). Required when a file has a placeholder.
      - The module records the description of each file in C(descriptions.json) in the store's folder.
        A file without a record is treated as one that contains secrets.
    type: path
  changed_secrets:
    description:
      - RV(crypto_lakehouse.platform.secret_store#module:changed_secrets) of the same run.
      - In check mode, the store does not have their values yet, and files that contain them are reported as changed.
    type: list
    elements: str
    default: []
  prune:
    description: Folders whose undescribed files are removed, at any depth. Subfolders are kept.
    type: list
    elements: path
    default: []
  absent:
    description: Files that must not exist, because a program would read them. Folders of these names are kept.
    type: list
    elements: path
    default: []
  root:
    description:
      - Folder that must contain all paths, and below which no symbolic link is followed.
      - By default the lowest common folder of all paths.
    type: path
attributes:
  check_mode:
    support: full
    description: Returns exactly the changes that a run would make. Works before the secret store exists.
  diff_mode:
    support: full
    description:
      - One entry for each file, with placeholders instead of secrets on both sides. Former values are not required.
      - In a file that contains or contained secrets, an undescribed line is only shown as different.
seealso:
  - module: crypto_lakehouse.platform.secret_store
  - module: crypto_lakehouse.platform.host_services
"""

EXAMPLES = r"""
- name: Write the configuration of all services
  crypto_lakehouse.platform.host_files:
    directories: "{{ rendered.directories }}"
    files: "{{ rendered.files }}"
    secrets: /var/lib/crypto-lakehouse/secrets/store.json
    changed_secrets: "{{ secrets.changed_secrets }}"
    prune:
      - /var/lib/crypto-lakehouse/etc

- name: Write one file that contains a secret
  crypto_lakehouse.platform.host_files:
    root: /var/lib/crypto-lakehouse
    files:
      - path: /var/lib/crypto-lakehouse/etc/api/environment
        content: |
          LAKEHOUSE_DATABASE_URL=postgresql://lakehouse:${secret_value.database_lakehouse_password|url}@127.0.0.1/lakehouse
    secrets: /var/lib/crypto-lakehouse/secrets/store.json
"""

RETURN = r"""
changed_paths:
  description: Files and folders that were created, updated or removed. A repaired mode is in RV(actions) only.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/crypto-lakehouse/etc/prometheus/prometheus.yml]
actions:
  description: Changes in their order.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: Path of the file or folder.
      type: str
      returned: always
    action:
      description:
        - One of V(create), V(update), V(mode), V(remove).
        - In check mode, V(blocked) is a file or folder that would fail the run.
      type: str
      returned: always
    problem:
      description: Cause and remedy of V(blocked).
      type: str
      returned: with the action V(blocked)
  sample: [{path: /var/lib/crypto-lakehouse/etc/prometheus/prometheus.yml, action: update}]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host import files as host_files
from ..module_utils.host.descriptions import read_record
from ..module_utils.host.errors import HostError, message_of
from ..module_utils.host.markers import secret_names
from ..module_utils.host.store import read_store
from ..module_utils.host.tree import Tree
from ..module_utils.secrets.values import values_of

FILE_OPTIONS = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "mode": {"type": "raw", "default": "0600"},
    "service": {"type": "str"},
}
DIRECTORY_OPTIONS = {
    "path": {"type": "path", "required": True},
    "mode": {"type": "raw", "default": "0700"},
    "service": {"type": "str"},
}
ARGUMENT_SPEC = {
    "files": {"type": "list", "elements": "dict", "default": [], "options": FILE_OPTIONS},
    "directories": {"type": "list", "elements": "dict", "default": [], "options": DIRECTORY_OPTIONS},
    "secrets": {"type": "path", "no_log": False},
    "changed_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "prune": {"type": "list", "elements": "path", "default": []},
    "absent": {"type": "list", "elements": "path", "default": []},
    "root": {"type": "path"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        secrets = read_secrets(module.params, module.check_mode)
        module.no_log_values.update(value for value in secrets.values.values() if value)
        changes = run(module.params, secrets, module.check_mode)
    except (HostError, OSError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(
        changed=bool(changes),
        changed_paths=[str(change.path) for change in changes if change.action not in ("mode", "blocked")],
        actions=[described(change) for change in changes],
        diff=host_files.diff(changes),
    )


def described(change: host_files.Change) -> dict[str, str]:
    told = {"path": str(change.path), "action": change.action}
    return {**told, "problem": change.after.strip()} if change.action == "blocked" else told


def read_secrets(options: dict[str, Any], check_mode: bool) -> host_files.Secrets:
    path = Path(options["secrets"]) if options["secrets"] else None
    if path is None:
        return host_files.Secrets()
    store = read_store(Tree(path.parent), path)
    changing = set(options["changed_secrets"] if check_mode else ())
    if check_mode and not store:
        # A run outside of check mode creates the store first, with every described secret.
        changing.update(name for file in options["files"] for name in secret_names(file["content"]))
    return host_files.Secrets(values_of(store), frozenset(changing), read_record(path.parent))


def run(options: dict[str, Any], secrets: host_files.Secrets, check_mode: bool) -> list[host_files.Change]:
    files = [
        host_files.FileSpec(path, each["content"], host_files.parse_mode(each["mode"], path))
        for each in options["files"]
        for path in [Path(each["path"])]
    ]
    folders = [
        host_files.FolderSpec(path, host_files.parse_mode(each["mode"], path))
        for each in options["directories"]
        for path in [Path(each["path"])]
    ]
    prune = [Path(path) for path in options["prune"]]
    absent = [Path(path) for path in options["absent"]]
    paths = [*(file.path.parent for file in files), *(folder.path for folder in folders), *prune, *absent]
    root = Path(options["root"]) if options["root"] else host_files.common_root(paths or [Path("/")])
    return host_files.converge(Tree(root), folders, files, prune, secrets, check_mode, absent)


if __name__ == "__main__":
    main()
