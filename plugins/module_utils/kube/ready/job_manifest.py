# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the Job object of a run: arguments, input, scratch volume, labels and deadline. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from ...shared.jobs import Request
from ..client.errors import KubeError
from ..client.paths import core_path, path_of
from ..manifests.manifests import Identity
from ..manifests.names import LABEL, SUBDOMAIN, check_names
from .verdict import mapping, mappings

SLOT_LABEL, DIGEST_LABEL = "lakehouse/job", "lakehouse/job-digest"
OWNER, ATTACHED, LOOKED = "lakehouse/job-owner", "lakehouse/job-attached", "lakehouse/job-looked"
INPUT, SCRATCH = "lakehouse-job-input", "lakehouse-job-scratch"
INPUT_FOLDER, SCRATCH_FOLDER = "/run/lakehouse/job", "/scratch"
# Of the maximum of 63 characters in the label of a Job's pods.
_NAME_CHARACTERS = 57
_KEPT_S = 24 * 3600
# Readable by the group of the pod's files, or by everyone in a pod without one.
_GROUP_MODE, _EVERYONE_MODE = 0o440, 0o444


@dataclass(frozen=True)
class Place:
    """Location of a Job."""

    namespace: str
    name: str

    @property
    def collection(self) -> str:
        return path_of("apis", "batch", "v1", "namespaces", self.namespace, "jobs")

    @property
    def path(self) -> str:
        return path_of("apis", "batch", "v1", "namespaces", self.namespace, "jobs", self.name)

    @property
    def secret_name(self) -> str:
        return f"{self.name}-input"

    @property
    def secret_path(self) -> str:
        return core_path(self.namespace, "secrets", self.secret_name)

    @property
    def identity(self) -> Identity:
        return Identity("batch/v1", "Job", self.namespace, self.name)

    def __str__(self) -> str:
        return f"Job {self.namespace}/{self.name}"


def place_of(manifest: Mapping[str, Any]) -> Place:
    """Return the location of a Job. Raises KubeError unless it is a Job with a valid name and namespace."""
    metadata = manifest.get("metadata") or {}
    if (manifest.get("apiVersion"), manifest.get("kind")) != ("batch/v1", "Job"):
        found = f"{manifest.get('kind')} of {manifest.get('apiVersion')}"
        raise KubeError(f"a Job of batch/v1 is needed, but this is a {found}")
    if not metadata.get("name") or not metadata.get("namespace"):
        raise KubeError("the Job has no name or no namespace; give it both in its metadata")
    names = {"metadata.name": SUBDOMAIN, "metadata.namespace": LABEL}
    check_names({f"manifest.{path}": (str(metadata[path.rpartition(".")[2]]), rule) for path, rule in names.items()})
    return Place(metadata["namespace"], metadata["name"])


def with_arguments(manifest: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the Job with these arguments after those of its first container. Raises KubeError without containers."""
    made = deepcopy(dict(manifest))
    if arguments:
        container = _first_container(made, "for the arguments")
        container["args"] = [*(container.get("args") or ()), *arguments]
    return made


def beside(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Job under another name, so that it can run concurrently with the original."""
    name = f"{place_of(manifest).name[:_NAME_CHARACTERS]}-check"
    return {**manifest, "metadata": {**manifest["metadata"], "name": name}}


def prepared(manifest: Mapping[str, Any], request: Request, deadline_s: int) -> dict[str, Any]:
    """Return the Job of a run. deadline_s: seconds after which the cluster ends it."""
    made = deepcopy(dict(manifest))
    container, spec = _first_container(made, "to run"), made["spec"]
    spec.setdefault("ttlSecondsAfterFinished", _KEPT_S)
    spec["activeDeadlineSeconds"] = deadline_s
    _label(made, request)
    variables = {"LAKEHOUSE_JOB_LOG": "framed"}
    if request.input is not None:
        # The Secret requires the uid of the Job, and the pod requires the Secret.
        spec["suspend"] = True
        variables["LAKEHOUSE_JOB_INPUT"] = f"{INPUT_FOLDER}/input"
        _mount(made, container, {"name": INPUT, "secret": _input_volume(made)}, INPUT_FOLDER, read_only=True)
    if request.scratch:
        variables |= {"LAKEHOUSE_JOB_SCRATCH": SCRATCH_FOLDER, "TMPDIR": SCRATCH_FOLDER}
        _mount(made, container, {"name": SCRATCH, **_scratch_volume(request)}, SCRATCH_FOLDER)
    others = [one for one in container.get("env") or () if one.get("name") not in variables]
    container["env"] = [*others, *({"name": name, "value": value} for name, value in variables.items())]
    return made


def _label(made: dict[str, Any], request: Request) -> None:
    metadata = made["metadata"]
    metadata["labels"] = {**(metadata.get("labels") or {}), SLOT_LABEL: request.slot, DIGEST_LABEL: request.digest}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), OWNER: request.owner}


def _first_container(made: Mapping[str, Any], why: str) -> dict[str, Any]:
    try:
        container: dict[str, Any] = made["spec"]["template"]["spec"]["containers"][0]
    except (KeyError, IndexError, TypeError):
        raise KubeError(f"the Job has no container {why}; give it one in spec.template.spec.containers") from None
    return container


def _mount(
    made: Mapping[str, Any], container: dict[str, Any], volume: dict[str, Any], path: str, *, read_only: bool = False
) -> None:
    pod = made["spec"]["template"]["spec"]
    pod["volumes"] = [*(pod.get("volumes") or ()), volume]
    mount = {"name": volume["name"], "mountPath": path, **({"readOnly": True} if read_only else {})}
    container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]


def _input_volume(made: Mapping[str, Any]) -> dict[str, Any]:
    has_group = "fsGroup" in mapping(made, "spec", "template", "spec", "securityContext")
    mode = _GROUP_MODE if has_group else _EVERYONE_MODE
    return {"secretName": place_of(made).secret_name, "defaultMode": mode}


def _scratch_volume(request: Request) -> dict[str, Any]:
    if not request.scratch_class:
        return {"emptyDir": {"sizeLimit": request.scratch}}
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": request.scratch_class,
        "resources": {"requests": {"storage": request.scratch}},
    }
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim}}}


def input_secret(place: Place, job: Mapping[str, Any], value: str) -> dict[str, Any]:
    """Return the Secret with the input of a Job, which is deleted with it."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": place.name, "uid": job["metadata"]["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": place.secret_name, "namespace": place.namespace, "ownerReferences": [owner]},
        "type": "Opaque",
        "immutable": True,
        "stringData": {"input": value},
    }


def has_input(job: Mapping[str, Any]) -> bool:
    """Return whether a Job has input."""
    return any(one.get("name") == INPUT for one in mappings(job, "spec", "template", "spec", "volumes"))


def digest(job: Mapping[str, Any]) -> str:
    """Return the digest that identifies a run in its slot. Empty for a Job that this module did not create."""
    return str(mapping(job, "metadata", "labels").get(DIGEST_LABEL) or "")


def is_suspended(job: Mapping[str, Any]) -> bool:
    """Return whether a Job waits for its input. A run that was killed before it created the input leaves such a Job."""
    return mapping(job, "spec").get("suspend") is True
