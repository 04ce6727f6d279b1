# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of a plan for K3s with the arguments of their tasks: files, node, and the host that runs the step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from ..module_utils.k3s import actions
from ..module_utils.k3s.configuration import MEMBERSHIP_FILE, canonical, desired, digest, files
from ..module_utils.k3s.drift import PRIVATE_MODE, File, file_differences
from ..module_utils.k3s.membership import api_address
from ..module_utils.k3s.model import ClusterSpec, HostReport, Marker, Reports, cluster_view, node_name, report_of
from ..module_utils.k3s.paths import APPLIED_FILE, MARKER_FILE
from ..module_utils.k3s.plan import Step
from ..module_utils.k3s_host.files import as_yaml

CONFIGURATION = "/etc/rancher/k3s"
# Files of credentials, which only root can read.
SERVER_TOKEN, AGENT_TOKEN = f"{CONFIGURATION}/server-token", f"{CONFIGURATION}/agent-token"
# Modes of files that other users can read, by suffix or name of the file.
MODES: Mapping[str, str] = {".service": "0644", "k3s": "0755"}
# Actions that write the configuration.
WRITING = frozenset(
    {
        actions.INITIALISE,
        actions.START,
        actions.JOIN_SERVER,
        actions.JOIN_AGENT,
        actions.WRITE_CONFIGURATION,
        actions.WRITE_FILES,
        actions.WRITE_MEMBERSHIP,
        actions.RESTART,
        actions.APPLY_REGISTRATION,
        actions.MOVE_ASIDE,
        actions.PLACE_ESCROW,
        actions.RESET,
        actions.RESTORE,
    }
)
# Actions after which the service runs with the written configuration.
STARTING = frozenset({actions.INITIALISE, actions.START, actions.JOIN_SERVER, actions.JOIN_AGENT, actions.RESTART})
# Actions after which the API of a host is no longer used.
LEAVING = frozenset({actions.STOP, actions.WIPE_HOST})
# Actions of a change of settings, and those that verify the health of the host after it.
CHANGING = frozenset({actions.WRITE_CONFIGURATION, actions.RESTART, actions.WAIT_VOTER, actions.WAIT_READY})
# Actions after which one server is the cluster that the others join.
RESTORING = frozenset({actions.RESET, actions.RESTORE})
_STATES: Mapping[str, Any] = {
    actions.INITIALISE: "initialising",
    actions.JOIN_SERVER: "joining",
    actions.JOIN_AGENT: "joining",
    actions.MOVE_ASIDE: "joining",
}


@dataclass(frozen=True)
class Cluster:
    """The cluster of a plan. `ca_hash` is empty before it exists, `api_host` is a server that answers."""

    cluster_id: str
    ca_hash: str
    api_host: str


def find_cluster(spec: ClusterSpec, reports: Reports, steps: Iterable[Step], first: str, new_id: str) -> Cluster:
    """Return the id of the cluster (that of a marker if one exists), the hash of its CA, and an API server.

    The server is the first one of a restored cluster, else one that answers, else `first`, which starts a new cluster.
    """
    listed = list(steps)
    view = cluster_view(spec, reports, without={step.host for step in listed if step.action in LEAVING})
    restored = next((step.host for step in listed if step.action in RESTORING), "")
    api_host = restored or (view.host if view else first)
    found = [report_of(reports, host).data for host in ([api_host] if api_host else spec.servers)]
    marker = next((data.marker for data in found if data.marker), None)
    return Cluster(marker.cluster_id if marker else new_id, report_of(reports, api_host).data.ca_hash, api_host)


def stale_reports(reports: Reports, stale: Mapping[str, Sequence[str]]) -> dict[str, HostReport]:
    """Return the reports, without applied settings for hosts whose unit or registries differ and need a restart."""
    return {
        host: replace(report, applied_digest="") if stale.get(host) and report.service == "active" else report
        for host, report in reports.items()
    }


def file_modes(paths: Iterable[str]) -> dict[str, str]:
    """Return the mode of each file that the role installs."""
    return {path: MODES.get(PurePosixPath(path).suffix or PurePosixPath(path).name, PRIVATE_MODE) for path in paths}


