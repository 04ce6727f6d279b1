# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a whole set of files and folders of a host to their description, with secrets put in at the destination."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Bring a set of files to its description, secrets put in on the host
version_added: "1.0.0"
description:
  - Writes what differs and nothing else, each file in one step,
    and removes undescribed files from the folders in O(prune).
  - A marker C(${secret_value.NAME}) in a file's content is replaced by the secret's value from the store on the host,
    so that the value never passes through the controller. C(${secret_value.NAME|url}) puts it in percent-encoded,
    C(${secret_value.NAME|json}) as a quoted JSON string.
  - The diff of a file shows markers, never a value, neither the one of today nor one that was there before.
  - Symbolic links below O(root) are refused. Everything there must belong to the running user.
  - All problems are found before the first change, and reported at once. In check mode a file or folder that cannot
    be repaired is one of the reported differences, and hides no other.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  files:
    description: The files that there must be.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      content:
        description: Its text, with markers for secrets.
        type: str
        required: true
      mode:
        description: Its permission bits, in quotes. A file with a marker must not let others in.
        type: raw
        default: "0600"
      service:
        description: The service that reads the file. Not used here; accepted with the renderer's result.
        type: str
  directories:
    description:
      - The folders that there must be.
      - Folders above a described path that are missing are made with mode V(0700).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The folder.
        type: path
        required: true
      mode:
        description: Its permission bits, in quotes.
        type: raw
        default: "0700"
      service:
        description: The service whose folder it is. Not used here; accepted with the renderer's result.
        type: str
  secrets:
    description:
      - The store of M(crypto_lakehouse.platform.secret_store). Needed when a file has a marker.
      - The module records in the store's folder, as C(descriptions.json), what each file was written from.
        A file without a record is taken for one that holds secrets.
    type: path
  changed_secrets:
    description:
      - RV(crypto_lakehouse.platform.secret_store#module:changed_secrets) of the same run.
      - In check mode the store does not have their values yet; the files that hold them are then reported as changing.
    type: list
    elements: str
    default: []
  prune:
    description: Folders from which files are removed that are not described, at any depth. Folders are kept.
    type: list
    elements: path
    default: []
  absent:
    description: Files that must not exist, since a program would read them. Folders of these names are kept.
    type: list
    elements: path
    default: []
  root:
    description:
      - The folder that every path must lie in, and below which no symbolic link is followed.
      - By default the lowest folder that all paths share.
    type: path
attributes:
  check_mode:
    support: full
    description: Predicts exactly the changes that a run makes. Works before the secret store exists.
  diff_mode:
    support: full
    description:
      - One entry for each file, with placeholders in the place of secrets on both sides. No former value is needed.
      - Of a file that holds or held secrets, a line that is in no description is shown as different and nothing more.
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

- name: Write one file that holds a secret
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
  description: Files and folders that were created, updated or removed. A repaired mode is in RV(actions) alone.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/crypto-lakehouse/etc/prometheus/prometheus.yml]
actions:
  description: What was done, in order.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The file or folder.
      type: str
      returned: always
    action:
      description:
        - One of V(create), V(update), V(mode), V(remove).
        - In check mode V(blocked) is one that the run would be stopped by.
      type: str
      returned: always
    problem:
      description: Why a V(blocked) one cannot be repaired, and what to do.
      type: str
      returned: when it is blocked
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
        # The run that this check stands for makes the store first, with every secret that is described.
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
