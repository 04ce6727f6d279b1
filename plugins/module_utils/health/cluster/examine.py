# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examine a lakehouse on a cluster: the cluster's own layers, then those of every target."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...cluster.expected import Described, report_of
from ...cluster.foreign import read_foreign
from ...kube.apply.volumes import OPERATED_SETS, Volume, described
from ...kube.client.client import Client, Patience
from ...kube.client.connection import Connection
from ...kube.client.discovery import Discovery
from ...kube.client.errors import ApiError, KubeError
from ...kube.client.paths import core_path, path_of
from ...kube.ready.verdict import Object
from ...kube.ready.wait import late_binding
from .. import foreign
from ..answers import NoAnswerError
from ..checks import Thresholds
from ..host.examine import Examination, of_application, of_monitoring, run_all
from ..report import DEGRADED, HEALTHY, UNHEALTHY, Check, Report
from . import (
    certificates as kube_certificates,
)
from . import (
    network as kube_network,
)
from . import (
    services as kube_services,
)
from . import (
    workloads as kube_workloads,
)
from .proxy import service_address

# Every cluster serves these.
_WORKLOADS = (
    ("/apis/apps/v1", "deployments"),
    ("/apis/apps/v1", "statefulsets"),
    ("/apis/apps/v1", "daemonsets"),
    ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
)
# Kinds of operators, examined where they are served.
_CUSTOM = (
    ("argoproj.io/v1alpha1", "Rollout"),
    ("monitoring.coreos.com/v1", "Alertmanager"),
    ("monitoring.coreos.com/v1", "Prometheus"),
    ("postgresql.cnpg.io/v1", "Cluster"),
)
# A report states the current health: services that do not answer are not retried for long.
_PATIENCE = Patience(attempts=2, silent_attempts=1, longest_s=1.0, webhook_s=0.0)
_CORE = "/api/v1"


@dataclass(frozen=True)
class ClusterInstallation:
    """A lakehouse on a cluster.

    namespaces: the namespaces to examine, each of which must have a workload; all of the cluster if empty.
    health: the list that the Kubernetes renderer returns. volumes: the described volumes in the form of
    `Volume.to_data`, for a comparison with the claims. A URL names a service inside the cluster
    (`http://api.crypto-lakehouse.svc:8080`) or any other server; without it, its layers are omitted. description:
    namespaces, sets and releases in the form of `Described.of`, for a comparison with access; None skips it.
    """

    namespaces: Sequence[str] = ()
    health: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[Mapping[str, Any]] = ()
    api_url: str | None = None
    prometheus_url: str | None = None
    prometheus_username: str | None = None
    prometheus_password_file: str | None = None
    description: Mapping[str, Any] | None = None
    expected_foreign: Sequence[str] = ()
    timeout_s: float = 5.0
    limits: Thresholds = field(default_factory=Thresholds)

    @property
    def namespace(self) -> str:
        """The namespace of services that are named without one."""
        return self.namespaces[0] if self.namespaces else "default"

    def log_of(self, service: str, url: str = "") -> str:
        """Return the command that shows the log. url: of the service; may name another namespace."""
        address = service_address(url, self.namespace) if url else None
        namespace = address.namespace if address else self.namespace
        return f"kubectl -n {namespace} logs -l app.kubernetes.io/name={service} --tail=50"


class Snapshot:
    """The lists of a cluster's objects, each read once. Safe for concurrent examinations."""

    def __init__(self, client: Client, namespaces: Sequence[str]) -> None:
        self._client, self._namespaces = client, tuple(dict.fromkeys(namespaces))
        self._lock = threading.Lock()
        self._lists: dict[tuple[str, str], tuple[threading.Lock, list[list[Object]]]] = {}

    def all(self, prefix: str, plural: str) -> list[Object]:
        """Return all objects of the examined namespaces. Raises KubeError."""
        if not self._namespaces:
            return self.of_cluster(prefix, plural)
        return [
            obj
            for namespace in self._namespaces
            for obj in self.of_cluster(f"{prefix}{path_of('namespaces', namespace)}", plural)
        ]

    def of_cluster(self, prefix: str, plural: str) -> list[Object]:
        """Return all objects of all namespaces. Raises KubeError."""
        with self._lock:
            lock, kept = self._lists.setdefault((prefix, plural), (threading.Lock(), []))
        with lock:
            if not kept:
                kept.append([*self._client.collect(f"{prefix}/{plural}").items])
            return kept[0]

    def tls_secrets(self) -> list[kube_certificates.TlsSecret]:
        """Return the certificates of all TLS Secrets. Their private keys are discarded."""
        places = [core_path(name, "secrets") for name in self._namespaces] or [f"{_CORE}/secrets"]
        query = {"fieldSelector": "type=kubernetes.io/tls"}
        found = (secret for place in places for secret in self._client.pages(place, query=query))
        return [kube_certificates.TlsSecret.of(secret) for secret in found]


