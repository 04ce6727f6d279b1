# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps of plans as tasks run them: files, runners, the limit, and the text of a refusal."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.action.k3s_plan import (
    Request,
    outcome,
    read_kubeconfig,
    remedy,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.configuration import desired, digest
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.discovery import discover
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.install import install_plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import HostReport, SnapshotSettings
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Step
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.shapes import ShapeError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s_host.files import parse_plain
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.k3s_steps import Cluster, Renderer, find_cluster
from tests.unit.k3s.hosts import (
    AGENTS,
    CA,
    DATA_DIR,
    MARKER,
    SERVERS,
    blank,
    cluster,
    server,
    spec,
    stopped,
    unreachable,
)

NEW_ID = "22222222-2222-4222-8222-222222222222"
HOSTS = (*SERVERS, *AGENTS)
MEMBERSHIP = "/etc/rancher/k3s/config.yaml.d/90-membership.yaml"
PEM = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def request(reports: dict[str, HostReport], hosts: tuple[str, ...] = HOSTS, **stale: list[str]) -> Request:
    results = [{"report": report.as_dict(), "stale_files": stale.get(host, [])} for host, report in reports.items()]
    return Request.of({"cluster": spec().as_dict(), "reports": [*results, {"unreachable": True}], "hosts": hosts})


def planned(found: Request) -> dict[str, Any]:
    plan = install_plan(found.spec, found.reports)
    assert not plan.refused, plan.problems
    first = discover(found.spec, found.reports).first
    return outcome(found, plan, find_cluster(found.spec, found.reports, plan.steps, first, NEW_ID))


def steps(found: dict[str, Any], action: str) -> list[dict[str, Any]]:
    return [step for batch in found["batches"] for step in batch if step["action"] == action]


def blanks() -> dict[str, HostReport]:
    return {host: blank(host) for host in HOSTS}


def test_a_malformed_cluster_names_its_path() -> None:
    with pytest.raises(ShapeError, match="cluster"):
        Request.of({"cluster": {"name": "lake"}, "reports": [], "hosts": []})


def test_an_unknown_operation_names_the_known_ones() -> None:
    with pytest.raises(ShapeError, match="'repair' is not one of install, upgrade, snapshot, restore, remove"):
        Request.of({"operation": "repair", "cluster": spec().as_dict(), "reports": [], "hosts": []})


def test_an_unknown_option_names_the_known_ones() -> None:
    found = replace(request(healthy()), operation="upgrade", options={"modes": "drain"})
    with pytest.raises(ShapeError, match="did you mean 'mode'") as caught:
        found.plan(0.0)
    assert remedy(caught.value, "upgrade") == "Use options of `upgrade`: mode, via"
    assert remedy(caught.value, "install") == "Use options of `install`: it has none"


def test_only_a_changed_node_that_was_healthy_gets_its_former_settings_back() -> None:
    found = planned(request(healthy(), s2=["/etc/systemd/system/k3s.service"]))
    assert {step["rollback"] for batch in found["batches"] for step in batch} == {True}
    joined = planned(request(blanks()))
    assert {step["rollback"] for batch in joined["batches"] for step in batch} == {False}
    upgraded = replace(request(healthy()), spec=spec(version="v1.34.4+k3s1"), operation="upgrade")
    plan = upgraded.plan(0.0)
    cluster = find_cluster(upgraded.spec, upgraded.reports, plan.steps, "", NEW_ID)
    steps_of_upgrade = outcome(upgraded, plan, cluster)["batches"]
    assert {step["rollback"] for batch in steps_of_upgrade for step in batch} == {False}


def test_an_upgrade_concerns_every_node() -> None:
    asked = replace(request(healthy(), hosts=("s1", "a1")), spec=spec(version="v1.34.4+k3s1"), operation="upgrade")
    (problem,) = asked.plan(0.0).problems
    assert problem.message == "cannot upgrade a part of the cluster: a2, s2, s3 is outside of --limit"
    assert not replace(asked, spec=spec()).plan(0.0).refused


def test_recipients_are_public_keys_of_age() -> None:
    found = request(blanks())
    asked = replace(found, spec=replace(found.spec, snapshots=SnapshotSettings(recipients=("age1recipient",))))
    (problem,) = asked.plan(0.0).problems
    assert "is not a public key of age" in problem.message
    private = "AGE-SECRET-KEY-1TW23GRYH9KEUKZ4UVVE7UYVTSX8WYX3HCKWZ0YWDLT99GP556U8Q28U4ZM"
    asked = replace(found, spec=replace(found.spec, snapshots=SnapshotSettings(recipients=(private,))))
    assert [problem.message for problem in asked.plan(0.0).problems] == ["entry 1 is a private key"]
    key = "age1rg8lu9lgsklt2g3cmtksvqpg3jc385zn6xcp9rgtykv5y64dj59sn9x8hp"
    asked = replace(found, spec=replace(found.spec, snapshots=SnapshotSettings(recipients=(key,))))
    assert not asked.plan(0.0).refused


