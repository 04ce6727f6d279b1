# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole set of objects on a Kubernetes cluster in one task: applied, compared, pruned, waited for, deleted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k8s_apply
short_description: Apply a whole set of objects to a Kubernetes cluster
version_added: "1.0.0"
description:
  - Applies manifests by server-side apply, many at a time over few connections. Namespaces and custom resource
    definitions come first and are waited for until their kinds can be used, then everything else, and what judges other
    requests (admission webhooks and policies, aggregated APIs) last.
  - Everything that can be known to be wrong is known before anything is changed. After that, an object that fails does
    not keep others from being applied, unless they need it; the result of every object comes back.
  - An unknown field is an error. A field that another manager owns and that has another value is an error that names
    both.
  - The result is C(changed) when the content of an object changes. That only bookkeeping of the server moves is none.
  - Throttled requests, errors of the server, lost connections and webhooks that are not up yet are tried again.
  - Volume claims of a StatefulSet are compared with its C(volumeClaimTemplates). Smaller ones are expanded where their
    storage class allows it; with O(wait) until the file system has the new size.
  - What a Secret holds is kept out of results, differences, messages and logs.
  - A run that is cut off at any moment is completed by the next one.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  manifests:
    description:
      - The objects, as data or as texts of YAML or JSON. Documents are read as kubectl reads them; kinds that end in
        C(List) are taken apart.
    type: list
    elements: raw
    default: []
  src:
    description:
      - Files, folders (their C(*.yaml), C(*.yml) and C(*.json), not what is below) and patterns, on the host that this
        runs on. Large sets are applied faster from here than from O(manifests).
    type: list
    elements: path
    default: []
  namespace:
    description:
      - The namespace of objects that belong into one and name none, of O(secrets_from) and of the parent of O(prune).
      - By default that of the kubeconfig's context, if it names one.
    type: str
  create_namespace:
    description: Whether O(namespace) is made where it is missing. It is never pruned or deleted.
    type: bool
    default: false
  state:
    description:
      - V(present) applies the manifests.
      - V(absent) deletes what they name, in reverse order, custom resources before the operators that clean up after
        them. With O(prune) also the rest of the set, and its parent. A kind that the cluster does not have is no error.
    type: str
    choices: [present, absent]
    default: present
  field_manager:
    description: Under which name the fields of the objects are owned.
    type: str
    default: crypto-lakehouse
  force_conflicts:
    description:
      - Whether fields that others own, and objects that are in another set, are taken over.
      - Also elements of lists that others gave another key, such as a port of a Service whose number was edited.
    type: bool
    default: false
  adopted_managers:
    description:
      - Field managers whose fields are taken over, so that fields that the manifest does not have are removed.
      - C(kubectl-client-side-apply) is always taken over, as C(kubectl apply --server-side) does, and the annotation
        C(kubectl.kubernetes.io/last-applied-configuration) is removed.
    type: list
    elements: str
    default: []
  prune:
    description:
      - The name of the set. What an earlier run of it applied and O(manifests) and O(src) do not contain is deleted,
        once everything else could be applied.
      - It is also the name of the Secret in O(namespace) that keeps track of the set, as an ApplySet (KEP-3659). A
        Secret of this name that is none, or the set of another tool, is refused.
      - What a run did not apply itself as a part of the set is never deleted, whatever labels it carries.
      - A StatefulSet or a cluster of CloudNativePG that is described under another name is refused while its former
        name has data on volume claims. The refusal names the steps that move the data.
    type: str
  prune_limit:
    description:
      - How many objects that no manifest names may be deleted at once.
      - When it would be more, nothing is changed.
    type: int
    default: 20
  prune_data:
    description:
      - Whether also those are deleted with which data or other objects go. Namespaces, custom resource definitions,
        volumes and their claims and snapshots, clusters of CloudNativePG, and StatefulSets that take their volumes
        along.
      - Without it they stay in the set, and are listed as left out.
    type: bool
    default: false
  secrets_from:
    description:
      - A Secret in O(namespace) whose entries are put into C(data) and C(stringData) of the Secrets among the
        manifests, in the place of C(${secret_value.NAME}). C(${secret_value.NAME|url}), C(|json) and C(|base64)
        encode the value.
    type: str
  wait:
    description:
      - Whether to wait until everything is ready, or with O(state=absent) gone. Where that does not happen the message
        says why, by events, states of containers and their last lines.
    type: bool
    default: false
  wait_timeout:
    description: How many seconds that may take. It also limits how long an object that is being deleted is waited for.
    type: int
    default: 300
  parallelism:
    description: How many requests may be under way at once, at least 1.
    type: int
    default: 16
  replace:
    description:
      - Objects that may be deleted and created again where a field has another value that the API does not let change
        in place. The plan shows them with the action V(replace).
      - V(orphan) replaces a StatefulSet without its pods, which go on running and are adopted by the new one. This is
        how its C(volumeClaimTemplates), C(podManagementPolicy) and C(revisionHistoryLimit) change.
      - V(always) also replaces other objects, workloads together with their pods. Examples are the C(selector) of a
        Deployment, the C(serviceName) of a StatefulSet, the template of a Job, the C(clusterIP) of a Service, and the
        C(roleRef) of a binding.
      - Objects whose deletion loses data or other objects are never replaced, whatever this says. These are volumes,
        volume claims, custom resource definitions, and StatefulSets that take their volumes along.
      - A change that is not allowed is refused before anything is changed, with the steps that lead to it.
    type: str
    choices: [never, orphan, always]
    default: orphan
  kubernetes_version:
    description:
      - The version of a cluster that is only planned, like V(1.36). No cluster is asked; the manifests are checked
        against the schemas of that version and reported as to be created, and nothing else is done, in check mode or
        not.
    type: str
  planned_src:
    description:
      - Manifests of custom resource definitions and namespaces that other tasks of the same run apply. In check mode,
        objects that need them are checked against their schemas instead of being refused.
    type: list
    elements: path
    default: []
