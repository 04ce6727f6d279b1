# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in for K3s behaves as tests/k3s/behaviours.yml says: one cluster of plain processes for all tests."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.integration.k3s.hosts import DATA, Host, Network
from tests.integration.patience import wait_for
from tests.k3s import build
from tests.k3s.standin import settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Hosts with their own network and mounts need root")
VERSION = "v1.33.5+k3s1"
TABLE = Path(build.__file__).with_name("behaviours.yml")
REMOVE = "etcd.k3s.cattle.io/remove"
SERVERS, AGENT, SPARE = (11, 12, 13), 14, 15


@dataclass
class Cluster:
    """Three servers, an agent, and a host that joins and leaves."""

    network: Network
    servers: list[Host]
    agent: Host
    spare: Host
    token: str = ""

    @property
    def first(self) -> Host:
        return self.servers[0]

    @property
    def url(self) -> str:
        return f"https://{self.first.address}:6443"

    def node(self, host: Host) -> dict[str, object]:
        found: dict[str, object] = self.first.get("node", host.name)
        return found

    def condition(self, host: Host, kind: str) -> str:
        """Return the reason of a condition of a node."""
        status = self.first.get("node", host.name)["status"]
        return next((str(each["reason"]) for each in status.get("conditions", []) if each["type"] == kind), "")

    def join(self, host: Host, **more: object) -> None:
        """Configure a host as a server of this cluster and start it."""
        host.configure(server=self.url, token=self.token, **more)
        host.start()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a release of the stand-in."""
    folder = tmp_path_factory.mktemp("release")
    return build.build(VERSION, folder)


@pytest.fixture(scope="module")
def hosts(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return running hosts without an installation."""
    network, folder = Network(), tmp_path_factory.mktemp("hosts")
    found = [Host(network, number, folder, release) for number in (*SERVERS, AGENT, SPARE)]
    try:
        for host in found:
            host.power_on()
        yield Cluster(network, found[:3], found[3], found[4])
    finally:
        for host in found:
            host.power_off()
        network.close()


@pytest.fixture(scope="module")
def cluster(hosts: Cluster) -> Cluster:
    """Return the cluster, which the first test that needs it creates."""
    hosts.first.configure(cluster_init=True, token="secret", agent_token="agent-secret", tls_san=["k3s.example"])
    hosts.first.start()
    hosts.first.wait_until_said("k3s is up and running")
    hosts.token = hosts.first.read(f"{DATA}/server/token").strip()
    for server in hosts.servers[1:]:
        hosts.join(server, agent_token="agent-secret")
        server.wait_until_said("k3s is up and running")
    hosts.agent.configure(
        server=f"https://{hosts.servers[1].address}:6443", token=hosts.first.read(f"{DATA}/server/agent-token").strip()
    )
    hosts.agent.start("agent")
    hosts.agent.wait_until_said("k3s agent is up and running")
    return hosts


def has_reason(cluster: Cluster, host: Host, reason: str, kind: str = "Ready") -> bool:
    return cluster.condition(host, kind) == reason


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_row_of_the_table_names_a_test_or_a_reason() -> None:
    rows = [row for group in yaml.safe_load(TABLE.read_text(encoding="utf-8")).values() for row in group]
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["behaviour"], row
        assert row["source"], row
        assert (row["test"] in globals()) != bool(row.get("missing")), row


