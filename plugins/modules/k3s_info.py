# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the state of K3s on one host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_info
short_description: Read the state of K3s on a host
version_added: "1.0.0"
description:
  - Returns facts of the machine, the installed binary, the service, the data directory, the configuration on the disk,
    and the state of the cluster on a server. M(crypto_lakehouse.platform.k3s_plan) uses the reports of all hosts.
  - Changes nothing. The result does not contain credentials.
  - The module reads a server with the client certificates in K3s' data directory, and therefore requires root.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  host:
    description: Name of the host in the inventory.
    type: str
    required: true
  data_dir:
    description: Data directory of K3s if the configuration of the host does not set it.
    type: path
    default: /var/lib/rancher/k3s
  binary:
    description: Path of the binary.
    type: path
    default: /usr/local/bin/k3s
  files:
    description: Expected SHA-256 of files by their path. RV(stale_files) lists files that differ or are missing.
    type: dict
    default: {}
  record:
    description: File of the host that records the installed release, with the SHA-256 of O(binary).
    type: path
    default: /usr/local/share/crypto-lakehouse/k3s.json
  wait_timeout:
    description: Maximum time in seconds to wait for a running server that is not ready, such as after a restart.
    type: float
    default: 0
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: none
    description: Reads only.
  action:
    support: full
    description: The action compares the clock of the machine with the clock of the controller.
seealso:
  - module: crypto_lakehouse.platform.k3s_plan
"""

EXAMPLES = r"""
- name: Read the state of K3s
  crypto_lakehouse.platform.k3s_info:
    host: "{{ inventory_hostname }}"
  register: k3s
  become: true

- name: Show the members of etcd
  ansible.builtin.debug:
    var: k3s.report.etcd.members
"""

RETURN = r"""
report:
  description: State of the host.
  returned: success
  type: dict
  sample:
    host: server1
    role: server
    version: v1.34.3+k3s1
    service: active
    ready: true
stale_files:
  description: Paths of O(files), and O(binary), whose content differs from the expected or recorded SHA-256.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/k3s.service]
expected_files:
  description: Expected SHA-256 of O(files), and recorded SHA-256 of O(binary), by their path.
  returned: success
  type: dict
found_files:
  description: SHA-256 and mode of these files and of the configuration by their path. Token files have only a mode.
  returned: success
  type: dict
  sample: {/etc/rancher/k3s/config.yaml: {sha256: 9f86d081884c7d65, mode: "0600"}}
python:
  description: Path of the interpreter that runs modules on the host.
  returned: success
  type: str
  sample: /usr/bin/python3
clock:
  description: Time of the machine in seconds since the epoch, at the start and the end of the module.
  returned: success
  type: list
  elements: float
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.digests import sha256
from ..module_utils.host.errors import HostError, message_of
from ..module_utils.k3s_host.files import read_files
from ..module_utils.k3s_host.release import Record
from ..module_utils.k3s_host.report import Place, read_report

ARGUMENT_SPEC = {
    "host": {"type": "str", "required": True},
    "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
    "binary": {"type": "path", "default": "/usr/local/bin/k3s"},
    "files": {"type": "dict", "default": {}},
    "record": {"type": "path", "default": "/usr/local/share/crypto-lakehouse/k3s.json"},
    "wait_timeout": {"type": "float", "default": 0},
}


def stale(files: Mapping[str, str]) -> list[str]:
    """Return the paths of files whose SHA-256 is not the expected one."""
    return sorted(path for path, digest in files.items() if not Path(path).is_file() or sha256(Path(path)) != digest)


def expected(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the expected SHA-256 of the given files and of the installed binary."""
    recorded = dict(Record.read(Path(given["record"])).files).get(given["binary"])
    return {**given["files"], **({given["binary"]: recorded} if recorded else {})}


def main() -> None:
    """Run the module."""
    began = time.time()
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    given = module.params
    try:
        place = Place(given["host"], given["data_dir"], given["binary"], wait_s=given["wait_timeout"])
        report = read_report(place)
        files = expected(given)
        found = read_files(Path("/"), files)
        stale_files = stale(files)
    except (HostError, OSError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(
        changed=False,
        report=report.as_dict(),
        stale_files=stale_files,
        expected_files=files,
        found_files=found,
        python=sys.executable,
        clock=[began, time.time()],
    )


if __name__ == "__main__":
    main()
