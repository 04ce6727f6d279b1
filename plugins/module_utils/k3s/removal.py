# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal plans: of one node, and of the whole cluster, with the guards of everything that is deleted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.membership import remove_node_plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    ClusterSpec,
    HostReport,
    Reports,
    report_of,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.paths import (
    PathState,
    mounts_below,
    path_problems,
    state_problems,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import (
    Plan,
    Step,
    in_batches,
    one_by_one,
    refusal,
    side_by_side,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.problem import Problem

CONFIRM = "k3s_remove_confirm"
DATA_DIR = "k3s_data_dir"
MARKER_FILE = ".crypto-lakehouse.json"
STORAGE = "storage"
# Parts of the data directory that K3s creates; volumes of local-path lie in `storage` beside them.
_PARTS = ("agent", "server", "data")
# Mount points of K3s outside the data directory: of pods, containers and network namespaces.
_MOUNT_ROOTS = ("/run/k3s", "/var/lib/kubelet")
_OTHER_PATHS = (
    "/run/k3s",
    "/run/flannel",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/etc/rancher/k3s",
    "/etc/rancher/node",
    "/usr/local/bin/k3s",
)
_LOCAL_STORAGE = "default-local-storage-path"


def confirmation_problems(spec: ClusterSpec, confirm: str) -> list[Problem]:
    """Return the problem of a removal that the cluster's name does not confirm."""
    if confirm and confirm == spec.name:
        return []
    message = f"the removal of {spec.name or 'a cluster'} is not confirmed"
    return [Problem(CONFIRM, message, f"set `{CONFIRM}` to the cluster's name")]


def cluster_removal_plan(
    spec: ClusterSpec, reports: Reports, states: Mapping[str, PathState], confirm: str, *, delete_data: bool = False
) -> Plan:
    """Return the steps that remove the cluster: agents side by side, then servers from the last to the first.

    states: the data directory of each host. Nothing is planned where one host is refused or unreachable: it would go
    on with half a cluster. Volumes stay unless `delete_data`.
    """
    problems = [*confirmation_problems(spec, confirm), *_data_problems(spec, delete_data=delete_data)]
    for host in spec.hosts:
        problems += _host_problems(spec, report_of(reports, host), states.get(host), delete_data=delete_data)
    if problems:
        return refusal(problems)
    wipes = {host: wipe_steps(spec, reports[host], states[host], delete_data=delete_data) for host in spec.hosts}
    servers = [group for host in reversed(spec.servers) for group in one_by_one(wipes[host])]
    return in_batches([*side_by_side([wipes[host] for host in spec.agents]), *servers])


def node_removal_plan(
    spec: ClusterSpec, reports: Reports, host: str, state: PathState | None, *, delete_data: bool = False
) -> Plan:
    """Return the steps that take one node out of the cluster and wipe it; a lost host is not wiped."""
    plan = remove_node_plan(spec, reports, host)
    report = report_of(reports, host)
    if plan.refused or not report.reachable:
        return plan
    problems = [*_data_problems(spec, delete_data=delete_data)]
    problems += _host_problems(spec, report, state, delete_data=delete_data)
    if problems or state is None:
        return refusal(problems)
    wipe = [step for step in wipe_steps(spec, report, state, delete_data=delete_data) if step.action != actions.STOP]
    return in_batches(one_by_one([*plan.steps, *wipe]))


def _data_problems(spec: ClusterSpec, *, delete_data: bool) -> list[Problem]:
    storage = spec.configuration.get(_LOCAL_STORAGE)
    return path_problems("k3s_configuration", str(storage)) if storage and delete_data else []


def _host_problems(
    spec: ClusterSpec, report: HostReport, state: PathState | None, *, delete_data: bool
) -> list[Problem]:
    if not report.reachable or state is None:
        message = f"{report.host} cannot be reached and would go on with its part of {spec.name}"
        return [Problem("inventory_hostname", message, "make it reachable, or take it out of the inventory")]
    if PurePosixPath(state.path or ".") != PurePosixPath(spec.data_dir or "."):
        message = f"the data directory of {report.host} is {state.path or 'empty'}, not {spec.data_dir or 'empty'}"
        return [Problem(DATA_DIR, message, "set the directory that the cluster uses")]
    kept = [] if delete_data else mounts_below(state.mounts, f"{spec.data_dir}/{STORAGE}")
    problems = state_problems(DATA_DIR, state, spec.name, [*mounts_of_k3s(spec, state), *kept])
    return [*problems, *(_volume_problems(spec, report.host, state) if delete_data else [])]


def _volume_problems(spec: ClusterSpec, host: str, state: PathState) -> list[Problem]:
    """Return the problem of deleting volumes in a directory of their own that something is mounted below."""
    storage = spec.configuration.get(_LOCAL_STORAGE)
    mounts = mounts_below(state.mounts, str(storage)) if storage else []
    if not mounts:
        return []
    message = f"cannot delete {storage} on {host}: {', '.join(sorted(mounts))} is mounted there"
    return [Problem("k3s_delete_data", message, "unmount it, or keep the volumes")]


def mounts_of_k3s(spec: ClusterSpec, state: PathState) -> list[str]:
    """Return the mount points that K3s made, the deepest first: only these are unmounted."""
    roots = [f"{spec.data_dir}/{part}" for part in _PARTS] + list(_MOUNT_ROOTS)
    found = {mount for root in roots for mount in mounts_below(state.mounts, root)}
    return sorted(found, key=lambda mount: (-mount.count("/"), mount))


def wipe_steps(spec: ClusterSpec, report: HostReport, state: PathState, *, delete_data: bool = False) -> list[Step]:
    """Return the steps that wipe one host: stop, unmount, delete.

    The marker goes last, so that an interrupted removal can go on, and stays as long as volumes stay beside it.
    """
    reason = f"{report.host} is removed from {spec.name}"
    steps = [] if report.service == "absent" else [Step(actions.STOP, report.host, reason)]
    steps += [Step(actions.UNMOUNT, report.host, reason, mount) for mount in mounts_of_k3s(spec, state)]
    paths = _paths(spec, state, delete_data=delete_data)
    return [*steps, *(Step(actions.DELETE_PATH, report.host, reason, path) for path in paths)]


def _paths(spec: ClusterSpec, state: PathState, *, delete_data: bool) -> list[str]:
    base = spec.data_dir.rstrip("/")
    storage = str(spec.configuration.get(_LOCAL_STORAGE) or f"{base}/{STORAGE}")
    inside = [f"{base}/{part}" for part in _PARTS] if state.exists else []
    marker = [f"{base}/{MARKER_FILE}"] if state.exists and (delete_data or STORAGE not in state.entries) else []
    return [*inside, *([storage] if delete_data else []), *_OTHER_PATHS, *marker]
