# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots, and cordons and drains of an upgrade, on a host that runs the stand-in for K3s with its real etcd."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import ClusterSpec, SnapshotSettings
from tests.integration.k3s.hosts import DATA, Host, Network
from tests.k3s import build

VERSION, TOKEN = "v1.34.3+k3s1", "1a" * 32
REPOSITORY = Path(build.__file__).parents[2]
LIBRARY = "opt/library/ansible_collections/crypto_lakehouse/platform/plugins/module_utils"
PACKAGE = LIBRARY.removeprefix("opt/library/").replace("/", ".")
HEAD = f"""
import json
from pathlib import Path
from {PACKAGE}.k3s.shapes import as_plain
from {PACKAGE}.k3s_host.access import Api
from {PACKAGE}.k3s_host.cluster import Site
from {PACKAGE}.k3s_host import drain
from {PACKAGE}.k3s_host.snapshots import Store
data = Path("/{DATA}")
store, site = Store("s1", data, "/opt/k3s"), Site(data, Api(data), 3.0)
"""
MARKER = {"cluster": "lake", "cluster_id": "11111111-1111-4111-8111-111111111111", "state": "member"}


class Server:
    """A server with the library of this collection."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def run(self, code: str, check: bool = True) -> Any:
        """Return the JSON output of code, or with `check=False` its error output."""
        done = self.host.run(
            "python3", "-c", f"{HEAD}{code}", check=check, PYTHONPATH="/opt/library", PYTHONDONTWRITEBYTECODE="1"
        )
        return json.loads(done.stdout) if check else done.stderr

    def create(self, path: str, **body: Any) -> None:
        self.run(f"print(json.dumps(site.api.post({path!r}, {body!r})))")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    network, folder = Network(), tmp_path_factory.mktemp("hosts")
    host = Host(network, 31, folder, build.build(VERSION, tmp_path_factory.mktemp("release")))
    try:
        shutil.copytree(REPOSITORY / "plugins/module_utils", host.root / LIBRARY)
        host.power_on()
        host.configure(cluster_init=True, token=TOKEN)
        host.write(f"{DATA}/crypto-lakehouse.json", json.dumps(MARKER))
        host.start()
        host.wait_until_said("k3s is up and running")
        yield Server(host)
    finally:
        host.power_off()
        network.close()


def test_a_snapshot_is_saved_verified_and_deleted(server: Server) -> None:
    saved = server.run("print(json.dumps(as_plain(store.save('lake-k3s-on-demand'))))")
    assert (saved["version"], saved["nodes"], saved["cluster_id"]) == (VERSION, ["node31"], MARKER["cluster_id"])
    assert len(saved["token_hash"]) == 12
    verified = server.run("print(json.dumps(as_plain(store.verify('lake-k3s-on-demand'))))")
    assert verified == {**saved, "sha256": verified["sha256"], "verified": True}
    path = server.host.root / DATA / "server/db/snapshots" / saved["name"]
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"changed")
    assert "its hash is wrong" in server.run(f"store.verify({saved['name']!r})", check=False)
    assert server.run(f"print(json.dumps([store.delete({saved['name']!r}), as_plain(store.snapshots())]))") == [
        True,
        [],
    ]
    assert server.run("print(json.dumps(store.delete('another')))") is False


def test_the_program_of_the_timer_saves_and_keeps_the_retention(server: Server) -> None:
    spec = ClusterSpec("lake", VERSION, ("s1",), snapshots=SnapshotSettings(count=2, age_hours=1))
    job = {"cluster": spec.as_dict(), "host": "s1", "binary": "/opt/k3s"}
    server.host.write("etc/rancher/k3s/snapshots.json", json.dumps(job))
    for _number in range(3):
        old = server.run("print(json.dumps(as_plain(store.verify(store.save('lake-k3s-old').name))))")
        record = f"{DATA}/server/db/crypto-lakehouse/{old['name']}.json"
        server.host.write(record, json.dumps({**old, "created_s": old["created_s"] - 7200}))
        server.host.run("sleep", "1.1")
    done = server.host.run(
        "python3", "-m", f"{PACKAGE}.k3s_host.scheduled", "/etc/rancher/k3s/snapshots.json", PYTHONPATH="/opt/library"
    )
    left = server.run("print(json.dumps(as_plain(store.snapshots())))")
    assert [one["name"].startswith("lake-k3s-scheduled-node31-") for one in left] == [False, True]
    assert all(one["verified"] for one in left)
    assert done.stdout.count("deleted lake-k3s-old-node31-") == 2


def pod(name: str) -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "controller": True, "name": "web", "uid": "1", "apiVersion": "apps/v1"}
    labels = {"app": name}
    return {"metadata": {"name": name, "labels": labels, "ownerReferences": [owner]}, "spec": {"nodeName": "node31"}}


def test_a_drain_evicts_and_names_the_budget_that_blocks(server: Server) -> None:
    pods, budgets = "/api/v1/namespaces/default/pods", "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    for name in ("free", "held"):
        server.create(pods, **pod(name))
    selector = {"matchLabels": {"app": "held"}}
    server.create(budgets, metadata={"name": "keep"}, spec={"minAvailable": 1, "selector": selector})
    assert server.run("print(json.dumps(drain.cordon(site, 'node31', 'k3s_upgrade')))") is True
    said = server.run("drain.drain(site, 'node31')", check=False)
    assert "cannot drain node31 within 3 s: default/held (budget keep allows no disruption)" in said
    assert "free" not in said.rpartition("cannot drain")[2]
    assert server.run("print(json.dumps(drain.uncordon(site, 'node31', 'k3s_remove')))") is False
    server.run(f"print(json.dumps(site.api.delete({budgets + '/keep'!r})))")
    assert server.run("print(json.dumps(drain.drain(site, 'node31')))") is True
    assert server.run("print(json.dumps(drain.uncordon(site, 'node31', 'k3s_upgrade')))") is True
    (node,) = server.host.get("nodes")["items"]
    assert not node["spec"].get("unschedulable")