@dataclass(frozen=True)
class Renderer:
    """Renders the steps of one plan in their order. `membership` contains the settings of previous steps, by host."""

    spec: ClusterSpec
    reports: Reports
    cluster: Cluster

    def render(self, steps: Iterable[Step], hosts: Collection[str]) -> list[list[dict[str, Any]]]:
        """Return the batches of the steps for hosts of the play, without other steps."""
        batches: dict[int, list[dict[str, Any]]] = {}
        membership = {host: self._current(host) for host in self.spec.hosts}
        for step in steps:
            if step.action in _JOINS:
                membership[step.host] = self._membership(step)
            runner = self._runner(step, hosts)
            if runner:
                rendered = self._rendered(step, membership.get(step.host, {}))
                batches.setdefault(step.batch, []).append({**rendered, "runner": runner})
        return [batches[number] for number in sorted(batches)]

    def differences(self, host: str, result: Mapping[str, Any]) -> dict[str, str]:
        """Return the reasons why files of a host with K3s differ, by path; `result` is that of `k3s_info`."""
        if report_of(self.reports, host).service not in ("active", "activating") or "found_files" not in result:
            return {}
        rendered = self._files(Step(actions.WRITE_FILES, host, ""), self._current(host))
        hashes = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in rendered.items()}
        tokens = [AGENT_TOKEN] if host in self.spec.agents else [SERVER_TOKEN, AGENT_TOKEN]
        hashes |= {**result["expected_files"], **dict.fromkeys(tokens, "")}
        modes = file_modes(hashes)
        wanted = {path: File(digest, modes[path]) for path, digest in hashes.items()}
        found = {path: File(**each) for path, each in result["found_files"].items()}
        return file_differences(wanted, {path: found[path] for path in found if path in wanted or _is_exclusive(path)})

    def _runner(self, step: Step, hosts: Collection[str]) -> str:
        """Return the host of the play that runs a step; empty for a step of a host that is not in the play."""
        if step.host:
            return step.host if step.host in hosts else ""
        return self.cluster.api_host if self.cluster.api_host in hosts else min(hosts, default="")

    def _current(self, host: str) -> dict[str, Any]:
        """Return the settings of a host's cluster membership on its disk."""
        found = report_of(self.reports, host).configuration
        kept = {name: found[name] for name in ("server", "cluster-init") if name in found}
        if not kept and host != self.cluster.api_host:
            kept = {"server": api_address(self.spec, self.reports, self.cluster.api_host)}
        elif not kept:
            kept = {"cluster-init": True}
        return {**self._token_files(host), **kept}

    def _membership(self, step: Step) -> dict[str, Any]:
        """Return the settings of a host's cluster membership: as first server, or with the address of another."""
        begins = step.action in _BEGINS or not step.value
        kind = {"cluster-init": True} if begins else {"server": step.value}
        return {**self._token_files(step.host), **kind}

    def _token_files(self, host: str) -> dict[str, Any]:
        if host in self.spec.agents:
            return {"token-file": AGENT_TOKEN}
        return {"token-file": SERVER_TOKEN, "agent-token-file": AGENT_TOKEN}

    def _rendered(self, step: Step, membership: Mapping[str, Any]) -> dict[str, Any]:
        written = self._files(step, membership) if step.action in WRITING else {}
        name = step.value if not step.host else node_name(self.spec, report_of(self.reports, step.host))
        found = {**vars(step), "files": written, "node": name, "api_host": self.cluster.api_host}
        found["rollback"] = self._rolls_back(step)
        return {**found, **self._registration(step)} if step.action == actions.APPLY_REGISTRATION else found

    def _rolls_back(self, step: Step) -> bool:
        """Return whether the former settings of a healthy host are restored if it fails with new ones.

        An upgrade is not rolled back, because etcd does not support it.
        """
        report = report_of(self.reports, step.host)
        healthy = report.answers if step.host in self.spec.servers else report.service == "active"
        return step.action in CHANGING and not step.value and healthy

    def _registration(self, step: Step) -> dict[str, Any]:
        """Return the former and desired settings that K3s applies only to a new node."""
        settings = {
            "before": report_of(self.reports, step.host).configuration,
            "after": desired(self.spec, step.host),
        }
        return {
            time: {name: canonical(name, found[name]) for name in ("node-label", "node-taint") if name in found}
            for time, found in settings.items()
        }

    def _files(self, step: Step, membership: Mapping[str, Any]) -> dict[str, str]:
        """Return the files of a step by their path on the host."""
        if step.action == actions.WRITE_MEMBERSHIP:
            return {f"{CONFIGURATION}/{MEMBERSHIP_FILE}": as_yaml(membership)}
        marker = {f"{self.spec.data_dir}/{MARKER_FILE}": self.marker(step.host, _STATES.get(step.action, ""))}
        if step.action in _MARKED:
            return marker
        found = files(self.spec, step.host, membership)
        written = {f"{CONFIGURATION}/{name}": as_yaml(settings) for name, settings in found.items()}
        if step.action in STARTING:
            written |= marker
            record = {"digest": digest(desired(self.spec, step.host))}
            written[f"{self.spec.data_dir}/{APPLIED_FILE}"] = json.dumps(record)
        return written

    def marker(self, host: str, state: Any = "") -> str:
        """Return the text of a host's marker, with the current state of the host if `state` is empty.

        A host without a marker that starts K3s starts the cluster of a snapshot.
        """
        found = report_of(self.reports, host).data.marker
        kept = state or (found.state if found else "initialising")
        return json.dumps(vars(Marker(self.spec.name, self.cluster.cluster_id, kept)))


def _is_exclusive(path: str) -> bool:
    """Return whether a file is in a folder that contains only described files."""
    return PurePosixPath(path).parent == PurePosixPath(CONFIGURATION, MEMBERSHIP_FILE).parent


# Actions that write only the marker.
_MARKED = frozenset({actions.MOVE_ASIDE, actions.PLACE_ESCROW})
_BEGINS = frozenset({actions.INITIALISE, *RESTORING})
_JOINS = frozenset({actions.JOIN_SERVER, actions.JOIN_AGENT, actions.WRITE_MEMBERSHIP, *_BEGINS})


def describe(batches: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the description of each step of a plan."""
    return [
        f"{number}. {_subject(step)}: {step['reason']}" for number, batch in enumerate(batches, 1) for step in batch
    ]


def _subject(step: Mapping[str, Any]) -> str:
    words = [step["action"].replace("_", " "), step["host"] or step["value"]]
    return " ".join(word for word in words if word)
