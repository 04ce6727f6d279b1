# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply, compare, prune and delete a set of Kubernetes objects, and wait until they are ready."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_apply
short_description: Apply a set of objects to a Kubernetes cluster
version_added: "1.0.0"
description:
  - Applies manifests concurrently by server-side apply. Namespaces and custom resource definitions are applied first,
    until their kinds are available. Admission webhooks, admission policies and aggregated APIs are applied last.
  - Reports all detectable problems before the first change. Afterwards, a failed object skips only the objects that
    depend on it. Returns the result of every object.
  - An unknown field is an error. A field of another manager with a different value is an error that names both
    managers.
  - The result is C(changed) when the content of an object changes, but not for metadata that only the server manages.
  - Retries throttled requests, server errors, lost connections and webhooks that are not ready.
  - Compares volume claims of a StatefulSet with its C(volumeClaimTemplates). Expands smaller claims if their storage
    class allows it; O(wait) then waits until the file system has the new size.
  - Results, differences, messages and logs do not contain the content of Secrets.
  - The next run completes an interrupted run.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  manifests:
    description:
      - Objects as data, or as YAML or JSON text, which are parsed as by kubectl. Kinds that end in C(List) are split
        into their items.
    type: list
    elements: raw
    default: []
  src:
    description:
      - Files, folders (their C(*.yaml), C(*.yml) and C(*.json) files, without subfolders) and patterns, on the managed
        host. Large sets are applied faster than from O(manifests).
    type: list
    elements: path
    default: []
  namespace:
    description:
      - Namespace of namespaced objects without one, of O(secrets_from) and of the parent of O(prune).
      - The default is the namespace of the kubeconfig's context.
    type: str
  create_namespace:
    description: Whether to create O(namespace) if it is missing. It is never pruned or deleted.
    type: bool
    default: false
  state:
    description:
      - V(present) applies the manifests.
      - V(absent) deletes the objects in reverse order, custom resources before the operators of their finalizers. With
        O(prune), it also deletes all other objects of the set, and its parent. Kinds that the cluster lacks are
        ignored.
    type: str
    choices: [present, absent]
    default: present
  field_manager:
    description: Field manager of the applied fields.
    type: str
    default: crypto-lakehouse
  force_conflicts:
    description:
      - Whether to take over fields of other managers, and objects of another set.
      - This includes list elements with an edited key, such as a port of a Service with another number.
    type: bool
    default: false
  adopted_managers:
    description:
      - Field managers whose fields are taken over, so that fields outside of the manifest are removed.
      - Fields of C(kubectl-client-side-apply) are always taken over, as by C(kubectl apply --server-side), and the
        annotation C(kubectl.kubernetes.io/last-applied-configuration) is removed.
    type: list
    elements: str
    default: []
  prune:
    description:
      - Name of the set. Objects of earlier runs that O(manifests) and O(src) do not contain are deleted after all other
        objects are applied.
      - It is also the name of the ApplySet parent (KEP-3659), a Secret in O(namespace). An existing Secret that is not
        an ApplySet parent, or belongs to another tool, is an error.
      - Objects that no run applied as a part of the set are never deleted, regardless of their labels.
      - Renaming a StatefulSet or a cluster of CloudNativePG is rejected while its former name has data on volume
        claims. The message contains the commands that move the data.
    type: str
  prune_limit:
    description:
      - Maximum number of objects to prune in one run.
      - A run that exceeds it changes nothing.
    type: int
    default: 20
  prune_data:
    description:
      - Whether to prune objects whose deletion deletes data or other objects. These are namespaces, custom resource
        definitions, volumes, volume claims, snapshots, clusters of CloudNativePG, and StatefulSets that delete their
        volumes.
      - Otherwise they remain in the set, and the result lists them as skipped.
    type: bool
    default: false
  secrets_from:
    description:
      - Secret in O(namespace) whose entries replace C(${secret_value.NAME}) in C(data) and C(stringData) of the
        described Secrets. C(${secret_value.NAME|url}), C(|json) and C(|base64)
        encode the value.
    type: str
  wait:
    description:
      - Whether to wait until all objects are ready, or deleted with O(state=absent). On a timeout, the message contains
        events, container states and the last log lines.
    type: bool
    default: false
  wait_timeout:
    description: Timeout of O(wait) in seconds, and of waiting for an object that is being deleted.
    type: int
    default: 300
  parallelism:
    description: Maximum number of concurrent requests, at least 1.
    type: int
    default: 16
  replace:
    description:
      - Objects that may be deleted and recreated when an immutable field changes. The plan shows them with the action
        V(replace).
      - V(orphan) replaces a StatefulSet without its pods, which keep running and are adopted by the new one. This
        applies to changes of C(volumeClaimTemplates), C(podManagementPolicy) and C(revisionHistoryLimit).
      - V(always) also replaces other objects, workloads together with their pods. Examples are the C(selector) of a
        Deployment, the C(serviceName) of a StatefulSet, the template of a Job, the C(clusterIP) of a Service, and the
        C(roleRef) of a binding.
      - Objects whose deletion deletes data or other objects are never replaced. These are volumes, volume claims,
        custom resource definitions, and StatefulSets that delete their volumes.
      - A replacement that is not allowed is rejected before the first change, with the manual steps.
    type: str
    choices: [never, orphan, always]
    default: orphan
  kubernetes_version:
    description:
      - Version of a planned cluster, like V(1.36). The module calls no cluster. It checks the manifests against the
        schemas of that version and reports the objects as created, also outside of check mode.
    type: str
  planned_src:
    description:
      - Manifests of custom resource definitions and namespaces that other tasks of the same run apply. In check mode,
        objects that need them are checked against their schemas instead of failing.
    type: list
    elements: path
    default: []
