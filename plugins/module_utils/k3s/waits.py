# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions of a wait for a node: it is complete, its service keeps failing, or the wait goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .model import VOTER_CONDITION

# Errors of a join that pass: K3s before 2022 ends with them, and systemd starts it again.
PASSING = re.compile("too many learner|unhealthy cluster|failed to get etcd MemberList|connection refused", re.ASCII)
# How often systemd starts a service again before an error that does not pass ends the wait.
FATAL_RESTARTS = 3
# How long a service runs that has not failed with its settings: kubelet and containerd end within this time of a start.
RUNNING_S = 20.0
_MESSAGE = re.compile(r'level=(fatal|error) msg="((?:[^"\\]|\\.)*)"', re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """State that ends a wait. version: release that the node has to run, any where it is empty.

    runs_s: seconds that the service has to have run.
    """

    voter: bool
    version: str = ""
    runs_s: float = 0.0


@dataclass(frozen=True)
class ServicePoll:
    """A service in one poll of a wait.

    state, result: `ActiveState` and `Result` of systemd. restarts: automatic ones since the wait began. ran_s: seconds
    since its process started; None without a process. renewed: whether the kubelet has renewed the node's Lease since.
    """

    state: str
    result: str = ""
    restarts: int = 0
    ran_s: float | None = None
    renewed: bool = False


def failure(service: ServicePoll, read_log: Callable[[], str]) -> str:
    """Return why a service does not start by itself any more; empty while it may.

    The log is read only where the service may have failed.
    """
    failed = service.state == "failed"
    if not failed and service.restarts < FATAL_RESTARTS:
        return ""
    log = read_log()
    fatal = last_message(log, "fatal")
    if not failed and PASSING.search(fatal or last_message(log, "error")):
        return ""
    return fatal or _ended(service, last_message(log, "error"))


def _ended(service: ServicePoll, error: str) -> str:
    """Return how a service ended that gave no reason; systemd resets the result when it starts one again."""
    result = service.result if service.result not in ("", "success") else "no reason"
    times = f"systemd restarted it {service.restarts} times, its process ends with {result}"
    return f"{times} after the error: {error}" if error else times


def last_message(log: str, level: str) -> str:
    """Return the last message of a level in K3s' log; empty without one."""
    found = [text for kind, text in _MESSAGE.findall(log) if kind == level]
    try:
        return str(json.loads(f'"{found[-1]}"')) if found else ""
    except ValueError:
        return str(found[-1])


def incomplete(wanted: Wanted, node: Mapping[str, Any], service: ServicePoll | None) -> str:
    """Return why a node is not complete; empty for a complete one. `service` is None where it is not known.

    A Node object is Ready for a while after its kubelet has ended, so that the Lease has to be renewed.
    """
    return _node_reason(wanted, node) or ("" if service is None else _service_reason(wanted, service))


def _node_reason(wanted: Wanted, node: Mapping[str, Any]) -> str:
    running = node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")
    if wanted.version and running != wanted.version:
        return f"it runs {running or 'no release'}, not {wanted.version}"
    found = {each["type"]: each["status"] for each in node.get("status", {}).get("conditions") or ()}
    needed = ("Ready", VOTER_CONDITION) if wanted.voter else ("Ready",)
    return ", ".join(f"{kind} is {found.get(kind, 'not set')}" for kind in needed if found.get(kind) != "True")


def _service_reason(wanted: Wanted, service: ServicePoll) -> str:
    if service.ran_s is None:
        return f"its service is {service.state}"
    if not service.renewed:
        return "its kubelet has not renewed its Lease since the service started"
    return "" if service.ran_s >= wanted.runs_s else f"its service has run for {service.ran_s:.0f} s"
