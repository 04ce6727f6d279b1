# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what a cluster made in AWS, before the cluster goes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: eks_release
short_description: Remove what Kubernetes made in AWS, before its cluster is destroyed
version_added: "1.0.0"
description:
  - Removes through the API of an EKS cluster what its controllers made in AWS, and waits until it is gone from AWS.
    Load balancers, their security groups and volumes that outlive their cluster keep its network from being deleted,
    and nobody knows any more what they belong to.
  - Removed are all Ingresses and all Services of type LoadBalancer, with O(volumes=true) also all
    PersistentVolumeClaims together with the workloads that use them.
  - Waits until no load balancer, target group, security group, and with O(volumes=true) no volume carries the tags of
    the cluster any more, and names what is left when that takes longer than O(timeout_s).
    What another stack described, and the group that EKS makes for the cluster itself, is not waited for.
  - A cluster that does not exist, never began to work, or could never be reached is no error as long as nothing carries
    its tags; RV(cluster) tells which it is.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.aws
requirements:
  - kubernetes
options:
  cluster_name:
    description: The name of the cluster.
    type: str
    required: true
  volumes:
    description:
      - Whether volumes go as well, with all data on them.
      - A volume whose PersistentVolume says C(Retain) stays all the same.
    type: bool
    default: false
  kubeconfig:
    description:
      - A kubeconfig that leads to the cluster, where its endpoint cannot be reached directly.
      - Refused unless it trusts the certificate authority that EKS tells for O(cluster_name).
      - By default the cluster's endpoint, with a token of the identity that runs this.
    type: path
  context:
    description: The context of O(kubeconfig). By default its current one.
    type: str
  timeout_s:
    description: How many seconds everything may take to be gone.
    type: float
    default: 900.0
attributes:
  check_mode:
    description: Looks, and returns what would be removed.
    support: full
  diff_mode:
    description: Lists what is removed.
    support: full
"""

EXAMPLES = r"""
- name: Take the load balancers down before the cluster goes
  crypto_lakehouse.platform.eks_release:
    cluster_name: crypto-lakehouse-development
    region: eu-central-1

- name: The same with all data, through a tunnel
  crypto_lakehouse.platform.eks_release:
    cluster_name: crypto-lakehouse-development
    region: eu-central-1
    kubeconfig: ~/.kube/tunnel
    volumes: true
"""

RETURN = r"""
cluster:
  description:
    - C(reached) when its API answered. C(absent) when EKS has no such cluster, C(inactive) when it never began to work
      or is being deleted, C(unreachable) when its API does not answer and it has nothing in AWS that has to go.
  returned: success
  type: str
  sample: reached
removed:
  description: The objects that were removed, or in check mode would be.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: Its kind.
      type: str
      sample: Ingress
    namespace:
      description: Its namespace.
      type: str
      sample: crypto-lakehouse
    name:
      description: Its name.
      type: str
      sample: api
released:
  description: What carried the cluster's tags in AWS and is gone, or in check mode would go.
  returned: success
  type: list
  elements: dict
  contains: &thing
    type:
      description: One of C(load balancer), C(classic load balancer), C(target group), C(security group), C(volume).
      type: str
      sample: load balancer
    id:
      description: Its id, or its ARN where it has one.
      type: str
      sample: sg-0123456789abcdef0
    name:
      description: Its name; of a volume the claim that it was made for.
      type: str
      sample: k8s-cryptola-api-0123456789
kept:
  description: Volumes that stay.
  returned: success
  type: list
  elements: dict
  contains: *thing
left:
  description: What is still there in AWS.
  returned: when something is left
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