requirements:
  - kubernetes-validate, with O(kubernetes_version)
attributes:
  check_mode:
    description:
      - Uses a dry run of the server. Objects that need a planned namespace or definition are checked against its
        schema. A webhook that does not support dry runs is reported as a warning.
    support: full
  diff_mode:
    description: Returns the changes without defaults and server-managed metadata. Secrets are masked.
    support: full
notes:
  - An object is not sent if the fields that O(field_manager) owns are exactly those of the manifest, with the same
    values. Webhooks and policies of the cluster do not process such an object again.
  - The module needs permission to get, patch and create the kinds of the manifests, to delete them for prune and
    replace, and to get namespaces. For StatefulSets with volumes, it lists and patches C(persistentvolumeclaims) and
    lists C(storageclasses). Permission to list the kinds makes it faster; O(prune) and O(wait) require it.
  - Objects that C(kubectl apply) created without C(--server-side) are adopted. If their values differ from the
    manifest's, set O(force_conflicts) once.
"""

EXAMPLES = r"""
- name: Apply a folder of manifests and wait until everything is ready
  crypto_lakehouse.platform.k8s_apply:
    src: [manifests/]
    namespace: shop
    create_namespace: true
    prune: shop
    wait: true

- name: Show the changes on an EKS cluster
  crypto_lakehouse.platform.k8s_apply:
    src: [manifests/]
    namespace: shop
    eks_cluster: crypto-lakehouse-production
    region: eu-central-1
  check_mode: true
  diff: true

- name: Check manifests for a planned cluster
  crypto_lakehouse.platform.k8s_apply:
    src: [manifests/]
    namespace: shop
    kubernetes_version: "1.36"

- name: Remove the set with its data
  crypto_lakehouse.platform.k8s_apply:
    state: absent
    namespace: shop
    prune: shop
    prune_limit: 100
    prune_data: true
    wait: true
"""

RETURN = r"""
plan:
  description: Action of each object, or planned action in check mode, without secrets.
  returned: always, unless the cluster could not be read
  type: list
  elements: dict
  sample:
    - address: Deployment shop/api (apps/v1)
      kind: Deployment
      action: update
      changes: [{path: spec.replicas, before: 1, after: 2}]
      reason: ""
plan_text:
  description: RV(plan) as text.
  returned: always, unless the cluster could not be read
  type: str
  sample: "    ~ Deployment shop/api (apps/v1)  update"
summary:
  description: The plan in one line.
  returned: always, unless the cluster could not be read
  type: str
  sample: "Done: 1 updated, 124 unchanged."
