# SPDX-License-Identifier: GPL-3.0-or-later
"""A member without a Node, and the loss of a majority, on hosts of the stand-in for K3s with its real etcd."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.access import BALANCER
from tests.integration.k3s.hosts import DATA, TIME_SCALE, Host, Network
from tests.integration.patience import wait_for
from tests.k3s import build

VERSION = "v1.33.5+k3s1"
TOKEN = "1a" * 32
LIBRARY = "opt/library/ansible_collections/crypto_lakehouse/platform/plugins"
HEAD = """
import sys
from pathlib import Path
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host import cluster, datastore, readiness
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.access import Api
data = Path("/var/lib/rancher/k3s")
site, store = cluster.Site(data, Api(data), 120.0), datastore.Datastore(data)
"""
FINALIZER = '{"metadata":{"finalizers":null}}'


def program(host: Host, text: str) -> str:
    """Run a program that uses the collection on a host and return its output."""
    command = ("python3", "-c", HEAD + text)
    return host.run(*command, PYTHONPATH="/opt/library", PYTHONDONTWRITEBYTECODE="1").stdout.strip()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """Return three servers of one cluster."""
    network, folder = Network(), tmp_path_factory.mktemp("hosts")
    release = build.build(VERSION, tmp_path_factory.mktemp("release"))
    found = [Host(network, number, folder, release) for number in (31, 32, 33)]
    library = Path(build.__file__).parents[2] / "plugins/module_utils"
    try:
        for host in found:
            shutil.copytree(library, host.root / LIBRARY / "module_utils")
            host.power_on()
            join(host, found[0])
        yield found
    finally:
        for host in found:
            host.power_off()
        network.close()


def join(host: Host, first: Host) -> None:
    """Start a server and wait until it votes."""
    found = {"cluster_init": True} if host is first else {"server": f"https://{first.address}:6443"}
    host.configure(token=TOKEN, **found)
    host.start()
    host.wait_until_said("k3s is up and running", 120)


def test_a_node_is_awaited_with_the_credentials_of_its_kubelet(servers: list[Host]) -> None:
    first, second, _third = servers
    wait = "readiness.wait_ready(site, {!r}, '')"
    program(second, wait.format(second.name))
    # The load balancer asks another server when the joined one does not answer.
    second.configure(server=f"https://{first.address}:9", token=TOKEN)
    second.write(f"{DATA}/{BALANCER}", json.dumps({"ServerAddresses": [f"{first.address}:6443"]}))
    program(second, wait.format(second.name))


def test_a_member_whose_node_is_gone_is_removed(servers: list[Host]) -> None:
    first, second, third = servers
    member = third.read(f"{DATA}/server/db/etcd/name")
    third.power_off()
    first.kubectl("patch", "node", third.name, "--type=merge", f"--patch={FINALIZER}")
    first.kubectl("delete", "node", third.name)
    assert third.name in first.members()
    assert program(first, f"print(cluster.remove_member(site, {member!r}))") == "True"
    assert first.members() == {first.name: True, second.name: True}
    assert {node["metadata"]["name"] for node in first.get("nodes")["items"]} == {first.name, second.name}
    assert program(first, f"print(cluster.remove_member(site, {member!r}))") == "False"


def test_a_lost_majority_comes_back_with_its_data(servers: list[Host]) -> None:
    first, second, _third = servers
    first.run(
        *("/opt/k3s", "kubectl", "create", "--validate=false", "-f", "-"),
        text=json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"a": "b"}}),
    )
    second.power_off()
    first.stop()
    assert "etcd-aside-" in program(first, "print(datastore.copy_aside(store))")
    first.write("opt/environment", f"K3S_STANDIN_TIME_SCALE={TIME_SCALE}\n")
    call = "datastore.reset(store, '/opt/k3s', Path('/opt/environment'), 120.0)"
    # The first reset of an interrupted run has written its flag.
    program(first, f"{call}\n{call}")
    first.start()
    first.wait_until_said("k3s is up and running", 120)
    assert first.members() == {first.name: True}
    second.wipe()
    second.power_on()
    for name in (f"node/{second.name}", f"secret/{second.name}.node-password.k3s"):
        first.kubectl("delete", "--namespace=kube-system", name, check=False)
    join(second, first)
    wait_for(lambda: first.members() == {first.name: True, second.name: True}, "two voters", 60)
    assert second.get("configmap", "kept")["data"] == {"a": "b"}
