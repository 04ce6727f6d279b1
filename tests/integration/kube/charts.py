# SPDX-License-Identifier: GPL-3.0-or-later
"""Small stand-ins for the real charts: the same names, versions and definitions, with little content."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.chart_defaults import chart_defaults

ROOT = Path(__file__).resolve().parents[3]
_KINDS = {
    "ServiceMonitor": "servicemonitors",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
}
_WORKLOAD = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-operator
  namespace: {{ .Release.Namespace }}
spec:
  replicas: 1
  selector: {matchLabels: {app.kubernetes.io/name: operator}}
  template:
    metadata: {labels: {app.kubernetes.io/name: operator}}
    spec:
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: main
          image: registry.example.com/nothing:1
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
"""


def definition(kind: str, plural: str, group: str) -> dict[str, object]:
    """Return a definition that accepts any object."""
    schema = {
        "type": "object",
        "properties": {
            word: {"type": "object", "x-kubernetes-preserve-unknown-fields": True} for word in ("spec", "status")
        },
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def write_monitoring(folder: Path) -> Path:
    """Write the package of kube-prometheus-stack into a folder, in the version of the role."""
    definitions = [definition(kind, plural, "monitoring.coreos.com") for kind, plural in _KINDS.items()]
    files = {"templates/operator.yaml": _WORKLOAD, "crds/all.yaml": yaml.safe_dump_all(definitions)}
    return _write(folder, "kube-prometheus-stack", files)


def write_stand_in(folder: Path, name: str) -> Path:
    """Write the package of a chart with one workload, in the version that its role is written for."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "kube-system"}}
    files = {"templates/account.yaml": yaml.safe_dump(account), "templates/workload.yaml": _WORKLOAD}
    return _write(folder, name, files)


def _write(folder: Path, name: str, files: Mapping[str, str]) -> Path:
    """Write the package of a chart with these files, in the version that its role is written for."""
    version = chart_defaults(ROOT / "roles")[name]["version"]
    chart = folder / "source" / name
    about = {"apiVersion": "v2", "name": name, "version": version, "description": "A stand-in."}
    for path, text in {"Chart.yaml": yaml.safe_dump(about), "values.yaml": "{}\n", **files}.items():
        (chart / path).parent.mkdir(parents=True, exist_ok=True)
        (chart / path).write_text(text, "utf-8")
    package = folder / f"{name}-{version}.tgz"
    with tarfile.open(package, "w:gz") as archive:
        archive.add(chart, name)
    return package