requirements:
  - kubernetes-validate, with O(kubernetes_version)
attributes:
  check_mode:
    description:
      - By a dry run of the server. What needs a namespace or definition that is only planned is checked against its
        schema. A webhook that does not allow dry runs is a warning that names it.
    support: full
  diff_mode:
    description: What the server would change, without defaults and bookkeeping; Secrets are masked.
    support: full
notes:
  - An object is not sent where it is certain that nothing would change, because the fields that O(field_manager)
    applied are those of the manifest, every one and no other, with the same values. Whatever is not certain is left to
    the server. Webhooks and policies of the cluster do not see such an object again.
  - It needs the rights to get, patch, create, and where something is removed or replaced delete the kinds of the
    manifests, and to get namespaces. For StatefulSets with volumes it lists and patches C(persistentvolumeclaims) and
    lists C(storageclasses). The right to list them makes it faster; O(prune) and O(wait) need it.
  - Objects that C(kubectl apply) made without C(--server-side) are taken over. Where their values differ from the
    manifest's, O(force_conflicts) is needed once.
"""

EXAMPLES = r"""
- name: Apply a folder of manifests and wait until everything is ready
  crypto_lakehouse.platform.k8s_apply:
    src: [manifests/]
    namespace: shop
    create_namespace: true
    prune: shop
    wait: true

- name: See what would change on a cluster of EKS
  crypto_lakehouse.platform.k8s_apply:
    src: [manifests/]
    namespace: shop
    eks_cluster: crypto-lakehouse-production
    region: eu-central-1
  check_mode: true
  diff: true

- name: Check manifests for a cluster that will be made later
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
  description: What was done, or in check mode would be, to each object. It holds no secret.
  returned: always, unless nothing could be looked at
  type: list
  elements: dict
  sample:
    - address: Deployment shop/api (apps/v1)
      kind: Deployment
      action: update
      changes: [{path: spec.replicas, before: 1, after: 2}]
      reason: ""
plan_text:
  description: The same for readers.
  returned: always, unless nothing could be looked at
  type: str
  sample: "    ~ Deployment shop/api (apps/v1)  update"
summary:
  description: The same in one line.
  returned: always, unless nothing could be looked at
  type: str
  sample: "Done: 1 updated, 124 unchanged."
objects:
  description: What became of each object, also of those that could be applied when others failed.
  returned: always, unless nothing could be looked at
  type: list
  elements: dict
  contains:
    address:
      description: Kind, namespace, name and version in one.
      type: str
      sample: Deployment shop/api (apps/v1)
    api_version:
      description: Its C(apiVersion).
      type: str
      sample: apps/v1
    kind:
      description: Its kind.
      type: str
      sample: Deployment
    namespace:
      description: Its namespace; empty where it has none.
      type: str
      sample: shop
    name:
      description: Its name.
      type: str
      sample: api
    action:
      description: One of V(create), V(update), V(replace), V(delete), V(none), V(failed) and V(skipped).
      type: str
      sample: update
    changes:
      description: What differs, by path. Values of more than 4,000 characters are cut.
      type: list
      elements: dict
      sample: [{path: spec.replicas, before: 1, after: 2}]
    error:
      description: Why it failed, and what to do.
      type: str
      sample: ""
    message:
      description: Why it failed, without what to do where that is known apart.
      type: str
      sample: ""
    remedy:
      description: What to do about a failure; empty where RV(objects[].error) says it, or nothing is known.
      type: str
      sample: ""
    reason:
      description: Why it was left out, or what the result rests on.
      type: str
      sample: ""
    warnings:
      description: What the server remarked.
      type: list
      elements: str
      sample: []
    duration_s:
      description: How many seconds it took.
      type: float
      sample: 0.042
calls:
  description: How many requests were sent, repeated ones included.
  returned: always, unless nothing could be looked at
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
