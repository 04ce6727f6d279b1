# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pod of a service: its containers, what they see of the world, and what they may do, which is next to nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from .layout import FILES, INSTANCE, SECRETS
from .part import POD_NAME, Entry, Part, expanded, named
from .probes import probes
from .trust import trusts

FILE_MODE = 0o440
SCRATCH_SIZE = "1Gi"
LAST_PRIVILEGED_PORT = 1023
DRAIN_S = 5
"""How long a pod still answers after it was taken out of its service: proxies of nodes learn of that later."""

# The program that a step is for replaces the shell, so that its exit status is the container's.
ONCE = 'if test -e "$1"; then exit 0; fi; shift; exec "$@"'


def pod(part: Part, restart: str = "Always") -> Entry:
    """Return the template of the service's pods."""
    annotations = part.checksums()
    metadata: Entry = {"labels": part.labels, **({"annotations": annotations} if annotations else {})}
    cluster = part.layout.cluster
    spec: Entry = {
        "serviceAccountName": part.account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": restart,
        "priorityClassName": priority(part),
        "terminationGracePeriodSeconds": part.service.stop.timeout_s + (DRAIN_S if _drains(part) else 0),
        "securityContext": _pod_security(part),
        "containers": [_main(part)],
        "volumes": named(_volumes(part)),
    }
    if part.resolved.initialise:
        spec["initContainers"] = [_initialise(part)]
    if cluster.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.image_pull_secrets]
    if part.is_replicated:
        spec["topologySpreadConstraints"] = [_spread(part, key) for key in ("zone", "hostname")]
    return {"metadata": metadata, "spec": spec}


def priority(part: Part) -> str:
    """Return the priority class of a service: what keeps data is the last to go when a node has no room."""
    return f"{part.layout.cluster.namespace}-{'data' if part.is_stateful else 'service'}"


def _spread(part: Part, key: str) -> Entry:
    label = {"zone": "topology.kubernetes.io/zone", "hostname": "kubernetes.io/hostname"}[key]
    constraint = {"maxSkew": 1, "topologyKey": label, "whenUnsatisfiable": "ScheduleAnyway"}
    return {**constraint, "labelSelector": {"matchLabels": part.selector}}


def _pod_security(part: Part) -> Entry:
    user = part.service.user
    security: Entry = {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if any(port.port <= LAST_PRIVILEGED_PORT for _service, _name, port in part.ports()):
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    return security


CONTAINER_SECURITY: Mapping[str, object] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "privileged": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
}


def _container(part: Part, name: str, command: Sequence[str]) -> Entry:
    service = part.service
    container: Entry = {
        "name": name,
        "image": part.layout.cluster.image(service.image or ""),
        "imagePullPolicy": "IfNotPresent",
        "command": [expanded(word) for word in command],
        "env": environment(part),
        "resources": resources(part),
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": list(_mounts(part)),
    }
    if part.resolved.directory:
        container["workingDir"] = part.resolved.directory
    return {key: value for key, value in container.items() if value not in ([], {})}


def _main(part: Part) -> Entry:
    container = _container(part, part.name, part.resolved.command)
    if part.ports():
        container["ports"] = list(_container_ports(part))
    if part.service.kind == "service":
        container |= probes(part)
    before_stop = _before_stop(part)
    if before_stop:
        container["lifecycle"] = {"preStop": before_stop}
    return container


def _initialise(part: Part) -> Entry:
    step = part.resolved.initialise
    command = ["/bin/sh", "-euc", ONCE, "initialise", step.creates, *step.command] if step else []
    return _container(part, f"{part.name}-initialise", command)


def _drains(part: Part) -> bool:
    return part.is_replicated and bool(part.service.ports) and part.service.stop.signal == "TERM"


def _before_stop(part: Part) -> Entry | None:
    """Return what happens before the kubelet asks a container to end, which it does by TERM."""
    signal = part.service.stop.signal
    if signal != "TERM":
        return {"exec": {"command": ["/bin/sh", "-c", f"kill -s {signal} 1"]}}
    return {"sleep": {"seconds": DRAIN_S}} if _drains(part) else None


