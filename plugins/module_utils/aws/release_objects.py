# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of a cluster that have AWS resources, through the cluster's own API."""

from __future__ import annotations

import base64
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import EngineError

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_CONNECT_S, _READ_S = 10.0, 60.0
_PAGE = 500
_NOT_FOUND = 404
_REFUSED = frozenset({401, 403})
# Kubernetes would create a new claim with a new volume for these workloads if only the claim was deleted.
_WORKLOADS = frozenset({"StatefulSet", "Deployment", "ReplicaSet", "DaemonSet", "Job", "CronJob"})


class UnreachableError(EngineError):
    """The API endpoint did not answer."""


class ClusterError(EngineError):
    """The API answered with an error."""


@dataclass(frozen=True, order=True)
class Object:
    """One object of the cluster. is_leaving: its deletion was requested before."""

    kind: str
    namespace: str
    name: str
    is_leaving: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    def to_data(self) -> dict[str, str]:
        return {"kind": self.kind, "namespace": self.namespace, "name": self.name}


@dataclass(frozen=True)
class Contents:
    """Objects found. users: the workloads that use a claim. retained: volumes that outlive their claims."""

    exposed: tuple[Object, ...]
    claims: tuple[Object, ...] = ()
    users: tuple[Object, ...] = ()
    retained: frozenset[str] = frozenset()

    @property
    def objects(self) -> tuple[Object, ...]:
        """All objects, in the order of their removal."""
        return (*self.exposed, *self.users, *self.claims)


