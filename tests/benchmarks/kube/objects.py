# SPDX-License-Identifier: GPL-3.0-or-later
"""125 objects of 3 MB: the composition of a monitoring stack, mostly the schemas of ten custom resources.

A chart can be benchmarked instead: `--manifests rendered.yaml`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

COUNT = 125
GROUP = "benchmark.crypto-lakehouse.example"
NAMESPACE = "crypto-lakehouse-benchmark"
CUSTOM = 10
REVISION = f"{GROUP}/revision"
# Properties and levels of each schema, which add up to a quarter of a megabyte.
_BREADTH, _DEPTH = 8, 3
_PROSE = "What the operator does with it when the object is reconciled, and what happens where it is not set. "
Object = dict[str, Any]


def objects() -> list[Object]:
    """Return the objects in the order of a rendered chart: dependencies are not first."""
    made = [
        *itertools.islice(_workloads(), 11),
        *itertools.islice(_rules(), 20),
        *itertools.islice(_dashboards(), 30),
        *itertools.islice(_rights(), 37),
        *itertools.islice(_services(), 16),
        *(_definition(number) for number in range(CUSTOM)),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": _labels("namespace")}},
    ]
    assert len(made) == COUNT, len(made)
    return made


def revised(content: Mapping[str, Any], revision: str) -> Object:
    """Return an object with a label for its revision, so that each apply of another revision changes it."""
    metadata = content["metadata"]
    return {**content, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), REVISION: revision}}}


def _labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "benchmark"}


def _named(api_version: str, kind: str, name: str, **content: Any) -> Object:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": _labels(name)}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def _schema(breadth: int, depth: int) -> Object:
    properties: Object = {
        f"field{number}": {"type": "string", "description": _PROSE, "maxLength": 253} for number in range(breadth)
    }
    if depth:
        for number in range(breadth // 2):
            properties[f"part{number}"] = _schema(breadth, depth - 1)
        properties["list"] = {"type": "array", "items": _schema(breadth, depth - 1)}
    return {"type": "object", "description": _PROSE, "properties": properties}


def _definition(number: int) -> Object:
    plural = f"parts{number}"
    names = {"kind": f"Part{number}", "plural": plural, "singular": f"part{number}", "listKind": f"Part{number}List"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _schema(_BREADTH, _DEPTH)}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": _labels("definitions")},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _rules() -> Iterator[Object]:
    for number in itertools.count():
        spec = {"field0": f"rule {number}", "list": [{"field1": "for: 5m", "field2": "severity: warning"}] * 20}
        yield _named(f"{GROUP}/v1", f"Part{number % CUSTOM}", f"rules-{number}", spec=spec)


def _dashboards() -> Iterator[Object]:
    panel = {"type": "timeseries", "gridPos": {"h": 8, "w": 12}, "targets": [{"expr": "sum(rate(requests_total[5m]))"}]}
    for number in itertools.count():
        text = json.dumps({"title": f"Dashboard {number}", "panels": [panel] * 80}, indent=1)
        yield _named("v1", "ConfigMap", f"dashboard-{number}", data={"dashboard.json": text})


def _rights() -> Iterator[Object]:
    for number in itertools.count():
        name = f"reader-{number}"
        yield _named("v1", "ServiceAccount", name)
        rules = [{"apiGroups": [""], "resources": ["pods", "services"], "verbs": ["get", "list", "watch"]}]
        yield _named("rbac.authorization.k8s.io/v1", "Role", name, rules=rules)
        yield _named(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            name,
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        )


def _services() -> Iterator[Object]:
    for number in itertools.count():
        name = f"exporter-{number}"
        ports = [{"name": "metrics", "port": 9100 + number, "targetPort": "metrics"}]
        yield _named("v1", "Service", name, spec={"selector": _labels(name), "ports": ports})


def _workloads() -> Iterator[Object]:
    for number in itertools.count():
        name = f"exporter-{number}"
        container = {
            "name": "exporter",
            "image": "registry.example.org/exporter:1.2.3",
            "args": [f"--web.listen-address=:{9100 + number}"],
            "ports": [{"name": "metrics", "containerPort": 9100 + number}],
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}},
        }
        # Without replicas: the API server is measured, not its controllers.
        spec = {
            "replicas": 0,
            "selector": {"matchLabels": _labels(name)},
            "template": {"metadata": {"labels": _labels(name)}, "spec": {"containers": [container]}},
        }
        yield _named("apps/v1", "Deployment", name, spec=spec)
