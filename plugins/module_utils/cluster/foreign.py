# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read possibly foreign objects in the platform's namespaces, and delete those that grant access."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..kube.apply.delete import Deleter
from ..kube.apply.options import FIELD_MANAGER, Options
from ..kube.apply.prune import member
from ..kube.client.client import JSON, MERGE, METADATA, METADATA_LIST, Client
from ..kube.client.discovery import Discovery, Resource
from ..kube.client.errors import ApiError, ConfigError, KubeError
from ..kube.client.paths import path_of
from ..kube.manifests.names import LABEL, check_names
from ..shared.foreign import listing, removal
from .expected import (
    CLUSTER_ROLE_BINDING,
    NETWORK_POLICY,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    WORKLOADS,
    Described,
    Foreign,
    GroupKind,
    Lists,
    Object,
    foreign_objects,
    report_of,
)

PART_OF = ("app.kubernetes.io/part-of", "crypto-lakehouse")
_THREADS = 16


def _resource(which: GroupKind, *, namespaced: bool = True) -> Resource:
    group, kind = which
    plural = "networkpolicies" if which == NETWORK_POLICY else f"{kind.lower()}s"
    return Resource(group, "v1", kind, plural, namespaced)


# Every cluster serves these. Other kinds are read without content: metadata identifies the creator of an object.
_WHOLE = (ROLE, ROLE_BINDING, NETWORK_POLICY)
_RESOURCES = {
    **{which: _resource(which) for which in (*_WHOLE, SERVICE_ACCOUNT, SECRET, *WORKLOADS)},
    CLUSTER_ROLE_BINDING: _resource(CLUSTER_ROLE_BINDING, namespaced=False),
}
# Tokens of service accounts and revisions of Helm belong to their account or release.
_QUERIES = {SECRET: {"fieldSelector": "type!=kubernetes.io/service-account-token,type!=helm.sh/release.v1"}}


def read_foreign(client: Client, described: Described) -> list[Foreign]:
    """Return the foreign objects of a cluster. Raises KubeError.

    Namespaces after the first are included only with the platform's label: other software may use their names.
    """
    check_names({f"namespaces[{index}]": (name, LABEL) for index, name in enumerate(described.namespaces)})
    if not described.namespaces:
        raise ConfigError("cannot compare the cluster: `namespaces` is empty; name the namespaces of the platform")
    with ThreadPoolExecutor(_THREADS) as pool:
        bindings = pool.submit(_list, client, CLUSTER_ROLE_BINDING, None)
        is_ours = list(pool.map(lambda name: _is_marked(client, name), described.namespaces[1:]))
        others = [name for name, ours in zip(described.namespaces[1:], is_ours, strict=True) if ours]
        namespaces = (described.namespaces[0], *others)
        jobs = [
            (which, pool.submit(_list, client, which, namespace))
            for which, resource in _RESOURCES.items()
            if resource.namespaced
            for namespace in namespaces
        ]
        found: dict[GroupKind, list[Object]] = {CLUSTER_ROLE_BINDING: bindings.result()}
        for which, job in jobs:
            found.setdefault(which, []).extend(job.result())
    return foreign_objects(Lists(found), Described(namespaces, described.sets, described.releases))


def _is_marked(client: Client, namespace: str) -> bool:
    try:
        found = client.request("GET", path_of("api", "v1", "namespaces", namespace), accept=METADATA)
    except ApiError as error:
        if error.is_not_found:
            return False
        raise
    label, value = PART_OF
    return bool((found["metadata"].get("labels") or {}).get(label) == value)


def _list(client: Client, which: GroupKind, namespace: str | None) -> list[Object]:
    is_whole = which in _WHOLE or which == CLUSTER_ROLE_BINDING
    path, query = _RESOURCES[which].path(namespace), _QUERIES.get(which, {})
    return list(client.pages(path, query=query, accept=JSON if is_whole else METADATA_LIST))


def compare(
    client: Client, described: Described, expected: Sequence[str], remove: Sequence[str], *, only_plans: bool
) -> dict[str, Any]:
    """Return the result of the module `cluster_foreign`, after the removal. Raises KubeError if a removal fails."""
    found = read_foreign(client, described)
    report = report_of(found, expected, remove)
    doomed = [one for one in found if one.finding in report.removing]
    if doomed and not only_plans:
        remove_foreign(client, doomed)
    return {
        **removal(report),
        "grants": listing(report.remaining),
        "behaviour": listing(report.behaviour),
        "added": listing(report.added),
        "expected": listing(report.expected),
        "calls": client.calls,
    }


def remove_foreign(client: Client, doomed: Sequence[Foreign]) -> None:
    """Delete these objects, or remove only their foreign parts. Raises KubeError with all failures."""
    parts = [one for one in doomed if one.patch is not None]
    wholes = [(member(one.obj, _RESOURCES[one.group_kind]), one) for one in doomed if one.patch is None]
    stay = list(_parts_that_stay(client, parts))
    with ThreadPoolExecutor(_THREADS) as pool:
        results = Deleter(client, Discovery(client), Options(), pool).delete([one for one, _foreign in wholes])
    findings = {one.identity: foreign.finding for one, foreign in wholes}
    stay += [
        f"{findings[result.identity].address}: {result.error or result.reason}"
        for result in results
        if result.action in {"failed", "skipped"}
    ]
    if stay:
        raise KubeError("\n".join(f"cannot remove {text}; run it again" for text in stay))


def _parts_that_stay(client: Client, parts: Sequence[Foreign]) -> Iterator[str]:
    """Remove parts of objects, and yield failures with their causes. An object that changed meanwhile is skipped."""
    versions: dict[str, str] = {}
    for one in parts:
        metadata = one.obj["metadata"]
        path = _RESOURCES[one.group_kind].path(metadata.get("namespace") or None, metadata["name"])
        state = {"uid": metadata["uid"], "resourceVersion": versions.get(path, metadata["resourceVersion"])}
        patch = dict(one.patch or {})
        body = {**patch, "metadata": {**patch.get("metadata", {}), **state}}
        try:
            answer = client.request("PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=body, content_type=MERGE)
            versions[path] = answer["metadata"]["resourceVersion"]
        except ApiError as error:
            if not error.is_not_found:
                yield f"{one.finding.address}: {error}"