def test_a_restore_begins_at_its_host_although_another_server_answers() -> None:
    found = request(healthy())
    steps = [Step(actions.RESTORE, "s3", "a restore", "lake-k3s-1")]
    assert find_cluster(found.spec, found.reports, steps, "", NEW_ID).api_host == "s3"


def test_a_removal_needs_no_server_that_answers() -> None:
    found = find_cluster(
        spec(), {**healthy(), "s1": stopped("s1"), "s2": stopped("s2"), "s3": stopped("s3")}, [], "", NEW_ID
    )
    assert (found.cluster_id, found.api_host) == (MARKER.cluster_id, "")


def test_a_new_cluster_gets_a_new_id_and_the_first_server_is_asked() -> None:
    found = planned(request(blanks()))
    assert (found["cluster_id"], found["ca_hash"], found["api_host"]) == (NEW_ID, "", "s1")
    first = steps(found, actions.INITIALISE)[0]
    assert parse_plain(first["files"][MEMBERSHIP], Path("x")) == {
        "cluster-init": True,
        "token-file": "/etc/rancher/k3s/server-token",
        "agent-token-file": "/etc/rancher/k3s/agent-token",
    }
    marker = json.loads(first["files"][f"{DATA_DIR}/crypto-lakehouse.json"])
    assert marker == {"cluster": "lake", "cluster_id": NEW_ID, "state": "initialising"}
    assert json.loads(found["marker"]) == {**marker, "state": "member"}


def test_joining_nodes_get_an_address_and_their_own_token_files() -> None:
    found = planned(request(blanks()))
    joined = steps(found, actions.JOIN_SERVER)[0]
    assert parse_plain(joined["files"][MEMBERSHIP], Path("x"))["server"] == "https://10.0.0.11:6443"
    agents = steps(found, actions.JOIN_AGENT)
    assert [step["runner"] for step in agents] == list(AGENTS)
    assert parse_plain(agents[0]["files"][MEMBERSHIP], Path("x")) == {
        "server": "https://10.0.0.11:6443",
        "token-file": "/etc/rancher/k3s/agent-token",
    }
    rewritten = steps(found, actions.WRITE_MEMBERSHIP)[0]
    assert (rewritten["host"], list(rewritten["files"])) == ("s1", [MEMBERSHIP])
    assert "cluster-init" not in rewritten["files"][MEMBERSHIP]


def test_a_plan_has_a_line_for_each_step() -> None:
    found = planned(request(blanks()))
    assert found["text"][0].startswith("1. initialise s1: no cluster exists")
    assert len(found["text"]) == sum(map(len, found["batches"]))


def test_hosts_outside_of_the_limit_are_left_and_named() -> None:
    found = planned(request(blanks(), hosts=("s1", "s2")))
    assert {step["host"] for batch in found["batches"] for step in batch} == {"s1", "s2"}
    assert found["notices"] == [f"{host} is outside of --limit and is left as it is" for host in ("a1", "a2", "s3")]


def healthy() -> dict[str, HostReport]:
    """Return a cluster that runs with the settings of the inventory."""
    return {host: _settled(report) for host, report in cluster().items()}


def _settled(report: HostReport) -> HostReport:
    settings = {**desired(spec(), report.host), "server": "https://10.0.0.11:6443"}
    return replace(report, configuration=settings, applied_digest=digest(settings))


def test_a_cluster_as_described_has_no_steps_and_keeps_its_id() -> None:
    found = planned(request(healthy()))
    assert (found["batches"], found["cluster_id"], found["ca_hash"]) == ([], MARKER.cluster_id, CA)


TOKENS = {"s": ["agent-token", "server-token"], "a": ["agent-token"]}
UNIT = "/etc/systemd/system/k3s.service"


def found_files(host: str, found: Request, **modes: str) -> dict[str, Any]:
    """Return the files that `k3s_info` reads on a host with the described files, with other modes by file name."""
    rendered = Renderer(found.spec, found.reports, Cluster(NEW_ID, CA, "s1"))
    texts = rendered.render([Step(actions.WRITE_FILES, host, "", batch=1)], {host})[0][0]["files"]
    files = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()} | {UNIT: "5a"}
    files |= {f"/etc/rancher/k3s/{name}": "" for name in TOKENS[host[0]]}
    usual = {path: "0644" if path == UNIT else "0600" for path in files}
    read = {path: {"sha256": digest, "mode": usual[path]} for path, digest in files.items()}
    for name, mode in modes.items():
        read[f"/etc/rancher/k3s/{name.replace('_', '-')}"]["mode"] = mode
    return {"expected_files": {UNIT: "5a"}, "found_files": read}


def test_files_as_they_were_written_do_not_differ() -> None:
    found = request(healthy())
    results = {host: found_files(host, found) for host in HOSTS}
    differences = replace(found, results=results).differences(Cluster(NEW_ID, CA, "s1"))
    assert differences == {host: {} for host in HOSTS}


