# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the platform's programs under supervisord, in the order of their dependencies, and wait for their health."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_services
short_description: Run the services of a host under supervisord
version_added: "1.0.0"
description:
  - Starts supervisord if it is not running, adds the programs in their start order, and waits for the health of each
    step before the next one.
  - A program is restarted when the content of a file that it reads differs from its last healthy start.
    The next run therefore completes a run that was interrupted between writing a file and restarting.
  - Stops the remaining programs of a killed supervisord. They are identified by the environment that supervisord set,
    or by recorded process id, start time and command line. Other processes are not stopped.
  - Requires only Python's standard library and the program C(supervisord) in O(bin).
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  home:
    description:
      - Folder of the lakehouse.
      - C(etc/supervisor/supervisord.conf) and C(etc/supervisor/programs/NAME.conf) contain the desired configuration.
        C(run/supervisor) contains the configuration that supervisord runs with.
    type: path
    required: true
  bin:
    description: Folder of the programs, including C(supervisord).
    type: path
    required: true
  programs:
    description: Described programs, as returned by P(crypto_lakehouse.platform.render_services#filter).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the program in supervisord.
        type: str
        required: true
      directory:
        description: Working directory.
        type: path
        required: true
      log_file:
        description: File for the output. Its last lines are part of the message of a failure.
        type: path
        required: true
      paths:
        description: Files that the program reads when it starts.
        type: list
        elements: path
        default: []
      start_order:
        description: Step in which the program starts, from V(0).
        type: int
        default: 0
      stop_signal:
        description: Signal that stops the program.
        type: str
        default: TERM
      stop_timeout_s:
        description: Timeout of the stop in seconds.
        type: float
        default: 10.0
      command:
        description: Command line. Ignored; the configuration of supervisord contains it.
        type: list
        elements: str
        default: []
      environment_file:
        description: File with the environment. Ignored; it is one of O(programs[].paths).
        type: path
      autostart:
        description: Whether to start the program with supervisord. Ignored; supervisord's configuration contains it.
        type: bool
        default: true
  state:
    description:
      - V(started) starts the programs and waits for their health. V(stopped) stops them and keeps supervisord running.
      - V(absent) stops all programs and supervisord, and waits until the last process has ended.
    type: str
    choices: [started, stopped, absent]
    default: started
  only:
    description:
      - Names of the programs that this task manages. Other programs are not changed, except that they stop with a
        supervisord that must be replaced; a later task starts them.
      - By default all programs are managed, and undescribed programs are removed.
    type: list
    elements: str
    default: []
  restart:
    description: Names of programs to restart without a change.
    type: list
    elements: str
    default: []
  boot_unit:
    description:
      - Name, without suffix, of the systemd units that start supervisord when C(run/supervisor/wanted) is created.
      - If they are not active, or the option is empty, the module starts supervisord itself.
    type: str
    default: ""
  initialise:
    description: Commands that create a service's data before its first start.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Service that owns the data.
        type: str
        required: true
      command:
        description: Command line.
        type: list
        elements: str
        required: true
      creates:
        description:
          - Path that the command creates. The command runs if the path is missing.
          - Partial data of an interrupted command in this path's folder is removed before the command runs again.
        type: path
        required: true
  health:
    description:
      - Health checks of the services, as returned by P(crypto_lakehouse.platform.render_services#filter).
      - The module also waits for services without a program, which another service's process provides.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: Name of the service.
        type: str
        required: true
      type:
        description: Type of the check.
        type: str
        required: true
        choices: [http, tcp, command]
      url:
        description: Address that type V(http) requests.
        type: str
      address:
        description: IP address to which type V(tcp) connects.
        type: str
      port:
        description: Port to which type V(tcp) connects.
        type: int
      command:
        description: Command line of type V(command).
        type: list
        elements: str
      timeout_s:
        description: Timeout of one check in seconds.
        type: float
        default: 5.0
      interval_s:
        description: Interval between checks in seconds. It is shorter while a service starts.
        type: float
        default: 10.0
      retries:
        description: Number of failures that are tolerated.
        type: int
        default: 3
      start_period_s:
        description: Time in seconds after the start during which failures do not count.
        type: float
        default: 0.0
      expected_status:
        description: HTTP status codes of a healthy service.
        type: list
        elements: int
      username:
        description: User name for basic authentication.
        type: str
      secret_file:
        description: File with the password for basic authentication.
        type: path
  wait:
    description:
      - Whether to wait until the services are healthy.
      - When V(false), healthy starts are not recorded, and the next run restarts the same programs.
    type: bool
    default: true
  wait_timeout_s:
    description:
      - Timeout of the whole wait in seconds.
      - The wait for another run that changes the services is separate, with the same timeout.
    type: float
    default: 180.0
  environment:
    description:
      - Environment of supervisord and its programs, for example for a proxy or a certificate bundle.
      - The only other variables are C(PATH), C(HOME), C(LANG) and C(TZ).
    type: dict
    default: {}
  secrets:
    description: Secret store, whose values are masked in messages. By default C(secrets/store.json) in O(home).
    type: path
  changed_paths:
    description:
      - Files that earlier tasks of this run changed.
      - In check mode, these files are not written yet, and programs that read them are reported as restarted.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    support: full
    description: Returns the same lists without changing a process.
  diff_mode:
    support: full
    description: Lists the programs that are started, restarted, stopped and removed.
seealso:
  - module: crypto_lakehouse.platform.host_files
"""

EXAMPLES = r"""
- name: Start all services and wait for their health
  crypto_lakehouse.platform.host_services:
    home: /var/lib/crypto-lakehouse
    bin: /var/lib/crypto-lakehouse/software/4f1c0a9be210/bin
    programs: "{{ rendered.programs }}"
    initialise: "{{ rendered.initialise }}"
    health: "{{ rendered.health }}"
    changed_paths: "{{ secrets.changed_paths + files.changed_paths }}"

- name: Start the stores before the other services
  crypto_lakehouse.platform.host_services:
    home: /var/lib/crypto-lakehouse
    bin: /var/lib/crypto-lakehouse/software/4f1c0a9be210/bin
    programs: "{{ rendered.programs }}"
    initialise: "{{ rendered.initialise }}"
    health: "{{ rendered.health }}"
    only: [object-store, database]

- name: Stop all services and supervisord
  crypto_lakehouse.platform.host_services:
    home: /var/lib/crypto-lakehouse
    bin: /var/lib/crypto-lakehouse/software/4f1c0a9be210/bin
    state: absent
"""

RETURN = r"""
started:
  description: Programs that were started.
  returned: always
  type: list
  elements: str
  sample: [database]
restarted:
  description: Running programs that were restarted.
  returned: always
  type: list
  elements: str
  sample: []
stopped:
  description: Programs that were stopped, including those of a killed supervisord.
  returned: always
  type: list
  elements: str
  sample: []
removed:
  description: Undescribed programs that were removed from supervisord.
  returned: always
  type: list
  elements: str
  sample: []
initialised:
  description: Services whose data was created.
  returned: always
  type: list
  elements: str
  sample: [database]
edited:
  description:
    - Paths of files of supervisord or its start script that were changed after the last run. The run wrote them again
      and restarted the programs that had read them; in check mode, it would.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/crypto-lakehouse/run/supervisor/supervisord.conf]
ended_jobs:
  description: Running jobs that were stopped. Empty unless O(state=absent).
  returned: always
  type: list
  elements: str
  sample: []
supervisor_restarted:
  description: Whether supervisord was stopped and, unless O(state=absent), started again.
  returned: always
  type: bool
  sample: false
settled:
  description:
    - Whether all programs of O(programs), not only those of O(only), ran as described before the task, and all
      services are healthy. A later task for the other programs can then be skipped.
  returned: always
  type: bool
  sample: true
services:
  description: Current state of each service, by name. Empty in check mode.
  returned: always
  type: dict
  sample:
    database: {state: RUNNING, pid: 4711, uptime_s: 3, waited_s: 1.31}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import HostError, message_of
from ..module_utils.host.jobs import Jobs
from ..module_utils.host.operate import Operator, Report
from ..module_utils.host.services import Health, Home, Initialise, Program, Wish
from ..module_utils.host.store import read_store
from ..module_utils.host.tree import Tree
from ..module_utils.secrets.values import values_of

PROGRAM_OPTIONS = {
    "name": {"type": "str", "required": True},
    "directory": {"type": "path", "required": True},
    "log_file": {"type": "path", "required": True},
    "paths": {"type": "list", "elements": "path", "default": []},
    "start_order": {"type": "int", "default": 0},
    "stop_signal": {"type": "str", "default": "TERM"},
    "stop_timeout_s": {"type": "float", "default": 10.0},
    "command": {"type": "list", "elements": "str", "default": []},
    "environment_file": {"type": "path"},
    "autostart": {"type": "bool", "default": True},
}
INITIALISE_OPTIONS = {
    "service": {"type": "str", "required": True},
    "command": {"type": "list", "elements": "str", "required": True},
    "creates": {"type": "path", "required": True},
}
HEALTH_OPTIONS = {
    "service": {"type": "str", "required": True},
    "type": {"type": "str", "required": True, "choices": ["http", "tcp", "command"]},
    "url": {"type": "str"},
    "address": {"type": "str"},
    "port": {"type": "int"},
    "command": {"type": "list", "elements": "str"},
    "timeout_s": {"type": "float", "default": 5.0},
    "interval_s": {"type": "float", "default": 10.0},
    "retries": {"type": "int", "default": 3},
    "start_period_s": {"type": "float", "default": 0.0},
    "expected_status": {"type": "list", "elements": "int"},
    "username": {"type": "str"},
    "secret_file": {"type": "path", "no_log": False},
}
ARGUMENT_SPEC = {
    "home": {"type": "path", "required": True},
    "bin": {"type": "path", "required": True},
    "programs": {"type": "list", "elements": "dict", "default": [], "options": PROGRAM_OPTIONS},
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "only": {"type": "list", "elements": "str", "default": []},
    "restart": {"type": "list", "elements": "str", "default": []},
    "boot_unit": {"type": "str", "default": ""},
    "initialise": {"type": "list", "elements": "dict", "default": [], "options": INITIALISE_OPTIONS},
    "health": {"type": "list", "elements": "dict", "default": [], "options": HEALTH_OPTIONS},
    "wait": {"type": "bool", "default": True},
    "wait_timeout_s": {"type": "float", "default": 180.0},
    "environment": {"type": "dict", "default": {}, "no_log": True},
    "secrets": {"type": "path", "no_log": False},
    "changed_paths": {"type": "list", "elements": "path", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    options = module.params
    path = Path(options["secrets"] or f"{options['home']}/secrets/store.json")
    try:
        known = values_of(read_store(Tree(path.parent), path))
        module.no_log_values.update(known.values())
        home = Home(Path(options["home"]), Path(options["bin"]))
        operator = Operator(home, wish(options, module.check_mode), options["wait_timeout_s"], options["wait"], known)
        if options["state"] == "started":
            report = operator.started(module.check_mode)
        else:
            report = operator.stopped(module.check_mode, absent=options["state"] == "absent")
        ended = end_jobs(home.path, module.check_mode) if options["state"] == "absent" else []
    except (HostError, OSError, ValueError) as error:
        module.fail_json(msg=message_of(error))
        return
    module.exit_json(
        changed=report.changed or bool(ended),
        diff=diff(report),
        services=report.services,
        settled=report.settled,
        ended_jobs=ended,
        **lists(report),
    )


def end_jobs(home: Path, check_mode: bool) -> list[str]:
    """End running jobs of the home, such as those of a killed playbook, and return their names."""
    jobs = Jobs(home)
    return jobs.going() if check_mode else jobs.end_all()


def wish(options: dict[str, Any], check_mode: bool) -> Wish:
    words = ("name", "start_order", "stop_signal", "stop_timeout_s")
    programs = [
        Program(
            directory=Path(each["directory"]),
            log_file=Path(each["log_file"]),
            paths=tuple(map(Path, each["paths"])),
            **{word: each[word] for word in words},
        )
        for each in options["programs"]
    ]
    return Wish(
        programs,
        {each["service"]: Health.from_mapping(each) for each in options["health"]},
        [Initialise(each["service"], tuple(each["command"]), Path(each["creates"])) for each in options["initialise"]],
        {name: str(value) for name, value in options["environment"].items()},
        frozenset(options["only"]),
        frozenset(options["restart"]),
        frozenset(map(Path, options["changed_paths"] if check_mode else ())),
        options["boot_unit"],
    )


def lists(report: Report) -> dict[str, Any]:
    plan = report.plan
    return {
        "started": list(plan.start),
        "restarted": list(plan.restart),
        "stopped": sorted({*plan.stop, *(orphan.program for orphan in plan.orphans)}),
        "removed": list(plan.remove),
        "initialised": list(plan.initialise),
        "edited": [str(path) for path in plan.edited],
        "supervisor_restarted": plan.renew_supervisor,
    }


def diff(report: Report) -> dict[str, str]:
    done = {word: names for word, names in lists(report).items() if names}
    lines = [f"{name}: {word}\n" for word, names in done.items() if word != "supervisor_restarted" for name in names]
    return {
        "before": "",
        "after": "".join([*lines, *(["supervisord: restarted\n"] if report.plan.renew_supervisor else [])]),
    }


if __name__ == "__main__":
    main()
