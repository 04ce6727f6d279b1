# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Determine whether a pod is ready, and the reasons if it is not."""

from __future__ import annotations

from dataclasses import dataclass

from .verdict import Failed, Object, Ready, Status, Waiting, conditions, line, mapping, mappings, number, seconds, text

# Reasons of waiting containers in a normal start.
_ORDINARY = ("ContainerCreating", "PodInitializing", "")
# The image's name cannot be parsed. Other reasons (a missing image or Secret) end when the missing object appears.
_HOPELESS = ("InvalidImageName",)


@dataclass(frozen=True)
class Container:
    """State of one container of a pod, from the pod's status.

    state: `waiting`, `running` or `terminated`. reason: the kubelet's term (CrashLoopBackOff, OOMKilled, ...). last_*:
    end of the previous run; `last_finished_s` in seconds since 1970.
    """

    name: str
    is_init: bool
    is_ready: bool
    restarts: int
    state: str
    reason: str
    message: str
    exit_code: int | None
    last_reason: str
    last_exit_code: int | None
    last_finished_s: float | None

    @property
    def is_in_trouble(self) -> bool:
        if self.state == "waiting":
            return self.reason not in _ORDINARY
        return self.state == "terminated" and self.exit_code != 0

    @property
    def has_crashed(self) -> bool:
        """Return whether the previous run shows the cause, so that its log is relevant."""
        return self.state == "waiting" and self.last_exit_code is not None

    def __str__(self) -> str:
        """Return a text such as `container api: CrashLoopBackOff, 5 restarts, last exit status 137 (OOMKilled)`."""
        parts = [self.reason or self.state]
        if self.state == "terminated" and self.exit_code is not None:
            parts = [_ending(self.reason, self.exit_code)]
        elif self.state == "running" and not self.is_ready:
            parts = ["runs, but is not ready"]
        if self.restarts:
            parts.append(f"{self.restarts} {'restart' if self.restarts == 1 else 'restarts'}")
        if self.last_exit_code is not None:
            parts.append(f"last {_ending(self.last_reason, self.last_exit_code)}")
        kind = "init container" if self.is_init else "container"
        # The message of a back-off repeats its reason.
        message = "" if self.reason == "CrashLoopBackOff" else self.message
        return f"{kind} {self.name}: {', '.join(parts)}{f': {message}' if message else ''}"


def _ending(reason: str, exit_code: int) -> str:
    return f"exit status {exit_code}{f' ({reason})' if reason not in ('', 'Error', 'Completed') else ''}"


def containers(pod: Object) -> list[Container]:
    """Return the pod's containers in the order of their start."""
    return [
        _container(said, is_init)
        for key, is_init in (("initContainerStatuses", True), ("containerStatuses", False))
        for said in mappings(pod, "status", key)
    ]


def _container(said: Object, is_init: bool) -> Container:
    state = next((word for word in ("running", "terminated") if word in mapping(said, "state")), "waiting")
    now, last = mapping(said, "state", state), mapping(said, "lastState", "terminated")
    return Container(
        name=text(said, "name"),
        is_init=is_init,
        is_ready=said.get("ready") is True,
        restarts=number(said, "restartCount"),
        state=state,
        reason=text(now, "reason"),
        # The message of a terminated container may be the end of its log, with any content.
        message=line(now, "message") if state == "waiting" else "",
        exit_code=number(now, "exitCode") if state == "terminated" else None,
        last_reason=text(last, "reason"),
        last_exit_code=number(last, "exitCode") if last else None,
        last_finished_s=seconds(last.get("finishedAt")),
    )


def pod(obj: Object) -> Status:
    """Return the status of a pod. It is ready with the condition Ready, or after it succeeded."""
    phase = text(obj, "status", "phase")
    if phase == "Succeeded":
        return Ready("has ended with success")
    if phase == "Failed":
        return Failed(_failed(obj))
    found = conditions(obj)
    hopeless = [container for container in containers(obj) if container.reason in _HOPELESS]
    if hopeless:
        return Failed(str(hopeless[0]))
    if phase == "Running" and (ready := found.get("Ready")) and ready.is_true:
        return Ready()
    return Waiting(trouble(obj) or _not_ready(obj, phase))


def _failed(obj: Object) -> str:
    parts = [text(obj, "status", "reason"), line(obj, "status", "message")]
    parts += [str(container) for container in containers(obj) if container.is_in_trouble]
    return "; ".join(part for part in parts if part) or "a container ended with an error"


def trouble(obj: Object) -> str:
    """Return the problem that prevents the readiness of a pod, or nothing.

    Normal steps of its start are not problems.
    """
    scheduled = conditions(obj).get("PodScheduled")
    if scheduled and scheduled.is_false:
        return str(scheduled)
    return "; ".join(str(container) for container in containers(obj) if container.is_in_trouble)


def _not_ready(obj: Object, phase: str) -> str:
    found, running = conditions(obj), [one for one in containers(obj) if one.state == "running" and not one.is_init]
    unready = [str(container) for container in running if not container.is_ready]
    if unready:
        return "; ".join(unready)
    starting = [one for one in containers(obj) if one.state == "waiting"]
    if starting:
        return str(starting[0])
    for gate in mappings(obj, "spec", "readinessGates"):
        condition = found.get(text(gate, "conditionType"))
        if condition is None or not condition.is_true:
            return (
                f"its readiness gate {text(gate, 'conditionType')} is not open{f': {condition}' if condition else ''}"
            )
    ready = found.get("Ready")
    return str(ready) if ready and ready.reason else f"is {phase or 'not seen by a scheduler yet'}"
