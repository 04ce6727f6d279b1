# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a job of the catalogue where the data is, and return its result."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lakehouse_job
short_description: Run a job of the catalogue where the data is, and return its result
version_added: "1.0.0"
description:
  - Starts a job on a host or as a Job of a cluster, shows its progress, waits until it ends, and returns its result.
  - The controller transfers no data except the result and the last lines of the log.
  - A job outlives the playbook that started it. A later task with the same O(name) finds it, see O(running).
  - At its deadline (O(timeout)) a job is ended with all processes that it started, whether or not a playbook waits.
  - The message of a failure is C(message) and C(remedy) of its result where it hands over both.
  - Progress is shown about every O(poll) seconds, as a line of its own, and only where it changed.
  - On a host the job runs as the user of the task, below O(home), in a session of its own. Where systemd-logind has
    C(KillUserProcesses=yes), it ends with the connection.
  - On a cluster the log of the pod carries the result. A kubelet keeps only C(containerLogMaxSize) of it (10 MiB by
    default), compressed to about a tenth for most documents. A result that is not complete there is an error.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  name:
    description:
      - Name of the job, at most 40 lower case letters, digits and hyphens. At most one run of a name goes on at a time.
    type: str
    required: true
  command:
    description: Command line of the job on a host, as the catalogue renders it. Mutually exclusive with O(manifest).
    type: list
    elements: str
  home:
    description: Folder of the lakehouse on a host. Runs are kept in C(run/jobs) below it. Required with O(command).
    type: path
  user:
    description: User that the job has to run as on a host. The task fails where it runs as another user.
    type: str
  secrets:
    description:
      - Secret store of a host, whose values are masked in the log. By default C(secrets/store.json) below O(home).
    type: path
  manifest:
    description: Job (C(batch/v1)) with name and namespace, as the catalogue renders it for a cluster.
    type: dict
  arguments:
    description: Arguments of this run, appended to the command, or to those of the Job's first container.
    type: list
    elements: str
    default: []
  check_arguments:
    description:
      - Arguments of a run in check mode, in place of O(arguments), with which the job changes nothing.
      - Without them check mode runs nothing. Such a run has a slot of its own, besides other runs of O(name).
    type: list
    elements: str
  input:
    description:
      - Secret text for the job. On a host the job reads it from its standard input, through a pipe.
      - On a cluster it is mounted from a Secret that belongs to the Job, and is removed at the end of the run.
      - C(LAKEHOUSE_JOB_INPUT) names the file to read. It does not tell one run from another for O(running).
    type: str
  scratch:
    description:
      - Folder for temporary files of the job, named by C(LAKEHOUSE_JOB_SCRATCH) and C(TMPDIR), removed after the run.
      - On a host a folder below O(home), with mode 0700. On a cluster a volume.
    type: dict
    suboptions:
      size:
        description: Size with a unit of V(Ki), V(Mi), V(Gi) or V(Ti). On a host that much space has to be free.
        type: str
        required: true
      storage_class:
        description: Storage class of an ephemeral volume on a cluster. Without one the volume is an C(emptyDir).
        type: str
  timeout:
    description: Deadline in seconds after the start of the run, at most 604800.
    type: int
    default: 3600
  poll:
    description: Seconds between two looks at the run, each of which may show its progress.
    type: float
    default: 10.0
  running:
    description:
      - Treatment of a run of O(name) that goes on.
      - V(attach) waits for it where command, arguments and manifest are the same, and fails for another one.
      - V(fail) fails, and names start and owner of the run.
      - V(replace) ends it and starts a new one.
    type: str
    choices: [attach, fail, replace]
    default: attach
  owner:
    description: Owner of the run, as messages of later tasks name it. By default user and machine of the playbook.
    type: str
  run_id:
    description: Run to wait for, as an earlier call returned it. No run is started.
    type: str
attributes:
  check_mode:
    support: full
    description: Runs the job with O(check_arguments). Without them runs nothing, and reports that it would.
  diff_mode:
    support: none
    description: Changes of a job are known to the job alone.
  action:
    support: full
    description: The action shows the progress, and waits in calls of O(poll) seconds.
seealso:
  - module: crypto_lakehouse.platform.k8s_apply
  - module: crypto_lakehouse.platform.host_services
