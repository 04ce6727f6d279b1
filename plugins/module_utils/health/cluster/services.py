# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examine the services of the catalogue on a cluster: over HTTP, or by the probes of their pods."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ...kube.ready.containers import pod
from ...kube.ready.verdict import Object, Ready, mapping, text
from ...shared.probes import Probe, run_probe
from ..answers import Answering, Server, UnreachedError, read_secret
from ..host.examine import Examination
from ..report import DEGRADED, HEALTHY, UNHEALTHY, Check
from .proxy import ServiceServer, service_address

if TYPE_CHECKING:
    from ...kube.client.client import Client

# Labels that identify the pods of a service; the second one is CloudNativePG's.
_OWNER_LABELS = ("app.kubernetes.io/name", "cnpg.io/cluster")


@dataclass(frozen=True)
class Answers:
    """Resolves URLs to services of the cluster or to other servers."""

    client: Client
    namespace: str

    def server(
        self, url: str, timeout_s: float, username: str | None = None, password_file: str | None = None
    ) -> Answering:
        """Return the server of a URL. The credentials are for servers outside the cluster. Raises NoAnswerError."""
        address = service_address(url, self.namespace)
        if address is not None:
            return ServiceServer(self.client, address, timeout_s)
        return Server(url, timeout_s, username, read_secret(password_file) if password_file else None)


def of_service(
    check: Mapping[str, Any],
    answers: Answers,
    pods: Callable[[], Sequence[Object]],
    log_of: Callable[[str], str],
    timeout_s: float,
) -> Examination:
    """Return the examination of one rendered health check."""
    service = str(check.get("service", "?"))
    limit_s = min(float(check.get("timeout_s") or timeout_s), timeout_s)
    remedy = log_of(str(check.get("owner") or service))

    def ask() -> list[Check]:
        started_s = time.monotonic()
        status, detail = _judge(check, answers, pods, limit_s)
        elapsed_ms = round((time.monotonic() - started_s) * 1000, 1)
        return [Check("services", service, status, detail, "" if status == HEALTHY else remedy, elapsed_ms)]

    return Examination("services", service, ask, limit_s, remedy)


def _judge(
    check: Mapping[str, Any], answers: Answers, pods: Callable[[], Sequence[Object]], timeout_s: float
) -> tuple[str, str]:
    """Return a status and its detail. An unreachable service is judged by its pods, as degraded at best."""
    try:
        is_healthy, detail = _ask(check, answers, pods, timeout_s)
    except UnreachedError as error:
        owner, namespace = str(check.get("owner") or check.get("service")), str(check.get("namespace") or "")
        is_ready, told = judge_pods(owner, namespace, pods())
        return DEGRADED if is_ready else UNHEALTHY, f"{told}; {error}"
    return HEALTHY if is_healthy else UNHEALTHY, detail


def _ask(
    check: Mapping[str, Any], answers: Answers, pods: Callable[[], Sequence[Object]], timeout_s: float
) -> tuple[bool, str]:
    if check.get("type") != "http":
        owner, place = str(check.get("owner") or check.get("service")), str(check.get("namespace") or "")
        return judge_pods(owner, place, pods(), check.get("labels") or {})
    address = service_address(str(check.get("url") or ""), str(check.get("namespace") or answers.namespace))
    expected = _expected(check)
    if address is not None:
        return _ask_service(ServiceServer(answers.client, address, timeout_s), expected)
    given = {word: check[word] for word in check if word not in ("username", "secret")}
    result = run_probe(Probe.from_mapping({**given, "timeout_s": timeout_s, "expected_status": expected}))
    return result.healthy, result.detail


def _expected(check: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the expected answers. A service with a password is healthy if it requests one, since none is sent."""
    expected = tuple(check.get("expected_status") or (http.client.OK,))
    return (*expected, http.client.UNAUTHORIZED) if check.get("username") else expected


def _ask_service(server: ServiceServer, expected: tuple[int, ...]) -> tuple[bool, str]:
    status, _body = server.ask()
    if status in expected:
        return True, f"HTTP {status}"
    return False, f"HTTP {status}, expected {' or '.join(map(str, expected))}"


def judge_pods(
    owner: str, namespace: str, pods: Sequence[Object], labels: Mapping[str, str] = MappingProxyType({})
) -> tuple[bool, str]:
    """Judge a service by the probes of its pods, which run the same check.

    labels: of the active pods, where other pods are on standby.
    """
    mine = [
        one
        for one in pods
        if namespace in ("", text(one, "metadata", "namespace"))
        and owner in (mapping(one, "metadata", "labels").get(label) for label in _OWNER_LABELS)
        and text(one, "status", "phase") not in ("Succeeded", "Failed")
    ]
    if not mine:
        return False, "none of its pods runs"
    standing_by = len(mine)
    mine = [one for one in mine if labels.items() <= mapping(one, "metadata", "labels").items()]
    if not mine:
        wanted = ",".join(f"{key}={value}" for key, value in labels.items())
        return False, f"none of its pods ({standing_by}) is active: none has the label {wanted}"
    ready = sum(isinstance(pod(one), Ready) for one in mine)
    return ready > 0, f"{ready} of {len(mine)} {'pod passes its' if len(mine) == 1 else 'pods pass their'} own probe"
