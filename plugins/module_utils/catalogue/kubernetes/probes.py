# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probes of a pod: how the kubelet sees that it has started, can be asked, and still lives.

The kubelet knows no password, and what stands in a pod's description is no secret. So a check that asks for one is left
to those who hold it; the kubelet looks whether the port answers at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from ..service import Health
from .part import Entry, Part

WELL = range(200, 400)
"""What the kubelet takes for success."""


def probes(part: Part) -> Entry:
    """Return the probes of a service's container."""
    health = part.service.health
    if health is None:
        return {}
    ready, alive = _ready(part, health), _alive(part, health)
    timing = {"periodSeconds": health.interval_s, "timeoutSeconds": health.timeout_s}
    start = max(ceil(health.start_period_s / health.interval_s), health.retries)
    found = {
        "startupProbe": {**alive, **timing, "failureThreshold": start},
        "readinessProbe": {**ready, **timing, "failureThreshold": health.retries},
        "livenessProbe": {**alive, **timing, "failureThreshold": health.retries},
    }
    return found if ready else {}


def weaker(part: Part) -> Iterator[str]:
    """Yield why the kubelet sees less of a service than its check does."""
    health = part.service.health
    if health is None or health.type != "http":
        return
    if health.authentication:
        yield f"the check asks for a password, which the kubelet has not: it looks at the port alone ({health.path})"
    elif not all(status in WELL for status in health.expected_status):
        expected = ", ".join(map(str, health.expected_status))
        yield f"the check expects {expected}, some of which the kubelet takes for failures: it looks at the port alone"


def _ready(part: Part, health: Health) -> Entry:
    if health.type == "http" and not list(weaker(part)):
        return _asked(part, health, health.path)
    return _answers(part, health)


def _alive(part: Part, health: Health) -> Entry:
    """Return what only a process that hangs fails; what it depends on is no reason to restart it."""
    if health.type == "http" and health.live_path and not list(weaker(part)):
        return _asked(part, health, health.live_path)
    return _answers(part, health)


def _asked(part: Part, health: Health, path: str) -> Entry:
    port = part.service.ports.get(health.port or "")
    return {"httpGet": {"path": path, "port": port.port}} if port else {}


def _answers(part: Part, health: Health) -> Entry:
    if health.type == "command":
        # Nothing is expanded here, as it is in a container's own command.
        command = list(part.resolved.health_command)
        return {"exec": {"command": command}} if command else {}
    port = part.service.ports.get(health.port or "")
    return {"tcpSocket": {"port": port.port}} if port else {}
