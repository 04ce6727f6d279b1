# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on a cluster, from an empty one to a destroyed lakehouse, by the playbooks of the repository.

One cluster, through its lifecycle in the order of this file. API server and controllers are real; the node and the
charts are simulated, so that the tests prove the handling of objects. No output may contain a secret value.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import JSON_PATCH, MERGE
from tests.integration.kube.charts import write_monitoring
from tests.integration.kube.cluster import ControlPlane
from tests.integration.kube.hollow import HollowNode
from tests.integration.kube.lakehouse import NAMESPACE, PLACE, Lakehouse
from tests.integration.kube.roleplay import helm_program

WORKER = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/worker"
DATABASE = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/database"
ORCHESTRATOR = f"{PLACE}/services/orchestrator"
API = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/api"
MARKER = f"{PLACE}/configmaps/crypto-lakehouse"
FAST = "/apis/storage.k8s.io/v1/storageclasses/fast"
STORAGE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
    "provisioner": "example.org/none",
    "volumeBindingMode": "WaitForFirstConsumer",
}
CHECKS = [{"name": "metrics scraped", "healthy": True, "detail": "12 targets", "duration_s": 0.5}]
HOOK = "https://hooks.example.org/services/T000/B000/hunter2hunter2"


@pytest.fixture(scope="module")
def node(own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HollowNode]:
    """Return a separate control plane of this file, with a simulated node."""
    cluster = own_plane.start()
    client = cluster.client()
    client.request("POST", "/apis/storage.k8s.io/v1/storageclasses", body=STORAGE)
    client.close()
    log = f"starting\n{json.dumps({'result': CHECKS})}\n"
    with HollowNode(cluster, tmp_path_factory.mktemp("node"), {"verify": log}).running() as hollow:
        yield hollow


