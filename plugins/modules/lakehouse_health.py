# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how an installation is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lakehouse_health
short_description: Check every layer of a lakehouse
version_added: 1.0.0
description:
  - Examines the machine, the supervisor, every service, the data layer, the monitoring and the age of the last pipeline
    run, all at the same time, and returns one report.
  - Changes nothing. A check that cannot be made is an unhealthy check.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  target:
    description: What the lakehouse runs on.
    type: str
    choices: [host]
    default: host
  home:
    description: Folder of the installation.
    type: path
    required: true
  programs:
    description:
      - The programs that supervisord has to run, as P(crypto_lakehouse.platform.render_services#filter) returns them.
      - Every program that supervisord knows is checked when this is empty.
    type: list
    elements: dict
    default: []
  health:
    description: Health checks of the services, as P(crypto_lakehouse.platform.render_services#filter) returns them.
    type: list
    elements: dict
    default: []
  api_url:
    description: Address of the lakehouse API. The layers C(data) and C(pipeline) are left out without it.
    type: str
  prometheus_url:
    description: Address of Prometheus. The layer C(monitoring) is left out without it.
    type: str
  prometheus_username:
    description: User name for Prometheus.
    type: str
  prometheus_password_file:
    description: File on the target that holds the password for Prometheus.
    type: path
  fail_on_unhealthy:
    description: Whether the task fails when something is unhealthy.
    type: bool
    default: true
  timeout_s:
    description: Longest time in seconds that one check may take.
    type: float
    default: 5.0
  disk_free_min_percent:
    description: Free part of O(home)'s disk below which the machine is unhealthy. It is degraded below twice of it.
    type: float
    default: 5.0
  memory_available_min_percent:
    description: Available part of the memory below which the machine is unhealthy. It is degraded below twice of it.
    type: float
    default: 5.0
  load_max_per_cpu:
    description: Load of five minutes divided by the number of CPUs above which the machine is degraded.
    type: float
    default: 4.0
  restart_window_s:
    description: A program that exited by itself within this many seconds is degraded.
    type: float
    default: 600.0
  pipeline_max_age_s:
    description: Age in seconds of a flow's last successful run above which it is unhealthy.
    type: float
    default: 93600.0
  reference_time_s:
    description: Time of the controller in seconds since 1970, to compare the target's clock with.
    type: float
attributes:
  check_mode:
    description: Runs in check mode as it does otherwise.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: How is the lakehouse?
  crypto_lakehouse.platform.lakehouse_health:
    home: /var/lib/crypto-lakehouse
    api_url: http://127.0.0.1:8080
    prometheus_url: http://127.0.0.1:9090
    prometheus_username: lakehouse
    prometheus_password_file: /var/lib/crypto-lakehouse/secrets/prometheus/prometheus_password
  register: lakehouse
"""

RETURN = r"""
msg:
  description: What is unhealthy and what to do about it, a line each; the figures in one line when nothing is.
  returned: always
  type: str
  sample: "24 checks: 1 degraded, 23 healthy"
healthy:
  description: Whether no check is unhealthy.
  returned: always
  type: bool
  sample: true
checks:
  description: Every check, the worst first, then in the order of the layers.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Layer and subject.
      type: str
      sample: services/database
    layer:
      description: One of C(machine), C(supervisor), C(services), C(data), C(monitoring), C(pipeline).
      type: str
      sample: services
    status:
      description: One of C(healthy), C(degraded) (works, and wants attention), C(unhealthy).
      type: str
      sample: healthy
    detail:
      description: What was seen, in one line.
      type: str
      sample: connected
    remedy:
      description: The next command or the place to look at, empty when there is nothing to do.
      type: str
      sample: tail -n 50 /var/lib/crypto-lakehouse/log/database.log
    response_time_ms:
      description: How long the answer took.
      type: float
      sample: 3.4
unhealthy:
  description: Names of the unhealthy checks.
  returned: always
  type: list
  elements: str
  sample: [services/database]
degraded:
  description: Names of the degraded checks.
  returned: always
  type: list
  elements: str
  sample: [data/market_api]
table:
  description: The report for people, several lines.
  returned: always
  type: str
  sample: "STATUS   CHECK              TIME  DETAIL\nhealthy  services/database  3 ms  connected\n\n1 check: 1 healthy"
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.checks import Thresholds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.examine import Installation, examine


def _argument_spec() -> dict[str, dict[str, Any]]:
    return {
        "target": {"type": "str", "choices": ["host"], "default": "host"},
        "home": {"type": "path", "required": True},
        "programs": {"type": "list", "elements": "dict", "default": []},
        "health": {"type": "list", "elements": "dict", "default": []},
        "api_url": {"type": "str"},
        "prometheus_url": {"type": "str"},
        "prometheus_username": {"type": "str"},
        "prometheus_password_file": {"type": "path", "no_log": False},
        "fail_on_unhealthy": {"type": "bool", "default": True},
        "timeout_s": {"type": "float", "default": 5.0},
        "disk_free_min_percent": {"type": "float", "default": 5.0},
        "memory_available_min_percent": {"type": "float", "default": 5.0},
        "load_max_per_cpu": {"type": "float", "default": 4.0},
        "restart_window_s": {"type": "float", "default": 600.0},
        "pipeline_max_age_s": {"type": "float", "default": 93600.0},
        "reference_time_s": {"type": "float"},
    }


def main() -> None:
    module = AnsibleModule(_argument_spec(), supports_check_mode=True)
    given = {name: value for name, value in module.params.items() if name not in ("target", "fail_on_unhealthy")}
    limits = Thresholds(**{name: given.pop(name) for name in Thresholds.__dataclass_fields__})
    report = examine(Installation(**given, limits=limits))
    if module.params["fail_on_unhealthy"] and not report.healthy:
        module.fail_json(changed=False, **report.as_result())
    module.exit_json(changed=False, **report.as_result())


if __name__ == "__main__":
    main()
