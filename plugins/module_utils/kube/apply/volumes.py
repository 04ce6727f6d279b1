# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare volume claims with the volumes that workloads describe: keep, expand, or reject with a remedy. Pure.

A claim template describes new claims only; existing claims keep their size. The claims are therefore compared, not the
template.

Source: k8s.io/kubernetes/pkg/apis/core/validation, ValidatePersistentVolumeClaimUpdate, and the admission plugin
PersistentVolumeClaimResize.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..manifests.manifests import Identity
from ..manifests.quantities import amount
from ..ready.verdict import Object, mapping, mappings, text

CLAIMS = "persistentvolumeclaims"
STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
# Labels that CloudNativePG writes on the claims of its instances.
_OPERATED, _ROLE, _DATA = "cnpg.io/cluster", "cnpg.io/pvcRole", "PG_DATA"
# prometheus-operator creates a StatefulSet for each object of these kinds, with this name prefix. It replaces the
# StatefulSet when the description of the volume changes, and expands no claim (prometheus-operator#4079).
_PROMETHEUS_GROUP = "monitoring.coreos.com"
OPERATED_SETS: Mapping[str, str] = {
    "Alertmanager": "alertmanager",
    "Prometheus": "prometheus",
    "PrometheusAgent": "prom-agent",
    "ThanosRuler": "thanos-ruler",
}
# kubectl resource names of the workloads whose claims are deleted with them or stay behind.
RESOURCES: Mapping[str, str] = {
    "StatefulSet": "statefulset",
    "Cluster": "clusters.postgresql.cnpg.io",
    **{kind: f"{kind.lower()}{'es' if kind.endswith('s') else 's'}.{_PROMETHEUS_GROUP}" for kind in OPERATED_SETS},
}
# Workloads whose controllers do not change their claims.
EXPANDED = frozenset({"StatefulSet", *OPERATED_SETS})
_TAG = re.compile(r"(?::[^:/@]*)?(?:@.*)?$")
Action = Literal["none", "expand", "recreate", "refuse"]