objects:
  description: Result of each object, also when other objects failed.
  returned: always, unless the cluster could not be read
  type: list
  elements: dict
  contains:
    address:
      description: Kind, namespace, name and version of the object.
      type: str
      sample: Deployment shop/api (apps/v1)
    api_version:
      description: C(apiVersion) of the object.
      type: str
      sample: apps/v1
    kind:
      description: Kind of the object.
      type: str
      sample: Deployment
    namespace:
      description: Namespace of the object. Empty for cluster-scoped objects.
      type: str
      sample: shop
    name:
      description: Name of the object.
      type: str
      sample: api
    action:
      description: One of V(create), V(update), V(replace), V(delete), V(none), V(failed) and V(skipped).
      type: str
      sample: update
    changes:
      description: Differences by path. Values of more than 4,000 characters are truncated.
      type: list
      elements: dict
      sample: [{path: spec.replicas, before: 1, after: 2}]
    error:
      description: Cause of a failure, and its remedy.
      type: str
      sample: ""
    message:
      description: Cause of a failure.
      type: str
      sample: ""
    remedy:
      description: Remedy of a failure. Empty if it is unknown or part of RV(objects[].message).
      type: str
      sample: ""
    reason:
      description: Reason of a skipped object, or of the result.
      type: str
      sample: ""
    warnings:
      description: Warnings of the server.
      type: list
      elements: str
      sample: []
    duration_s:
      description: Duration in seconds.
      type: float
      sample: 0.042
calls:
  description: Number of requests, including retries.
  returned: always, unless the cluster could not be read
  type: int
  sample: 151
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.cluster.access import (
    CLUSTER_EXCLUSIVE,
    CLUSTER_SPEC,
    CLUSTER_TOGETHER,
    cluster_connection,
    secrets_in,
)
from ..module_utils.kube.apply.apply_task import ApplyTask, shown_parameters
from ..module_utils.kube.client.errors import KubeError

ARGUMENT_SPEC = {
    **CLUSTER_SPEC,
    "manifests": {"type": "list", "elements": "raw", "default": []},
    "src": {"type": "list", "elements": "path", "default": []},
    "namespace": {"type": "str"},
    "create_namespace": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "field_manager": {"type": "str", "default": "crypto-lakehouse"},
    "force_conflicts": {"type": "bool", "default": False},
    "adopted_managers": {"type": "list", "elements": "str", "default": []},
    "prune": {"type": "str"},
    "prune_limit": {"type": "int", "default": 20},
    "prune_data": {"type": "bool", "default": False},
    "secrets_from": {"type": "str", "no_log": False},
    "wait": {"type": "bool", "default": False},
    "wait_timeout": {"type": "int", "default": 300},
    "parallelism": {"type": "int", "default": 16},
    "replace": {"type": "str", "choices": ["never", "orphan", "always"], "default": "orphan"},
    "kubernetes_version": {"type": "str"},
    "planned_src": {"type": "list", "elements": "path", "default": []},
}
EXCLUSIVE = CLUSTER_EXCLUSIVE
NEEDED_BY = {"prune": ["namespace"], "secrets_from": ["namespace"]}
NEEDED_IF = [["create_namespace", True, ["namespace"]]]


def main() -> None:
    # With no_log no parameter reaches the system's log: manifests hold Secrets.
    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        no_log=True,
        mutually_exclusive=EXCLUSIVE,
        required_together=CLUSTER_TOGETHER,
        required_by=NEEDED_BY,
        required_if=NEEDED_IF,
    )
    try:
        import urllib3  # noqa: F401
        import yaml  # noqa: F401
    except ImportError as error:
        module.fail_json(msg=missing_required_lib(str(error.name)))
    module.no_log_values.update(secrets_in(module.params))
    shown = {"module_args": shown_parameters(module.params)}
    task = ApplyTask(
        module.params,
        cluster_connection,
        module.no_log_values.update,
        check_mode=module.check_mode,
        with_diff=module._diff,
    )
    try:
        result = task.run()
    except KubeError as error:
        module.fail_json(msg=str(error), invocation=shown)
        return
    for notice in result.pop("notices"):
        module.warn(notice)
    if result.get("failed"):
        module.fail_json(**result, invocation=shown)
    module.exit_json(**result, invocation=shown)


if __name__ == "__main__":
    main()