class Objects:
    """API of one cluster. client: an ApiClient of the Kubernetes client."""

    def __init__(self, client: Any) -> None:
        from kubernetes import client as kubernetes

        self._core = kubernetes.CoreV1Api(client)
        self._apps = kubernetes.AppsV1Api(client)
        self._batch = kubernetes.BatchV1Api(client)
        self._networking = kubernetes.NetworkingV1Api(client)

    def contents(self, *, volumes: bool) -> Contents:
        """Return objects that have AWS resources; with `volumes` also the claims and the workloads that use them.

        Raises UnreachableError and ClusterError.
        """
        ingresses = [_object("Ingress", item) for item in self._all(self._networking.list_ingress_for_all_namespaces)]
        services = [
            _object("Service", item)
            for item in self._all(self._core.list_service_for_all_namespaces)
            if item.spec.type == "LoadBalancer"
        ]
        exposed = (*sorted(ingresses), *sorted(services))
        if not volumes:
            return Contents(exposed)
        listed = self._all(self._core.list_persistent_volume_claim_for_all_namespaces)
        claims = {_object("PersistentVolumeClaim", item) for item in listed}
        retained = frozenset(
            item.spec.csi.volume_handle
            for item in self._all(self._core.list_persistent_volume)
            if item.spec.persistent_volume_reclaim_policy != "Delete" and item.spec.csi
        )
        return Contents(exposed, tuple(sorted(claims)), tuple(sorted(self._users(claims))), retained)

    def _users(self, claims: set[Object]) -> set[Object]:
        """Return the objects to delete before claims: the workloads that use them, or pods without a workload."""
        users = set()
        for pod in self._all(self._core.list_pod_for_all_namespaces):
            namespace = pod.metadata.namespace
            names = {v.persistent_volume_claim.claim_name for v in pod.spec.volumes or () if v.persistent_volume_claim}
            if any(Object("PersistentVolumeClaim", namespace, name) in claims for name in names):
                users.add(self._workload(_object("Pod", pod), pod.metadata.owner_references))
        return users

    def _workload(self, owned: Object, owners: Sequence[Any] | None) -> Object:
        """Return the outermost owner that is a workload of Kubernetes itself."""
        owner = next((item for item in owners or () if item.controller and item.kind in _WORKLOADS), None)
        if owner is None:
            return owned
        found = Object(owner.kind, owned.namespace, owner.name)
        read = {"ReplicaSet": self._apps.read_namespaced_replica_set, "Job": self._batch.read_namespaced_job}
        if owner.kind not in read:
            return found
        item = self._call(read[owner.kind], owner.name, owned.namespace)
        return self._workload(found, item.metadata.owner_references) if item is not None else found

    def remove(self, found: Object) -> None:
        """Delete an object with its dependents; a missing object is not an error."""
        delete = {
            "Ingress": self._networking.delete_namespaced_ingress,
            "Service": self._core.delete_namespaced_service,
            "PersistentVolumeClaim": self._core.delete_namespaced_persistent_volume_claim,
            "Pod": self._core.delete_namespaced_pod,
            "StatefulSet": self._apps.delete_namespaced_stateful_set,
            "Deployment": self._apps.delete_namespaced_deployment,
            "ReplicaSet": self._apps.delete_namespaced_replica_set,
            "DaemonSet": self._apps.delete_namespaced_daemon_set,
            "Job": self._batch.delete_namespaced_job,
            "CronJob": self._batch.delete_namespaced_cron_job,
        }[found.kind]
        self._call(delete, found.name, found.namespace, propagation_policy="Background")

    def _all(self, method: Callable[..., Any]) -> Iterator[Any]:
        more: dict[str, str] = {}
        while True:
            page = self._call(method, limit=_PAGE, **more)
            yield from page.items if page is not None else ()
            following = page.metadata._continue if page is not None else None
            if not following:
                return
            more = {"_continue": following}

    def _call(self, method: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """Make a call; return None where the object does not exist."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return method(*given, _request_timeout=(_CONNECT_S, _READ_S), **options)
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise ClusterError(_refusal(error)) from None
        except (HTTPError, OSError) as error:
            raise UnreachableError(_reason(error)) from None


def _object(kind: str, item: Any) -> Object:
    return Object(kind, item.metadata.namespace, item.metadata.name, item.metadata.deletion_timestamp is not None)


def _refusal(error: Any) -> str:
    if error.status in _REFUSED:
        remedy = "create an access entry for the identity of this run, with AmazonEKSClusterAdminPolicy"
        return f"the cluster refuses: {error.status} {error.reason}; {remedy}"
    return f"the cluster answers {error.status} {error.reason}"


def _reason(error: Exception) -> str:
    """Return the innermost reason: the outer ones repeat the address and the path of every call."""
    inner: Any = getattr(error, "reason", None) or error
    text = str(inner).partition(": ")[2] or str(inner)
    return f"{type(inner).__name__}: {text}"


@contextmanager
def reached_by_token(endpoint: str, certificate_authority: str, token: Callable[[], str]) -> Iterator[Objects]:
    """Connect to a cluster with tokens. certificate_authority: in base64, as EKS returns it."""
    from kubernetes import client as kubernetes

    configuration: Any = kubernetes.Configuration()
    configuration.host = endpoint
    configuration.retries = 1
    configuration.refresh_api_key_hook = lambda given: given.api_key.update(authorization=f"Bearer {token()}")
    configuration.api_key = {"authorization": "Bearer"}
    with tempfile.NamedTemporaryFile("wb", suffix=".crt") as file:
        # Not a secret; the library requires a file.
        file.write(base64.b64decode(certificate_authority))
        file.flush()
        configuration.ssl_ca_cert = file.name
        with kubernetes.ApiClient(configuration) as client:
            yield Objects(client)


@contextmanager
def reached_by_kubeconfig(path: str, context: str, certificate_authority: str) -> Iterator[Objects]:
    """Connect to a cluster with a kubeconfig. Raises ClusterError when it names another cluster.

    The certificate authorities are compared, because a kubeconfig may contain the address of a tunnel.
    """
    from kubernetes import client as kubernetes
    from kubernetes.config import ConfigException, kube_config

    configuration: Any = kubernetes.Configuration()
    # This part of the library has no types.
    load: Any = kube_config.load_kube_config
    try:
        load(path, context=context or None, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError) as error:
        raise ClusterError(f"the kubeconfig {path} cannot be used: {error}") from None
    configuration.retries = 1
    trusted = Path(configuration.ssl_ca_cert).read_text(encoding="utf-8") if configuration.ssl_ca_cert else ""
    if not configuration.verify_ssl or not _certificates(trusted) & _certificates(_decoded(certificate_authority)):
        remedy = "name a kubeconfig, and in it a context, with the certificate authority of EKS"
        raise ClusterError(f"the kubeconfig {path} does not identify this cluster; {remedy}")
    with kubernetes.ApiClient(configuration) as client:
        yield Objects(client)


def _decoded(certificate_authority: str) -> str:
    return base64.b64decode(certificate_authority).decode(errors="replace")


def _certificates(text: str) -> set[str]:
    return {"".join(body.split()) for body in _CERTIFICATE.findall(text)}