@dataclass(frozen=True)
class Volume:
    """A volume that a workload describes for each of its pods, or a separate claim.

    kind: `StatefulSet`, `Cluster` (of CloudNativePG), a kind of `OPERATED_SETS`, or `PersistentVolumeClaim`. template:
    the name of the claim template, or empty. storage_class: empty for the default class of the cluster. images:
    repositories of the workload's images, without tags.
    """

    kind: str
    namespace: str
    workload: str
    template: str
    size: str
    storage_class: str = ""
    access_modes: tuple[str, ...] = ()
    volume_mode: str = "Filesystem"
    images: tuple[str, ...] = ()

    def owns(self, claim: Object) -> bool:
        """Return whether a claim was created for this volume."""
        name, namespace = text(claim, "metadata", "name"), text(claim, "metadata", "namespace")
        if namespace != self.namespace:
            return False
        if self.kind == "Cluster":
            found = mapping(claim, "metadata", "labels")
            return found.get(_OPERATED) == self.workload and found.get(_ROLE, _DATA) == _DATA
        if self.kind == "PersistentVolumeClaim":
            return name == self.workload
        shard = "(?:-shard-[0-9]+)?" if self.kind in OPERATED_SETS else ""
        return re.fullmatch(rf"{re.escape(self.template)}-{re.escape(self._set)}{shard}-[0-9]+", name) is not None

    @property
    def _set(self) -> str:
        """Return the name of the StatefulSet of the workload."""
        before = OPERATED_SETS.get(self.kind)
        return f"{before}-{self.workload}" if before else self.workload

    def to_data(self) -> dict[str, Any]:
        """Return the volume as an option of a module."""
        return {**vars(self), "access_modes": list(self.access_modes), "images": list(self.images)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Volume:
        """Return the volume that an option of a module describes."""
        return cls(**{**data, **{word: tuple(data.get(word) or ()) for word in ("access_modes", "images")}})


@dataclass(frozen=True)
class Verdict:
    """Comparison of one claim with its description.

    before, after: sizes. message, remedy: for a claim that cannot become as described. resource_version: of the
    compared claim.
    """

    claim: Identity
    volume: Volume
    action: Action
    before: str
    after: str
    storage_class: str = ""
    message: str = ""
    remedy: str = ""
    uid: str = ""
    resource_version: str = ""


def described(manifests: Iterable[Mapping[str, Any]], namespace: str = "") -> list[Volume]:
    """Return the volumes that the manifests describe. namespace: of manifests without one."""
    return [volume for manifest in manifests for volume in volumes_of(manifest, namespace)]


def volumes_of(manifest: Mapping[str, Any], namespace: str = "") -> Iterator[Volume]:
    """Yield the volumes that one object describes."""
    group, kind = text(manifest, "apiVersion").rpartition("/")[0], text(manifest, "kind")
    place, name = text(manifest, "metadata", "namespace") or namespace, text(manifest, "metadata", "name")
    if (group, kind) == ("apps", "StatefulSet"):
        images = _repositories(manifest)
        for template in mappings(manifest, "spec", "volumeClaimTemplates"):
            volume = _volume(kind, place, name, text(template, "metadata", "name"), mapping(template, "spec"))
            yield replace(volume, images=images)
    elif (group, kind) == ("", "PersistentVolumeClaim"):
        yield _volume(kind, place, name, "", mapping(manifest, "spec"))
    elif (group, kind) == ("postgresql.cnpg.io", "Cluster") and mapping(manifest, "spec", "storage"):
        storage = mapping(manifest, "spec", "storage")
        yield Volume(kind, place, name, "", text(storage, "size"), text(storage, "storageClass"))
    elif group == _PROMETHEUS_GROUP and kind in OPERATED_SETS:
        template = mapping(manifest, "spec", "storage", "volumeClaimTemplate")
        if template:
            given = text(template, "metadata", "name") or f"{OPERATED_SETS[kind]}-{name}-db"
            yield _volume(kind, place, name, given, mapping(template, "spec"))


def _volume(kind: str, namespace: str, workload: str, template: str, spec: Mapping[str, Any]) -> Volume:
    modes = spec.get("accessModes")
    return Volume(
        kind=kind,
        namespace=namespace,
        workload=workload,
        template=template,
        size=str(mapping(spec, "resources", "requests").get("storage") or ""),
        storage_class=text(spec, "storageClassName"),
        access_modes=tuple(map(str, modes)) if isinstance(modes, list) else (),
        volume_mode=text(spec, "volumeMode") or "Filesystem",
    )


def _repositories(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the repositories of the images that a workload runs, without tags and digests."""
    pod = ("spec", "template", "spec")
    containers = [*mappings(manifest, *pod, "initContainers"), *mappings(manifest, *pod, "containers")]
    return tuple(sorted({_TAG.sub("", text(one, "image")) for one in containers}))


def compare(
    volume: Volume, claims: Iterable[Object], classes: Sequence[Object] | None, former_size: str = ""
) -> list[Verdict]:
    """Return a verdict for each claim of a volume.

    classes: the storage classes of the cluster, or None without permission to read them; then the server decides.
    former_size: size in the current description. A smaller description than that is a reduction. A claim that was
    expanded manually may stay larger than described. So may claims of prometheus-operator, whose pods keep them.
    """
    owned = [one for one in claims if volume.owns(one) and not mapping(one, "metadata").get("deletionTimestamp")]
    said = [_verdict(volume, claim, classes, former_size) for claim in owned]
    # The remedy for another volume covers all claims that need it.
    refused = [one.claim.name for one in said if one.action == "refuse"]
    return [_verdict(volume, claim, classes, former_size, refused) for claim in owned] if len(refused) > 1 else said


def _verdict(
    volume: Volume, claim: Object, classes: Sequence[Object] | None, former_size: str, refused: Sequence[str] = ()
) -> Verdict:
    metadata, requested = mapping(claim, "metadata"), requested_size(claim)
    said = Verdict(
        claim=Identity("v1", "PersistentVolumeClaim", volume.namespace, text(metadata, "name")),
        volume=volume,
        action="none",
        before=requested,
        after=volume.size,
        storage_class=text(claim, "spec", "storageClassName"),
        uid=text(metadata, "uid"),
        resource_version=text(metadata, "resourceVersion"),
    )
    is_unbound = text(claim, "status", "phase") != "Bound" and not text(claim, "spec", "volumeName")
    fixed, has, wants = _fixed(volume, claim), amount(requested), amount(volume.size)
    if volume.kind == "StatefulSet" and is_unbound:
        # The StatefulSet's controller creates the claim again from the template. The claim holds no data.
        return replace(said, action="recreate" if fixed or has != wants else "none")
    if fixed:
        return _kept(said, *fixed, refused)
    if has is None or wants is None:
        return said
    if wants < has and wants < (amount(former_size) or wants) and volume.kind not in OPERATED_SETS:
        message = f"cannot shrink {said.claim} from {requested} to {volume.size}: Kubernetes does not shrink volumes"
        return replace(said, action="refuse", message=message, remedy=_copy_recipe(said, "size", requested, refused))
    return _growth(said, claim, classes, refused) if wants > has else said


def _kept(said: Verdict, what: str, before: str, after: str, refused: Sequence[str]) -> Verdict:
    message = f"cannot change the {what} of {said.claim} from {before} to {after}: it is fixed when a claim is created"
    return replace(said, action="refuse", message=message, remedy=_copy_recipe(said, what, before, refused))


def _growth(said: Verdict, claim: Object, classes: Sequence[Object] | None, refused: Sequence[str]) -> Verdict:
    head = f"cannot expand {said.claim} from {said.before} to {said.after}"
    phase = text(claim, "status", "phase")
    if phase == "Lost":
        message = f"{head}: its volume {text(claim, 'spec', 'volumeName')} is gone"
        return replace(said, action="refuse", message=message, remedy=_deletion(said, refused))
    if phase != "Bound":
        delete = f"`kubectl -n {said.volume.namespace} delete pvc {said.claim.name}`"
        remedy = f"restore the size {said.before}, or run {delete}, which deletes no data, and run again"
        return replace(said, action="refuse", message=f"{head}: it is not bound to a volume", remedy=remedy)
    if classes is None or _allows_expansion(said.storage_class, classes):
        return replace(said, action="expand")
    recipe = _copy_recipe(said, "size", said.before, refused)
    if not said.storage_class:
        message = f"{head}: its volume was not provisioned by a storage class"
        return replace(said, action="refuse", message=message, remedy=recipe)
    why = f"storage class {said.storage_class} does not allow volume expansion"
    patch = '{"allowVolumeExpansion": true}'
    remedy = (
        f"where the driver can expand volumes, run `kubectl patch storageclass {said.storage_class} -p '{patch}'` and "
        f"run again; otherwise {recipe}"
    )
    return replace(said, action="refuse", message=f"{head}: {why}", remedy=remedy)


def _allows_expansion(name: str, classes: Sequence[Object]) -> bool:
    return any(text(one, "metadata", "name") == name and one.get("allowVolumeExpansion") is True for one in classes)


def _fixed(volume: Volume, claim: Object) -> tuple[str, str, str] | None:
    """Return name, former and described value of the first immutable property of a claim that differs."""
    spec = mapping(claim, "spec")
    modes = spec.get("accessModes")
    has_modes = sorted(map(str, modes)) if isinstance(modes, list) else []
    pairs = (
        ("storage class", text(spec, "storageClassName"), volume.storage_class),
        ("access modes", ", ".join(has_modes), ", ".join(sorted(volume.access_modes))),
        ("volume mode", text(spec, "volumeMode") or "Filesystem", volume.volume_mode),
    )
    return next(((what, has, wants) for what, has, wants in pairs if has and wants and has != wants), None)


def _copy_recipe(said: Verdict, what: str, former: str, refused: Sequence[str]) -> str:
    """Return the steps to another volume, which require a copy of the data. refused: claims that need them."""
    return f"restore the {what} {former}; to change it, back up the data, {_deletion(said, refused)}"


def _deletion(said: Verdict, refused: Sequence[str]) -> str:
    """Return the steps that replace a claim without its data."""
    volume, where = said.volume, f"kubectl -n {said.volume.namespace} delete"
    workload = f"`{where} {RESOURCES[volume.kind]} {volume.workload}` and " if volume.kind in RESOURCES else ""
    claims = " ".join(refused or [said.claim.name])
    return f"run {workload}`{where} pvc {claims}`, run again, and restore the data"


def requested_size(claim: Object) -> str:
    """Return the storage size that a claim requests."""
    return str(mapping(claim, "spec", "resources", "requests").get("storage") or "")