@pytest.fixture(scope="module")
def empty(node: HollowNode, own_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Return the empty cluster."""
    folder = tmp_path_factory.mktemp("lakehouse")
    (folder / "charts").mkdir()
    write_monitoring(folder / "charts")
    return Lakehouse(node.cluster, folder, helm_program(own_plane.assets))


@pytest.fixture(scope="module")
def deployed(empty: Lakehouse) -> Lakehouse:
    """Return the cluster with a deployed lakehouse. Each test restores its state."""
    run = empty.deploy(lakehouse_secrets={"alertmanager_slack_webhook_url": HOOK})
    assert "Lakehouse development is deployed in namespace crypto-lakehouse" in run.words
    empty.variables["lakehouse_secrets"] = {"alertmanager_slack_webhook_url": HOOK}
    return empty


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt variable": ({"lakehouse_namespce": "x"}, "write lakehouse_namespace"),
    "a namespace of Kubernetes": ({"lakehouse_namespace": "kube-system"}, "name a namespace of its own"),
    "a kubeconfig that is not there": ({"lakehouse_kubeconfig": "/nonexistent/config"}, "/nonexistent/config"),
    "a context that is not there": ({"lakehouse_kube_context": "tets"}, "tests"),
    "a storage class that is not there": ({"lakehouse_storage_class": "fats"}, "write fast"),
    "a helm that is not there": ({"lakehouse_helm_binary": "/nonexistent/helm"}, "https://helm.sh/docs/intro/install"),
    "a folder without charts": (
        {"lakehouse_chart_folder": "/nonexistent/charts"},
        "holds no chart kube-prometheus-stack",
    ),
    "a chart that nobody wants": ({"lakehouse_charts": {"traefk": {"version": "1"}}}, "write traefik"),
    "a certificate bundle that is not there": ({"lakehouse_ca_bundle": "/nonexistent/ca.pem"}, "cannot be read"),
    "a bundle without certificates": ({"lakehouse_ca_bundle": "/etc/hostname"}, "it holds no certificate"),
    "a domain without a certificate": ({"lakehouse_domain": "lake.example.org"}, "name lakehouse_ingress_tls_secret"),
    "a door to nowhere": (
        {
            "lakehouse_domain": "lake.example.org",
            "lakehouse_ingress_tls_secret": "tls",
            "lakehouse_ingress_services": ["grafna"],
        },
        "write grafana",
    ),
    "an ingress class that nobody serves": (
        {"lakehouse_domain": "lake.example.org", "lakehouse_ingress_tls_secret": "tls"},
        "set lakehouse_ingress_install: true",
    ),
    "a service without an image": (
        {"lakehouse_services": {"quotes": {"purpose": "Streams.", "command": ["q"]}}},
        "image",
    ),
    "a secret that nothing reads": ({"lakehouse_secrets": {"api_tokn": "hunter2hunter2"}}, "did you mean 'api_token'"),
    "a registry with a scheme": ({"lakehouse_image_registry": "https://r.example.org"}, "not a registry"),
    "a proxy with a password": ({"lakehouse_proxy_env": {"HTTPS_PROXY": "http://u:p@proxy:3128"}}, "holds a password"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_before_anything_is_made(empty: Lakehouse, case: str) -> None:
    given, message = BAD[case]
    run = empty.badly("deploy", **given)
    assert message in run.words
    assert "hunter2hunter2" not in run.output
    assert empty.get(PLACE) is None


def test_every_problem_is_told_at_once(empty: Lakehouse) -> None:
    given = {"lakehouse_storage_class": "fats", "lakehouse_helm_binary": "/nonexistent/helm", "lakehouse_namespce": "x"}
    run = empty.badly("deploy", **given)
    assert "3 problems, nothing was changed" in run.words


def test_who_may_not_is_told_what_and_where(empty: Lakehouse, own_plane: ControlPlane) -> None:
    kubeconfig = own_plane.write_kubeconfig("nobody", "nobody")
    run = empty.badly("deploy", lakehouse_kubeconfig=str(kubeconfig))
    assert "its identity may not, in namespace crypto-lakehouse: create, delete, get, list, patch, watch" in run.words
    assert "in the whole cluster: create, delete, get, list, patch, watch clusterrolebindings" in run.words


@pytest.mark.parametrize("verb", ["drift", "health", "verify", "upgrade", "scale"])
def test_a_verb_that_needs_a_lakehouse_says_that_there_is_none(empty: Lakehouse, verb: str) -> None:
    run = empty.badly(verb)
    assert "namespace crypto-lakehouse holds no lakehouse. Remedy: run playbooks/deploy.yml first" in run.words


def test_there_is_nothing_to_destroy(empty: Lakehouse) -> None:
    run = empty.well("destroy", lakehouse_destroy_confirm="development")
    assert "No lakehouse is deployed in namespace crypto-lakehouse; nothing was changed." in run.words


@pytest.mark.parametrize("verb", ["plan", "deploy"])
def test_on_an_empty_cluster_everything_is_planned_and_nothing_is_made(empty: Lakehouse, verb: str) -> None:
    before = empty.names("/api/v1/namespaces")
    run = empty.well(verb, *([] if verb == "plan" else ["--check", "--diff"]))
    assert "Deployment crypto-lakehouse/api" in run.output
    assert "ServiceMonitor crypto-lakehouse/api" in run.output
    assert empty.names("/api/v1/namespaces") == before


@pytest.fixture
def hosts(empty: Lakehouse, tmp_path: Path) -> dict[str, Any]:
    """Describe the cluster as one that is installed on hosts of the inventory, which do not answer."""
    listed: dict[str, Any] = {"all": {"children": {"k3s_servers": {"hosts": {"server1": {}}}}}}
    (tmp_path / "hosts.json").write_text(json.dumps(listed))
    kubeconfig = str(empty.cluster.kubeconfig)
    return {
        "words": ["-i", str(tmp_path / "hosts.json")],
        "lakehouse_kubeconfig": kubeconfig,
        "k3s_kubeconfig": kubeconfig,
    }


def test_the_platform_is_planned_on_a_cluster_of_hosts_that_are_left_alone(
    empty: Lakehouse, hosts: dict[str, Any]
) -> None:
    run = empty.well("plan", *hosts.pop("words"), "-t", "cluster", "--limit", "lakehouse_controller", **hosts)
    assert "Check the platform of the K3s cluster" in run.output
    assert "Namespace crypto-lakehouse" in run.output


def test_a_destruction_leaves_the_cluster_of_hosts(empty: Lakehouse, hosts: dict[str, Any]) -> None:
    run = empty.well("destroy", *hosts.pop("words"), **hosts, lakehouse_destroy_confirm="development")
    assert "The K3s cluster on server1 stays. playbooks/k3s_remove.yml removes it." in run.words


def test_a_run_that_is_killed_anywhere_is_completed_by_the_next(empty: Lakehouse) -> None:
    empty.kill_when(lambda: empty.get(MARKER) is not None, "deploy")
    empty.kill_when(lambda: bool(empty.secrets), "deploy")
    first = empty.secrets
    empty.kill_when(lambda: empty.get(API) is not None, "deploy")
    empty.deploy()
    assert empty.secrets == first
    assert empty.deploy().changed == 0


def test_a_second_deployment_changes_nothing(deployed: Lakehouse, node: HollowNode) -> None:
    deployed.well("verify")
    (described,) = node.arguments["verify"]
    assert re.fullmatch("--description=[0-9a-f]{16}", described)
    assert deployed.deploy("--diff").changed == 0
    # Without changes since the contract was passed for this description, one query is enough. The examination, which a
    # simulated node does not pass, follows it.
    deployed.badly("deploy")
    assert node.arguments["verify"] == [described, "--unless-verified"]
    assert deployed.deploy("--check").changed == 0


def test_what_the_inventory_gives_is_kept_and_shown_nowhere(deployed: Lakehouse) -> None:
    assert deployed.secrets["alertmanager_slack_webhook_url"] == HOOK


def test_the_plan_is_empty_and_nothing_has_drifted(deployed: Lakehouse) -> None:
    assert "Nothing: the cluster is as described." in deployed.well("plan").words
    assert "The cluster is as described." in deployed.well("drift").words


def test_a_part_may_be_left_out(deployed: Lakehouse) -> None:
    assert "Nothing: the cluster is as described." in deployed.well("plan", "--skip-tags", "monitoring").words


def test_the_verification_runs_in_the_cluster_and_reports(deployed: Lakehouse, node: HollowNode) -> None:
    run = deployed.well("verify")
    assert "metrics scraped" in run.output
    jobs = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
    assert deployed.names(jobs) == deployed.names(jobs, labelSelector="app.kubernetes.io/name=bootstrap")
    checks = [{**CHECKS[0], "healthy": False, "detail": "api is down"}]
    before = node.logs["verify"]
    node.logs["verify"] = json.dumps({"result": checks})
    node.failing.add("verify")
    try:
        failed = deployed.badly("verify")
    finally:
        node.logs["verify"] = before
        node.failing.clear()
    assert "Verification failed: metrics scraped" in failed.words


def test_the_examination_names_what_a_hollow_node_cannot_answer(deployed: Lakehouse) -> None:
    run = deployed.badly("health")
    assert "services/api" in run.output
    assert "workloads/crypto-lakehouse/deployment/api" in run.output


def test_drift_names_what_was_changed_by_hand_and_a_deployment_repairs_it(deployed: Lakehouse) -> None:
    by_hand = {"fieldManager": "kubectl-edit"}
    deployed.client.request("PATCH", WORKER, query=by_hand, body={"spec": {"replicas": 2}}, content_type=MERGE)
    deployed.client.request("DELETE", f"{PLACE}/services/api")
    port = [{"op": "replace", "path": "/spec/ports/0/port", "value": 4299}]
    deployed.client.request("PATCH", ORCHESTRATOR, query=by_hand, body=port, content_type=JSON_PATCH)
    drift = deployed.badly("drift")
    named = drift.words.partition("The cluster is not as described:")[2]
    assert "StatefulSet crypto-lakehouse/worker (apps/v1)" in named
    assert "Service crypto-lakehouse/api (v1)" in named
    assert "Service crypto-lakehouse/orchestrator (v1)" in named
    assert deployed.get(f"{PLACE}/services/api") is None
    deployed.deploy()
    assert [one["port"] for one in (deployed.get(ORCHESTRATOR) or {})["spec"]["ports"]] == [4200]
    assert deployed.get(f"{PLACE}/services/api") is not None
    worker = deployed.get(WORKER)
    assert worker is not None
    assert worker["spec"]["replicas"] == 1
    assert deployed.deploy().changed == 0


def test_access_that_nobody_described_fails_drift_and_is_removed_on_request(deployed: Lakehouse) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    account = {"kind": "ServiceAccount", "name": "default", "namespace": "monitoring"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
    made = {"metadata": {"name": "evil"}, "roleRef": reference, "subjects": [account]}
    for place in (rbac, f"{rbac}/namespaces/{NAMESPACE}"):
        plural = "clusterrolebindings" if place == rbac else "rolebindings"
        deployed.client.request("POST", f"{place}/{plural}", query={"fieldManager": "kubectl"}, body=made)
    note = {"metadata": {"name": "notes"}, "stringData": {"a": "hunter2hunter2"}}
    deployed.client.request("POST", f"{PLACE}/secrets", query={"fieldManager": "kubectl"}, body=note)
    drift = deployed.badly("drift")
    named = drift.words.partition("The cluster is not as described:")[2]
    line = "binding{}evil: ClusterRole view for ServiceAccount monitoring/default [lakehouse_remove_foreign: bindings]"
    assert f"cluster-role-{line.format('/')}" in named
    assert f"role-{line.format(f'/{NAMESPACE}/')}" in named
    assert "name its group in `lakehouse_remove_foreign`" in named
    assert f"secret/{NAMESPACE}/notes" in drift.words
    assert f"secret/{NAMESPACE}/notes" not in named
    assert f"description/role-binding/{NAMESPACE}/evil" in deployed.badly("health").output

    remove: dict[str, Any] = {"lakehouse_remove_foreign": ["bindings"]}
    expected = {"lakehouse_expected_foreign": ["cluster-role-binding/ev*"]}
    planned = deployed.well("plan", **remove, **expected)
    assert f"removal of role-binding/{NAMESPACE}/evil" in planned.words
    assert "removal of cluster-role-binding" not in planned.words
    deployed.deploy(**remove)
    assert "evil" not in deployed.names(f"{rbac}/clusterrolebindings")
    assert "evil" not in deployed.names(f"{rbac}/namespaces/{NAMESPACE}/rolebindings")
    assert "The cluster is as described." in deployed.well("drift").words
    deployed.client.request("DELETE", f"{PLACE}/secrets/notes")


def test_what_is_scaled_stays_so(deployed: Lakehouse) -> None:
    assert "StatefulSet crypto-lakehouse/worker" in deployed.well("scale", lakehouse_scale={"worker": 2}).words
    again = deployed.well("scale", lakehouse_scale={"worker": 2})
    assert "Nothing: these sizes are already set." in again.words
    assert again.changed == 0
    # Additional objects of autoscaling belong to the set as well.
    assert "The cluster is as described." in deployed.well("drift").words
    deployed.deploy()
    worker = deployed.get(WORKER)
    assert worker is not None
    assert worker["spec"]["replicas"] == 2
    assert "The cluster is as described." in deployed.well("drift").words
    deployed.well("scale", lakehouse_scale={"worker": 1})
    assert deployed.get(f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets/worker") is None
    assert deployed.deploy().changed == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "it says nothing to scale"),
        ({"lakehouse_scale": {"databse": 2}}, "no service 'databse' runs here. Remedy: write database"),
        ({"lakehouse_scale": {"database": 2}}, "database has 1 and no other number of replicas"),
        ({"lakehouse_scale": {"api": 21}}, "21 replicas of api are beyond its bounds, 1 to 20"),
        ({"lakehouse_scale": {"worker": 0}}, "0 replicas of worker are beyond its bounds"),
        ({"lakehouse_scale": {"worker": "many"}}, "not a whole number"),
        ({"lakehouse_scale_nodes": {"on-demand": 2}}, "only the node groups of eks are known here"),
        (
            {"lakehouse_scale": {"worker": 3}, "lakehouse_services": {"worker": {"replicas": 2}}},
            "the inventory says how many replicas worker has",
        ),
    ],
)
def test_scaling_beyond_the_bounds_is_refused(deployed: Lakehouse, given: dict[str, Any], message: str) -> None:
    assert message in deployed.badly("scale", **given).words


def test_rotation_replaces_what_was_generated_and_rolls_who_uses_it(deployed: Lakehouse) -> None:
    before, worker = deployed.secrets, deployed.get(WORKER)
    predicted = deployed.deploy("--check", "--diff", lakehouse_rotate_secrets=True)
    assert "orchestrator_password: rotated" in predicted.output
    assert deployed.secrets == before
    deployed.deploy("--diff", lakehouse_rotate_secrets=True)
    after, rolled = deployed.secrets, deployed.get(WORKER)
    assert {name for name in before if before[name] == after[name]} == {"alertmanager_slack_webhook_url"}
    assert worker is not None
    assert rolled is not None
    assert worker["spec"]["template"] != rolled["spec"]["template"]
    assert deployed.deploy().changed == 0


def _mark(lakehouse: Lakehouse, **data: str) -> None:
    lakehouse.client.request("PATCH", MARKER, body={"data": data}, content_type=MERGE)


def test_an_older_version_is_upgraded_and_a_newer_one_is_left_alone(deployed: Lakehouse) -> None:
    _mark(deployed, version="0.9.0")
    refused = deployed.badly("deploy")
    assert "was deployed by version 0.9.0, this is 1.0.0. Remedy: run playbooks/upgrade.yml" in refused.words
    run = deployed.badly("upgrade")
    # The upgrade is complete; only the examination fails, on answers that simulated pods do not have.
    assert "Version 0.9.0 becomes 1.0.0" in run.words
    assert "services/api" in run.output
    assert (deployed.get(MARKER) or {})["data"]["version"] == "1.0.0"
    _mark(deployed, version="1.9.0")
    assert "newer than this collection" in deployed.badly("upgrade").words
    _mark(deployed, version="1.0.0")


def test_data_of_another_major_version_of_postgresql_is_refused(deployed: Lakehouse) -> None:
    _mark(deployed, postgresql_major="15")
    refused = deployed.badly("deploy")
    assert "the data was written by PostgreSQL 15, which PostgreSQL 17 does not read" in refused.words
    _mark(deployed, postgresql_major="17")


def test_the_lakehouse_of_another_environment_is_refused(deployed: Lakehouse) -> None:
    run = deployed.badly("deploy", lakehouse_environment="staging")
    assert "namespace crypto-lakehouse holds the lakehouse of environment development" in run.words


def _size(lakehouse: Lakehouse, claim: str) -> str:
    found = lakehouse.get(f"{PLACE}/persistentvolumeclaims/{claim}")
    assert found is not None
    size: str = found["spec"]["resources"]["requests"]["storage"]
    return size


def _pods(lakehouse: Lakehouse) -> list[str]:
    """Return the identities of a pod of the object store and of one of the database."""
    found = [lakehouse.get(f"{PLACE}/pods/{name}-0") or {} for name in ("object-store", "database")]
    return [pod["metadata"]["uid"] for pod in found]


def test_a_grown_volume_is_refused_before_the_start_and_expanded_where_its_class_allows_that(
    deployed: Lakehouse, node: HollowNode
) -> None:
    volumes = {"object-store": {"data": {"size": "21Gi"}}, "database": {"data": {"size": "6Gi"}}}
    grown: dict[str, Any] = {"lakehouse_services": {name: {"volumes": sizes} for name, sizes in volumes.items()}}
    before, pods = deployed.get(DATABASE), _pods(deployed)
    assert before is not None
    refused = [deployed.badly(verb, **grown).words for verb in ("plan", "deploy")]
    for words in ("nothing was changed", "storage class fast does not allow volume expansion", "back up the data"):
        assert all(words in told for told in refused)
    assert (deployed.get(DATABASE) or {})["metadata"]["generation"] == before["metadata"]["generation"]
    health = deployed.badly("health", **grown)
    assert f"{NAMESPACE}/data-database-0/size" in health.words

    found = re.search(r"run `kubectl patch storageclass fast -p '([^']+)'`", refused[-1])
    assert found, refused[-1]
    deployed.client.request("PATCH", FAST, body=found[1], content_type=MERGE, repeat=True)
    node.expands = True
    planned = deployed.well("plan", **grown)
    assert "PersistentVolumeClaim crypto-lakehouse/data-database-0" in planned.words
    assert _size(deployed, "data-database-0") == "5Gi"
    deployed.deploy(**grown)
    # Later tests describe this size: it cannot shrink.
    deployed.variables |= grown
    assert [_size(deployed, f"data-{name}-0") for name in volumes] == ["21Gi", "6Gi"]
    now = _pods(deployed)
    assert now[0] == pods[0]
    # The database restarts: its WAL limit depends on the size of its volume.
    assert now[1] != pods[1]
    assert deployed.deploy().changed == 0
    assert f"{NAMESPACE}/data-database-0/size" not in deployed.badly("health").words
    shrunk = deployed.badly("deploy", lakehouse_services={})
    assert "Kubernetes does not shrink volumes" in shrunk.words


def test_destruction_has_to_be_confirmed(deployed: Lakehouse) -> None:
    for given in ({}, {"lakehouse_destroy_confirm": "production"}):
        refused = deployed.badly("destroy", **given)
        assert "add -e lakehouse_destroy_confirm=development" in refused.words
    assert deployed.get(API) is not None


def test_destruction_keeps_data_and_secrets_and_the_next_deployment_goes_on_with_them(deployed: Lakehouse) -> None:
    secrets, claims = deployed.secrets, deployed.names(f"{PLACE}/persistentvolumeclaims")
    assert claims
    run = deployed.well("destroy", lakehouse_destroy_confirm="development")
    assert "keeps data and secrets; the next deployment uses them." in run.words
    assert deployed.get(API) is None
    assert (deployed.secrets, deployed.names(f"{PLACE}/persistentvolumeclaims")) == (secrets, claims)
    assert deployed.well("destroy", lakehouse_destroy_confirm="development").exit_code == 0
    deployed.deploy()
    assert deployed.secrets == secrets


def test_destruction_with_data_leaves_nothing(deployed: Lakehouse) -> None:
    deployed.well("destroy", lakehouse_destroy_confirm="development", lakehouse_destroy_data=True)
    namespace = deployed.get(PLACE)
    assert namespace is None or namespace["status"]["phase"] == "Terminating"


def test_no_value_of_a_secret_was_ever_told(deployed: Lakehouse) -> None:
    assert len(deployed.secrets_seen) > 30
    assert HOOK in deployed.secrets_seen
    assert deployed.told() == []


def test_every_inventory_for_clusters_is_read(deployed: Lakehouse, tmp_path: Path) -> None:
    shutil.copytree(deployed.folder / "charts", tmp_path / "charts")
    for inventory in ("k3s_production", "gke"):
        other = Lakehouse(deployed.cluster, tmp_path, deployed.helm, inventory)
        run = other.badly("deploy", lakehouse_storage_class="fast", lakehouse_namespce="x")
        assert "write lakehouse_namespace" in run.words
        assert "is not known" not in run.words
