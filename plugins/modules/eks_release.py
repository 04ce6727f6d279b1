# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete the AWS resources of a cluster's controllers before the cluster is deleted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: eks_release
short_description: Delete AWS resources of a cluster's controllers before the cluster is deleted
version_added: "1.0.0"
description:
  - Deletes AWS resources that controllers of an EKS cluster created, through the cluster's API, and waits until AWS
    has deleted them. Load balancers, their security groups and volumes that outlive the cluster block the deletion of
    its network, and their owner is then unknown.
  - Deletes all Ingresses and all Services of type LoadBalancer, with O(volumes=true) also all PersistentVolumeClaims
    and the workloads that use them.
  - Waits until no load balancer, target group, security group, and with O(volumes=true) no volume has the tags of the
    cluster. After O(timeout_s), it fails and lists the remaining resources. The wait excludes resources that another
    stack describes, and the security group that EKS creates for the cluster.
  - A missing, inactive or unreachable cluster is not an error if no resource has its tags; see RV(cluster).
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.aws
requirements:
  - kubernetes
options:
  cluster_name:
    description: Name of the EKS cluster.
    type: str
    required: true
  volumes:
    description:
      - Whether to delete volumes with all their data.
      - Volumes with the reclaim policy C(Retain) are always kept.
    type: bool
    default: false
  kubeconfig:
    description:
      - Kubeconfig for a cluster whose endpoint cannot be reached directly.
      - It must trust the certificate authority that EKS returns for O(cluster_name).
      - By default the cluster's endpoint, with a token of the identity that runs the module.
    type: path
  context:
    description: Context of O(kubeconfig). By default its current context.
    type: str
  timeout_s:
    description: Timeout of the whole deletion in seconds.
    type: float
    default: 900.0
attributes:
  check_mode:
    description: Returns the objects and resources that would be deleted.
    support: full
  diff_mode:
    description: Lists the deleted objects and resources.
    support: full
"""

EXAMPLES = r"""
- name: Delete the load balancers before the cluster
  crypto_lakehouse.platform.eks_release:
    cluster_name: crypto-lakehouse-development
    region: eu-central-1

- name: Delete load balancers and volumes with all data, through a tunnel
  crypto_lakehouse.platform.eks_release:
    cluster_name: crypto-lakehouse-development
    region: eu-central-1
    kubeconfig: ~/.kube/tunnel
    volumes: true
"""

RETURN = r"""
cluster:
  description:
    - C(reached) if the API of the cluster answered. C(absent) if EKS does not have the cluster. C(inactive) if it never
      became active or is being deleted. C(unreachable) if its API does not answer and no AWS resource must be deleted.
  returned: success
  type: str
  sample: reached
removed:
  description: Deleted Kubernetes objects; in check mode those that would be deleted.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: Kind of the object.
      type: str
      sample: Ingress
    namespace:
      description: Namespace of the object.
      type: str
      sample: crypto-lakehouse
    name:
      description: Name of the object.
      type: str
      sample: api
released:
  description: Deleted AWS resources with the cluster's tags; in check mode those that would be deleted.
  returned: success
  type: list
  elements: dict
  contains: &thing
    type:
      description: One of C(load balancer), C(classic load balancer), C(target group), C(security group), C(volume).
      type: str
      sample: load balancer
    id:
      description: ARN of the resource, or its id if it does not have an ARN.
      type: str
      sample: sg-0123456789abcdef0
    name:
      description: Name of the resource; for a volume, the name of its claim.
      type: str
      sample: k8s-cryptola-api-0123456789
kept:
  description: Volumes that are kept.
  returned: success
  type: list
  elements: dict
  contains: *thing
left:
  description: Remaining AWS resources after the timeout.
  returned: on a timeout
  type: list
  elements: dict
  contains: *thing
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils.aws.arguments import CONNECTION_SPEC, CONNECTION_TOGETHER, connection
from ..module_utils.aws.release import LeftError, Released, Wish, release
from ..module_utils.aws.session import Session
from ..module_utils.engine.errors import EngineError

ARGUMENT_SPEC = {
    **CONNECTION_SPEC,
    "cluster_name": {"type": "str", "required": True},
    "volumes": {"type": "bool", "default": False},
    "kubeconfig": {"type": "path"},
    "context": {"type": "str"},
    "timeout_s": {"type": "float", "default": 900.0},
}


def main() -> None:
    module = AnsibleModule(
        ARGUMENT_SPEC,
        supports_check_mode=True,
        required_together=CONNECTION_TOGETHER,
        required_by={"context": ["kubeconfig"]},
    )
    try:
        import boto3  # noqa: F401
        import kubernetes  # noqa: F401
    except ImportError as error:
        module.fail_json(msg=missing_required_lib(str(error.name)))
    options = module.params
    wish = Wish(
        options["cluster_name"],
        options["volumes"],
        options["kubeconfig"] or "",
        options["context"] or "",
        options["timeout_s"],
        module.check_mode,
    )
    try:
        released = release(Session(connection(options)), wish)
    except LeftError as error:
        module.fail_json(msg=str(error), left=[item.to_data() for item in error.left])
        return
    except EngineError as error:
        module.fail_json(msg=str(error))
        return
    for warning in released.warnings:
        module.warn(warning)
    module.exit_json(**result(released))


def result(released: Released) -> dict[str, object]:
    lines = [f"{item}\n" for item in (*released.removed, *released.released)]
    return {
        "changed": released.changed,
        "cluster": released.cluster,
        "removed": [item.to_data() for item in released.removed],
        "released": [item.to_data() for item in released.released],
        "kept": [item.to_data() for item in released.kept],
        "diff": {"before": "".join(lines), "after": ""},
    }


if __name__ == "__main__":
    main()
