# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write the ConfigMap that identifies the lakehouse in a namespace, with manual settings.

It corresponds to the file `.crypto-lakehouse.json` on a host: a deployment creates it first, and a removal deletes it
last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..kube.client.errors import KubeError

MARKER = "crypto-lakehouse"
MANAGED_BY = "crypto-lakehouse"
COLLECTION = "crypto_lakehouse.platform"


@dataclass(frozen=True)
class Marker:
    """The deployment in a namespace.

    made_namespace: whether the deployment created the namespace, so that its removal deletes it. removed: whether only
    data and secrets remain. postgresql_major: version of the data, 0 if unknown. scale: replicas by service, as set by
    scale.yml.
    """

    version: str
    target: str
    environment: str
    made_namespace: bool = False
    removed: bool = False
    postgresql_major: int = 0
    scale: Mapping[str, int] = field(default_factory=dict)

    def manifest(self, namespace: str) -> dict[str, Any]:
        """Return the ConfigMap."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": MARKER,
                "namespace": namespace,
                "labels": {
                    "app.kubernetes.io/name": MARKER,
                    "app.kubernetes.io/part-of": "crypto-lakehouse",
                    "app.kubernetes.io/managed-by": MANAGED_BY,
                },
            },
            "data": {
                "collection": COLLECTION,
                "version": self.version,
                "target": self.target,
                "environment": self.environment,
                "made_namespace": json.dumps(self.made_namespace),
                "removed": json.dumps(self.removed),
                "postgresql_major": str(self.postgresql_major),
                "scale": json.dumps(self.scale, sort_keys=True),
            },
        }


def read_marker(found: Mapping[str, Any], namespace: str) -> Marker:
    """Return the content of a ConfigMap of this name. Raises `KubeError` if it is foreign or damaged."""
    data = found.get("data") or {}
    if data.get("collection") != COLLECTION:
        raise KubeError(
            f"ConfigMap {namespace}/{MARKER} was not made by this collection and was left as it is; name another "
            "namespace in lakehouse_namespace"
        )
    try:
        return Marker(
            version=data["version"],
            target=data["target"],
            environment=data["environment"],
            made_namespace=json.loads(data.get("made_namespace", "false")) is True,
            removed=json.loads(data.get("removed", "false")) is True,
            postgresql_major=int(data.get("postgresql_major", "0")),
            scale=_counts(data.get("scale", "{}")),
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise KubeError(
            f"ConfigMap {namespace}/{MARKER} is damaged ({error}); correct it: kubectl -n {namespace} edit configmap "
            f"{MARKER}"
        ) from None


def _counts(text: str) -> dict[str, int]:
    return {str(name): int(count) for name, count in json.loads(text).items()}
