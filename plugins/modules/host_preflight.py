# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return facts of a machine, and all problems that would stop a deployment on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_preflight
short_description: Find problems of a machine that would stop a deployment
version_added: "1.0.0"
description:
  - Checks the system, users, folders, disk, memory, ports, clock, interpreters and package sources of a machine,
    without changes.
  - Returns all problems together, each with its variable and remedy. Problems do not fail the task.
  - Ports and memory of the platform's own processes count as free.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  home:
    description:
      - Folder of the lakehouse. It may begin with C(~/).
      - By default C(/var/lib/crypto-lakehouse) for root, C(~/.local/share/crypto-lakehouse) for other users.
    type: str
    default: ""
  user:
    description: Service user when the module runs as root. The user may be missing.
    type: str
    default: ""
  target:
    description: Target of the lakehouse, which is compared with the marker in the folder.
    type: str
  environment:
    description: Environment of the lakehouse, which is compared with the marker in the folder.
    type: str
  ports:
    description: Ports on which services will listen.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Name of the service.
        type: str
        required: true
      name:
        description: Name of the port.
        type: str
        required: true
      address:
        description: IP address.
        type: str
        required: true
      port:
        description: Port number.
        type: int
        required: true
      protocol:
        description: Protocol. Only V(tcp) is checked.
        type: str
        default: tcp
      owner:
        description: Service whose process listens. Ignored; accepted with the renderer's result.
        type: str
  min_free_disk_gib:
    description:
      - Required free disk space of a first deployment in GiB.
      - One tenth of it is required if the software is installed.
    type: float
    default: 0.0
  min_memory_mib:
    description: Required available memory in MiB.
    type: int
    default: 0
  unix_sockets:
    description: Paths of unix sockets below O(home), whose length is limited.
    type: list
    elements: str
    default: []
  postgresql:
    description: Data of PostgreSQL, which only one major version can read.
    type: dict
    suboptions:
      data:
        description: Folder of the data, absolute or relative to O(home).
        type: str
        required: true
      major:
        description: Major version that will run.
        type: int
        required: true
  python_packages:
    description: Python packages that must be available from the package index.
    type: list
    elements: str
    default: []
  apt_packages:
    description: Packages of the distribution that must be available from its sources.
    type: list
    elements: str
    default: []
  optional_packages:
    description: Packages of O(python_packages) and O(apt_packages) that may be unavailable.
    type: list
    elements: str
    default: []
  package_index:
    description: Address of the index of Python packages. By default the configured index of pip or uv.
    type: str
    default: ""
  package_timeout_s:
    description: Timeout of one package source in seconds.
    type: float
    default: 5.0
  pythons:
    description: Python interpreters that are tried before those of the system.
    type: list
    elements: str
    default: []
  software:
    description: Digest of the software. Package sources are not checked if it is installed.
    type: str
    default: ""
  ca_bundle:
    description: File of certificate authorities for the services.
    type: str
    default: ""
  backup_folder:
    description: Folder for backups. It must exist, and belong to the service user or contain backups only.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: The module changes nothing.
  diff_mode:
    support: none
    description: The module changes nothing.
notes:
  - Supported systems are Debian 12 and 13, Ubuntu 22.04 and 24.04, on x86_64 and aarch64.
"""

EXAMPLES = r"""
- name: Check the machine
  crypto_lakehouse.platform.host_preflight:
    user: lakehouse
    target: host
    environment: development
    ports: "{{ rendered.ports }}"
    min_free_disk_gib: 5
    min_memory_mib: 1536
    postgresql: {data: data/database/data, major: 17}
  register: machine

- name: Fail before the first change
  ansible.builtin.fail:
    msg: "{{ machine.problems | map(attribute='message') | join('; ') }}"
  when: machine.problems | length > 0
"""

RETURN = r"""
problems:
  description: Problems that would stop a deployment.
  returned: always
  type: list
  elements: dict
  contains:
    variable:
      description: Variable to correct.
      type: str
      returned: always
    message:
      description: Description of the problem.
      type: str
      returned: always
    remedy:
      description: Remedy.
      type: str
      returned: always
  sample:
    - variable: lakehouse_port_offset
      message: port 5432 on 127.0.0.1 (database, postgresql) is taken by postgres (process 812 of user postgres)
      remedy: end that process, or set lakehouse_port_offset to move all ports
facts:
  description:
    - Facts of the machine. C(home), C(user) and C(python) are the folder, user and interpreter of the deployment.
      C(marker) is the marker of an earlier deployment. C(software) maps the digest of each installed software to its
      packages of the distribution. C(obtainable) maps each package of the options to its availability.
  returned: always
  type: dict
  sample:
    architecture: x86_64
    disk_free_mib: 81920
    distribution: debian
    group_missing: true
    home: /var/lib/crypto-lakehouse
    home_missing: true
    home_ready: false
    marker: null
    memory_available_mib: 15360
    obtainable: {}
    package_environment: {}
    python: /usr/bin/python3.11
    python_version: 3.11.2
    pythons: [{path: /usr/bin/python3.11, version: 3.11.2, problem: ""}]
    running: false
    software: {}
    software_installed: false
    systemd: true
    uid: 0
    user: lakehouse
    user_home: ""
    user_incomplete: false
    user_missing: true
    version: "12"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import message_of
from ..module_utils.host.preflight import Port, Question, examine

PORT_OPTIONS = {
    "service": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "protocol": {"type": "str", "default": "tcp"},
    "owner": {"type": "str"},
}
POSTGRESQL_OPTIONS = {"data": {"type": "str", "required": True}, "major": {"type": "int", "required": True}}
ARGUMENT_SPEC = {
    "home": {"type": "str", "default": ""},
    "user": {"type": "str", "default": ""},
    "target": {"type": "str"},
    "environment": {"type": "str"},
    "ports": {"type": "list", "elements": "dict", "default": [], "options": PORT_OPTIONS},
    "min_free_disk_gib": {"type": "float", "default": 0.0},
    "min_memory_mib": {"type": "int", "default": 0},
    "unix_sockets": {"type": "list", "elements": "str", "default": []},
    "postgresql": {"type": "dict", "options": POSTGRESQL_OPTIONS},
    "python_packages": {"type": "list", "elements": "str", "default": []},
    "apt_packages": {"type": "list", "elements": "str", "default": []},
    "optional_packages": {"type": "list", "elements": "str", "default": []},
    "package_index": {"type": "str", "default": ""},
    "package_timeout_s": {"type": "float", "default": 5.0},
    "pythons": {"type": "list", "elements": "str", "default": []},
    "software": {"type": "str", "default": ""},
    "ca_bundle": {"type": "str", "default": ""},
    "backup_folder": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    try:
        answer = answer_to(module.params)
    except OSError as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(**answer)


def answer_to(options: dict[str, Any]) -> dict[str, Any]:
    """Return the result of the module for these options."""
    facts, problems = examine(question(options))
    return {"changed": False, "facts": facts, "problems": [vars(problem) for problem in problems]}


def question(options: dict[str, Any]) -> Question:
    words = {name: value for name, value in options.items() if name not in ("ports", "postgresql")}
    data = options["postgresql"] or {"data": "", "major": None}
    tcp = (each for each in options["ports"] if each["protocol"] == "tcp")
    ports = [Port(each["service"], each["name"], each["address"], each["port"]) for each in tcp]
    return Question(**words, ports=ports, postgresql_data=data["data"], postgresql_major=data["major"])


if __name__ == "__main__":
    main()
