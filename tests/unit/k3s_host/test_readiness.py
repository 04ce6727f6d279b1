# SPDX-License-Identifier: GPL-3.0-or-later
"""The wait for the node of a host: every poll reads the service, and its failure ends the wait with its own error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host import cluster, readiness
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.access import (
    BALANCER,
    AccessError,
    Api,
    KubeletApi,
    agent_urls,
)

LEARNERS = """time="t" level=error msg="Failed to join"
time="t" level=fatal msg="Error: \\"too many learner members in cluster\\""
"""
REFUSED = """time="t" level=fatal msg="unknown flag: --x"
"""
# A service whose process has ended three more times at each read.
FAILING = """restarts=$(cat "$0.restarts" 2>/dev/null || echo 0)
echo "LoadState=loaded"; echo "ActiveState=activating"; echo "NRestarts=$restarts"
echo $((restarts + 3)) > "$0.restarts"
"""


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> None:
    """Put shell programs before those of the machine."""
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize("wait", [readiness.wait_ready, readiness.wait_voter], ids=["agent", "server"])
def test_a_service_that_keeps_failing_ends_the_wait_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: Callable[..., None]
) -> None:
    monkeypatch.setattr(cluster, "POLL_S", 0.0)
    programs(tmp_path, monkeypatch, systemctl=FAILING, journalctl=f"cat <<'END'\n{REFUSED}END")
    with pytest.raises(HostError, match=r"cannot start k3s-agent\.service: unknown flag: --x\. Read `journalctl"):
        wait(cluster.Site(tmp_path, Api(tmp_path, 9), 600.0), "a1", "k3s-agent.service")


def test_an_error_that_passes_does_not_end_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path, monkeypatch, systemctl=FAILING, journalctl=f"cat <<'END'\n{LEARNERS}END")
    told = r"a1 is not ready after 0 s: the agent has no credentials of the cluster yet; "
    with pytest.raises(HostError, match=f"{told}the last error of k3s-agent.service is: Failed to join"):
        readiness.wait_ready(cluster.Site(tmp_path, Api(tmp_path), 0.0), "a1", "k3s-agent.service")


def test_restarts_count_from_the_fewest_that_were_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = tmp_path / "restarts"
    programs(tmp_path, monkeypatch, systemctl=f'echo "ActiveState=active"; echo "NRestarts=$(cat {shown})"')
    watch = readiness.Watch("k3s-agent.service")
    for restarts, counted in ((5, 0), (0, 0), (2, 2)):
        shown.write_text(str(restarts))
        watch.check()
        assert watch.poll().restarts == counted


def test_a_lease_counts_where_the_process_that_runs_has_renewed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = "MainPID=7\nExecMainStartTimestampMonotonic=1000000"
    programs(tmp_path, monkeypatch, systemctl=f"printf '%s\\n' '{started}'")
    watch = readiness.Watch("k3s.service")
    watch.check()
    assert not watch.poll(watch.service.started_s - 1).renewed
    assert watch.poll(watch.service.started_s + 1).renewed


@pytest.mark.parametrize(
    ("renewed", "expected"),
    [
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00.250000Z", 60.25),
        (None, 0.0),
    ],
)
def test_the_time_of_a_lease(renewed: str | None, expected: float) -> None:
    assert readiness.seconds({"spec": {"renewTime": renewed}}) == expected
    assert readiness.seconds({}) == 0.0


def test_an_agent_asks_the_server_that_it_joins_and_those_of_its_load_balancer(tmp_path: Path) -> None:
    joined = "https://10.0.0.1:6443"
    assert agent_urls(tmp_path, "") == ()
    assert agent_urls(tmp_path, joined) == (joined,)
    (tmp_path / BALANCER).parent.mkdir(parents=True)
    (tmp_path / BALANCER).write_text(json.dumps({"ServerAddresses": ["10.0.0.2:6443", "10.0.0.1:6443"]}))
    assert agent_urls(tmp_path, joined) == (joined, "https://10.0.0.2:6443")
    (tmp_path / BALANCER).write_text("{")
    assert agent_urls(tmp_path, joined) == (joined,)


def test_an_agent_without_credentials_says_so(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="no credentials of the cluster yet"):
        KubeletApi(tmp_path, ("https://127.0.0.1:9",)).get("/api/v1/nodes/a1")