def test_release_names_itself_a_stand_in(release: Path, tmp_path: Path) -> None:
    printed = subprocess.run([release, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert printed.startswith(f"k3s version {VERSION} (")
    assert "stand-in" in printed
    lines = (release.parent / "sha256sum-amd64.txt").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sums["k3s"] == hashlib.sha256(release.read_bytes()).hexdigest()
    assert set(sums) == {"k3s", "k3s-airgap-images-amd64.tar.zst"}


def test_configuration_is_merged_from_files_environment_and_flags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main = tmp_path / "config.yaml"
    main.write_text(
        "token: file\nnode-label: [a=1]\ntls-san: one\nkublet-arg: x\ncluster-init: true\n", encoding="utf-8"
    )
    (tmp_path / "config.yaml.d").mkdir()
    (tmp_path / "config.yaml.d/10.yaml").write_text("node-label+: [b=2]\ntls-san: [two]\n", encoding="utf-8")
    (tmp_path / "config.yaml.d/20.txt").write_text("token: ignored\n", encoding="utf-8")
    environment = {"K3S_CONFIG_FILE": str(main), "K3S_TOKEN": "environment", "K3S_NODE_NAME": "Named"}
    found = settings.parse("server", ["--tls-san", "three", "--cluster-cidr=10.1.0.0/16"], environment)
    assert found.text("token") == "file"
    assert found.items("node-label") == ["a=1", "b=2"]
    assert found.items("tls-san") == ["two", "three"]
    assert found.flag("cluster-init")
    assert found.node_name == "named"
    assert found.critical()["cluster-cidr"] == ["10.1.0.0/16"]
    assert found.critical()["cluster-dns"] == ["10.43.0.10"]
    assert "Unknown flag --kublet-arg found in config.yaml, skipping" in capsys.readouterr().err
    assert "file" not in found.recorded
    assert "visible" in settings.parse("agent", ["-t", "visible"], {"K3S_CONFIG_FILE": str(tmp_path)}).recorded


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["server"], "the stand-in has no SQLite"),
        (["server", "--frobnicate"], "flag provided but not defined: -frobnicate"),
        (["server", "--cluster-init", "--cluster-cidr=10.42.0.0"], "invalid CIDR address"),
        (["server", "--cluster-reset-restore-path=/x"], "--cluster-reset required"),
        (["server", "--cluster-init", "--bind-address=192.0.2.1"], "listen tcp 192.0.2.1:6443: bind:"),
        (["server", "--cluster-reset", "--server=https://10.77.0.11:6443"], "while server URL is set"),
        (
            ["server", "--cluster-reset", "--cluster-reset-restore-path=/x"],
            "please pass --token to complete the restoration",
        ),
        (["agent", "--server=https://10.77.0.11:6443"], "--token is required"),
        (["agent", "--token=x"], "--server is required"),
        (
            ["agent", "--token=x", "--server=https://10.77.0.11:6443", "--private-registry=/etc/ssl/openssl.cnf"],
            "failed to get registry configuration",
        ),
    ],
)
def test_invalid_starts_are_fatal(hosts: Cluster, words: list[str], problem: str) -> None:
    done = hosts.spare.k3s(*words, check=False)
    assert done.returncode == 1
    assert "level=fatal" in done.stderr
    assert problem in done.stderr


def test_three_servers_and_an_agent_form_a_cluster(cluster: Cluster) -> None:
    assert cluster.first.members() == {host.name: True for host in cluster.servers}
    names = {node["metadata"]["name"] for node in cluster.first.get("nodes")["items"]}
    assert names == {host.name for host in (*cluster.servers, cluster.agent)}
    for host in cluster.servers:
        wait_for(partial(has_reason, cluster, host, "MemberNotLearner", "EtcdIsVoter"), f"{host.name} to be a voter")
        meta = cluster.first.get("node", host.name)["metadata"]
        assert meta["labels"]["node-role.kubernetes.io/etcd"] == "true"
        assert meta["annotations"]["etcd.k3s.cattle.io/node-address"] == host.address
        assert meta["finalizers"] == ["wrangler.cattle.io/managed-etcd-controller"]
    wait_for(partial(has_reason, cluster, cluster.agent, "KubeletReady"), "the agent to be ready")
    root = cluster.first.root
    for name in (f"{DATA}/server/token", "etc/rancher/node/password", "etc/rancher/k3s/k3s.yaml"):
        assert mode(root / name) == 0o600, name
    digest = hashlib.sha256((root / DATA / "server/tls/server-ca.crt").read_bytes()).hexdigest()
    assert cluster.token == f"K10{digest}::server:secret"
    assert (root / DATA / "server/node-token").readlink() == Path(f"/{DATA}/server/token")
    assert re.fullmatch(rf"{cluster.first.name}-[0-9a-f]{{8}}", cluster.first.read(f"{DATA}/server/db/etcd/name"))
    assert "secret" not in cluster.first.run("ps", "-e", "-o", "args").stdout
    assert cluster.first.fetch("/ping") == "200 pong"
    assert cluster.first.fetch("/readyz").startswith("401 ")
    assert cluster.first.fetch("/v1-k3s/server-bootstrap", "server:wrong").startswith("401 ")
    assert cluster.first.fetch("/v1-k3s/server-bootstrap", "node:agent-secret").startswith("403 ")
    assert cluster.first.fetch("/v1-k3s/config", "node:agent-secret").startswith("200 ")
    assert cluster.first.kubectl("get", "--raw", "/readyz").stdout == "ok"
    cluster.first.run("ln", "-s", "/opt/k3s", "/opt/kubectl")
    assert json.loads(cluster.first.run("/opt/kubectl", "get", "--raw", "/version").stdout)["gitVersion"] == VERSION


