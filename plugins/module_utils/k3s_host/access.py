# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of K3s and its etcd, asked on a server with the certificates that K3s keeps there."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..k3s.model import Etcd, Member, Node

LIMIT_S = 10.0
OK = 200
NOT_FOUND = 404
PEER_PORT = 2380
# K3s lets etcd serve its metrics on loopback alone, pkg/etcd/etcd.go (listenMetricsURLs).
METRICS = "http://127.0.0.1:2381/metrics"
# The record of an agent's load balancer, pkg/agent/loadbalancer/config.go.
BALANCER = "agent/etc/k3s-agent-load-balancer.json"
PASSWORD_SUFFIX = ".node-password.k3s"  # noqa: S105 - of names of Secrets
# The annotation of a node that this collection cordoned; its value names the verb.
CORDONED_BY = "crypto-lakehouse/cordoned-by"
# Names are all that is read of Secrets.
NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_METRIC = re.compile(r"^(etcd_\w+)(?:\{\w+=\"([^\"]*)\"\})? (\S+)$", re.MULTILINE | re.ASCII)


class AccessError(Exception):
    """A request that was not answered with success. `status` is 0 where nothing answered."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    """Body and headers of an answer."""

    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        """Return the body as JSON; raise `AccessError` for another format."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise AccessError(f"the answer is not JSON: {error}") from None


@dataclass(frozen=True)
class Certificates:
    """Paths of a CA, and of a client's certificate and key."""

    ca: Path
    certificate: Path
    key: Path

    @property
    def complete(self) -> bool:
        """Whether all files are there."""
        return self.ca.is_file() and self.certificate.is_file() and self.key.is_file()


def admin(data: Path) -> Certificates:
    """Return the administrator's certificates in a data directory."""
    folder = data / "server/tls"
    return Certificates(folder / "server-ca.crt", folder / "client-admin.crt", folder / "client-admin.key")


def peer(data: Path) -> Certificates:
    """Return the certificates of the etcd member in a data directory."""
    folder = data / "server/tls/etcd"
    names = ("peer-ca.crt", "peer-server-client.crt", "peer-server-client.key")
    return Certificates(*(folder / name for name in names))


def kubelet(data: Path) -> Certificates:
    """Return the certificates of the kubelet, which may read its own Node and Lease."""
    folder = data / "agent"
    return Certificates(folder / "server-ca.crt", folder / "client-kubelet.crt", folder / "client-kubelet.key")


def request(
    method: str,
    url: str,
    certificates: Certificates | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return the answer to a request; raise `AccessError` unless it succeeds."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    try:
        connection = _connection(parts.scheme, parts.netloc, certificates)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, target, text, {"Connection": "close", **(headers or {})})
            response = connection.getresponse()
            answer = Answer(response.read(), dict(response.getheaders()))
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise AccessError(f"{url}: {error}") from None
    if response.status // 100 != OK // 100:
        raise AccessError(f"{url}: {response.status} {response.reason}", response.status)
    return answer


def _connection(scheme: str, netloc: str, certificates: Certificates | None) -> http.client.HTTPConnection:
    if scheme == "http" or certificates is None:
        return http.client.HTTPConnection(netloc, timeout=LIMIT_S)
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.load_cert_chain(certificates.certificate, certificates.key)
    return http.client.HTTPSConnection(netloc, timeout=LIMIT_S, context=context)


@dataclass(frozen=True)
class Api:
    """The API server of this host."""

    data: Path
    port: int = 6443

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Any:
        """Return an object or a list; raise `AccessError`."""
        return self._request("GET", path, headers=headers).json()

    def patch(self, path: str, body: Any) -> Any:
        """Merge `body` into an object and return it; raise `AccessError`."""
        return self._request("PATCH", path, body, {"Content-Type": "application/merge-patch+json"}).json()

    def post(self, path: str, body: Any) -> Any:
        """Create an object and return it; raise `AccessError`."""
        return self._request("POST", path, body, {"Content-Type": "application/json"}).json()

    def delete(self, path: str) -> bool:
        """Delete an object and return whether it was there; raise `AccessError`."""
        try:
            self._request("DELETE", path)
        except AccessError as error:
            if error.status != NOT_FOUND:
                raise
            return False
        return True

    def ready(self) -> bool:
        """Return whether `/readyz` succeeds."""
        try:
            self._request("GET", "/readyz")
        except AccessError:
            return False
        return True

    def _request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        return request(method, f"https://127.0.0.1:{self.port}{path}", admin(self.data), body, headers)

    def nodes(self) -> list[Node]:
        """Return the Node objects with the number of pods that local volumes bind to each."""
        bound = _locally_bound(self.get("/api/v1/persistentvolumes"), self.get("/api/v1/pods"))
        return [_node(each, bound.count(each["metadata"]["name"])) for each in self.get("/api/v1/nodes")["items"]]

    def password_secrets(self) -> list[str]:
        """Return the names of nodes with a node-password Secret."""
        found = self.get("/api/v1/namespaces/kube-system/secrets", {"Accept": NAMES_ONLY})["items"]
        names = [str(each["metadata"]["name"]) for each in found]
        return sorted(name.removesuffix(PASSWORD_SUFFIX) for name in names if name.endswith(PASSWORD_SUFFIX))


