# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather facts of a cluster for decisions of roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..kube.client.client import Client, look
from ..kube.client.discovery import Discovery
from ..kube.manifests.names import LABEL, check_names, rule_of

_MARKS = ("labels", "annotations")


def gather(client: Client, objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return version and served API versions of a cluster, and the existing ones of `objects`. Raises ``KubeError``.

    An API version whose aggregated API server does not respond counts as served: it is not missing.
    """
    _check(objects)
    discovery = Discovery(client)
    served = {resource.api_version for resource in discovery.all()} | discovery.stale
    return {
        "version": discovery.server_version,
        "minor": ".".join(map(str, discovery.server_minor)),
        "api_versions": sorted(served),
        "objects": [_look(client, discovery, wanted) for wanted in objects],
    }


def planned(version: str, objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the same facts for an empty cluster. version: as in '1.35' or 'v1.35.2'."""
    minor = ".".join(version.removeprefix("v").split(".")[:2])
    nothing = {"found": False, "labels": {}, "annotations": {}}
    return {"version": version, "minor": minor, "api_versions": [], "objects": [nothing for _wanted in objects]}


def _check(objects: Sequence[Mapping[str, Any]]) -> None:
    """Raise ConfigError for invalid names of these objects."""
    for index, wanted in enumerate(objects):
        rule = rule_of(wanted["api_version"].rpartition("/")[0], wanted["kind"])
        place = f"objects[{index}]"
        check_names({f"{place}.name": (wanted["name"], rule), f"{place}.namespace": (wanted["namespace"] or "", LABEL)})


def _look(client: Client, discovery: Discovery, wanted: Mapping[str, Any]) -> dict[str, Any]:
    resource = discovery.find(wanted["api_version"], wanted["kind"])
    path = resource.path(wanted["namespace"] or None, wanted["name"]) if resource is not None else ""
    found = look(client, path) if path else None
    metadata: Mapping[str, Any] = found["metadata"] if found else {}
    return {"found": bool(metadata), **{mark: dict(metadata.get(mark) or {}) for mark in _MARKS}}
