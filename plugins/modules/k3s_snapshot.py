# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Save, verify, list or delete snapshots of a K3s server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_snapshot
short_description: Save, verify, list or delete snapshots of a K3s server
version_added: "1.0.0"
description:
  - Runs one action on the snapshots of this server. A record beside the snapshots contains the data for a restore, such
    as the release, the nodes and the hash of the token. It does not contain credentials.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  action:
    description:
      - V(read) returns snapshots and escrows. V(save) saves a snapshot whose name begins with O(name).
      - V(verify) compares the snapshot O(name), or the newest one with this prefix, with the hash that etcd appended to
        it, and fails if they differ.
      - V(upload) copies it to O(s3), with escrows. V(delete) deletes the snapshot O(name) of O(location).
    type: str
    choices: [read, save, verify, upload, delete]
    default: read
  name:
    description: Name of a snapshot, or its prefix.
    type: str
    default: ""
  host:
    description: Name of this host in the inventory.
    type: str
    required: true
  location:
    description: Location of the snapshot for V(delete).
    type: str
    choices: [local, s3]
    default: local
  s3:
    description:
      - Bucket for copies, with C(s3_bucket), C(s3_endpoint), C(s3_region) and C(s3_folder). Other keys set the
        retention. Snapshots are not copied without a bucket.
    type: dict
    default: {}
  keys:
    description: AWS credentials file of this host, which only root can read.
    type: path
    default: /etc/rancher/k3s/s3-credentials
  data_dir:
    description: Data directory of K3s.
    type: path
    default: /var/lib/rancher/k3s
  binary:
    description: Path of the binary.
    type: path
    default: /usr/local/bin/k3s
  port:
    description: Port of the API.
    type: int
    default: 6443
attributes:
  check_mode:
    support: full
    description: Reports an action other than V(read) as a change without running it.
  diff_mode:
    support: none
    description: An action is a line of the plan.
seealso:
  - module: crypto_lakehouse.platform.k3s_plan
"""

EXAMPLES = r"""
- name: Save a snapshot
  crypto_lakehouse.platform.k3s_snapshot:
    action: save
    name: lake-k3s-on-demand
    host: "{{ inventory_hostname }}"
  become: true
"""

RETURN = r"""
snapshot:
  description: Snapshot that was saved, verified or copied.
  returned: with O(action=save), O(action=verify) and O(action=upload)
  type: dict
snapshots:
  description: Snapshots on this host.
  returned: with O(action=read)
  type: list
  elements: dict
escrows:
  description: Escrows beside the snapshots, with the id of the cluster and the hash of the token.
  returned: with O(action=read)
  type: list
  elements: dict
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s.model import SnapshotSettings
from ..module_utils.k3s.shapes import ShapeError, as_plain, from_plain
from ..module_utils.k3s_host.access import AccessError
from ..module_utils.k3s_host.mirror import Mirror, bucket_of
from ..module_utils.k3s_host.snapshots import Store

ARGUMENT_SPEC = {
    "action": {"type": "str", "choices": ["read", "save", "verify", "upload", "delete"], "default": "read"},
    "name": {"type": "str", "default": ""},
    "host": {"type": "str", "required": True},
    "location": {"type": "str", "choices": ["local", "s3"], "default": "local"},
    "s3": {"type": "dict", "default": {}},
    # The path of a file.
    "keys": {"type": "path", "default": "/etc/rancher/k3s/s3-credentials", "no_log": False},
    "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
    "binary": {"type": "path", "default": "/usr/local/bin/k3s"},
    "port": {"type": "int", "default": 6443},
}


def mirror_of(store: Store, given: Mapping[str, Any]) -> Mirror | None:
    """Return the copies in a bucket; None if a bucket is not set."""
    settings = from_plain(SnapshotSettings, given["s3"], "s3")
    return Mirror(store, bucket_of(settings, Path(given["keys"]))) if settings.s3_bucket else None


def run(store: Store, mirror: Mirror | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Run an action and return the result of the module."""
    action, name = given["action"], given["name"]
    places: list[Store | Mirror] = [store, *([mirror] if mirror else [])]
    if action == "read":
        snapshots = [one for place in places for one in place.snapshots()]
        escrows = [one for place in places for one in place.escrows()]
        return {"changed": False, "snapshots": as_plain(snapshots), "escrows": as_plain(escrows)}
    if (action == "upload" or given["location"] == "s3") and not mirror:
        raise HostError("cannot use S3: `s3_bucket` of `k3s_snapshots` is empty. Set it.")
    place: Any = mirror if given["location"] == "s3" else store
    calls = {
        "save": lambda: {"changed": True, "snapshot": as_plain(store.save(name))},
        "verify": lambda: {"changed": False, "snapshot": as_plain(store.verify(name))},
        "upload": lambda: {"changed": True, "snapshot": as_plain(mirror.upload(name)) if mirror else {}},
        "delete": lambda: {"changed": place.delete(name)},
    }
    return calls[action]()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    given = module.params
    if module.check_mode and given["action"] != "read":
        module.exit_json(changed=True)
    store = Store(given["host"], Path(given["data_dir"]), given["binary"], given["port"])
    try:
        found = run(store, mirror_of(store, given), given)
    except (AccessError, HostError, OSError, ShapeError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(**found)


if __name__ == "__main__":
    main()
