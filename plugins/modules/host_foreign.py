# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove foreign resources that grant access, and find services that run with undescribed configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_foreign
short_description: Remove foreign resources that grant access
version_added: "1.0.0"
description:
  - Classifies the foreign resources that the application's job C(bootstrap) reported. The job removes those that grant
    access and whose group is in O(remove). Resources that own data are kept.
  - Compares the loaded rules of Prometheus with the described rules.
  - Reports other access to the user that runs the module - SSH keys, cron and C(at) jobs, and units of the user's
    systemd. These are kept.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.foreign
options:
  found:
    description: Foreign resources, each with C(kind), C(name) and C(detail).
    type: list
    elements: dict
    default: []
  job:
    description: Command line of the job, including its phases.
    type: list
    elements: str
    default: []
  rules:
    description: Paths of the rule files of Prometheus.
    type: list
    elements: path
    default: []
  prometheus_url:
    description: Address of Prometheus. Rules are not compared when it is empty.
    type: str
    default: ""
  prometheus_username:
    description: User name for Prometheus.
    type: str
    default: lakehouse
  prometheus_password_file:
    description: File with the password for Prometheus.
    type: path
  logins:
    description: Whether to report keys and jobs of the user that runs the module.
    type: bool
    default: false
  home:
    description: Folder of the lakehouse. The crontab line that starts the lakehouse at boot is not foreign.
    type: path
  timeout_s:
    description: Timeout of the job in seconds.
    type: float
    default: 120.0
attributes:
  check_mode:
    support: full
    description: Reports the resources that would be removed.
  diff_mode:
    support: full
    description: Shows the removed resources, each with the access that it grants.
seealso:
  - plugin: crypto_lakehouse.platform.foreign_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Remove undescribed roles of the database
  crypto_lakehouse.platform.host_foreign:
    found: "{{ (bootstrapped.stdout | from_json).foreign }}"
    expected: [role/reporting_*]
    remove: [roles]
    job: "{{ bootstrap.command + ['--phase=database'] }}"
"""

RETURN = r"""
removed:
  description: Addresses C(KIND/NAME) of the removed resources; in check mode of those that would be removed.
  returned: always
  type: list
  elements: str
  sample: [role/evil]
remaining:
  description: Foreign resources that are kept, including those that this module found.
  returned: always
  type: list
  elements: dict
restart:
  description: Services to restart, because undescribed configuration changes their behaviour.
  returned: always
  type: list
  elements: str
  sample: [prometheus]
"""

import json
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.health.answers import NoAnswerError, Server, read_secret
from ..module_utils.host.errors import HostError, message_of
from ..module_utils.host.logins import foreign_logins, own_account
from ..module_utils.shared.commands import run_command
from ..module_utils.shared.foreign import FOREIGN_SPEC, judge, removal
from ..module_utils.shared.foreign_kinds import RESTARTS, classified, foreign_rules

PROMETHEUS_TIMEOUT_S = 10.0
ARGUMENT_SPEC = {
    "found": {"type": "list", "elements": "dict", "default": []},
    **FOREIGN_SPEC,
    "job": {"type": "list", "elements": "str", "default": []},
    "rules": {"type": "list", "elements": "path", "default": []},
    "prometheus_url": {"type": "str", "default": ""},
    "prometheus_username": {"type": "str", "default": "lakehouse"},
    "prometheus_password_file": {"type": "path", "no_log": False},
    "logins": {"type": "bool", "default": False},
    "home": {"type": "path"},
    "timeout_s": {"type": "float", "default": 120.0},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC, required_if=[("logins", True, ("home",))], supports_check_mode=True
    )
    options = module.params
    try:
        every = classified([*options["found"], *loaded_rules(options), *logins(options)])
        report = judge([finding for _each, finding in every], options["expected"], options["remove"])
        doomed = [each for each, finding in every if finding in report.removing]
        if doomed and not module.check_mode:
            remove(options["job"], doomed, options["timeout_s"])
    except (HostError, OSError, ValueError, KeyError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(
        **removal(report),
        remaining=[dict(each) for each, _finding in every if each not in doomed],
        restart=sorted({RESTARTS[finding.kind] for finding in report.behaviour if finding.kind in RESTARTS}),
    )


def loaded_rules(options: dict[str, Any]) -> list[dict[str, str]]:
    """Return the undescribed rules of Prometheus; none when it does not answer, which other checks report."""
    if not options["prometheus_url"]:
        return []
    try:
        file = options["prometheus_password_file"]
        password = read_secret(file) if file else None
        server = Server(options["prometheus_url"], PROMETHEUS_TIMEOUT_S, options["prometheus_username"], password)
        return foreign_rules(server.json("/api/v1/rules"), options["rules"])
    except NoAnswerError:
        return []


def logins(options: dict[str, Any]) -> list[dict[str, str]]:
    """Return other access to this user; none unless `logins` is set."""
    return foreign_logins(own_account(Path(options["home"]))) if options["logins"] else []


def remove(job: list[str], doomed: list[Any], timeout_s: float) -> None:
    """Remove resources by the job. Raises `HostError` with the output of the job when one of them remains."""
    asked = [f"--remove={json.dumps([each['kind'], each['name']])}" for each in doomed]
    done = run_command([*job, *asked], timeout_s, dict(os.environ))
    lines = done.output.splitlines()
    document = next((line for line in lines if line.startswith('{"changed"')), "")
    if done.status or not document:
        said = "; ".join(line for line in lines if line != document) or f"status {done.status}"
        raise HostError(f"cannot remove foreign resources: {said}")
    removed = {(each["kind"], each["name"]) for each in json.loads(document)["removed"]}
    left = [f"{each['kind']}/{each['name']}" for each in doomed if (each["kind"], each["name"]) not in removed]
    if left:
        raise HostError(f"cannot remove foreign resources: {', '.join(left)} changed meanwhile; run it again")


if __name__ == "__main__":
    main()
