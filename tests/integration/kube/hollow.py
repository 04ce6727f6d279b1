# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated node without containers, and simulated operators, for clusters with only a control plane.

Pods are bound and ready immediately, pods of Jobs succeed, claims are bound, and objects of operators are in effect.
The controllers and the API server are real. Tests on it prove the handling of objects, not that programs work.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError, KubeError
from tests.integration.kube.cluster import Authority, Cluster
from tests.integration.kube.kubelet import Fields, write_status

NODE = "hollow"
PERIOD_S = 0.4
_HEARTBEAT_S = 5.0


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _conditions(generation: int, *types: str) -> list[Fields]:
    return [
        {"type": kind, "status": "True", "lastTransitionTime": _now(), "reason": "", "observedGeneration": generation}
        for kind in types
    ]


def _name(pod: Fields) -> str:
    return str(pod["metadata"].get("labels", {}).get("app.kubernetes.io/name", ""))


def _is_of_job(pod: Fields) -> bool:
    return "Job" in {owner["kind"] for owner in pod["metadata"].get("ownerReferences") or ()}


def _of_prometheus(obj: Fields) -> Fields:
    replicas = obj["spec"].get("replicas", 1)
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), replicas)
    generation = obj["metadata"]["generation"]
    return {
        **counts,
        "paused": False,
        "unavailableReplicas": 0,
        "conditions": _conditions(generation, "Available", "Reconciled"),
    }


def _of_postgresql(obj: Fields) -> Fields:
    instances = obj["spec"].get("instances", 1)
    return {"phase": "Cluster in healthy state", "instances": instances, "readyInstances": instances}


def _of_ingress(_obj: Fields) -> Fields:
    return {"loadBalancer": {"ingress": [{"hostname": "hollow.example.org"}]}}


OPERATED = {
    "/apis/networking.k8s.io/v1/ingresses": _of_ingress,
    "/apis/monitoring.coreos.com/v1/prometheuses": _of_prometheus,
    "/apis/monitoring.coreos.com/v1/alertmanagers": _of_prometheus,
    "/apis/postgresql.cnpg.io/v1/clusters": _of_postgresql,
}


