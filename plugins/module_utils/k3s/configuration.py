# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration of K3s: layers merged as K3s merges its files, problems, and consequences of a change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Literal

from ..shared.nearest import closest
from ..shared.problem import Problem
from .model import ClusterSpec, HostReport, Reports, report_of
from .settings import OWNED, SETTINGS, Setting

VARIABLE = "k3s_configuration"
# The file of settings of all nodes, and fragments that K3s reads after it, in the order of their names.
COMMON_FILE = "config.yaml"
HOST_FILE = "config.yaml.d/50-host.yaml"
MEMBERSHIP_FILE = "config.yaml.d/90-membership.yaml"
# Settings by which a node finds its cluster. K3s reads them when a node joins, so a change does not restart it.
MEMBERSHIP = frozenset({"server", "cluster-init", "token-file", "agent-token-file"})
# The tenth address of the first service network, `server.go` in pkg/cli/server.
_DNS_OFFSET = 10
_SERVICE_LOAD_BALANCER = "servicelb"

Settings = Mapping[str, Any]


def merge(*layers: Settings) -> dict[str, Any]:
    """Return layers as K3s merges its files: a later value replaces, and `key+` appends to a list."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            name = key.removesuffix("+")
            appends = key != name and name in merged
            merged[name] = [*_as_list(merged[name]), *_as_list(value)] if appends else value
    return merged


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def files(spec: ClusterSpec, host: str, membership: Settings) -> dict[str, dict[str, Any]]:
    """Return the content of a host's files by their path below `/etc/rancher/k3s`.

    Agents do not get settings of servers, which K3s would ignore with a warning. membership: `cluster-init` or
    `server`, and paths of token files.
    """
    # The role saves and deletes snapshots itself, because K3s does not support retention by age.
    common = {**spec.configuration, "data-dir": spec.data_dir, "etcd-disable-snapshots": True}
    if spec.endpoints:
        common = merge(common, {"tls-san+": list(spec.endpoints)})
    is_agent = host in spec.agents
    return {
        COMMON_FILE: _for_role(common, is_agent=is_agent),
        HOST_FILE: _for_role(spec.host_configuration.get(host, {}), is_agent=is_agent),
        MEMBERSHIP_FILE: dict(membership),
    }


def _for_role(settings: Settings, *, is_agent: bool) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if not is_agent or _is_of_agents(key)}


def _is_of_agents(key: str) -> bool:
    name = key.removesuffix("+")
    return name == "data-dir" or (name in SETTINGS and SETTINGS[name].scope == "node")


def desired(spec: ClusterSpec, host: str) -> dict[str, Any]:
    """Return the described settings of a host, without those by which it finds its cluster."""
    return merge(*files(spec, host, {}).values())


def digest(settings: Settings) -> str:
    """Return a hash of the settings that a running service depends on."""
    relevant = {name: canonical(name, value) for name, value in settings.items() if _needs_restart(name)}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def _needs_restart(name: str) -> bool:
    return name not in MEMBERSHIP and not (name in SETTINGS and SETTINGS[name].at_registration)


def canonical(name: str, value: Any) -> Any:
    """Return a value in the form in which K3s compares it: lists split at commas, scalars as text."""
    setting = SETTINGS.get(name)
    if setting and setting.many:
        return [part for entry in _as_list(value) for part in _split(name, _text(entry))]
    return _text(value)


def _split(name: str, text: str) -> list[str]:
    # An argument of a component may contain commas; addresses and names may not.
    if name.endswith("-arg"):
        return [text]
    return [part.strip() for part in text.split(",") if part.strip()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def effective(settings: Settings, setting: Setting) -> Any:
    """Return the value of a setting, its default where it is not set."""
    value = canonical(setting.name, settings.get(setting.name, setting.default))
    if setting.name == "cluster-dns" and not value:
        return [_default_dns(settings)]
    return value


def _default_dns(settings: Settings) -> str:
    networks = effective(settings, SETTINGS["service-cidr"])
    try:
        return str(ip_network(networks[0], strict=False).network_address + _DNS_OFFSET)
    except (IndexError, ValueError):
        return ""


def critical(settings: Settings) -> dict[str, Any]:
    """Return the values that all servers must share, as K3s compares them when a server joins."""
    shared = {name: effective(settings, setting) for name, setting in SETTINGS.items() if setting.critical}
    disabled = canonical("disable", settings.get("disable", ()))
    return {**shared, "disable: servicelb": _text(_SERVICE_LOAD_BALANCER in disabled)}


def critical_differences(one: Settings, other: Settings) -> list[str]:
    """Return the names of the critical settings that differ, sorted."""
    first, second = critical(one), critical(other)
    return sorted(name for name in first if first[name] != second[name])


@dataclass(frozen=True)
class Change:
    """A setting that changes on a host. `effect`: restart the service, apply it to the Node object, or nothing."""

    name: str
    before: Any
    after: Any
    effect: Literal["restart", "registration", "none"]


def changes(before: Settings, after: Settings) -> list[Change]:
    """Return the settings that change, by name. Spellings of one value, and defaults that are written, are equal."""
    found = []
    for name in sorted({*before, *after}):
        old, new = _comparable(before, name), _comparable(after, name)
        if old != new:
            found.append(Change(name, old, new, _effect(name)))
    return found


def _comparable(settings: Settings, name: str) -> Any:
    if name in SETTINGS and (name in settings or SETTINGS[name].default is not None):
        return effective(settings, SETTINGS[name])
    return canonical(name, settings[name]) if name in settings else None


def _effect(name: str) -> Literal["restart", "registration", "none"]:
    if name in MEMBERSHIP:
        return "none"
    return "restart" if _needs_restart(name) else "registration"


def configuration_problems(spec: ClusterSpec) -> list[Problem]:
    """Return every problem of the settings that the inventory gives: names, values, and scopes."""
    problems = _layer_problems(spec.configuration, VARIABLE)
    for host, layer in sorted(spec.host_configuration.items()):
        problems += _layer_problems(layer, f"k3s_host_configuration of {host}")
        problems += _scope_problems(layer, host)
    return problems


def _layer_problems(layer: Settings, variable: str) -> list[Problem]:
    problems = []
    for key, value in layer.items():
        name = key.removesuffix("+")
        problem = _name_problem(name, variable) or _value_problem(name, value, variable)
        problems += [problem] if problem else []
    return problems


def _name_problem(name: str, variable: str) -> Problem | None:
    if name in OWNED:
        return Problem(variable, f"`{name}` is not a setting of the inventory", OWNED[name])
    if name in SETTINGS:
        return None
    near = closest(name, SETTINGS)
    remedy = f"set `{near}`" if near else "remove it; `k3s server --help` lists the settings"
    return Problem(variable, f"`{name}` is not a setting of K3s, which would ignore it", remedy)


def _value_problem(name: str, value: Any, variable: str) -> Problem | None:
    entries = _as_list(value)
    if not SETTINGS[name].many and isinstance(value, (list, tuple)):
        return Problem(variable, f"`{name}` has a list of values", "set one value")
    if not all(isinstance(entry, (str, int, float)) for entry in entries):
        return Problem(variable, f"`{name}` is neither text, a number nor a boolean", "set a plain value, or remove it")
    if any(not _text(entry) or not _text(entry).isprintable() for entry in entries):
        return Problem(variable, f"`{name}` is empty or contains control characters", "set a printable value")
    return None


def _scope_problems(layer: Settings, host: str) -> list[Problem]:
    names = sorted({key.removesuffix("+") for key in layer})
    return [
        Problem(
            f"k3s_host_configuration of {host}", f"`{name}` must be equal on all servers", f"set it in `{VARIABLE}`"
        )
        for name in names
        if name in SETTINGS and SETTINGS[name].scope == "cluster"
    ]


def change_problems(spec: ClusterSpec, reports: Reports) -> list[Problem]:
    """Return the immutable settings that the inventory changes on hosts that hold data, before any host is changed."""
    problems = []
    for host in spec.hosts:
        report = report_of(reports, host)
        if report.reachable and report.configuration and (report.holds_data or report.data.node_password):
            problems += _immutable_problems(spec, report)
    return problems


def _immutable_problems(spec: ClusterSpec, report: HostReport) -> list[Problem]:
    wanted = desired(spec, report.host)
    problems = [
        Problem(
            VARIABLE,
            f"cannot change `{change.name}` on {report.host}: {change.before} -> {change.after}",
            _remedy(change),
        )
        for change in changes(report.configuration, wanted)
        if change.name in SETTINGS and SETTINGS[change.name].immutable
    ]
    if report.data.path and report.data.path != spec.data_dir:
        message = f"cannot change `k3s_data_dir` on {report.host}: {report.data.path} -> {spec.data_dir}"
        problems.append(Problem("k3s_data_dir", message, "restore the former value, or remove and add the node"))
    return problems


def _remedy(change: Change) -> str:
    if change.name == "secrets-encryption":
        return "restore the former value and use `k3s secrets-encrypt` on a server"
    if change.name == "node-name":
        return "restore the former value, or remove and add the node"
    return "restore the former value; only a new cluster can have another one"


def restarting(spec: ClusterSpec, reports: Reports, hosts: Sequence[str]) -> dict[str, list[Change]]:
    """Return the changes by host, for each running host whose service has to restart.

    A host whose service started with other settings than those on its disk restarts without a change: a run ended
    between writing and restarting.
    """
    found: dict[str, list[Change]] = {}
    for host in hosts:
        report = report_of(reports, host)
        if not report.reachable or report.service not in ("active", "activating"):
            continue
        pending = [
            change for change in changes(report.configuration, desired(spec, host)) if change.effect == "restart"
        ]
        if pending or report.applied_digest != digest(report.configuration):
            found[host] = pending
    return found