def examine_cluster(connect: Callable[[], Connection], installation: ClusterInstallation) -> Report:
    """Return every check of every layer, without changes. Never raises: a failed examination is an unhealthy check.

    connect: returns the connection to the cluster; may raise KubeError.
    """
    try:
        connection = connect()
    except KubeError as error:
        return Report.of([Check("cluster", "api-server", UNHEALTHY, str(error), "check the connection options")])
    with Client(connection, timeout_s=installation.timeout_s, patience=_PATIENCE) as client:
        server = run_all([_server(client, installation)])
        # Without an answer of the server, only the connection is reported.
        if len(server) == 1:
            return Report.of(server)
        return Report.of([*server, *run_all(_examinations(client, installation))])


def _server(client: Client, installation: ClusterInstallation) -> Examination:
    remedy = "check the connection and the control plane: kubectl get --raw '/readyz?verbose'"

    def ask() -> list[Check]:
        try:
            version = client.request("GET", "/version").get("gitVersion", "of an unknown version")
        except KubeError as error:
            raise NoAnswerError(str(error)) from error
        answered = Check("cluster", "version", HEALTHY, str(version))
        try:
            client.request("GET", "/readyz", accept="text/plain, */*")
        except KubeError as error:
            return [answered, Check("cluster", "api-server", UNHEALTHY, f"answers, but is not ready: {error}", remedy)]
        return [answered, Check("cluster", "api-server", HEALTHY, "ready")]

    return Examination("cluster", "api-server", ask, installation.timeout_s, remedy)


def _examinations(client: Client, installation: ClusterInstallation) -> list[Examination]:
    snapshot, discovery = Snapshot(client, installation.namespaces), Discovery(client)
    readers: dict[tuple[str, str], Callable[[], Sequence[Check]]] = {
        ("nodes", "all"): lambda: kube_workloads.judge_nodes(snapshot.of_cluster(_CORE, "nodes")),
        **_workloads(discovery, snapshot, installation),
        ("pods", "all"): lambda: kube_workloads.judge_pods(
            snapshot.all(_CORE, "pods"), time.time(), installation.limits
        ),
        ("storage", "claims"): lambda: _claims(discovery, snapshot, installation),
        ("network", "services"): lambda: kube_network.judge_services(
            snapshot.all(_CORE, "services"), snapshot.all("/apis/discovery.k8s.io/v1", "endpointslices"), time.time()
        ),
        ("network", "ingresses"): lambda: kube_network.judge_ingresses(
            snapshot.all("/apis/networking.k8s.io/v1", "ingresses"), snapshot.all(_CORE, "services"), time.time()
        ),
        ("certificates", "secrets"): lambda: [
            kube_certificates.judge_secret(secret, time.time(), installation.limits)
            for secret in snapshot.tls_secrets()
        ],
        ("certificates", "api-server"): lambda: _serving(client.connection, installation),
    }
    return [
        *(_examination(*name, run, installation.timeout_s) for name, run in readers.items()),
        *_description(client, installation),
        *_contract(client, snapshot, installation),
    ]


def _examination(layer: str, subject: str, run: Callable[[], Sequence[Check]], timeout_s: float) -> Examination:
    def ask() -> Sequence[Check]:
        try:
            return run()
        except ApiError as error:
            raise NoAnswerError(f"cannot be read: {error}") from error
        except KubeError as error:
            raise NoAnswerError(str(error)) from error

    return Examination(layer, subject, ask, timeout_s, "grant the credentials get and list on the examined resources")