@dataclass
class HollowNode:
    """Simulates all node and operator work on a cluster until it is stopped.

    logs: output of the pods of a Job, by the Job's label `app.kubernetes.io/name`; failing: names of Jobs, by the same
    label, whose pods end with an error; arguments: those of the last pod of a Job, by the same label; lasting: names of
    Jobs, by the same label, whose pods run as long as they are listed here; looks: number of reads of a pod's log, by
    the same label; expands: whether its storage driver gives claims the requested size.
    """

    cluster: Cluster
    folder: Path
    logs: dict[str, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    arguments: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    lasting: set[str] = field(default_factory=set)
    looks: Counter[str] = field(default_factory=Counter)
    expands: bool = False

    @contextlib.contextmanager
    def running(self) -> Iterator[HollowNode]:
        self._client: Client = self.cluster.client()
        self._stopped = threading.Event()
        server = self._serve_logs()
        self._register(server.server_address[1])
        threads = [
            threading.Thread(target=server.serve_forever, daemon=True),
            threading.Thread(target=self._look_after, daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            threads[1].join(30)
            server.shutdown()
            server.server_close()
            self._client.close()

    def _register(self, port: int) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"kubernetes.io/os": "linux"}}}
        with contextlib.suppress(ApiError):
            self._client.request("POST", "/api/v1/nodes", body=node)
        host = urlsplit(self._client.connection.server).hostname
        self._status = {
            # The API server requests logs from a node's name, if it has one.
            "addresses": [{"type": "InternalIP", "address": host}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "capacity": {"cpu": "64", "memory": "256Gi", "pods": "500"},
            "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "500"},
        }
        self._beat()

    def _beat(self) -> None:
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "",
            "lastTransitionTime": _now(),
        }
        conditions = [{**ready, "lastHeartbeatTime": _now()}]
        conditions += [
            {**conditions[0], "type": kind, "status": "False", "reason": "KubeletHasNone"}
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
        ]
        write_status(self._client, f"/api/v1/nodes/{NODE}", {**self._status, "conditions": conditions})

    def _look_after(self) -> None:
        beat_s = 0.0
        while not self._stopped.wait(PERIOD_S):
            beat_s += PERIOD_S
            try:
                if beat_s > _HEARTBEAT_S:
                    beat_s = 0.0
                    self._beat()
                for pod in self._items("/api/v1/pods"):
                    self._run(pod)
                for claim in self._items("/api/v1/persistentvolumeclaims"):
                    self._bind(claim)
                    self._expand(claim)
                for path, status in OPERATED.items():
                    for obj in self._items(path):
                        self._operate(path, obj, status(obj))
            except KubeError as error:
                self.errors.append(str(error))

    def _items(self, path: str) -> list[Fields]:
        try:
            answer = self._client.request("GET", path, query={"resourceVersion": "0"})
        except ApiError as error:
            if error.is_not_found:
                return []
            raise
        return list(answer.get("items") or ())

    def _attempt(self, method: str, path: str, body: Fields) -> None:
        """Conflicting changes and deletions by other clients are ignored."""
        try:
            self._client.request(method, path, body=body)
        except ApiError as error:
            if error.status not in {404, 409, 422}:
                raise

    def _run(self, pod: Fields) -> None:
        metadata, path = (
            pod["metadata"],
            f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}",
        )
        if metadata.get("deletionTimestamp"):
            with contextlib.suppress(ApiError):
                self._client.request("DELETE", path, body={"gracePeriodSeconds": 0})
            return
        if not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            self._attempt("POST", f"{path}/binding", {"metadata": {"name": metadata["name"]}, "target": target})
            return
        phase = pod["status"].get("phase", "Pending")
        if phase == "Pending" or (phase == "Running" and _is_of_job(pod) and _name(pod) not in self.lasting):
            with contextlib.suppress(ApiError):
                write_status(self._client, path, self._pod_status(pod))

    def _pod_status(self, pod: Fields) -> Fields:
        name = _name(pod)
        ends, code = _is_of_job(pod) and name not in self.lasting, int(name in self.failing)
        if _is_of_job(pod):
            self.arguments[name] = list(pod["spec"]["containers"][0].get("args") or ())
        states = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": _now()}}
        state = states if ends else {"running": {"startedAt": _now()}}

        def container(spec: Fields, state: Fields, ready: bool) -> Fields:
            fields = {"name": spec["name"], "image": spec["image"], "imageID": "", "restartCount": 0, "lastState": {}}
            return {**fields, "ready": ready, "started": True, "state": state}

        done = {"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": _now()}}
        kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        is_true = {"Ready": not ends, "ContainersReady": not ends}
        return {
            "phase": ("Failed" if code else "Succeeded") if ends else "Running",
            "startTime": _now(),
            "podIP": "192.0.2.10",
            "podIPs": [{"ip": "192.0.2.10"}],
            "conditions": [
                {"type": kind, "status": str(is_true.get(kind, True)), "lastTransitionTime": _now()} for kind in kinds
            ],
            "initContainerStatuses": [container(spec, done, True) for spec in pod["spec"].get("initContainers", ())],
            "containerStatuses": [container(spec, state, not ends) for spec in pod["spec"]["containers"]],
        }

    def _bind(self, claim: Fields) -> None:
        """Create the volume for a waiting claim; the controllers bind them."""
        metadata, spec = claim["metadata"], claim["spec"]
        if spec.get("volumeName") or metadata.get("deletionTimestamp") or self._is_awaited(metadata):
            return
        reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        reference |= {word: metadata[word] for word in ("name", "namespace", "uid")}
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"hollow-{metadata['uid']}"},
            "spec": {
                "capacity": spec["resources"]["requests"],
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": spec.get("storageClassName", ""),
                "claimRef": reference,
                "hostPath": {"path": f"/nonexistent/{metadata['uid']}"},
            },
        }
        self._attempt("POST", "/api/v1/persistentvolumes", volume)

    def _expand(self, claim: Fields) -> None:
        wanted, status = claim["spec"]["resources"]["requests"], claim["status"]
        if self.expands and status.get("phase") == "Bound" and status.get("capacity") != wanted:
            metadata = claim["metadata"]
            path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}"
            with contextlib.suppress(ApiError):
                write_status(self._client, path, {"capacity": wanted})

    def _is_awaited(self, metadata: Fields) -> bool:
        """Return whether a volume exists for the claim of this name, which the controllers bind to it."""
        wanted = metadata["namespace"], metadata["name"]
        references = [volume["spec"].get("claimRef") or {} for volume in self._items("/api/v1/persistentvolumes")]
        mine = [one for one in references if (one.get("namespace"), one.get("name")) == wanted]
        return any(one.get("uid", metadata["uid"]) == metadata["uid"] for one in mine)

    def _operate(self, path: str, obj: Fields, status: Fields) -> None:
        group, _slash, plural = path.rpartition("/")
        found = obj.get("status") or {}
        seen = [condition.get("observedGeneration") for condition in found.get("conditions") or ()]
        wanted = [condition.get("observedGeneration") for condition in status.get("conditions") or ()]
        if seen == wanted and all(found.get(word) == value for word, value in status.items() if word != "conditions"):
            return
        place = f"{group}/namespaces/{obj['metadata']['namespace']}/{plural}/{obj['metadata']['name']}"
        with contextlib.suppress(ApiError):
            write_status(self._client, place, status)

    def _serve_logs(self) -> http.server.ThreadingHTTPServer:
        """Serve logs as a kubelet does: the API server reads them from the node."""
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path).path.split("/")
                text = node._log(parts[2], parts[3]) if parts[1] == "containerLogs" else ""
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_arguments: Any) -> None:
                """Log nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        certificate = self.folder / "hollow.pem"
        certificate.write_bytes(Authority.make().issue("hollow"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        return server

    def _log(self, namespace: str, pod: str) -> str:
        found = self._client.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")
        self.looks[_name(found)] += 1
        return self.logs.get(_name(found), "")
