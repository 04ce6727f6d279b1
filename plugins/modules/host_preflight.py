# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a machine is, and everything about it that would stop a deployment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_preflight
short_description: Find everything on a machine that would stop a deployment
version_added: "1.0.0"
description:
  - Looks at the system, users, folders, disk, memory, ports, clock, interpreters and package sources of a machine,
    and changes nothing.
  - Returns all problems at once, each with the variable to look at and what to do. Problems do not make the task fail.
  - Ports and memory that the platform's own processes hold count as free.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  home:
    description:
      - The folder of the installation. It may begin with C(~/).
      - When it is empty, C(/var/lib/crypto-lakehouse) for root, C(~/.local/share/crypto-lakehouse) for other users.
    type: str
    default: ""
  user:
    description: The system user that the services run as when the module runs as root. It need not exist yet.
    type: str
    default: ""
  target:
    description: What the lakehouse runs on; compared with what the folder says of itself.
    type: str
  environment:
    description: The environment; compared with what the folder says of itself.
    type: str
  ports:
    description: The ports that services will listen on.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: The service.
        type: str
        required: true
      name:
        description: What the port is called.
        type: str
        required: true
      address:
        description: The IP address.
        type: str
        required: true
      port:
        description: The number.
        type: int
        required: true
      protocol:
        description: Only V(tcp) is examined.
        type: str
        default: tcp
      owner:
        description: The service whose process listens. Not used here; accepted with the renderer's result.
        type: str
  min_free_disk_gib:
    description:
      - Free disk space that a first deployment needs, in GiB.
      - A tenth of it will do where software is installed.
    type: float
    default: 0.0
  min_memory_mib:
    description: Memory that has to be available, in MiB.
    type: int
    default: 0
  unix_sockets:
    description: Paths of unix sockets below O(home), whose length is limited.
    type: list
    elements: str
    default: []
  postgresql:
    description: Data that only one major version of PostgreSQL can read.
    type: dict
    suboptions:
      data:
        description: The folder of the data, absolute or below O(home).
        type: str
        required: true
      major:
        description: The major version that will run.
        type: int
        required: true
  python_packages:
    description: Python packages that have to be obtainable.
    type: list
    elements: str
    default: []
  apt_packages:
    description: Packages of the distribution that have to be obtainable.
    type: list
    elements: str
    default: []
  optional_packages:
    description: Those of O(python_packages) and O(apt_packages) that may be missing.
    type: list
    elements: str
    default: []
  package_index:
    description: Address of the index of Python packages. By default what pip or uv is configured with.
    type: str
    default: ""
  package_timeout_s:
    description: Seconds that one source of packages may take to answer.
    type: float
    default: 5.0
  pythons:
    description: Interpreters to try before those of the system.
    type: list
    elements: str
    default: []
  software:
    description: Digest of the software. When it is installed, no source of packages is asked.
    type: str
    default: ""
  ca_bundle:
    description: File of certificate authorities that the services will trust.
    type: str
    default: ""
  backup_folder:
    description: Folder that backups will go to. It must exist, and be the service user's or hold nothing but backups.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Changes nothing in either mode.
  diff_mode:
    support: none
    description: Changes nothing that could be shown.
notes:
  - Supported are Debian 12 and 13, Ubuntu 22.04 and 24.04, on x86_64 and aarch64.
"""

EXAMPLES = r"""
- name: Examine the machine
  crypto_lakehouse.platform.host_preflight:
    user: lakehouse
    target: host
    environment: development
    ports: "{{ rendered.ports }}"
    min_free_disk_gib: 5
    min_memory_mib: 1536
    postgresql: {data: data/database/data, major: 17}
  register: machine

- name: Stop before anything is changed
  ansible.builtin.fail:
    msg: "{{ machine.problems | map(attribute='message') | join('; ') }}"
  when: machine.problems | length > 0
"""

RETURN = r"""
problems:
  description: Everything that would stop a deployment.
  returned: always
  type: list
  elements: dict
  contains:
    variable:
      description: The variable to look at.
      type: str
      returned: always
    message:
      description: What is wrong.
      type: str
      returned: always
    remedy:
      description: What to do.
      type: str
      returned: always
  sample:
    - variable: lakehouse_port_offset
      message: port 5432 on 127.0.0.1 (database, postgresql) is taken by postgres (process 812 of user postgres)
      remedy: end that process, or set lakehouse_port_offset to move all ports
facts:
  description:
    - What the machine is. C(home) and C(user) are those that the deployment will have; C(python) is the interpreter
      for it; C(marker) is what an earlier deployment wrote about itself; C(software) maps the digest of
      each installed software to the distribution's packages in it; C(obtainable) tells of each package that was asked
      for whether it can be had.
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
    """Return what the module returns for these options."""
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
