# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on a service that the API server does not reach: its pods explain the cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.answers import UnreachedError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.examine import (
    ClusterInstallation,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.proxy import (
    ServiceServer,
    service_address,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.cluster.services import (
    Answers,
    of_service,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.host.examine import Examination, run_all
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.health.report import Check
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import UnreachableError

URL = "http://api.lake.svc:8080/health"
CHECK = {"service": "api", "type": "http", "url": URL, "namespace": "lake"}
SAID = "Error trying to reach service: dial tcp 10.42.1.7:8080: i/o timeout"


@dataclass
class Answer:
    status: int
    body: str


class Cluster:
    """A client whose API server has one answer."""

    def __init__(self, given: Answer | Exception) -> None:
        self.given = given

    def ask(self, path: str, *, timeout_s: float) -> Answer:
        assert path == "/api/v1/namespaces/lake/services/api:8080/proxy/health"
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


def pod(*, is_ready: bool) -> dict[str, Any]:
    return {
        "metadata": {"name": "api-1", "namespace": "lake", "labels": {"app.kubernetes.io/name": "api"}},
        "spec": {"containers": [{"name": "main"}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(is_ready)}],
            "containerStatuses": [{"name": "main", "ready": is_ready, "state": {"running": {}}}],
        },
    }


def judged(given: Answer | Exception, *pods: dict[str, Any]) -> Check:
    client = cast(Client, Cluster(given))
    (check,) = run_all([of_service(CHECK, Answers(client, "lake"), lambda: pods, lambda name: f"logs of {name}", 5.0)])
    return check


TOO_LATE = UnreachableError("https://c:6443: no answer in time", sent=True)
UNREACHED = pytest.mark.parametrize("given", [Answer(503, SAID), TOO_LATE], ids=["said", "too late"])


@UNREACHED
def test_a_service_whose_pods_are_not_ready_is_unhealthy_whoever_asks(given: Answer | Exception) -> None:
    for pods, told in (((), "none of its pods runs"), ((pod(is_ready=False),), "0 of 1 pod passes its own probe")):
        check = judged(given, *pods)
        assert check.status == "unhealthy"
        assert check.detail.startswith(told)


@UNREACHED
def test_a_service_whose_pods_are_ready_is_not_called_dead_and_a_way_in_is_named(
    given: Answer | Exception,
) -> None:
    check = judged(given, pod(is_ready=True))
    assert check.status == "degraded"
    assert check.detail.startswith("1 of 1 pod passes its own probe; the API server does not reach api in lake: ")
    assert "kubectl -n lake get networkpolicies" in check.detail
    assert "lakehouse_control_plane_cidrs" in check.detail
    assert check.remedy == "logs of api"


def test_an_api_server_that_is_not_there_is_no_matter_of_policies() -> None:
    check = judged(UnreachableError("https://c:6443: nothing listens there"), pod(is_ready=True))
    assert (check.status, check.detail) == ("unhealthy", "https://c:6443: nothing listens there")


def test_what_a_service_says_itself_stands_whatever_its_pods_say() -> None:
    check = judged(Answer(503, "database is gone"), pod(is_ready=True))
    assert (check.status, check.detail) == ("unhealthy", "HTTP 503, expected 200")
    assert judged(Answer(200, "")).status == "healthy"


def test_of_what_is_asked_through_a_service_that_is_not_reached_nothing_is_known() -> None:
    address = service_address(URL, "lake")
    assert address is not None
    server = ServiceServer(cast(Client, Cluster(Answer(503, SAID))), address, 5.0)
    with pytest.raises(UnreachedError, match="i/o timeout; where its pods are ready, a policy keeps"):
        server.text("")
    (check,) = run_all([Examination("data", "tiers", lambda: [server.json("")], 5.0, "look")])  # type: ignore[list-item]
    assert (check.name, check.status) == ("data/tiers", "degraded")


def test_the_log_of_a_service_in_another_namespace_is_looked_for_there() -> None:
    installation = ClusterInstallation(namespaces=["lake", "monitoring"])
    url = "http://monitoring-prometheus.monitoring.svc:9090"

    assert installation.log_of("api").startswith("kubectl -n lake logs ")
    assert installation.log_of("prometheus", url).startswith("kubectl -n monitoring logs ")
    assert installation.log_of("prometheus", "https://prometheus.example.org").startswith("kubectl -n lake logs ")