def test_wrong_token_and_wrong_ca_are_refused(cluster: Cluster) -> None:
    spare = cluster.spare
    spare.configure(cluster_init=True, secrets_encryption=True)
    spare.start()
    spare.wait_until_said("k3s is up and running")
    theirs = spare.read(f"{DATA}/server/token").strip()
    assert re.fullmatch(r"K10[0-9a-f]{64}::server:[0-9a-f]{32}", theirs)
    assert spare.members() == {spare.name: True}
    assert mode(spare.root / DATA / "server/cred/encryption-config.json") == 0o600
    spare.stop()
    spare.wipe()
    agent_token = cluster.first.read(f"{DATA}/server/agent-token").strip()
    for token, problem in (
        (theirs, "token CA hash does not match the Cluster CA certificate hash"),
        ("K10abc::server:secret", "invalid token CA hash length"),
        ("wrong", "/v1-k3s/server-bootstrap: 401 Unauthorized"),
        (agent_token.replace("node:", "server:"), "/v1-k3s/server-bootstrap: 401 Unauthorized"),
    ):
        spare.configure(server=cluster.url, token=token)
        spare.start()
        assert spare.wait_until_ended() == 1
        assert problem in spare.said()
    assert cluster.first.members() == {host.name: True for host in cluster.servers}


def test_server_with_another_cluster_cidr_is_refused(cluster: Cluster) -> None:
    cluster.join(cluster.spare, cluster_cidr="10.99.0.0/16", agent_token="agent-secret")
    assert cluster.spare.wait_until_ended() == 1
    assert "critical configuration mismatched: cluster-cidr" in cluster.spare.said()
    assert "failed to validate server configuration: critical configuration value mismatch" in cluster.spare.said()
    cluster.spare.wipe()


def test_rebuilt_agent_is_rejected_until_its_node_is_deleted(cluster: Cluster) -> None:
    agent = cluster.agent
    agent.stop()
    config = agent.read("etc/rancher/k3s/config.yaml")
    agent.wipe()
    agent.write("etc/rancher/k3s/config.yaml", config)
    agent.write(f"{DATA}/agent/images/images.tar", "")
    agent.start("agent")
    agent.wait_until_said("Node password rejected, duplicate hostname")
    cluster.first.kubectl("delete", "node", agent.name)
    agent.wait_until_said("k3s agent is up and running")
    assert f"Importing images from /{DATA}/agent/images/images.tar" in agent.said()
    assert cluster.first.get("node", agent.name)["metadata"]["labels"]["kubernetes.io/hostname"] == agent.name


def create(
    host: Host, kind: str, name: str, api_version: str = "v1", namespace: str = "default", **content: object
) -> None:
    """Create an object."""
    body = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}
    labels = content.pop("metadata", None)
    body["metadata"] = {"name": name, "namespace": namespace, **(labels if isinstance(labels, dict) else {})}
    host.run("/opt/k3s", "kubectl", "create", "--validate=false", "-f", "-", text=json.dumps(body))


def test_drain_evicts_pods_and_respects_budgets(cluster: Cluster) -> None:
    owner = {"kind": "ReplicaSet", "name": "web", "apiVersion": "apps/v1", "uid": "1", "controller": True}
    meta = {"labels": {"app": "web"}, "ownerReferences": [owner]}
    for host in (cluster.first, cluster.agent):
        spec = {"nodeName": host.name, "containers": [{"name": "web", "image": "web"}]}
        create(cluster.first, "Pod", f"web-{host.name}", metadata=meta, spec=spec, status={"phase": "Running"})
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
    create(cluster.first, "PodDisruptionBudget", "web", "policy/v1", spec=budget)
    done = cluster.first.kubectl("drain", cluster.agent.name, "--force", "--timeout=3s", check=False)
    assert done.returncode == 1
    assert "violate the pod's disruption budget" in done.stderr
    assert cluster.first.get("node", cluster.agent.name)["spec"]["unschedulable"] is True
    cluster.first.kubectl("delete", "poddisruptionbudget", "web")
    cluster.first.kubectl("drain", cluster.agent.name, "--force", "--timeout=60s")
    assert [pod["metadata"]["name"] for pod in cluster.first.get("pods")["items"]] == [f"web-{cluster.first.name}"]
    cluster.first.kubectl("uncordon", cluster.agent.name)
    assert "unschedulable" not in cluster.first.get("node", cluster.agent.name)["spec"]