def _container_ports(part: Part) -> Iterator[Entry]:
    for service, name, port in part.ports():
        # A container's port has a shorter name than a service's, and its neighbours in the pod may have the same.
        usable = service == part.name and len(name) <= 15 and re.search("[a-z]", name) and "--" not in name
        label = {"name": name} if usable else {}
        yield {**label, "containerPort": port.port, "protocol": port.protocol.upper()}


def resources(part: Part) -> Entry:
    """Return what the service is given, and what it may not exceed."""
    amounts = {"requests": part.service.resources.requests, "limits": part.service.resources.limits}
    found = {
        word: {name: value for name in ("cpu", "memory") if (value := getattr(given, name)) is not None}
        for word, given in amounts.items()
    }
    return {word: given for word, given in found.items() if given}


def environment(part: Part) -> list[Entry]:
    """Return the variables of a container; one with a secret names where it is kept."""
    cluster, given = part.layout.cluster, part.resolved.environment
    hosts = sorted({address.host for ports in part.layout.addresses.values() for address in ports.values()})
    proxies = cluster.client_environment(hosts)
    variables: dict[str, Entry] = {name: {"value": expanded(value)} for name, value in proxies.items()}
    for trust in trusts(part):
        variables |= {name: {"value": value} for name, value in trust.variables.items()}
    for name, value in given.items():
        key = {"name": part.name, "key": f"env.{name}"}
        is_secret = name in part.secret_environment
        variables[name] = {"valueFrom": {"secretKeyRef": key}} if is_secret else {"value": expanded(value)}
    step = part.resolved.initialise
    if any(INSTANCE in text for text in [*part.resolved.command, *given.values(), *(step.command if step else ())]):
        # What refers to it has to come after it.
        variables = {
            POD_NAME: {"valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            **variables,
        }
    return named(variables)


def _mounts(part: Part) -> Iterator[Entry]:
    for name, volume in part.service.volumes.items():
        yield {"name": name, "mountPath": volume.path}
    for name, path in _own_mounts(part).items():
        yield {"name": name, "mountPath": path, "readOnly": True}
    if _has_scratch(part):
        yield {"name": "lakehouse-tmp", "mountPath": "/tmp"}  # noqa: S108 - of the pod alone


def _own_mounts(part: Part) -> dict[str, str]:
    mounts = {"lakehouse-files": FILES} if part.resolved.files else {}
    mounts |= {"lakehouse-secrets": SECRETS} if part.resolved.secret_files else {}
    return mounts | {trust.name: trust.folder for trust in trusts(part)}


def _has_scratch(part: Part) -> bool:
    return all(volume.path != "/tmp" for volume in part.service.volumes.values())  # noqa: S108


def _volumes(part: Part) -> dict[str, Entry]:
    """Return the volumes of a pod that are not claimed for it."""
    volumes: dict[str, Entry] = {
        name: {"emptyDir": {"sizeLimit": volume.size}}
        for name, volume in part.service.volumes.items()
        if volume.ephemeral
    }
    if part.resolved.files:
        volumes["lakehouse-files"] = {"projected": {"defaultMode": FILE_MODE, "sources": list(_files(part))}}
    if part.resolved.secret_files:
        items = [{"key": f"secret.{name}", "path": name} for name in sorted(part.resolved.secret_files)]
        volumes["lakehouse-secrets"] = {"secret": {"secretName": part.name, "defaultMode": FILE_MODE, "items": items}}
    volumes |= {trust.name: trust.source for trust in trusts(part)}
    if _has_scratch(part):
        volumes["lakehouse-tmp"] = {"emptyDir": {"sizeLimit": SCRATCH_SIZE}}
    return volumes


def _files(part: Part) -> Iterator[Entry]:
    plain, secret = part.keys(part.plain_files), part.keys(part.secret_files)
    if plain:
        items = [{"key": key, "path": name} for name, key in plain.items()]
        yield {"configMap": {"name": part.name, "items": items}}
    if secret:
        items = [{"key": f"file.{key}", "path": name} for name, key in secret.items()]
        yield {"secret": {"name": part.name, "items": items}}