@dataclass(frozen=True)
class KubeletApi:
    """The API servers that an agent knows, asked with the credentials of its kubelet. urls: one of each server."""

    data: Path
    urls: tuple[str, ...]

    def get(self, path: str) -> Any:
        """Return an object as the first server that answers has it; raise `AccessError`."""
        if not kubelet(self.data).complete:
            raise AccessError("the agent has no credentials of the cluster yet")
        found = AccessError("the agent knows no server")
        for url in self.urls:
            try:
                return request("GET", f"{url}{path}", kubelet(self.data)).json()
            except AccessError as error:
                found = error
                if error.status:
                    break
        raise found


def agent_urls(data: Path, server: str) -> tuple[str, ...]:
    """Return the URLs of the servers of an agent: that which it joins, and those of its load balancer."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((data / BALANCER).read_text(encoding="utf-8"))["ServerAddresses"]
        return tuple(dict.fromkeys([*([server] if server else []), *(f"https://{address}" for address in known)]))
    return (server,) if server else ()


def _node(found: Mapping[str, Any], local_volumes: int) -> Node:
    meta, status = found["metadata"], found.get("status", {})
    return Node(
        name=meta["name"],
        version=status.get("nodeInfo", {}).get("kubeletVersion", ""),
        conditions={each["type"]: each["status"] for each in status.get("conditions") or ()},
        unschedulable=bool(found.get("spec", {}).get("unschedulable", False)),
        cordoned_by=(meta.get("annotations") or {}).get(CORDONED_BY, ""),
        local_volumes=local_volumes,
        addresses=tuple(each["address"] for each in status.get("addresses") or () if each["type"] == "InternalIP"),
    )


def _locally_bound(volumes: Mapping[str, Any], pods: Mapping[str, Any]) -> list[str]:
    """Return the node of each pod that uses a claim of a volume which exists on one node alone."""
    claims = {
        (claim.get("namespace"), claim.get("name"))
        for volume in volumes["items"]
        if {"local", "hostPath"} & volume["spec"].keys() and (claim := volume["spec"].get("claimRef"))
    }
    return [
        pod["spec"].get("nodeName", "")
        for pod in pods["items"]
        if any((pod["metadata"].get("namespace"), name) in claims for name in _claims(pod))
    ]


def _claims(pod: Mapping[str, Any]) -> Iterable[str]:
    for volume in pod["spec"].get("volumes") or ():
        if name := volume.get("persistentVolumeClaim", {}).get("claimName"):
            yield name


def read_etcd(data: Path) -> Etcd:
    """Return the etcd cluster as the member of this host sees it; raise `AccessError` where it does not answer.

    Members and the id of the cluster are those that etcd gives its peers (etcdserver/api/etcdhttp/peer.go), since K3s
    does not serve the JSON gateway of clients. The rest are metrics of the member.
    """
    answer = request("GET", f"https://127.0.0.1:{PEER_PORT}/members", peer(data))
    headers = {name.lower(): value for name, value in answer.headers.items()}
    metrics = parse_metrics(request("GET", METRICS).body.decode())
    member_id = metrics.get("etcd_server_id", "")
    leads = metrics.get("etcd_server_is_leader") == "1"
    return Etcd(
        cluster_id=headers.get("x-etcd-cluster-id", ""),
        member_id=member_id,
        leader_id=member_id if leads else "",
        raft_index=int(float(metrics.get("etcd_server_proposals_applied_total", "0"))),
        version=metrics.get("etcd_server_version", ""),
        members=tuple(sorted(map(_member, answer.json()), key=lambda member: member.id)),
    )


def _member(found: Mapping[str, Any]) -> Member:
    urls = found.get("peerURLs") or [""]
    address = urlsplit(urls[0]).hostname or ""
    return Member(f"{int(found['id']):x}", found.get("name", ""), address, bool(found.get("isLearner", False)))


def parse_metrics(text: str) -> dict[str, str]:
    """Return metrics of etcd by name: the label of one whose value says only that it holds, else the value."""
    return {name: label or value for name, label, value in _METRIC.findall(text) if not (label and value == "0")}