def etcdctl(host: Host, *words: str) -> str:
    """Run etcdctl of a host's release against its member."""
    folder = f"/{DATA}/server/tls/etcd"
    files = [
        f"--{name}={folder}/{file}"
        for name, file in (("cacert", "server-ca.crt"), ("cert", "client.crt"), ("key", "client.key"))
    ]
    program = next((host.root / DATA / "data").glob("*/bin/etcdctl")).relative_to(host.root)
    return host.run(f"/{program}", *files, "--endpoints=https://127.0.0.1:2379", *words, ETCDCTL_API="3").stdout


def test_second_learner_waits_for_the_first(cluster: Cluster) -> None:
    added = etcdctl(cluster.first, "member", "add", "ghost", "--learner", "--peer-urls=https://10.77.0.99:2380")
    ghost = added.split()[1]
    cluster.join(cluster.spare, agent_token="agent-secret")
    cluster.spare.wait_until_said("too many learner members in cluster")
    etcdctl(cluster.first, "member", "remove", ghost)
    cluster.spare.wait_until_said("k3s is up and running")
    assert cluster.first.members()[cluster.spare.name]


def test_removed_member_needs_a_server_to_rejoin(cluster: Cluster) -> None:
    spare = cluster.spare
    old = spare.read(f"{DATA}/server/db/etcd/name")
    cluster.first.kubectl("annotate", "node", spare.name, f"{REMOVE}=true")
    assert spare.wait_until_ended() == 1
    assert "This node has been removed from the cluster" in spare.said()
    wait_for(lambda: spare.name not in cluster.first.members(), "the removal of the member")
    annotations = cluster.first.get("node", spare.name)["metadata"]["annotations"]
    assert annotations["etcd.k3s.cattle.io/removed-node-name"] == old
    assert "etcd.k3s.cattle.io/node-name" not in annotations
    spare.configure(cluster_init=True, token=cluster.token, agent_token="agent-secret")
    spare.start()
    assert spare.wait_until_ended() == 1
    assert "tombstone file has been detected but --server is empty" in spare.said()
    cluster.join(spare, agent_token="agent-secret")
    spare.wait_until_said("k3s is up and running")
    assert list((spare.root / DATA / "server/db").glob("etcd-backup-*"))
    wait_for(
        lambda: cluster.first.get("node", spare.name)["metadata"]["annotations"][REMOVE] == "false",
        "the request to be reset",
    )
    cluster.first.kubectl("delete", "node", spare.name)
    assert spare.wait_until_ended() == 1
    assert cluster.first.members() == {host.name: True for host in cluster.servers}
    spare.wipe()


def test_rebuilt_server_is_refused_until_its_member_is_removed(cluster: Cluster) -> None:
    third = cluster.servers[2]
    third.power_off()
    third.wipe()
    third.power_on()
    cluster.join(third, agent_token="agent-secret")
    assert third.wait_until_ended() == 1
    assert "duplicate node name found, please use a unique name for this node" in third.said()
    cluster.first.kubectl("delete", "node", third.name)
    wait_for(lambda: third.name not in cluster.first.members(), "the removal of the member")
    third.start()
    third.wait_until_said("k3s is up and running")
    assert cluster.first.members() == {host.name: True for host in cluster.servers}


def test_killed_server_returns_and_lost_quorum_blocks_writes(cluster: Cluster) -> None:
    first, second, third = cluster.servers
    second.stop(signal.SIGKILL)
    wait_for(partial(has_reason, cluster, second, "NodeStatusUnknown"), "the controllers to miss the server", 90)
    create(first, "ConfigMap", "kept", data={"a": "b"})
    wait_for(partial(has_reason, cluster, cluster.agent, "KubeletReady"), "the agent to be ready")
    assert f"{first.address}:6443" in cluster.agent.read(f"{DATA}/agent/etc/k3s-agent-load-balancer.json")
    third.power_off()
    wait_for(
        lambda: "etcd failed" in first.kubectl("get", "--raw", "/readyz", check=False).stderr, "the loss of the quorum"
    )
    lost = first.kubectl("annotate", "node", first.name, "lost=true", check=False)
    assert lost.returncode == 1
    assert "timed out" in lost.stderr
    second.configure(cluster_init=True, token=cluster.token, agent_token="agent-secret")
    certificate = second.read(f"{DATA}/server/tls/request-header-ca.crt")
    second.write(f"{DATA}/server/tls/request-header-ca.crt", f"{certificate}\n")
    second.start()
    assert second.wait_until_ended() == 1
    assert "tls/request-header-ca.crt newer than datastore and could cause a cluster outage" in second.said()
    second.write(f"{DATA}/server/tls/request-header-ca.crt", certificate)
    second.start()
    second.wait_until_said("k3s is up and running", 120)
    third.power_on()
    third.start()
    third.wait_until_said("k3s is up and running", 120)
    assert first.get("configmap", "kept")["data"] == {"a": "b"}
    assert first.members() == {host.name: True for host in cluster.servers}


