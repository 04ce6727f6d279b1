# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Get a chart of Helm, verify it, and render it for a cluster without installing anything."""

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_chart
short_description: Get a chart of Helm and render it for a cluster
version_added: "1.0.0"
description:
  - Gets a chart from a repository, an OCI registry or a path, verifies its checksum, name and version, and unpacks it.
  - Writes its custom resource definitions and the objects that a release of it has, for
    M(crypto_lakehouse.platform.k8s_apply) to apply or to compare with. Helm itself neither upgrades definitions nor
    repairs objects that were changed by hand.
  - Verifies a package of a repository by the digest in the repository's index as well, which Helm does not.
  - Keeps a package that O(checksum) pins in C(crypto-lakehouse/charts) below C(XDG_CACHE_HOME), or C(~/.cache), and
    asks no network for it again.
  - Changes nothing but these files and those in O(destination), also in check mode, so it never reports a change.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  chart:
    description: Name of the chart, which its C(Chart.yaml) has to say.
    type: str
    required: true
  version:
    description: Version of the chart. It is required with O(repository), and has to be that of O(path).
    type: str
    default: ""
  repository:
    description: Repository (V(https://...)) or registry (V(oci://...)) that has the chart.
    type: str
    default: ""
  path:
    description: Folder or package (C(.tgz)) of the chart, instead of O(repository).
    type: str
    default: ""
  checksum:
    description: SHA-256 of the chart's package, with or without C(sha256:) before it.
    type: str
    default: ""
  ca_bundle:
    description: File of certificate authorities that the repository is verified with.
    type: str
    default: ""
  chart_username:
    description: Account of the repository or registry. For a registry those of C(helm registry login) are taken else.
    type: str
    default: ""
  chart_password:
    description:
      - Password of the account. It is given to Helm in a file that is for the owner alone and gone when Helm ends.
    type: str
    default: ""
  binary_path:
    description: The program C(helm); else that of the search path.
    type: str
    default: ""
  destination:
    description: An empty folder of the caller's, in which everything is put.
    type: path
    required: true
  release_name:
    description: Name of the release.
    type: str
    required: true
  release_namespace:
    description: Namespace of the release.
    type: str
    required: true
  release_values:
    description: Values of the release, without any secret, since Helm keeps them in the cluster and on the disk.
    type: dict
    default: {}
  left_to_helm:
    description:
      - Kinds of objects that Helm alone writes, so that they are not in RV(objects_path).
      - For a chart that makes something anew whenever it is rendered, such as certificates of webhooks.
    type: list
    elements: str
    default: []
  render:
    description:
      - Whether the chart is got and rendered. Otherwise only what leads Helm to the cluster is returned, and what the
        cluster has of the release, which is all that its removal needs. Where it has nothing no Helm is needed either.
    type: bool
    default: true
  kubernetes_version:
    description:
      - Version of Kubernetes to render for, where the cluster is only planned, as in V(1.35).
      - By default the cluster is asked for it, and for what it serves.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Does the same, since nothing is changed.
  diff_mode:
    support: none
    description: Changes nothing.
requirements:
  - helm >= 3.14
seealso:
  - module: crypto_lakehouse.platform.k8s_apply
  - module: kubernetes.core.helm
"""

EXAMPLES = r"""
- name: Get and render the chart of metrics-server
  crypto_lakehouse.platform.helm_chart:
    chart: metrics-server
    version: 3.13.0
    repository: https://kubernetes-sigs.github.io/metrics-server/
    destination: "{{ folder.path }}"
    release_name: metrics-server
    release_namespace: kube-system
  register: rendered

- name: Upgrade its definitions
  crypto_lakehouse.platform.k8s_apply:
    src: ["{{ rendered.crds_path }}"]
  when: rendered.crds > 0
"""

RETURN = r"""
binary_path:
  description: The program C(helm) that was used.
  returned: when there is a use for it
  type: str
helm_version:
  description: Its version.
  returned: when there is a use for it
  type: str
  sample: 4.2.3
chart:
  description: The chart.
  returned: with O(render)
  type: dict
  contains:
    path: {description: Its folder., type: str}
    name: {description: Its name., type: str}
    version: {description: Its version., type: str}
    app_version: {description: Version of what it installs., type: str}
    checksum: {description: SHA-256 of its package; empty for a folder., type: str}
kubernetes_version:
  description: What it was rendered for.
  returned: with O(render)
  type: str
  sample: v1.35.2
crds:
  description: Number of its custom resource definitions.
  returned: with O(render)
  type: int
crds_path:
  description: File that holds them.
  returned: with O(render)
  type: str
objects:
  description: Number of the release's objects, without hooks.
  returned: with O(render)
  type: int
objects_path:
  description: File that holds them, marked as Helm's own.
  returned: with O(render)
  type: str
kubeconfig_path:
  description:
    - File in O(destination) that leads Helm to the cluster in the way that the options say, credentials included.
    - Empty where the cluster is only planned.
  returned: success
  type: str
installed:
  description: Whether Helm records a revision of the release in the cluster.
  returned: success
  type: bool
current:
  description:
    - Whether the last revision of the release that Helm records is deployed, and has this chart and these values, so
      that Helm has nothing to do.
  returned: success
  type: bool
pending:
  description: Revisions of the release that a Helm has begun and not ended; it refuses to go on while there are any.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Secret of the namespace that records it., type: str}
    status: {description: What was begun., type: str, sample: pending-upgrade}
    age_s: {description: Seconds since., type: int}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.cluster.access import (
    CLUSTER_EXCLUSIVE,
    CLUSTER_SPEC,
    CLUSTER_TOGETHER,
    cluster_connection,
    secrets_in,
)
from ..module_utils.helm.chart_pull import ChartError
from ..module_utils.helm.chart_task import prepare
from ..module_utils.kube.client.errors import KubeError


def argument_spec() -> dict[str, Any]:
    """Return the options."""
    text = {"type": "str", "default": ""}
    return {
        **CLUSTER_SPEC,
        "chart": {"type": "str", "required": True},
        **dict.fromkeys(("version", "repository", "path", "checksum", "ca_bundle", "binary_path"), text),
        # The options without this word are those of the cluster.
        "chart_username": text,
        "chart_password": {**text, "no_log": True},
        "destination": {"type": "path", "required": True},
        "release_name": {"type": "str", "required": True},
        "release_namespace": {"type": "str", "required": True},
        "release_values": {"type": "dict", "default": {}},
        "left_to_helm": {"type": "list", "elements": "str", "default": []},
        "render": {"type": "bool", "default": True},
        "kubernetes_version": text,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=argument_spec(),
        mutually_exclusive=CLUSTER_EXCLUSIVE,
        required_together=CLUSTER_TOGETHER,
        supports_check_mode=True,
    )
    module.no_log_values.update(secrets_in(module.params))
    try:
        planned = module.params["kubernetes_version"]
        result = prepare(module, None if planned else cluster_connection(module.params))
    except (ChartError, KubeError) as error:
        module.fail_json(msg=str(error))
    else:
        module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
