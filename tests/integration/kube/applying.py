# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's work without the module, and objects for it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.access import cluster_connection
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply_task import ApplyTask
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import APPLY, Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from ansible_collections.crypto_lakehouse.platform.plugins.modules.k8s_apply import ARGUMENT_SPEC
from tests.integration.kube.cluster import Cluster

Fields = dict[str, Any]


@dataclass
class Shop:
    """One namespace of a cluster, and the module's work in it. hidden: values that no log may contain."""

    cluster: Cluster
    namespace: str
    client: Client
    hidden: set[str] = field(default_factory=set)

    def run(self, *manifests: Any, check: bool = False, **options: Any) -> dict[str, Any]:
        """Return the module's result. Raises KubeError where it fails as a whole."""
        defaults = {name: spec.get("default") for name, spec in ARGUMENT_SPEC.items()}
        own = {"kubeconfig": str(self.cluster.kubeconfig), "namespace": self.namespace, "wait_timeout": 20}
        given = {**defaults, **own, "manifests": list(manifests), **options}
        task = ApplyTask(given, cluster_connection, self.hidden.update, check_mode=check, with_diff=True)
        return task.run()

    def path(self, plural: str, name: str, api: str = "/api/v1") -> str:
        return f"{api}/namespaces/{self.namespace}/{plural}/{name}"

    def get(self, plural: str, name: str, api: str = "/api/v1") -> Fields | None:
        return look(self.client, self.path(plural, name, api))

    def apply_as(self, manager: str, path: str, content: Mapping[str, Any]) -> Fields:
        """Apply an object as another manager, with force."""
        query = {"fieldManager": manager, "force": "true"}
        found: Fields = self.client.request("PATCH", path, query=query, body=content, content_type=APPLY)
        return found


def look(client: Client, path: str) -> Fields | None:
    try:
        found: Fields = client.request("GET", path)
    except ApiError as error:
        if error.is_not_found:
            return None
        raise
    return found


def actions(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the actions by kind and name."""
    return {f"{one['kind']} {one['name']}": one["action"] for one in result["objects"]}


def one(result: Mapping[str, Any], name: str) -> Fields:
    """Return the result of the object of this name."""
    found: Fields = next(item for item in result["objects"] if item["name"] == name)
    return found


def paths(result: Mapping[str, Any], name: str) -> dict[str, tuple[Any, Any]]:
    """Return the changes of an object: path to the former and the new value."""
    return {change["path"]: (change["before"], change["after"]) for change in one(result, name)["changes"]}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def config_map(name: str = "settings", **data: str) -> Fields:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data or {"a": "1"}}


def secret(name: str = "key", **data: str) -> Fields:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def service(name: str = "api", port: int = 80, **spec: Any) -> Fields:
    ports = [{"name": "http", "port": port}]
    whole = {"selector": {"app": name}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": whole}


def namespaced(obj: Fields, namespace: str) -> Fields:
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}


@dataclass(frozen=True)
class Kind:
    """A kind of a single test, with its definition."""

    group: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}.example.org")
    scope: str = "Namespaced"

    @property
    def name(self) -> str:
        return f"lamps.{self.group}"

    @property
    def api(self) -> str:
        return f"/apis/{self.group}/v1"

    @property
    def path(self) -> str:
        return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{self.name}"

    def definition(self, **fields: Any) -> Fields:
        """Return the definition. fields: of `spec`, in addition to `watts`, each with its schema."""
        properties = {"watts": {"type": "integer", "maximum": 100}, **fields}
        schema = {
            "type": "object",
            "properties": {"spec": {"type": "object", "required": ["watts"], "properties": properties}},
        }
        names = {"kind": "Lamp", "plural": "lamps", "singular": "lamp"}
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name},
            "spec": {"group": self.group, "scope": self.scope, "names": names, "versions": [version]},
        }

    def lamp(self, name: str = "desk", watts: Any = 40, **spec: Any) -> Fields:
        return {
            "apiVersion": f"{self.group}/v1",
            "kind": "Lamp",
            "metadata": {"name": name},
            "spec": {"watts": watts, **spec},
        }
