# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download a Helm chart, verify it, and render it for a cluster without installing it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: helm_chart
short_description: Download a Helm chart and render it for a cluster
version_added: "1.0.0"
description:
  - Reads a chart from a repository, an OCI registry or a path, verifies its checksum, name and version, and unpacks it.
  - Writes its custom resource definitions and the objects of its release to files, which
    M(crypto_lakehouse.platform.k8s_apply) applies or compares. Helm itself neither upgrades definitions nor reverts
    manual changes.
  - Also verifies a package of a repository by the digest in the repository's index, which Helm does not.
  - Caches a package with O(checksum) in C(crypto-lakehouse/charts) below C(XDG_CACHE_HOME), or C(~/.cache), and
    downloads it once.
  - Writes only these files and those in O(destination), also in check mode, so it never reports a change.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  chart:
    description: Name of the chart, as in its C(Chart.yaml). Required with O(state=present).
    type: str
  version:
    description: Version of the chart. Required with O(repository); must match the version of O(path).
    type: str
    default: ""
  repository:
    description: Repository (V(https://...)) or registry (V(oci://...)) of the chart.
    type: str
    default: ""
  path:
    description: Folder or package (C(.tgz)) of the chart, as an alternative to O(repository).
    type: str
    default: ""
  checksum:
    description: SHA-256 of the chart's package, with or without the prefix C(sha256:).
    type: str
    default: ""
  ca_bundle:
    description: File of certificate authorities for the repository.
    type: str
    default: ""
  chart_username:
    description: Chart repository username. Registries use the credentials of C(helm registry login) when empty.
    type: str
    default: ""
  chart_password:
    description:
      - Chart repository password. Helm reads it from a private temporary file.
    type: str
    default: ""
  binary_path:
    description: Path of the program C(helm). The program on the search path when empty.
    type: str
    default: ""
  state:
    description:
      - Whether to write the files, or to remove a folder that the module created without O(destination).
      - The folder contains credentials of the cluster, so remove it, for example in the C(always) section of a block.
    type: str
    choices: [present, absent]
    default: present
  destination:
    description:
      - Empty folder for the written files. By default, the module creates a private temporary folder, RV(folder).
      - With O(state=absent), the folder to remove. An absent folder is not an error.
    type: path
  release_name:
    description: Name of the release. Required with O(state=present).
    type: str
  release_namespace:
    description: Namespace of the release. Required with O(state=present).
    type: str
  release_values:
    description: Values of the release, without secrets, because Helm stores them in the cluster and on the disk.
    type: dict
    default: {}
  left_to_helm:
    description:
      - Kinds of objects that only Helm writes and that RV(objects_path) omits.
      - For charts that render new values each time, such as certificates of webhooks.
    type: list
    elements: str
    default: []
  render:
    description:
      - Whether to download and render the chart. Otherwise the module returns only the kubeconfig for Helm and the
        state of the release, for its deletion. Helm is not required if the release does not exist.
    type: bool
    default: true
  kubernetes_version:
    description:
      - Version of a planned cluster to render for, as in V(1.35).
      - By default, the version and the API versions are read from the cluster.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: The module changes nothing.
  diff_mode:
    support: none
    description: The module changes nothing.
requirements:
  - helm >= 3.14
seealso:
  - module: crypto_lakehouse.platform.k8s_apply
  - module: kubernetes.core.helm
"""

EXAMPLES = r"""
- name: Download and render the chart of metrics-server
  crypto_lakehouse.platform.helm_chart:
    chart: metrics-server
    version: 3.13.0
    repository: https://kubernetes-sigs.github.io/metrics-server/
    release_name: metrics-server
    release_namespace: kube-system
  register: rendered

- name: Upgrade its custom resource definitions
  crypto_lakehouse.platform.k8s_apply:
    src: ["{{ rendered.crds_path }}"]
  when: rendered.crds > 0

- name: Remove the rendered files
  crypto_lakehouse.platform.helm_chart:
    state: absent
    destination: "{{ rendered.folder }}"
"""

RETURN = r"""
folder:
  description: Folder with the written files.
  returned: with O(state=present)
  type: str
  sample: /tmp/lakehouse-chart-x1y2z3
binary_path:
  description: Path of the program C(helm).
  returned: when Helm is required
  type: str
helm_version:
  description: Version of Helm.
  returned: when Helm is required
  type: str
  sample: 4.2.3
chart:
  description: The chart.
  returned: with O(render)
  type: dict
  contains:
    path: {description: Folder of the chart., type: str}
    name: {description: Name of the chart., type: str}
    version: {description: Version of the chart., type: str}
    app_version: {description: Version of its application., type: str}
    checksum: {description: SHA-256 of its package. Empty for a folder., type: str}
kubernetes_version:
  description: Kubernetes version of the rendering.
  returned: with O(render)
  type: str
  sample: v1.35.2
crds:
  description: Number of custom resource definitions of the chart.
  returned: with O(render)
  type: int
crds_path:
  description: File with the custom resource definitions.
  returned: with O(render)
  type: str
objects:
  description: Number of the release's objects, without hooks.
  returned: with O(render)
  type: int
objects_path:
  description: File with the objects, which carry the labels of Helm.
  returned: with O(render)
  type: str
kubeconfig_path:
  description:
    - Kubeconfig in O(destination) for Helm with the connection of the options, including credentials.
    - Empty for a planned cluster.
  returned: success
  type: str
installed:
  description: Whether the cluster has a revision of the release.
  returned: success
  type: bool
current:
  description:
    - Whether the last revision of the release is deployed with this chart and these values, so that no upgrade is
      required.
  returned: success
  type: bool
pending:
  description: Unfinished revisions of the release, which block further Helm operations.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Name of its Secret in the namespace., type: str}
    status: {description: Status of the revision., type: str, sample: pending-upgrade}
    age_s: {description: Age in seconds., type: int}
"""

from collections.abc import Callable, Iterable, Mapping
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
from ..module_utils.helm.chart_task import ChartTask
from ..module_utils.kube.client.errors import KubeError

_TEXT: dict[str, Any] = {"type": "str", "default": ""}
ARGUMENT_SPEC: dict[str, Any] = {
    **CLUSTER_SPEC,
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "chart": {"type": "str"},
    **dict.fromkeys(("version", "repository", "path", "checksum", "ca_bundle", "binary_path"), _TEXT),
    # The options without this word are those of the cluster.
    "chart_username": _TEXT,
    "chart_password": {**_TEXT, "no_log": True},
    "destination": {"type": "path"},
    "release_name": {"type": "str"},
    "release_namespace": {"type": "str"},
    "release_values": {"type": "dict", "default": {}},
    "left_to_helm": {"type": "list", "elements": "str", "default": []},
    "render": {"type": "bool", "default": True},
    "kubernetes_version": _TEXT,
}
REQUIRED_IF = [
    ("state", "present", ["chart", "release_name", "release_namespace"]),
    ("state", "absent", ["destination"]),
]


def outcome(parameters: Mapping[str, Any], hide: Callable[[Iterable[str]], None]) -> dict[str, Any]:
    """Return the result. hide: receives secret values to mask in it."""
    needs_cluster = parameters["state"] == "present" and not parameters["kubernetes_version"]
    try:
        connection = cluster_connection(parameters) if needs_cluster else None
        return {"changed": False, **ChartTask(parameters, connection, hide).result()}
    except (ChartError, KubeError) as error:
        return {"failed": True, "msg": str(error)}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=ARGUMENT_SPEC,
        mutually_exclusive=CLUSTER_EXCLUSIVE,
        required_together=CLUSTER_TOGETHER,
        required_if=REQUIRED_IF,
        supports_check_mode=True,
    )
    module.no_log_values.update(secrets_in(module.params))
    result = outcome(module.params, module.no_log_values.update)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
