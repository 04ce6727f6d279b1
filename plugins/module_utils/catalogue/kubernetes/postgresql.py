# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL with replicas and failover, as the operator CloudNativePG runs it (postgresql.cnpg.io/v1)."""

from __future__ import annotations

from collections.abc import Iterator

from ..service import Operator, byte_count
from .part import PART_OF_LABEL, PLATFORM, SUPERUSER_PASSWORD, Entry, Part, marker
from .pods import resources

SUPERUSER, PASSWORD = "postgres", "database_superuser_password"
LOCALE = {"encoding": "UTF8", "localeProvider": "builtin", "builtinLocale": "C.UTF-8"}
"""As on every other target: what sorts and what is upper case does not follow from the image."""
METRICS_PORT, STATUS_PORT = 9187, 8000
PRIMARY = {"cnpg.io/instanceRole": "primary"}
"""What the operator writes on the pod of the instance that takes writes."""


def postgresql(part: Part, operator: Operator, priority_class: str) -> Iterator[Entry]:
    """Yield a cluster of PostgreSQL instances, its superuser's secret, and what reads its figures."""
    yield {
        "apiVersion": "v1",
        "kind": "Secret",
        # The operator looks at a secret again when it changes only where it is told to.
        "metadata": part.metadata(_superuser(part), labels={**part.labels, "cnpg.io/reload": "true"}),
        "type": "kubernetes.io/basic-auth",
        "stringData": {"username": SUPERUSER, "password": marker(SUPERUSER_PASSWORD)},
    }
    yield {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": part.metadata(annotations={"kubernetes.io/description": part.service.purpose}),
        "spec": _specification(part, operator, priority_class),
    }
    endpoint = {"portNumber": METRICS_PORT, "interval": part.layout.catalogue.settings.get("metrics_interval", "15s")}
    yield {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": part.metadata(),
        "spec": {"selector": {"matchLabels": part.selector}, "podMetricsEndpoints": [endpoint]},
    }


def _superuser(part: Part) -> str:
    return f"{part.name}-superuser"


def _specification(part: Part, operator: Operator, priority_class: str) -> Entry:
    cluster = part.layout.cluster
    specification: Entry = {
        "instances": operator.instances,
        "imageName": cluster.image(operator.image),
        "enableSuperuserAccess": True,
        "superuserSecret": {"name": _superuser(part)},
        # Roles and databases of the platform are made by its own job, on every target alike.
        "bootstrap": {"initdb": {"database": "app", "owner": "app", "dataChecksums": True, **LOCALE}},
        "postgresql": {"parameters": _parameters(part), **_synchronous(operator)},
        "storage": _storage(part),
        "resources": resources(part),
        "primaryUpdateStrategy": "unsupervised",
        # Sessions are ended at once: those of a pool would keep a machine from being emptied.
        "smartShutdownTimeout": 0,
        "stopDelay": part.service.stop.timeout_s,
        "priorityClassName": priority_class,
        "inheritedMetadata": {"labels": {PART_OF_LABEL: PLATFORM}},
        "affinity": {
            "enablePodAntiAffinity": True,
            "podAntiAffinityType": "preferred",
            "topologyKey": "kubernetes.io/hostname",
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": part.selector},
            }
        ],
    }
    if cluster.image_pull_secrets:
        specification["imagePullSecrets"] = [{"name": name} for name in cluster.image_pull_secrets]
    return specification


def _synchronous(operator: Operator) -> Entry:
    """Return the rule that a commit is on two machines; with one instance left, it is better written on one."""
    if operator.instances == 1:
        return {}
    return {"synchronous": {"method": "any", "number": 1, "dataDurability": "preferred"}}


def _parameters(part: Part) -> dict[str, str]:
    """Return settings that follow from the memory; the operator's own do for the rest."""
    parameters = {"max_connections": "100", "timezone": "UTC", "log_statement": "none", "jit": "off"}
    memory = part.service.resources.limits.memory
    if memory is None:
        return parameters
    mebibytes = byte_count(memory) // 2**20
    return parameters | {
        "shared_buffers": f"{mebibytes // 4}MB",
        "effective_cache_size": f"{mebibytes // 2}MB",
        "maintenance_work_mem": f"{max(mebibytes // 16, 1)}MB",
        "work_mem": f"{max(mebibytes // 256, 1)}MB",
    }


def _storage(part: Part) -> Entry:
    sizes = [volume.size for volume in part.service.volumes.values() if not volume.ephemeral]
    storage = {"size": sizes[0] if sizes else "1Gi"}
    storage_class = part.layout.cluster.storage_class
    return storage | ({"storageClass": storage_class} if storage_class else {})