def test_snapshot_restores_with_cluster_reset(cluster: Cluster) -> None:
    first, second, third = cluster.servers
    create(first, "ConfigMap", "before")
    first.k3s("etcd-snapshot", "save")
    first.k3s("etcd-snapshot", "save", "--name=named", "--snapshot-compress")
    create(first, "ConfigMap", "after")
    listed = json.loads(first.k3s("etcd-snapshot", "list", "-o", "json").stdout)["items"]
    names = sorted(each["spec"]["snapshotName"] for each in listed)
    assert [re.sub(r"\d{10}", "T", name) for name in names] == [
        f"named-{first.name}-T.zip",
        f"on-demand-{first.name}-T",
    ]
    recorded = first.get("etcdsnapshotfiles")["items"]
    assert all("etcd.k3s.cattle.io/snapshot-token-hash" in each["metadata"]["annotations"] for each in recorded)
    assert "Snapshot missing not found locally" not in first.k3s("etcd-snapshot", "delete", "missing").stderr
    first.k3s("etcd-snapshot", "prune", "--name=named", "--snapshot-retention=1")
    assert len(first.k3s("etcd-snapshot", "ls").stdout.splitlines()) == 3
    for host in cluster.servers:
        host.stop()
    path = f"/{DATA}/server/db/snapshots/{names[1]}"
    wrong = first.k3s("server", "--cluster-reset", f"--cluster-reset-restore-path={path}", "--token=other", check=False)
    assert wrong.returncode == 1
    assert "encrypted with different token" in wrong.stderr
    done = first.k3s("server", "--cluster-reset", f"--cluster-reset-restore-path={path}")
    assert "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now" in done.stderr
    assert (first.root / DATA / "server/db/reset-flag").exists()
    assert list((first.root / DATA / "server/db").glob("etcd-old-*"))
    assert list((first.root / DATA / "server").glob("tls-*"))
    again = first.k3s("server", "--cluster-reset", check=False)
    assert "you must first manually delete" in again.stderr
    first.start()
    first.wait_until_said("k3s is up and running")
    assert first.members() == {first.name: True}
    present = {each["metadata"]["name"] for each in first.get("configmaps")["items"]}
    assert "before" in present
    assert "after" not in present
    second.start()
    second.wait_until_said("Failed to test etcd connection")
    second.stop()
    for host in (second, third):
        shutil.rmtree(host.root / DATA / "server/db")
    for host in (second, third):
        cluster.join(host, agent_token="agent-secret")
        host.wait_until_said("k3s is up and running")
    assert first.members() == {host.name: True for host in cluster.servers}


def test_snapshot_restores_on_a_new_host_with_its_token(cluster: Cluster) -> None:
    first, spare = cluster.first, cluster.spare
    create(first, "ConfigMap", "moved", data={"a": "b"})
    first.k3s("etcd-snapshot", "save", "--name=moved", "--snapshot-compress")
    snapshot = next((first.root / DATA / "server/db/snapshots").glob("moved-*.zip"))
    shutil.copy(snapshot, spare.root / "opt" / snapshot.name)
    authority = first.read(f"{DATA}/server/tls/server-ca.crt")
    spare.wipe()
    restore = f"--cluster-reset-restore-path=/opt/{snapshot.name}"
    spare.k3s("server", "--cluster-reset", restore, f"--token={cluster.token}", f"--node-ip={spare.address}")
    assert spare.read(f"{DATA}/server/tls/server-ca.crt") == authority
    spare.configure(cluster_init=True, token=cluster.token, agent_token="agent-secret")
    spare.start()
    spare.wait_until_said("k3s is up and running")
    assert spare.members() == {spare.name: True}
    assert spare.get("configmap", "moved")["data"] == {"a": "b"}
    assert first.name in {node["metadata"]["name"] for node in spare.get("nodes")["items"]}
    assert first.members() == {host.name: True for host in cluster.servers}
