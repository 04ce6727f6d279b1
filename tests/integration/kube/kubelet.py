# SPDX-License-Identifier: GPL-3.0-or-later
"""Status updates of a node, on clusters without one: pods that run, crash, or fail to start."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import MERGE, Client

Fields = dict[str, Any]
# No node has this label, so that no real kubelet overwrites a test's status.
NOWHERE = {"lakehouse.test/nowhere": "true"}
IMAGE = "registry.example.com/nothing:1"
_PATIENCE_S = 30.0


def until(found: Callable[[], Any]) -> Any:
    """Return the result as soon as it exists."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < deadline_s, "nothing was found in time"
        time.sleep(0.05)
    return value


def pod_spec(**more: Any) -> Fields:
    return {"nodeSelector": NOWHERE, "containers": [{"name": "main", "image": IMAGE}], **more}


def deployment(name: str, replicas: int = 1, **spec: Any) -> Fields:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec()}
    whole = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": whole}


def pods_of(client: Client, namespace: str, name: str) -> list[Fields]:
    return list(client.pages(f"/api/v1/namespaces/{namespace}/pods", query={"labelSelector": f"app={name}"}))


def write_status(client: Client, path: str, status: Mapping[str, Any]) -> Fields:
    """Write an object's status; other fields stay."""
    body = {"status": dict(status)}
    written: Fields = client.request("PATCH", f"{path}/status", body=body, content_type=MERGE, repeat=True)
    return written


def run(client: Client, pod: Fields, address: str = "") -> None:
    """Set a pod running and ready. address: its own, where a server of the test answers for it."""
    conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "ContainersReady", "Ready")]
    status = _container(pod, ready=True, state={"running": {"startedAt": "2026-01-01T00:00:00Z"}})
    at = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
    write_status(
        client, _path(pod), {"phase": "Running", "conditions": conditions, "containerStatuses": [status], **at}
    )


def bind(client: Client, pod: Fields, node: str) -> None:
    """Bind a pod to a node, as a scheduler does: endpoints consist of bound pods."""
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"]}, "target": target}
    client.request("POST", f"{_path(pod)}/binding", body=body)


def crash(client: Client, pod: Fields, restarts: int = 4) -> None:
    """Let a pod's container fail repeatedly."""
    status = _container(
        pod,
        ready=False,
        restartCount=restarts,
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
        lastState={
            "terminated": {
                "exitCode": 137,
                "reason": "OOMKilled",
                "startedAt": "2026-01-01T00:00:00Z",
                "finishedAt": "2026-01-01T00:01:00Z",
            }
        },
    )
    conditions = [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]
    write_status(client, _path(pod), {"phase": "Running", "conditions": conditions, "containerStatuses": [status]})


def end(client: Client, pod: Fields, exit_code: int) -> None:
    """Let a pod end."""
    ended = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}
    status = _container(pod, ready=False, state={"terminated": ended})
    write_status(client, _path(pod), {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [status]})


def _container(pod: Fields, **status: Any) -> Fields:
    name = pod["spec"]["containers"][0]["name"]
    return {"name": name, "image": IMAGE, "imageID": "", "restartCount": 0, "lastState": {}, **status}


def _path(pod: Fields) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
