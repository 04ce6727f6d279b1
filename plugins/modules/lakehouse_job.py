# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a job of the catalogue on its host or cluster, and return its result."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lakehouse_job
short_description: Run a job of the catalogue on its host or cluster, and return its result
version_added: "1.0.0"
description:
  - Starts a job on a host or as a Job of a cluster, shows its progress, waits until it ends, and returns its result.
  - The controller transfers no data except the result and the last lines of the log.
  - A job continues after its playbook has ended. A later task with the same O(name) finds it, see O(running).
  - At its deadline (O(timeout)), a job is stopped with all its processes, whether or not a playbook waits.
  - The message of a failure is C(message) and C(remedy) of the job's result if it contains both.
  - Progress is shown on a separate line about every O(poll) seconds, if it changed.
  - On a host, the job runs as the user of the task, below O(home), in its own session. With C(KillUserProcesses=yes) of
    systemd-logind, it ends with the connection.
  - On a cluster, the log of the pod contains the result. The kubelet keeps only C(containerLogMaxSize) of it (10 MiB by
    default). The result is compressed, to about a tenth for most documents. An incomplete result is an error.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  name:
    description:
      - Name of the job, at most 40 lower case letters, digits and hyphens. Only one run of a name is active at a time.
    type: str
    required: true
  command:
    description: Command line of the job on a host, as the catalogue renders it. Mutually exclusive with O(manifest).
    type: list
    elements: str
  home:
    description: Folder of the lakehouse on a host. Its C(run/jobs) contains the runs. Required with O(command).
    type: path
  user:
    description: Required user of the job on a host. The task fails if it runs as another user.
    type: str
  secrets:
    description:
      - Secret store of a host, whose values are masked in the log. By default C(secrets/store.json) below O(home).
    type: path
  manifest:
    description: Job (C(batch/v1)) with name and namespace, as the catalogue renders it for a cluster.
    type: dict
  arguments:
    description: Arguments of this run, appended to the command, or to the arguments of the Job's first container.
    type: list
    elements: str
    default: []
  check_arguments:
    description:
      - Arguments of a run in check mode instead of O(arguments), with which the job changes nothing.
      - Check mode skips the job when not set. A run in check mode can be active besides another run of O(name).
    type: list
    elements: str
  input:
    description:
      - Secret text for the job. On a host, the job reads it from its standard input, through a pipe.
      - On a cluster, it is mounted from a Secret that the Job owns and that is deleted at the end of the run.
      - C(LAKEHOUSE_JOB_INPUT) is the path of the file to read. O(running) does not compare the text.
    type: str
  scratch:
    description:
      - Folder for temporary files of the job, which is removed after the run. C(LAKEHOUSE_JOB_SCRATCH) and C(TMPDIR)
        are its path.
      - On a host, a folder below O(home), with mode 0700. On a cluster, a volume.
    type: dict
    suboptions:
      size:
        description: Size with a unit of V(Ki), V(Mi), V(Gi) or V(Ti). A host must have this free space.
        type: str
        required: true
      storage_class:
        description: Storage class of an ephemeral volume on a cluster. The volume is an C(emptyDir) when not set.
        type: str
  timeout:
    description: Deadline in seconds after the start of the run, at most 604800.
    type: int
    default: 3600
  poll:
    description: Interval in seconds between reads of the run, each of which may show progress.
    type: float
    default: 10.0
  running:
    description:
      - Treatment of an active run of O(name).
      - V(attach) waits for a run with the same command, arguments and manifest, and fails for a different one.
      - V(fail) fails with the start and owner of the run.
      - V(replace) stops the run and starts a new one.
    type: str
    choices: [attach, fail, replace]
    default: attach
  owner:
    description: Owner of the run in messages of later tasks. By default user and machine of the playbook.
    type: str
  run_id:
    description: Id of the run to wait for, as returned by an earlier call. A run is not started.
    type: str
attributes:
  check_mode:
    support: full
    description: Runs the job with O(check_arguments). Without these, reports a change without running the job.
  diff_mode:
    support: none
    description: Only the job has its changes.
  action:
    support: full
    description: The action shows progress, and waits in calls of O(poll) seconds.
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
  description: JSON document that the job returned, of any size. None if the job did not return a document.
  returned: when the job ended
  type: raw
  sample: {changed: [bucket raw], unchanged: 11}
changed:
  description: Whether RV(result) has a key C(changed) that is true or not empty. True if the key is missing.
  returned: always
  type: bool
succeeded:
  description: Whether the job ended with success.
  returned: when the job ended
  type: bool
rc:
  description: Exit status of the job, negative for the signal that ended it. None without an exit status.
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
  description: Last 20 lines of the log, with masked secrets.
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
      description: Number of completed objects, and of all objects.
      type: list
      elements: int
    bytes:
      description: Number of completed bytes, and of all bytes.
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
