# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a Job of Kubernetes to its end and return its log."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_job
short_description: Run a Job of Kubernetes to its end and return its log
version_added: "1.0.0"
description:
  - Runs a Job now, waits until it is through, and returns what it wrote. One of the same name that ran before is
    removed.
  - For commands that are asked for, such as a verification. A Job that belongs to the described state of a cluster is
    an object like any other, for M(crypto_lakehouse.platform.k8s_apply).
  - When it fails, the message has the reason, with events and the last lines of the log.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  manifest:
    description: The Job (C(batch/v1)), with name and namespace.
    type: dict
    required: true
  arguments:
    description: Arguments that follow those of the first container.
    type: list
    elements: str
    default: []
  wait_timeout:
    description: Seconds that it may take.
    type: int
    default: 600
  fail_on_failure:
    description: Whether the task fails when the Job does.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Runs nothing, and reports that it would.
  diff_mode:
    support: none
    description: What a Job changes is known to the Job alone.
seealso:
  - module: crypto_lakehouse.platform.k8s_apply
"""

EXAMPLES = r"""
- name: Prove that the lakehouse does what it promises
  crypto_lakehouse.platform.kube_job:
    manifest: "{{ rendered.jobs.verify }}"
  register: verification
  changed_when: false
"""

RETURN = r"""
succeeded:
  description: Whether the Job succeeded. Not there in check mode.
  returned: when it ran
  type: bool
log:
  description: What its last pod wrote; values of secrets that the pod is given are masked.
  returned: when it ran
  type: str
duration_s:
  description: Seconds that it took.
  returned: when it ran
  type: float
reason:
  description: Why it failed; empty when it did not.
  returned: when it ran
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster_access import (
    CLUSTER_EXCLUSIVE,
    CLUSTER_SPEC,
    CLUSTER_TOGETHER,
    cluster_connection,
    secrets_in,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.errors import KubeError

ARGUMENT_SPEC = {
    **CLUSTER_SPEC,
    "manifest": {"type": "dict", "required": True},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "wait_timeout": {"type": "int", "default": 600},
    "fail_on_failure": {"type": "bool", "default": True},
}


def main() -> None:
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client import Client
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.discovery import Discovery
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.job import (
        place_of,
        run_job,
        with_arguments,
    )

    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        required_together=CLUSTER_TOGETHER,
        mutually_exclusive=CLUSTER_EXCLUSIVE,
    )
    options = module.params
    module.no_log_values.update(secrets_in(options))
    try:
        place_of(options["manifest"])
        manifest = with_arguments(options["manifest"], options["arguments"])
        if module.check_mode:
            module.exit_json(changed=True)
        with Client(cluster_connection(options)) as client:
            ended = run_job(client, Discovery(client), manifest, float(options["wait_timeout"]))
    except KubeError as error:
        module.fail_json(msg=str(error))
        return
    result = {
        "succeeded": ended.succeeded,
        "log": ended.log,
        "reason": ended.reason,
        "duration_s": round(ended.duration_s, 3),
    }
    if not ended.succeeded and options["fail_on_failure"]:
        module.fail_json(msg=ended.reason, **result)
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
