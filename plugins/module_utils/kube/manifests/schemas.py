# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read schemas from CRDs of the set, from the server, or from a package for a cluster that does not exist yet."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..client.client import Client
from ..client.discovery import Resource
from ..client.errors import ApiError, ConfigError
from .manifests import Manifest
from .offline import Schema
from .order import is_crd

_GVK = "x-kubernetes-group-version-kind"
_PACKAGE = "kubernetes_validate"
_VERSION = re.compile(r"v?(\d+\.\d+)(\..*)?")
_VERBS = frozenset({"get", "list", "watch", "create", "patch", "delete"})
# Cluster-wide kinds, which their schemas do not identify.
# Source: the API reference of Kubernetes 1.37, https://kubernetes.io/docs/reference/kubernetes-api/
_CLUSTER_WIDE = frozenset(
    {
        "APIService",
        "CSIDriver",
        "CSINode",
        "CertificateSigningRequest",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterTrustBundle",
        "ComponentStatus",
        "CustomResourceDefinition",
        "DeviceClass",
        "DeviceTaintRule",
        "FlowSchema",
        "IPAddress",
        "IngressClass",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "ResourceSlice",
        "RuntimeClass",
        "ServiceCIDR",
        "StorageClass",
        "StorageVersion",
        "StorageVersionMigration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
        "VolumeAttributesClass",
    }
)


class Schemas(Protocol):
    """A source of the schemas of kinds."""

    def find(self, api_version: str, kind: str) -> Schema | None:
        """Return the schema of a kind, or None if it is unknown."""


class DefinedKinds:
    """The kinds that CRDs among the manifests define."""

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._found: dict[tuple[str, str], tuple[Resource, Schema, str]] = {}
        for manifest in manifests:
            if is_crd(manifest):
                for resource, schema in _versions(manifest.content):
                    self._found[resource.api_version, resource.kind] = (resource, schema, manifest.name)

    def find(self, api_version: str, kind: str) -> Schema | None:
        found = self._found.get((api_version, kind))
        return found[1] if found else None

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """Return the API that will serve a kind."""
        found = self._found.get((api_version, kind))
        return found[0] if found else None

    def definition(self, api_version: str, kind: str) -> str:
        """Return the name of the CRD that defines a kind, or nothing."""
        found = self._found.get((api_version, kind))
        return found[2] if found else ""

    def served_by(self, definition: str) -> list[tuple[str, str]]:
        """Return (apiVersion, kind) for each version that a CRD of this name will serve."""
        return [key for key, (_resource, _schema, name) in self._found.items() if name == definition]


def _versions(crd: Mapping[str, Any]) -> Iterator[tuple[Resource, Schema]]:
    spec = crd.get("spec")
    names = spec.get("names") if isinstance(spec, Mapping) else None
    versions = spec.get("versions") if isinstance(spec, Mapping) else None
    if not isinstance(spec, Mapping) or not isinstance(names, Mapping) or not isinstance(versions, list):
        # The server rejects the CRD.
        return
    for version in versions:
        if isinstance(version, Mapping) and version.get("served"):
            resource = Resource(
                group=str(spec.get("group")),
                version=str(version.get("name")),
                kind=str(names.get("kind")),
                plural=str(names.get("plural")),
                namespaced=spec.get("scope") != "Cluster",
                verbs=_VERBS,
                subresources=frozenset(version.get("subresources") or ()),
            )
            root = (version.get("schema") or {}).get("openAPIV3Schema") or {}
            yield resource, Schema(root)


def _by_kind(definitions: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    found = {}
    for definition in definitions.values():
        for named in definition.get(_GVK) or ():
            api_version = f"{named['group']}/{named['version']}" if named["group"] else named["version"]
            found[api_version, named["kind"]] = definition
    return found


class ServerSchemas:
    """The server's schemas of its kinds, fetched once for each group and version."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._index: Mapping[str, Any] | None = None
        self._known: dict[str, dict[tuple[str, str], Schema]] = {}

    def find(self, api_version: str, kind: str) -> Schema | None:
        with self._lock:
            if api_version not in self._known:
                self._known[api_version] = self._read(api_version)
            return self._known[api_version].get((api_version, kind))

    def _read(self, api_version: str) -> dict[tuple[str, str], Schema]:
        if self._index is None:
            self._index = self._document("/openapi/v3", ())["paths"]
        place = self._index.get(f"apis/{api_version}" if "/" in api_version else f"api/{api_version}")
        if place is None:
            return {}
        # The address contains a digest of the content in its query.
        path, _mark, query = str(place["serverRelativeURL"]).partition("?")
        pairs = [(name, value) for name, _equals, value in (part.partition("=") for part in query.split("&")) if name]
        try:
            document = self._document(path, pairs)
        except ApiError as error:
            if error.is_not_found:
                return {}
            raise
        definitions = (document.get("components") or {}).get("schemas") or {}
        return {key: Schema(root, definitions, is_open=True) for key, root in _by_kind(definitions).items()}

    def _document(self, path: str, query: Sequence[tuple[str, str]]) -> Any:
        answer = self._client.request("GET", path, query=query)
        # The server sends the index of its schemas as plain text.
        return json.loads(answer) if isinstance(answer, str) else answer


class PackagedSchemas:
    """The built-in kinds of one version of Kubernetes. Raises ConfigError if their package is not installed."""

    def __init__(self, version: str) -> None:
        self._definitions = _packaged(version)
        self._by_kind = _by_kind(self._definitions)

    def find(self, api_version: str, kind: str) -> Schema | None:
        root = self._by_kind.get((api_version, kind))
        return Schema(root, self._definitions, is_open=True) if root is not None else None

    def kinds(self) -> list[tuple[str, str]]:
        """Return (apiVersion, kind) for all kinds of this version."""
        return list(self._by_kind)

    def resource(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource of a kind in this version. Its plural is unknown and not required without a server."""
        if (api_version, kind) not in self._by_kind:
            return None
        group, _slash, version = api_version.rpartition("/")
        status = frozenset({"status"})
        return Resource(group, version, kind, f"{kind.lower()}s", kind not in _CLUSTER_WIDE, _VERBS, status)


def _packaged(version: str) -> Mapping[str, Any]:
    from importlib import resources

    told = _VERSION.fullmatch(version.strip())
    if told is None:
        raise ConfigError(f"kubernetes_version: {version!r} is not a version; write it as '1.34'")
    try:
        # The package's code requires five other packages; only its data is used.
        folder = resources.files(_PACKAGE) / "kubernetes-json-schema"
    except ModuleNotFoundError:
        raise ConfigError(
            "the Python package kubernetes-validate, which holds the schemas of Kubernetes' versions, is not installed "
            "here; install it, or leave kubernetes_version out where the cluster exists"
        ) from None
    wanted = f"v{told[1]}.0-local"
    if not (folder / wanted).is_dir():
        known = sorted(
            (
                part.name.removeprefix("v").removesuffix(".0-local")
                for part in folder.iterdir()
                if "strict" not in part.name
            ),
            key=lambda name: [int(number) for number in name.split(".")],
        )
        raise ConfigError(
            f"kubernetes_version: the installed kubernetes-validate has no schemas of {told[1]}; known are "
            f"{', '.join(known)}"
        )
    definitions: Mapping[str, Any] = json.loads((folder / wanted / "_definitions.json").read_text())["$defs"]
    return definitions
