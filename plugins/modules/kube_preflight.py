# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Return facts of a cluster, and all problems that would stop a run on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kube_preflight
short_description: Find problems of a Kubernetes cluster that would stop a run
version_added: "1.0.0"
description:
  - Reads the version of a cluster, its namespace and the deployment in it, and storage and ingress classes. Checks the
    permissions of the connection's identity for the run (SelfSubjectAccessReview). The cluster is not changed.
  - Looks for Helm on the machine that runs the module.
  - An unreachable cluster and rejected credentials are also returned as problems.
  - The action plugin P(crypto_lakehouse.platform.preflight#module) calls the module and adds its problems to those of
    the inventory.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  verb:
    description: Operation of the run.
    type: str
    choices: [deploy, plan, drift, upgrade, scale, health, verify, destroy]
    default: deploy
  target:
    description: Target of the lakehouse. V(k3s) is any self-managed cluster.
    type: str
    choices: [k3s, eks, gke]
    required: true
  environment:
    description: Environment of the lakehouse.
    type: str
    required: true
  namespace:
    description: Namespace of the lakehouse.
    type: str
    required: true
  objects:
    description: Kinds that the run applies, each with C(api_version), C(kind) and C(namespace).
    type: list
    elements: dict
    default: []
  needs_volumes:
    description: Whether to require a storage class, because services have volumes.
    type: bool
    default: false
  storage_class:
    description: Storage class of the volumes. The cluster's default class when empty.
    type: str
    default: ""
  volumes:
    description:
      - Described volumes, each with C(kind), C(namespace), C(workload), C(template), C(size), C(storage_class),
        C(access_modes), C(volume_mode) and C(images).
      - The volume claims of the namespace are compared with them. A smaller size, another storage class, and an
        expansion that the storage class does not allow are problems, with the manual steps as remedy. A renamed
        workload or volume is also a problem, because its data would be unused.
    type: list
    elements: dict
    default: []
  ingress_class:
    description: Required ingress class. Not checked when empty.
    type: str
    default: ""
  needs_helm:
    description: Whether to require Helm.
    type: bool
    default: false
  helm_binary:
    description: Path of the program C(helm). By default C(helm) on the search path.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: The module changes nothing.
  diff_mode:
    support: none
    description: The module changes nothing.
seealso:
  - module: crypto_lakehouse.platform.preflight
"""

EXAMPLES = r"""
- name: Check the cluster before a deployment
  crypto_lakehouse.platform.kube_preflight:
    target: k3s
    environment: development
    namespace: crypto-lakehouse
    objects:
      - {api_version: apps/v1, kind: Deployment, namespace: crypto-lakehouse}
    needs_volumes: true
"""

RETURN = r"""
facts:
  description:
    - C(server_version), C(minor_version), C(namespace_exists), C(namespace_is_ours), C(storage_class) of the volumes,
      C(storage_classes), C(ingress_classes), and C(helm) with C(path) and C(version).
    - C(marker) is the marker of an earlier run in the namespace, or none.
    - C(own_parts) are the charts of the autoscaling whose components the cluster already has.
    - C(claims) are the volumes in the namespaces of the lakehouse, with O(verb=destroy).
  returned: success
  type: dict
unreached:
  description: Cause why the cluster is unreachable. Empty if it is reachable.
  returned: success
  type: str
problems:
  description: Problems that would stop the run, each with C(variable), C(message) and C(remedy).
  returned: success
  type: list
  elements: dict
"""

import dataclasses
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.cluster import preflight
from ..module_utils.cluster.access import (
    CLUSTER_EXCLUSIVE,
    CLUSTER_SPEC,
    CLUSTER_TOGETHER,
    cluster_connection,
    secrets_in,
)
from ..module_utils.helm.program import Run, helm_problems
from ..module_utils.kube.apply.volumes import Volume
from ..module_utils.kube.client.errors import KubeError, UnreachableError
from ..module_utils.shared.problem import Problem
from ..module_utils.shared.targets import CLUSTERS

VERBS = ("deploy", "plan", "drift", "upgrade", "scale", "health", "verify", "destroy")
ARGUMENT_SPEC = {
    **CLUSTER_SPEC,
    "verb": {"type": "str", "choices": list(VERBS), "default": "deploy"},
    "target": {"type": "str", "choices": list(CLUSTERS), "required": True},
    "environment": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "needs_volumes": {"type": "bool", "default": False},
    "storage_class": {"type": "str", "default": ""},
    "volumes": {"type": "list", "elements": "dict", "default": []},
    "ingress_class": {"type": "str", "default": ""},
    "needs_helm": {"type": "bool", "default": False},
    "helm_binary": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        required_together=CLUSTER_TOGETHER,
        mutually_exclusive=CLUSTER_EXCLUSIVE,
    )
    module.no_log_values.update(secrets_in(module.params))
    module.exit_json(**outcome(module.params, module.run_command))


def outcome(parameters: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return the result of the module. `run` runs a program and returns its status, output and errors."""
    facts, problems, unreachable = ask(parameters)
    if parameters["needs_helm"]:
        program, missing = helm_problems(run, parameters["helm_binary"])
        problems += missing
        facts = {**facts, "helm": program} if facts else {}
    told = [vars(problem) for problem in problems]
    return {"changed": False, "facts": facts, "problems": told, "unreached": unreachable}


def ask(options: dict[str, Any]) -> tuple[dict[str, Any], list[Problem], str]:
    from ..module_utils.kube.client.client import Client
    from ..module_utils.kube.client.discovery import Discovery

    words = ("verb", "target", "environment", "namespace", "needs_volumes", "storage_class", "ingress_class")
    volumes = tuple(Volume.of(volume) for volume in options["volumes"])
    question = preflight.Question(**{word: options[word] for word in words}, volumes=volumes)
    try:
        with Client(cluster_connection(options)) as client:
            findings = preflight.examine(client, Discovery(client), question, options["objects"])
    except KubeError as error:
        remedy = "correct lakehouse_kubeconfig and lakehouse_kube_context, or the cluster"
        unreachable = str(error) if isinstance(error, UnreachableError) else ""
        return {}, [Problem("lakehouse_kubeconfig", str(error), remedy)], unreachable
    return dataclasses.asdict(findings.facts), findings.problems, ""


if __name__ == "__main__":
    main()
