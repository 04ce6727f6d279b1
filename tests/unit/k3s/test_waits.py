# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits for a node as tables: conditions of completion, and service failures that end the wait with a message."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.waits import (
    FATAL_RESTARTS,
    RUNNING_S,
    ServicePoll,
    Wanted,
    failure,
    incomplete,
    last_message,
)

REGISTRIES = """time="t" level=info msg="Starting k3s agent"
time="t" level=error msg="Failed to update lease"
time="t" level=fatal msg="Error: failed to get registry configuration: line 1 of \\"x\\""
k3s-agent.service: Main process exited, code=exited, status=1/FAILURE
"""
CAUSE = 'Error: failed to get registry configuration: line 1 of "x"'
LEARNERS = 'time="t" level=fatal msg="etcdserver: too many learner members in cluster"\n'
REFUSED = 'time="t" level=error msg="dial tcp 10.0.0.1:6443: connect: connection refused"\n'
SILENT = "panic: runtime error\n"
RUNNING = ServicePoll("active", "success", 0, 30.0, renewed=True)
ENDED = ServicePoll("activating", "exit-code", FATAL_RESTARTS)
READY, VOTES = {"type": "Ready", "status": "True"}, {"type": "EtcdIsVoter", "status": "True"}
AGENT, SERVER = Wanted(voter=False), Wanted(voter=True)


@pytest.mark.parametrize(
    ("service", "log", "cause"),
    [
        pytest.param(RUNNING, REGISTRIES, "", id="a service that runs, with an old error"),
        pytest.param(replace(ENDED, restarts=2), REGISTRIES, "", id="two restarts"),
        pytest.param(ENDED, REGISTRIES, CAUSE, id="a fatal error"),
        pytest.param(replace(RUNNING, restarts=3, ran_s=1.0), REGISTRIES, CAUSE, id="a process between two errors"),
        pytest.param(ENDED, LEARNERS, "", id="an error of a join that passes"),
        pytest.param(ENDED, REGISTRIES + LEARNERS, "", id="an error that passes after another one"),
        pytest.param(ENDED, LEARNERS + REGISTRIES, CAUSE, id="another error after one that passes"),
        pytest.param(ENDED, REFUSED, "", id="a server that does not answer yet"),
        pytest.param(
            ENDED,
            SILENT,
            "systemd restarted it 3 times, its process ends with exit-code",
            id="an end without an error of K3s",
        ),
        pytest.param(
            replace(ENDED, result="oom-kill", restarts=5),
            REGISTRIES.splitlines()[1],
            "systemd restarted it 5 times, its process ends with oom-kill after the error: Failed to update lease",
            id="an end by the kernel",
        ),
        pytest.param(
            replace(RUNNING, restarts=3),
            "",
            "systemd restarted it 3 times, its process ends with no reason",
            id="no log and no result",
        ),
        pytest.param(ServicePoll("failed", "exit-code"), LEARNERS, "etcdserver: too many learner members in cluster"),
        pytest.param(ServicePoll("inactive"), REGISTRIES, "", id="a service that is not started yet"),
    ],
)
def test_a_service_that_keeps_failing_ends_the_wait_with_its_cause(service: ServicePoll, log: str, cause: str) -> None:
    assert failure(service, lambda: log) == cause


def test_the_log_is_read_where_the_service_may_have_failed_alone() -> None:
    read: list[str] = []

    def log() -> str:
        read.append("")
        return REGISTRIES

    failure(RUNNING, log)
    failure(replace(ENDED, restarts=FATAL_RESTARTS - 1), log)
    assert not read
    failure(ENDED, log)
    assert len(read) == 1


def node(*conditions: dict[str, str], version: str = "v1.34.3+k3s1") -> dict[str, Any]:
    return {"status": {"conditions": list(conditions), "nodeInfo": {"kubeletVersion": version}}}


NEWER = replace(AGENT, version="v1.34.4+k3s1")
CHANGED = replace(AGENT, runs_s=RUNNING_S)


@pytest.mark.parametrize(
    ("wanted", "found", "service", "reason"),
    [
        (AGENT, {}, RUNNING, "Ready is not set"),
        (AGENT, node(READY), RUNNING, ""),
        (AGENT, node(READY), None, ""),
        (AGENT, node({"type": "Ready", "status": "Unknown"}), RUNNING, "Ready is Unknown"),
        (SERVER, node(), RUNNING, "Ready is not set, EtcdIsVoter is not set"),
        (SERVER, node(READY), RUNNING, "EtcdIsVoter is not set"),
        (SERVER, node(READY, VOTES), RUNNING, ""),
        (NEWER, node(READY), RUNNING, "it runs v1.34.3+k3s1, not v1.34.4+k3s1"),
        (NEWER, node(READY, version=""), RUNNING, "it runs no release, not v1.34.4+k3s1"),
        (NEWER, node(READY, version="v1.34.4+k3s1"), RUNNING, ""),
        (AGENT, node(READY), ServicePoll("activating"), "its service is activating"),
        (
            AGENT,
            node(READY),
            replace(RUNNING, renewed=False),
            "its kubelet has not renewed its Lease since the service started",
        ),
        (AGENT, node(READY), replace(RUNNING, ran_s=15.2), ""),
        (CHANGED, node(READY), replace(RUNNING, ran_s=15.2), "its service has run for 15 s"),
        (CHANGED, node(READY), RUNNING, ""),
    ],
)
def test_a_node_is_complete_with_its_conditions_its_release_and_a_service_that_runs(
    wanted: Wanted, found: dict[str, Any], service: ServicePoll | None, reason: str
) -> None:
    assert incomplete(wanted, found, service) == reason


def test_the_last_message_of_a_level_is_read_as_logrus_writes_it() -> None:
    assert last_message("", "fatal") == ""
    assert last_message(REGISTRIES, "fatal") == CAUSE
    assert last_message(REGISTRIES, "error") == "Failed to update lease"
    assert last_message('level=fatal msg="a \\x b"', "fatal") == "a \\x b"
