# SPDX-License-Identifier: GPL-3.0-or-later
"""Ingress paths from outside of a cluster to services, and their authentication."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

GUARDED = ("alertmanager", "grafana", "orchestrator", "prefect", "prometheus", "trino")
"""Services that show metrics or run flows, by parts of their names."""
ASKS_BY_ITSELF = ("grafana",)
"""Services with their own accounts that reject anonymous users under the settings that the tests require."""
_MIDDLEWARES = "traefik.ingress.kubernetes.io/router.middlewares"
_ALB = "alb.ingress.kubernetes.io/"
_ROUTES = (
    "GRPCRoute",
    "HTTPRoute",
    "IngressRoute",
    "IngressRouteTCP",
    "Route",
    "TCPRoute",
    "TLSRoute",
    "VirtualService",
)
Fields = Mapping[str, Any]


def open_doors(objects: Iterable[Fields]) -> list[str]:
    """Return the unauthenticated ingress paths to guarded services, as `Kind/name leads to service`."""
    known = [each for each in objects if each]
    found = [(door, service) for door in known for service in _behind(door) if _is_guarded(service)]
    return sorted(
        f"{door['kind']}/{door['metadata']['name']} leads to {service}"
        for door, service in found
        if not _is_locked(door, service, known)
    )


def doors(objects: Iterable[Fields]) -> set[str]:
    """Return the guarded services that any ingress path reaches."""
    return {service for door in objects if door for service in _behind(door) if _is_guarded(service)}


def _is_guarded(service: str) -> bool:
    return any(word in service for word in GUARDED)


def _behind(door: Fields) -> Iterator[str]:
    """Yield the services that an object exposes to the outside of the cluster."""
    kind, spec, name = door["kind"], door.get("spec") or {}, door["metadata"]["name"]
    if kind == "Ingress":
        yield from _backends(spec)
    elif kind in _ROUTES:
        yield from _names(spec)
    elif kind == "Service" and (spec.get("type") in ("LoadBalancer", "NodePort") or spec.get("externalIPs")):
        yield from (name, *map(str, (spec.get("selector") or {}).values()))
    elif kind in ("Alertmanager", "Prometheus") and spec.get("hostNetwork"):
        yield f"{kind.lower()} of the node"
    elif kind in ("DaemonSet", "Deployment", "StatefulSet") and _on_the_node(spec["template"]["spec"]):
        yield from () if "node-exporter" in name else (name,)


def _backends(spec: Fields) -> Iterator[str]:
    paths = [path for rule in spec.get("rules") or () for path in (rule.get("http") or {}).get("paths") or ()]
    for backend in [spec.get("defaultBackend") or {}, *(path["backend"] for path in paths)]:
        if "service" in backend:
            yield backend["service"]["name"]


def _names(value: Any) -> Iterator[str]:
    """Yield every name in a route: each kind lists its backends at a different path."""
    if isinstance(value, Mapping):
        for word, item in value.items():
            if word in ("name", "host") and isinstance(item, str):
                yield item
            yield from _names(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _names(item)


def _on_the_node(pod: Fields) -> bool:
    ports = [port for container in pod["containers"] for port in container.get("ports") or ()]
    return bool(pod.get("hostNetwork")) or any(port.get("hostPort") for port in ports)


def _is_locked(door: Fields, service: str, objects: Sequence[Fields]) -> bool:
    if door["kind"] != "Ingress":
        return False
    annotations = door["metadata"].get("annotations") or {}
    asks_oidc = (
        annotations.get(f"{_ALB}auth-type") in ("cognito", "oidc")
        and annotations.get(f"{_ALB}auth-on-unauthenticated-request") == "authenticate"
    )
    return asks_oidc or _asks_password(annotations, objects) or any(word in service for word in ASKS_BY_ITSELF)


def _asks_password(annotations: Fields, objects: Sequence[Fields]) -> bool:
    """Return whether Traefik requires a password, whose Secret exists."""
    used = str(annotations.get(_MIDDLEWARES, "")).split(",")
    known = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects}
    for each in objects:
        place, name = each["metadata"].get("namespace"), each["metadata"]["name"]
        if each["kind"] == "Middleware" and f"{place}-{name}@kubernetescrd" in used:
            secret = (each["spec"].get("basicAuth") or {}).get("secret")
            if ("Secret", place, secret) in known:
                return True
    return False