def test_other_files_and_modes_differ_by_host_and_path() -> None:
    found = request(healthy())
    results = {"s1": found_files("s1", found), "a1": found_files("a1", found, agent_token="0644")}
    results["s1"]["found_files"][UNIT]["sha256"] = "5b"
    results["s1"]["found_files"]["/etc/rancher/k3s/config.yaml.d/99-own.yaml"] = {"sha256": "", "mode": "0600"}
    del results["s1"]["found_files"][MEMBERSHIP]
    # A token other than that of agents is not a file of an agent, and not compared.
    results["a1"]["found_files"]["/etc/rancher/k3s/server-token"] = {"sha256": "", "mode": "0600"}
    assert replace(found, results=results).differences(Cluster(NEW_ID, CA, "s1")) == {
        "s1": {
            MEMBERSHIP: "is missing",
            "/etc/rancher/k3s/config.yaml.d/99-own.yaml": "is not described",
            UNIT: "has other content",
        },
        "a1": {"/etc/rancher/k3s/agent-token": "has mode 0644, not 0600"},
    }


def test_files_of_a_host_that_does_not_run_k3s_are_not_compared() -> None:
    found = request({**healthy(), "a1": blank("a1")})
    results: dict[str, dict[str, Any]] = {"a1": {"expected_files": {}, "found_files": {}}, "a2": {}}
    assert replace(found, results=results).differences(Cluster(NEW_ID, CA, "s1")) == {"a1": {}, "a2": {}}


def test_a_unit_that_differs_restarts_its_node_alone() -> None:
    found = planned(request(healthy(), s2=["/etc/systemd/system/k3s.service"]))
    assert [step["host"] for step in steps(found, actions.RESTART)] == ["s2"]
    kept = parse_plain(steps(found, actions.RESTART)[0]["files"][MEMBERSHIP], Path("x"))
    assert kept["server"] == "https://10.0.0.11:6443"


def test_a_wiped_first_server_joins_another_one_after_its_records_are_cleared() -> None:
    found = planned(request({**healthy(), "s1": blank("s1")}))
    assert found["api_host"] == "s2"
    order = [step["action"] for batch in found["batches"] for step in batch]
    assert order.index(actions.REMOVE_MEMBER) < order.index(actions.JOIN_SERVER)
    assert actions.INITIALISE not in order
    assert {step["runner"] for step in steps(found, actions.REMOVE_MEMBER)} == {"s2"}
    assert steps(found, actions.JOIN_SERVER)[0]["value"] == "https://10.0.0.12:6443"


def test_a_step_of_the_api_runs_from_a_host_of_the_play() -> None:
    found = planned(request({**healthy(), "s1": blank("s1")}, hosts=("s1",)))
    step = steps(found, actions.DELETE_NODE)[0]
    assert (step["runner"], step["api_host"]) == ("s1", "s2")


def test_an_unreachable_first_server_makes_no_second_cluster() -> None:
    found = request({**blanks(), "s1": unreachable("s1")})
    assert install_plan(found.spec, found.reports).refused


def test_labels_are_applied_with_their_former_values() -> None:
    reports = healthy()
    changed = {**reports["a1"].configuration, "node-label": ["old=1"]}
    reports["a1"] = replace(reports["a1"], configuration=changed)
    found = planned(request(reports))
    step = steps(found, actions.APPLY_REGISTRATION)[0]
    assert (step["runner"], step["before"], step["after"]) == ("a1", {"node-label": ["old=1"]}, {})


def test_a_kubeconfig_is_read_where_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    assert (read_kubeconfig(""), read_kubeconfig(str(path))) == (None, None)
    path.write_text("")
    assert read_kubeconfig(str(path)) is None
    path.write_text("clusters: [")
    assert read_kubeconfig(str(path)) == "clusters: ["
    path.write_text("clusters: []")
    assert read_kubeconfig(str(path)) == {"clusters": []}


@pytest.mark.parametrize(("operation", "refused"), [("install", True), ("restore", True), ("snapshot", False)])
def test_a_kubeconfig_of_several_clusters_is_refused_where_it_would_be_replaced(
    tmp_path: Path, operation: str, refused: bool
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({"clusters": [{"name": "lake"}, {"name": "home"}], "current-context": "home"}))
    results = [{"report": report.as_dict()} for report in healthy().values()]
    arguments = {"cluster": spec().as_dict(), "hosts": HOSTS, "kubeconfig": str(path), "reports": results}
    found = Request.of({**arguments, "operation": operation})
    assert [problem.variable for problem in found.problems] == ["k3s_kubeconfig"] * refused
    assert operation != "install" or found.plan(0.0).problems == found.problems


def test_a_server_of_another_ca_than_that_of_the_kubeconfig_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    data = base64.b64encode(PEM).decode()
    path.write_text(json.dumps({"clusters": [{"cluster": {"certificate-authority-data": data}}]}))
    arguments = {"cluster": spec().as_dict(), "hosts": HOSTS, "kubeconfig": str(path)}
    found = Request.of({**arguments, "reports": [{"report": server("s1").as_dict()}]})
    assert any("recorded" in problem.message for problem in install_plan(found.spec, found.reports).problems)