"""

EXAMPLES = r"""
- name: Bring databases and buckets to their described state
  crypto_lakehouse.platform.lakehouse_job:
    name: bootstrap
    home: /var/lib/crypto-lakehouse
    command: "{{ (rendered.jobs | selectattr('name', 'equalto', 'bootstrap') | first).command }}"
    arguments: [--phase=database]
    check_arguments: [--phase=database, --check]
    running: replace
  become: true
  become_user: crypto-lakehouse
  register: bootstrap

- name: Verify the lakehouse on a cluster
  crypto_lakehouse.platform.lakehouse_job:
    name: verify
    manifest: "{{ rendered.jobs.verify }}"
    timeout: 900
  changed_when: false
  register: verification

- name: Restore the latest backup with the key from the controller
  crypto_lakehouse.platform.lakehouse_job:
    name: restore
    home: /var/lib/crypto-lakehouse
    command: "{{ restore_command }}"
    arguments: [--set=latest]
    input: "{{ lookup('ansible.builtin.file', '/secure/backup.key') }}"
    scratch: {size: 20Gi}
    timeout: 14400
"""

RETURN = r"""
result:
  description: JSON document that the job handed over, of any size. None where it handed over none.
  returned: when the job ended
  type: raw
  sample: {changed: [bucket raw], unchanged: 11}
changed:
  description: Whether RV(result) has a key C(changed) that is true or not empty. True where it has no such key.
  returned: always
  type: bool
succeeded:
  description: Whether the job ended with success.
  returned: when the job ended
  type: bool
rc:
  description: Exit status of the job, negative for the signal that ended it. None where it has none.
  returned: when the job ended
  type: int
duration_s:
  description: Duration of the run in seconds.
  returned: when the job ended
  type: float
reason:
  description: Cause of the failure. Empty when the job succeeded.
  returned: when the job ended
  type: str
remedy:
  description: Remedy for the failure.
  returned: on failure
  type: str
log:
  description: Last 20 lines of the log, secrets masked.
  returned: when the job ended
  type: list
  elements: str
finished:
  description: Whether the job ended. False only for a call without the action plugin, after O(poll) seconds.
  returned: always
  type: bool
progress:
  description: Last progress that the job reported.
  returned: when the job ran
  type: dict
  contains:
    objects:
      description: Number of objects that are done, and of all.
      type: list
      elements: int
    bytes:
      description: Bytes that are done, and all.
      type: list
      elements: int
    rate:
      description: Bytes per second.
      type: float
    left_s:
      description: Remaining seconds.
      type: int
    step:
      description: Current step.
      type: str
run_id:
  description: Id of the run.
  returned: when the job ran
  type: str
owner:
  description: Owner of the run.
  returned: when the job ran
  type: str
  sample: jo@controller
started_at:
  description: Start of the run, in UTC.
  returned: when the job ran
  type: str
  sample: "2026-11-30T08:21:00Z"
attached:
  description: Whether an earlier task started the run.
  returned: when the job ran
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.cluster.access import CLUSTER_EXCLUSIVE, CLUSTER_SPEC, CLUSTER_TOGETHER, secrets_in
from ..module_utils.jobs.task import outcome

SCRATCH_OPTIONS = {"size": {"type": "str", "required": True}, "storage_class": {"type": "str"}}
ARGUMENT_SPEC = {
    **CLUSTER_SPEC,
    "name": {"type": "str", "required": True},
    "command": {"type": "list", "elements": "str"},
    "home": {"type": "path"},
    "user": {"type": "str"},
    "secrets": {"type": "path", "no_log": False},
    "manifest": {"type": "dict"},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "check_arguments": {"type": "list", "elements": "str"},
    "input": {"type": "str", "no_log": True},
    "scratch": {"type": "dict", "options": SCRATCH_OPTIONS},
    "timeout": {"type": "int", "default": 3600},
    "poll": {"type": "float", "default": 10.0},
    "running": {"type": "str", "choices": ["attach", "fail", "replace"], "default": "attach"},
    "owner": {"type": "str"},
    "run_id": {"type": "str"},
}
EXCLUSIVE = [*CLUSTER_EXCLUSIVE, ["command", "manifest"]]
NEEDED_ONE_OF = [["command", "manifest"]]
NEEDED_BY = {"command": ["home"]}


def main() -> None:
    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        required_together=CLUSTER_TOGETHER,
        required_one_of=NEEDED_ONE_OF,
        required_by=NEEDED_BY,
        mutually_exclusive=EXCLUSIVE,
    )
    module.no_log_values.update(secrets_in(module.params))
    result = outcome(module.params, check_mode=module.check_mode)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
