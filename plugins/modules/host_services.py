# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the platform's programs under supervisord, in the order of their dependencies, and wait until they are well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_services
short_description: Run the services of a host under supervisord
version_added: "1.0.0"
description:
  - Starts supervisord when it does not run, gives it the programs in the order in which they start,
    and waits for the health of one step before the next begins.
  - A program is restarted when the content of a file that it reads is not the one with which it last came up healthy.
    A run that is cut off between writing a file and restarting is therefore healed by the next one.
  - Heals what a killed supervisord leaves behind. Its programs are told by the environment that supervisord gave them,
    or by recorded number, start time and command line, and stopped; nothing else is.
  - Needs nothing but Python's standard library and the program C(supervisord) in O(bin).
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
options:
  home:
    description:
      - The folder of the installation.
      - C(etc/supervisor/supervisord.conf) and C(etc/supervisor/programs/NAME.conf) describe what is wanted.
        What supervisord was given is kept in C(run/supervisor).
    type: path
    required: true
  bin:
    description: Folder of the programs, among them C(supervisord).
    type: path
    required: true
  programs:
    description: The programs, as the filter P(crypto_lakehouse.platform.render_services#filter) returns them.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the program is called in supervisord.
        type: str
        required: true
      directory:
        description: The folder that it runs in.
        type: path
        required: true
      log_file:
        description: Where its output goes. The last lines are part of the message when it fails.
        type: path
        required: true
      paths:
        description: Every file that it reads at its start.
        type: list
        elements: path
        default: []
      start_order:
        description: The step in which it starts; V(0) waits for nothing.
        type: int
        default: 0
      stop_signal:
        description: The signal that ends it.
        type: str
        default: TERM
      stop_timeout_s:
        description: Seconds that it may take to end.
        type: float
        default: 10.0
      command:
        description: Its command line. Not used here, since supervisord's file holds it.
        type: list
        elements: str
        default: []
      environment_file:
        description: The file with its environment. Not used here; it is one of O(programs[].paths).
        type: path
      autostart:
        description: Whether supervisord starts it. Not used here, since supervisord's file holds it.
        type: bool
        default: true
  state:
    description:
      - V(started) has the programs running and healthy. V(stopped) stops them and leaves supervisord.
      - V(absent) stops everything and supervisord too, and waits until the last process is gone.
    type: str
    choices: [started, stopped, absent]
    default: started
  only:
    description:
      - Names of the programs that this task is about. The others are left as they are, but end with a supervisord that
        has to be replaced; a later task starts them.
      - By default it is about all of them, and programs that are not described are removed.
    type: list
    elements: str
    default: []
  restart:
    description: Names of programs to restart though nothing has changed.
    type: list
    elements: str
    default: []
  boot_unit:
    description:
      - Name of the systemd units, without their suffix, that start supervisord when C(run/supervisor/wanted) appears.
      - Where they are not active, or this is empty, the module starts supervisord itself.
    type: str
    default: ""
  initialise:
    description: Commands that make a service's data before its first start.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: The service whose data it is.
        type: str
        required: true
      command:
        description: The command line.
        type: list
        elements: str
        required: true
      creates:
        description:
          - A path that it makes. The command runs when it is missing.
          - What a command that was cut off has left in this path's folder is removed before it runs again.
        type: path
        required: true
  health:
    description:
      - The health checks, as the filter P(crypto_lakehouse.platform.render_services#filter) returns them.
      - A check of a service without a program (one that another service's process provides) is waited for as well.
    type: list
    elements: dict
    default: []
    suboptions:
      service:
        description: The service.
        type: str
        required: true
      type:
        description: How it is asked.
        type: str
        required: true
        choices: [http, tcp, command]
      url:
        description: What is fetched by type V(http).
        type: str
      address:
        description: Where type V(tcp) connects to.
        type: str
      port:
        description: Where type V(tcp) connects to.
        type: int
      command:
        description: What type V(command) runs.
        type: list
        elements: str
      timeout_s:
        description: Seconds that one answer may take.
        type: float
        default: 5.0
      interval_s:
        description: Seconds between two questions. While a service starts, it is asked more often.
        type: float
        default: 10.0
      retries:
        description: How often it may fail.
        type: int
        default: 3
      start_period_s:
        description: Seconds that it may take to start, before the first failure counts.
        type: float
        default: 0.0
      expected_status:
        description: The HTTP status codes that mean that it is well.
        type: list
        elements: int
      username:
        description: User name for basic authentication.
        type: str
      secret_file:
        description: File that holds the password for basic authentication.
        type: path
  wait:
    description:
      - Whether to wait until the services are well.
      - Without waiting nothing is recorded, so the next run starts the same programs anew.
    type: bool
    default: true
  wait_timeout_s:
    description: Seconds that the whole wait may take, and as many before it for another run that changes the services.
    type: float
    default: 180.0
  environment:
    description:
      - Variables for supervisord and everything that it starts, for example of a proxy or a certificate bundle.
      - Besides these there are only C(PATH), C(HOME), C(LANG) and C(TZ).
    type: dict
    default: {}
  secrets:
    description: The secret store, whose values are kept out of messages. By default C(secrets/store.json) in O(home).
    type: path
  changed_paths:
    description:
      - Files that earlier tasks of this run have changed.
      - In check mode they are not written yet; the programs that read them are then reported as restarting.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    support: full
    description: Predicts the same lists without touching a process.
  diff_mode:
    support: full
    description: Shows which programs start, restart, stop and go.
seealso:
  - module: crypto_lakehouse.platform.host_files
"""

EXAMPLES = r"""
- name: Have every service running and healthy
  crypto_lakehouse.platform.host_services:
    home: /var/lib/crypto-lakehouse
    bin: /var/lib/crypto-lakehouse/software/4f1c0a9be210/bin
    programs: "{{ rendered.programs }}"
    initialise: "{{ rendered.initialise }}"
    health: "{{ rendered.health }}"
    changed_paths: "{{ secrets.changed_paths + files.changed_paths }}"

- name: Have the stores running, before anything else
  crypto_lakehouse.platform.host_services:
    home: /var/lib/crypto-lakehouse
    bin: /var/lib/crypto-lakehouse/software/4f1c0a9be210/bin
    programs: "{{ rendered.programs }}"
    initialise: "{{ rendered.initialise }}"
    health: "{{ rendered.health }}"
    only: [object-store, database]

- name: Stop everything
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
  description: Programs that ran and were started anew.
  returned: always
  type: list
  elements: str
  sample: []
stopped:
  description: Programs that were stopped, and those of a lost supervisord whose processes were stopped.
  returned: always
  type: list
  elements: str
  sample: []
removed:
  description: Programs that supervisord ran and that are not described.
  returned: always
  type: list
  elements: str
  sample: []
initialised:
  description: Services whose data was made.
  returned: always
  type: list
  elements: str
  sample: [database]
edited:
  description:
    - Paths of files that supervisord or its start read, which were not what the last run had written. The run wrote
      them again and restarted what had read them. In check mode, it would.
  returned: always
  type: list
  elements: str
  sample: [/var/lib/crypto-lakehouse/run/supervisor/supervisord.conf]
ended_jobs:
  description: Jobs that went on and were ended. Empty unless O(state=absent).
  returned: always
  type: list
  elements: str
  sample: []
supervisor_restarted:
  description: Whether supervisord itself was ended and, unless O(state=absent), started anew.
  returned: always
  type: bool
  sample: false
settled:
  description:
    - Whether every program of O(programs), and not only those of O(only), ran as described before the task, and every
      service is well. A later task for the rest then has nothing to do.
  returned: always
  type: bool
  sample: true
services:
  description: How each service is now, by name. Empty in check mode.
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
    """End the jobs of the home that go on, which a killed playbook may have left; return their names."""
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