def _description(client: Client, installation: ClusterInstallation) -> list[Examination]:
    if not installation.description:
        return []
    described = Described.of(installation.description)

    def ask() -> list[Check]:
        try:
            found = read_foreign(client, described)
        except ApiError as error:
            if not error.is_forbidden:
                raise
            # The server is healthy as far as these credentials permit to see.
            remedy = "grant the credentials list on roles, bindings, service accounts and network policies"
            return [Check(foreign.LAYER, "access", DEGRADED, f"cannot be compared: {error}", remedy)]
        return foreign.judge_access(report_of(found, installation.expected_foreign))

    return [_examination(foreign.LAYER, "access", ask, installation.timeout_s)]


def _workloads(
    discovery: Discovery, snapshot: Snapshot, installation: ClusterInstallation
) -> dict[tuple[str, str], Callable[[], Sequence[Check]]]:
    def known(prefix: str, plural: str) -> Callable[[], Sequence[Check]]:
        return lambda: kube_workloads.judge_workloads(snapshot.all(prefix, plural), time.time())

    def custom() -> list[Object]:
        return _custom(discovery, snapshot)

    def presence() -> list[Check]:
        found = [obj for prefix, plural in _WORKLOADS[:3] for obj in snapshot.all(prefix, plural)]
        return [*kube_workloads.judge_presence(installation.namespaces, [*found, *custom()])]

    return {
        **{("workloads", plural): known(prefix, plural) for prefix, plural in _WORKLOADS},
        ("workloads", "jobs"): lambda: kube_workloads.judge_jobs(snapshot.all("/apis/batch/v1", "jobs"), time.time()),
        ("workloads", "operated"): lambda: kube_workloads.judge_workloads(custom(), time.time()),
        ("workloads", "namespaces"): presence,
    }


def _custom(discovery: Discovery, snapshot: Snapshot) -> list[Object]:
    served = (discovery.find(*kind) for kind in _CUSTOM)
    return [obj for one in served if one for obj in snapshot.all(path_of("apis", one.group, one.version), one.plural)]


def _claims(discovery: Discovery, snapshot: Snapshot, installation: ClusterInstallation) -> list[Check]:
    classes: list[Object] | None
    try:
        classes = snapshot.of_cluster("/apis/storage.k8s.io/v1", "storageclasses")
    except ApiError:
        # Storage classes are cluster-wide, and reading them can be forbidden. Then all claims are judged.
        classes = None
    claims, pods = snapshot.all(_CORE, "persistentvolumeclaims"), snapshot.all(_CORE, "pods")
    volumes = [*map(Volume.of, installation.volumes), *_of_prometheus_operator(discovery, snapshot)]
    return [
        *kube_network.judge_claims(claims, pods, late_binding(classes or ()), time.time()),
        *kube_network.judge_sizes(claims, volumes, classes),
    ]


def _of_prometheus_operator(discovery: Discovery, snapshot: Snapshot) -> list[Volume]:
    """Return the volumes in objects of prometheus-operator, which does not expand claims itself."""
    try:
        return [volume for volume in described(_custom(discovery, snapshot)) if volume.kind in OPERATED_SETS]
    except KubeError:
        # The readiness check reads the same list and reports the error.
        return []


def _serving(connection: Connection, installation: ClusterInstallation) -> list[Check]:
    der = kube_certificates.serving_certificate(connection, installation.timeout_s)
    if der is None:
        return []
    remedy = "renew the API server's certificate (k3s: restart it; kubeadm: kubeadm certs renew)"
    chain = [kube_certificates.read_der(der)]
    return [kube_certificates.judge_validity("api-server", chain, time.time(), installation.limits, remedy)]


def _contract(client: Client, snapshot: Snapshot, installation: ClusterInstallation) -> list[Examination]:
    """Return the checks of every target: the health of each service, then the reports of the API and Prometheus."""
    timeout_s, found = installation.timeout_s, kube_services.Answers(client, installation.namespace)

    def pods() -> list[Object]:
        return snapshot.all(_CORE, "pods")

    examinations = [
        kube_services.of_service(check, found, pods, installation.log_of, timeout_s) for check in installation.health
    ]
    if installation.api_url:
        api = found.server(installation.api_url, timeout_s)
        logs = installation.log_of("api"), installation.log_of("worker")
        examinations += of_application(api, *logs, timeout_s, installation.limits)
    if url := installation.prometheus_url:
        name, file = installation.prometheus_username, installation.prometheus_password_file
        examinations += of_monitoring(
            lambda: found.server(url, timeout_s, name, file), installation.log_of("prometheus", url), timeout_s
        )
    return examinations
