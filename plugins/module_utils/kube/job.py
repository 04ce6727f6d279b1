# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a Job now, to its end, and brings its log back: what a command is on a host."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.errors import ApiError, KubeError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests import Identity
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.names import LABEL, SUBDOMAIN, check_names
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.paths import core_path, path_of
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.reasons import secret_names
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.wait import wait_gone, wait_ready
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.redact import Redactor, values_of

if TYPE_CHECKING:
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client import Client
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.discovery import Discovery

FIELD_MANAGER = "crypto-lakehouse"
# A log is a report here, no archive.
LOG_LIMIT_BYTES = 1 << 20
_GONE_S = 120.0
_BACKGROUND = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}


@dataclass(frozen=True)
class Ended:
    """How a Job ended. log: what its last pod wrote, secrets masked. reason: why it failed, empty when it did not."""

    succeeded: bool
    log: str
    reason: str
    duration_s: float


@dataclass(frozen=True)
class _Place:
    namespace: str
    name: str

    @property
    def collection(self) -> str:
        return path_of("apis", "batch", "v1", "namespaces", self.namespace, "jobs")

    @property
    def path(self) -> str:
        return path_of("apis", "batch", "v1", "namespaces", self.namespace, "jobs", self.name)

    @property
    def identity(self) -> Identity:
        return Identity("batch/v1", "Job", self.namespace, self.name)

    def __str__(self) -> str:
        return f"Job {self.namespace}/{self.name}"


def run_job(client: Client, discovery: Discovery, manifest: Mapping[str, Any], timeout_s: float) -> Ended:
    """Run a Job and return how it ended; one of the same name that ran before is removed first.

    manifest: a Job of batch/v1 with name and namespace. Raises `KubeError` for what is no Job and what the API refuses.
    """
    place = place_of(manifest)
    started_s = time.monotonic()
    _remove(client, discovery, place)
    client.request("POST", place.collection, query={"fieldManager": FIELD_MANAGER}, body=dict(manifest))
    (waited,) = wait_ready(client, discovery, [place.identity], timeout_s)
    ended = Ended(waited.is_ready, "", "" if waited.is_ready else str(waited), time.monotonic() - started_s)
    try:
        ended = replace(ended, log=_log(client, place, manifest))
        if waited.is_ready:
            # One that failed stays, to be looked at.
            client.request("DELETE", place.path, body=dict(_BACKGROUND))
        return ended
    except KubeError as error:
        if waited.is_ready:
            raise
        # The reason of the failure is worth more than why nothing can be read of it.
        return replace(ended, reason=f"{ended.reason}\n  its log cannot be read: {error}")


def place_of(manifest: Mapping[str, Any]) -> _Place:
    """Return where a Job is. Raises KubeError for what is not a Job with a usable name and namespace."""
    metadata = manifest.get("metadata") or {}
    if (manifest.get("apiVersion"), manifest.get("kind")) != ("batch/v1", "Job"):
        found = f"{manifest.get('kind')} of {manifest.get('apiVersion')}"
        raise KubeError(f"a Job of batch/v1 is needed, but this is a {found}")
    if not metadata.get("name") or not metadata.get("namespace"):
        raise KubeError("the Job has no name or no namespace; give it both in its metadata")
    names = {"metadata.name": SUBDOMAIN, "metadata.namespace": LABEL}
    check_names({f"manifest.{path}": (str(metadata[path.rpartition(".")[2]]), rule) for path, rule in names.items()})
    return _Place(metadata["namespace"], metadata["name"])


def with_arguments(manifest: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the Job with these arguments after those of its first container. Raises KubeError where it has none."""
    made = deepcopy(dict(manifest))
    if not arguments:
        return made
    try:
        container = made["spec"]["template"]["spec"]["containers"][0]
    except (KeyError, IndexError, TypeError):
        raise KubeError(
            "the Job has no container for the arguments; give it one in spec.template.spec.containers"
        ) from None
    container["args"] = [*(container.get("args") or ()), *arguments]
    return made


def _remove(client: Client, discovery: Discovery, place: _Place) -> None:
    try:
        client.request(
            "DELETE",
            place.path,
            body=dict(_BACKGROUND),
        )
    except ApiError as error:
        if error.is_not_found:
            return
        raise
    (waited,) = wait_gone(client, discovery, [place.identity], _GONE_S)
    if not waited.is_ready:
        raise KubeError(f"{place}: the one of an earlier run does not go away: {waited}")


def _log(client: Client, place: _Place, manifest: Mapping[str, Any]) -> str:
    """Return what the youngest pod of the Job wrote, without what the pod knows as a secret."""
    pods = core_path(place.namespace, "pods")
    found = client.request("GET", pods, query={"labelSelector": f"batch.kubernetes.io/job-name={place.name}"})
    listed = sorted(found.get("items") or (), key=lambda pod: pod["metadata"].get("creationTimestamp") or "")
    if not listed:
        return ""
    template = manifest["spec"]["template"]["spec"]
    query = {"limitBytes": LOG_LIMIT_BYTES, "container": template["containers"][0]["name"]}
    path = core_path(place.namespace, "pods", listed[-1]["metadata"]["name"], "log")
    log = str(client.request("GET", path, query=query, accept="text/plain, */*"))
    return Redactor(_secrets(client, place.namespace, {"spec": template}))(log)


def _secrets(client: Client, namespace: str, pod: Mapping[str, Any]) -> set[str]:
    values: set[str] = set()
    for name in sorted(secret_names(pod)):
        try:
            values |= values_of(client.request("GET", core_path(namespace, "secrets", name)))
        except ApiError as error:
            if not error.is_not_found:
                raise
    return values
