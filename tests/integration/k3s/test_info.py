# SPDX-License-Identifier: GPL-3.0-or-later
"""Readings of `k3s_info` on hosts that run the stand-in for K3s with its real etcd."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import HostReport
from tests.integration.k3s.hosts import Host, Network
from tests.integration.patience import wait_for
from tests.k3s import build

VERSION = "v1.33.5+k3s1"
TOKEN, AGENT_TOKEN = "1a" * 32, "2b" * 32
REPOSITORY = Path(build.__file__).parents[2]
LIBRARY = "opt/library/ansible_collections/crypto_lakehouse/platform/plugins"
PROGRAM = """
import json, sys
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.report import Place, read_report
print(json.dumps(read_report(Place(sys.argv[1], binary="/opt/k3s")).as_dict()))
"""


@dataclass
class Cluster:
    """Two servers, the second of which joins."""

    first: Host
    second: Host

    def report(self, host: Host) -> HostReport:
        done = host.run("python3", "-c", PROGRAM, host.name, PYTHONPATH="/opt/library", PYTHONDONTWRITEBYTECODE="1")
        assert TOKEN not in done.stdout
        return HostReport.from_dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    network, folder = Network(), tmp_path_factory.mktemp("hosts")
    release = build.build(VERSION, tmp_path_factory.mktemp("release"))
    found = [Host(network, number, folder, release) for number in (21, 22)]
    try:
        for host in found:
            shutil.copytree(REPOSITORY / "plugins/module_utils", host.root / LIBRARY / "module_utils")
            host.power_on()
        yield Cluster(*found)
    finally:
        for host in found:
            host.power_off()
        network.close()


def test_a_host_without_k3s_is_blank(cluster: Cluster) -> None:
    report = cluster.report(cluster.first)
    assert (report.version, report.ready, report.etcd, report.holds_data) == (VERSION, False, None, False)
    assert report.system
    assert report.system.hostname == cluster.first.name
    assert report.system.addresses == (cluster.first.address,)


def test_a_server_reports_its_cluster_and_the_next_member(cluster: Cluster) -> None:
    cluster.first.configure(cluster_init=True, token=TOKEN, agent_token=AGENT_TOKEN, tls_san=["k3s.example"])
    cluster.first.start()
    cluster.first.wait_until_said("k3s is up and running")
    alone = cluster.report(cluster.first)
    assert alone.etcd
    assert [(member.node, member.address, member.learner) for member in alone.etcd.members] == [
        (cluster.first.name, cluster.first.address, False)
    ]
    assert alone.etcd.leader_id == alone.etcd.member_id == alone.etcd.members[0].id
    assert alone.etcd.raft_index > 0
    assert alone.etcd.version.startswith("3.4.")
    assert (alone.ready, alone.data.datastore, len(alone.data.ca_hash)) == (True, "etcd", 64)
    assert alone.configuration["tls-san"] == ["k3s.example"]
    assert alone.system
    assert {port.number for port in alone.system.ports_taken} >= {2379, 2380, 6443}
    cluster.second.configure(server=f"https://{cluster.first.address}:6443", token=TOKEN, agent_token=AGENT_TOKEN)
    cluster.second.start()
    cluster.second.wait_until_said("k3s is up and running")
    wait_for(lambda: all(node.voter for node in cluster.report(cluster.second).nodes), "both servers to vote", 60)
    joined = cluster.report(cluster.second)
    assert joined.etcd
    assert joined.etcd.cluster_id == alone.etcd.cluster_id
    assert joined.data.ca_hash == alone.data.ca_hash
    assert joined.data.token_hash == alone.data.token_hash
    assert {member.node for member in joined.etcd.members} == {cluster.first.name, cluster.second.name}
    assert {node.name: node.ready for node in joined.nodes} == {cluster.first.name: True, cluster.second.name: True}
    assert set(joined.password_secrets) == {cluster.first.name, cluster.second.name}


def test_a_server_without_a_majority_is_not_ready_and_still_names_its_members(cluster: Cluster) -> None:
    cluster.second.stop()
    wait_for(lambda: not cluster.report(cluster.first).ready, "the API to say that etcd has no majority", 60)
    report = cluster.report(cluster.first)
    assert report.etcd
    assert len(report.etcd.members) == 2
    assert (report.nodes, report.answers) == ((), False)
