# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check every layer of a lakehouse."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lakehouse_health
short_description: Check every layer of a lakehouse
version_added: 1.0.0
description:
  - Checks the machine and its supervisor, or the cluster (nodes, workloads, pods, volume claims, Services and their
    endpoints, Ingresses, certificates). Also checks every service, the data layer, the monitoring and the age of the
    last pipeline run. All checks run concurrently and are returned in one report.
  - Services of a cluster are checked through the proxy of its API server, which forwards no credentials.
  - Changes nothing. A check that cannot run is unhealthy.
author:
  - The crypto_lakehouse.platform authors (@crypto-lakehouse)
requirements:
  - cryptography, for certificates of a cluster
extends_documentation_fragment:
  - crypto_lakehouse.platform.kubernetes
options:
  target:
    description: Target of the lakehouse. V(k3s) is any self-managed cluster.
    type: str
    choices: [host, k3s, eks, gke]
    default: host
  home:
    description: Folder of the installation. Required with O(target=host).
    type: path
  namespaces:
    description:
      - Namespaces of a cluster to check, that of the lakehouse first. Each of them must have workloads.
      - The whole cluster is checked when empty.
    type: list
    elements: str
    default: []
  certificate_days:
    description:
      - Remaining days of validity below which a certificate of a cluster is unhealthy. It is degraded below twice of
        it.
      - The check covers the API server and Secrets of type C(kubernetes.io/tls). Keys are not read.
    type: float
    default: 14.0
  programs:
    description:
      - Expected programs of supervisord, as returned by P(crypto_lakehouse.platform.render_services#filter).
      - All programs of supervisord are checked when empty.
    type: list
    elements: dict
    default: []
  health:
    description:
      - Health checks of the services, as returned by P(crypto_lakehouse.platform.render_services#filter).
      - On a cluster, checks other than HTTP use the probes of the pods. A service with authentication is healthy when
        it requests credentials, because the proxy of the API server forwards none.
    type: list
    elements: dict
    default: []
  incomplete:
    description:
      - Records of incomplete work of a host's jobs, as returned by P(crypto_lakehouse.platform.render_services#filter).
      - A restore that was interrupted is unhealthy, with the command that completes it.
    type: list
    elements: dict
    default: []
  volumes:
    description:
      - Described volumes of a cluster, each with C(kind), C(namespace), C(workload), C(template), C(size),
        C(storage_class), C(access_modes) and C(volume_mode). A smaller volume claim is unhealthy, with the
        manual steps to expand it.
    type: list
    elements: dict
    default: []
  api_url:
    description:
      - Address of the lakehouse API. The layers C(data) and C(pipeline) are skipped when it is not set.
      - On a cluster, the address of a Service (C(http://api.crypto-lakehouse.svc:8080)) or of an Ingress.
    type: str
  prometheus_url:
    description:
      - Address of Prometheus. The layer C(monitoring) is skipped when it is not set.
      - On a cluster, the address of a Service or of an Ingress; O(prometheus_username) is for the latter.
    type: str
  prometheus_username:
    description: User name for Prometheus.
    type: str
  prometheus_password_file:
    description: File with the password for Prometheus, on the target.
    type: path
  bootstrap_job:
    description:
      - Command line of the application's job C(bootstrap) on a host. Undescribed resources that grant access, and
        differences that a deployment would repair, are degraded.
      - The stores are not compared with their description when empty.
    type: list
    elements: str
    default: []
  expected_foreign:
    description: Patterns C(KIND/NAME) of expected foreign resources.
    type: list
    elements: str
    default: []
  description:
    description:
      - Described parts of a cluster. Undescribed resources that grant access are degraded, see
        P(crypto_lakehouse.platform.cluster_foreign#module).
      - Access is not compared when it is not set.
    type: dict
    suboptions:
      namespaces:
        description: Namespaces to compare, that of the lakehouse first.
        type: list
        elements: str
        required: true
      sets:
        description: Sets of P(crypto_lakehouse.platform.k8s_apply#module), as C(NAMESPACE/NAME).
        type: list
        elements: str
        default: []
      releases:
        description: Releases of Helm, as C(NAMESPACE/NAME).
        type: list
        elements: str
        default: []
  software:
    description: Folder of the software of a host, whose files are compared with the installed manifest.
    type: path
  software_sources:
    description: SHA-256 of each source file of the software, by its path below O(software).
    type: dict
    default: {}
  logins:
    description:
      - Whether to look for SSH keys, cron jobs and similar that run as the service user of a host. The module must run
        as that user.
    type: bool
    default: false
  fail_on_unhealthy:
    description: Whether to fail when a check is unhealthy.
    type: bool
    default: true
  timeout_s:
    description: Timeout of one check in seconds.
    type: float
    default: 5.0
  disk_free_min_percent:
    description: Free disk space of O(home) in percent below which it is unhealthy. It is degraded below twice of it.
    type: float
    default: 5.0
  memory_available_min_percent:
    description: Available memory in percent below which the machine is unhealthy. It is degraded below twice of it.
    type: float
    default: 5.0
  load_max_per_cpu:
    description: Five-minute load per CPU above which the machine is degraded.
    type: float
    default: 4.0
  restart_window_s:
    description: Time in seconds for which a program or container is degraded after it exited unexpectedly.
    type: float
    default: 600.0
  pipeline_max_age_s:
    description: Maximum age of a flow's last successful run in seconds; an older one is unhealthy.
    type: float
    default: 93600.0
  reference_time_s:
    description: Time of the controller in seconds since 1970, which is compared with the target's clock.
    type: float
attributes:
  check_mode:
    description: The module changes nothing.
    support: full
  diff_mode:
    description: The module changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Check the health of the lakehouse
  crypto_lakehouse.platform.lakehouse_health:
    home: /var/lib/crypto-lakehouse
    api_url: http://127.0.0.1:8080
    prometheus_url: http://127.0.0.1:9090
    prometheus_username: lakehouse
    prometheus_password_file: /var/lib/crypto-lakehouse/secrets/prometheus/prometheus_password
  register: lakehouse

- name: Check the health of the lakehouse on a cluster
  crypto_lakehouse.platform.lakehouse_health:
    target: k3s
    kubeconfig: ~/.kube/config
    namespaces: [crypto-lakehouse, monitoring]
    api_url: http://api.crypto-lakehouse.svc:8080
    prometheus_url: http://monitoring-prometheus.monitoring.svc:9090
  register: lakehouse
"""

RETURN = r"""
msg:
  description: Unhealthy checks with their remedies, one per line, or the number of checks by status.
  returned: always
  type: str
  sample: "24 checks: 1 degraded, 23 healthy"
healthy:
  description: Whether no check is unhealthy.
  returned: always
  type: bool
  sample: true
checks:
  description: All checks, the worst first, then in the order of the layers.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Layer and subject.
      type: str
      sample: services/database
    layer:
      description:
        - On a host one of C(machine), C(supervisor), C(description), C(services), C(data), C(monitoring), C(pipeline).
        - On a cluster one of C(description), C(cluster), C(nodes), C(workloads), C(pods), C(storage), C(network),
          C(certificates), C(services), C(data), C(monitoring), C(pipeline).
      type: str
      sample: services
    status:
      description: One of C(healthy), C(degraded) (works but needs attention), C(unhealthy).
      type: str
      sample: healthy
    detail:
      description: Result in one line.
      type: str
      sample: connected
    remedy:
      description: Next command, or file to read. Empty when no action is required.
      type: str
      sample: tail -n 50 /var/lib/crypto-lakehouse/log/database.log
    response_time_ms:
      description: Response time in milliseconds.
      type: float
      sample: 3.4
unhealthy:
  description: Names of the unhealthy checks.
  returned: always
  type: list
  elements: str
  sample: [services/database]
degraded:
  description: Names of the degraded checks.
  returned: always
  type: list
  elements: str
  sample: [data/market_api]
table:
  description: The report as text of several lines.
  returned: always
  type: str
  sample: "STATUS   CHECK              TIME  DETAIL\nhealthy  services/database  3 ms  connected\n\n1 check: 1 healthy"
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
from ..module_utils.health.checks import Thresholds
from ..module_utils.health.host.examine import Installation, examine
from ..module_utils.health.report import Report
from ..module_utils.shared.targets import TARGETS

NEEDED_IF = [["target", "host", ["home"]]]


def argument_spec() -> dict[str, dict[str, Any]]:
    return {
        **CLUSTER_SPEC,
        "target": {"type": "str", "choices": list(TARGETS), "default": "host"},
        "home": {"type": "path"},
        "namespaces": {"type": "list", "elements": "str", "default": []},
        "certificate_days": {"type": "float", "default": 14.0},
        "programs": {"type": "list", "elements": "dict", "default": []},
        "health": {"type": "list", "elements": "dict", "default": []},
        "incomplete": {"type": "list", "elements": "dict", "default": []},
        "volumes": {"type": "list", "elements": "dict", "default": []},
        "api_url": {"type": "str"},
        "prometheus_url": {"type": "str"},
        "prometheus_username": {"type": "str"},
        "prometheus_password_file": {"type": "path", "no_log": False},
        "bootstrap_job": {"type": "list", "elements": "str", "default": []},
        "expected_foreign": {"type": "list", "elements": "str", "default": []},
        "description": {
            "type": "dict",
            "options": {
                "namespaces": {"type": "list", "elements": "str", "required": True},
                "sets": {"type": "list", "elements": "str", "default": []},
                "releases": {"type": "list", "elements": "str", "default": []},
            },
        },
        "software": {"type": "path"},
        "software_sources": {"type": "dict", "default": {}},
        "logins": {"type": "bool", "default": False},
        "fail_on_unhealthy": {"type": "bool", "default": True},
        "timeout_s": {"type": "float", "default": 5.0},
        "disk_free_min_percent": {"type": "float", "default": 5.0},
        "memory_available_min_percent": {"type": "float", "default": 5.0},
        "load_max_per_cpu": {"type": "float", "default": 4.0},
        "restart_window_s": {"type": "float", "default": 600.0},
        "pipeline_max_age_s": {"type": "float", "default": 93600.0},
        "reference_time_s": {"type": "float"},
    }


def _examined(parameters: dict[str, Any]) -> Report:
    if not TARGETS[parameters["target"]].is_cluster:
        return examine(Installation(**_given(Installation, parameters)))
    # On a host they would take as long to load as the examination takes.
    from ..module_utils.health.cluster.examine import ClusterInstallation, examine_cluster

    return examine_cluster(
        lambda: cluster_connection(parameters), ClusterInstallation(**_given(ClusterInstallation, parameters))
    )


def _given(kind: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are arguments of an installation of this kind."""
    limits = Thresholds(**{name: parameters[name] for name in Thresholds.__dataclass_fields__})
    given = {name: parameters[name] for name in kind.__dataclass_fields__ if name != "limits"}
    return {**given, "limits": limits}


def main() -> None:
    module = AnsibleModule(
        argument_spec(),
        mutually_exclusive=CLUSTER_EXCLUSIVE,
        required_together=CLUSTER_TOGETHER,
        required_if=NEEDED_IF,
        supports_check_mode=True,
    )
    module.no_log_values |= secrets_in(module.params)
    result = outcome(module.params)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


def outcome(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the result of the module, with `failed` when an unhealthy check fails it."""
    report = _examined(parameters)
    failed = {"failed": True} if parameters["fail_on_unhealthy"] and not report.healthy else {}
    return {"changed": False, **report.as_result(), **failed}


if __name__ == "__main__":
    main()
