# SPDX-License-Identifier: GPL-3.0-or-later
"""Permitted connections on a cluster, evaluated from the policies as a cluster applies them."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sweep import examples
from tests.unit.catalogue.clusters import (
    NAMESPACE,
    Entry,
    of_kind,
    on_cluster,
    platform_on,
    well_rendered,
    workloads,
)

HTTP = {"http": {"port": 80}}
Peer = dict[str, Any]


def pod(result: Entry, name: str) -> Peer:
    """Return a pod of a service as a peer of the namespace."""
    labels = workloads(result)[name]["spec"]["template"]["metadata"]["labels"]
    return {"namespace": NAMESPACE, "labels": labels}


def chosen(selector: Entry, labels: Entry) -> bool:
    assert set(selector) <= {"matchLabels"}
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def includes(rule: Entry, peer: Peer, port: int, way: str) -> bool:
    """Return whether a rule matches a peer and a port."""
    ports = rule.get("ports")
    if ports is not None and not any(each["port"] == port and each["protocol"] == "TCP" for each in ports):
        return False
    return way not in rule or any(_is(described, peer) for described in rule[way])


def _is(described: Entry, peer: Peer) -> bool:
    if "ipBlock" in described:
        if "address" not in peer:
            return False
        address, block = ipaddress.ip_address(peer["address"]), described["ipBlock"]
        out = [ipaddress.ip_network(cidr) for cidr in block.get("except", [])]
        return address in ipaddress.ip_network(block["cidr"]) and not any(address in network for network in out)
    if "address" in peer:
        return False
    if "namespaceSelector" in described:
        names = {"kubernetes.io/metadata.name": peer["namespace"]}
        return chosen(described["namespaceSelector"], names) and chosen(
            described.get("podSelector", {}), peer["labels"]
        )
    return peer["namespace"] == NAMESPACE and chosen(described["podSelector"], peer["labels"])


def allowed(result: Entry, source: Peer, target: Peer, port: int) -> bool:
    """Return whether one pod may connect to the other: both policies have to allow it."""
    ways = [(source, target, "Egress", "egress", "to"), (target, source, "Ingress", "ingress", "from")]
    return all(_passes(result, near, far, port, *way) for near, far, *way in ways)


def _passes(result: Entry, near: Peer, far: Peer, port: int, kind: str, word: str, way: str) -> bool:
    if near.get("namespace") != NAMESPACE:
        return True
    policies = [found["spec"] for found in of_kind(result, "NetworkPolicy").values()]
    about = [spec for spec in policies if kind in spec["policyTypes"] and chosen(spec["podSelector"], near["labels"])]
    assert about, "a pod without a policy is open"
    return any(includes(rule, far, port, way) for spec in about for rule in spec.get(word, []))


def outside(address: str) -> Peer:
    return {"address": address, "labels": {}}


def elsewhere(namespace: str, **labels: str) -> Peer:
    return {"namespace": namespace, "labels": labels}


def test_nothing_is_open_that_nobody_asked_for() -> None:
    result = well_rendered({"api": on_cluster(ports=HTTP), "web": on_cluster(ports=HTTP)})
    api, web = pod(result, "api"), pod(result, "web")
    assert not allowed(result, api, web, 80)
    assert not allowed(result, api, outside("192.0.2.1"), 443)
    assert not allowed(result, elsewhere("monitoring"), api, 80)
    assert not allowed(result, outside("192.0.2.1"), api, 80)


def test_exactly_the_ports_that_a_service_names_are_open_to_it() -> None:
    ports = {"http": {"port": 80}, "admin": {"port": 81}}
    services = {
        "api": on_cluster(ports=ports),
        "web": on_cluster(environment={"A": "${service.api.endpoint.http}"}, depends_on=["api"]),
        "other": on_cluster(),
    }
    result = well_rendered(services)
    assert allowed(result, pod(result, "web"), pod(result, "api"), 80)
    assert not allowed(result, pod(result, "web"), pod(result, "api"), 81)
    assert not allowed(result, pod(result, "other"), pod(result, "api"), 80)
    assert not allowed(result, pod(result, "api"), pod(result, "web"), 80)


def test_a_dependency_of_which_no_port_is_named_opens_all_that_are_there_for_others() -> None:
    ports = {"http": {"port": 80}, "admin": {"port": 81}, "inner": {"port": 82, "internal": True}}
    services = {"api": on_cluster(ports=ports), "web": on_cluster(depends_on=["api"])}
    result = well_rendered(services)
    web, api = pod(result, "web"), pod(result, "api")
    assert [allowed(result, web, api, port) for port in (80, 81, 82)] == [True, True, False]
    assert [port["port"] for port in of_kind(result, "Service")["api"]["spec"]["ports"]] == [81, 80]


def test_replicas_talk_to_each_other_only_where_it_is_said() -> None:
    services = {"api": on_cluster(ports=HTTP, calls=["api"]), "web": on_cluster(ports=HTTP)}
    result = well_rendered(services)
    assert allowed(result, pod(result, "api"), pod(result, "api"), 80)
    assert not allowed(result, pod(result, "web"), pod(result, "web"), 80)


def test_a_port_that_another_service_s_process_serves_is_opened_on_its_pods() -> None:
    services = {
        "store": on_cluster(ports={"s3": {"port": 83}}),
        "catalog": on_cluster(command=[], provided_by="store", ports={"http": {"port": 81}}),
        "client": on_cluster(command=["x", "${service.catalog.endpoint.http}"]),
    }
    result = well_rendered(services)
    client, store = pod(result, "client"), pod(result, "store")
    assert [allowed(result, client, store, port) for port in (81, 83)] == [True, False]


def test_everybody_may_ask_for_names() -> None:
    result = well_rendered({"api": on_cluster()})
    servers = elsewhere("kube-system", **{"k8s-app": "kube-dns"})
    assert allowed(result, pod(result, "api"), servers, 53)
    assert not allowed(result, pod(result, "api"), elsewhere("kube-system", app="other"), 53)


def test_the_metrics_port_is_open_to_the_monitoring_and_no_other_port_is() -> None:
    ports = {"http": {"port": 80}, "metrics": {"port": 81}}
    services = {"api": on_cluster(ports=ports, metrics={"port": "metrics"})}
    result = well_rendered(services, {"monitoring_namespace": "watch"})
    api = pod(result, "api")
    assert [allowed(result, elsewhere("watch"), api, port) for port in (80, 81)] == [False, True]
    assert not allowed(result, elsewhere("monitoring"), api, 81)


def test_the_ingress_reaches_the_services_that_it_exposes() -> None:
    services = {"api": on_cluster(ports=HTTP), "web": on_cluster(ports=HTTP)}
    given = {"ingress_services": ["api"], "ingress_namespaces": ["traefik"], "ingress_cidrs": ["10.0.0.0/16"]}
    result = well_rendered(services, given)
    for peer in (elsewhere("traefik"), outside("10.0.3.4")):
        assert allowed(result, peer, pod(result, "api"), 80)
        assert not allowed(result, peer, pod(result, "web"), 80)
    assert not allowed(result, outside("10.1.0.1"), pod(result, "api"), 80)


def test_the_api_server_reaches_what_is_asked_for_its_health_through_it_and_nothing_else() -> None:
    ports = {"http": {"port": 80}, "admin": {"port": 81}}
    services = {
        "api": on_cluster(ports=ports, health={"type": "http", "port": "http", "path": "/health"}),
        "store": on_cluster(ports=HTTP, health={"type": "tcp", "port": "http"}),
        "worker": on_cluster(ports=HTTP, health={"type": "command", "command": ["true"]}),
    }
    result = well_rendered(services, {"control_plane_cidrs": ["192.0.2.7/32", "10.42.0.0/32"]})
    for peer in (
        outside("192.0.2.7"),
        outside("10.42.0.0"),
        elsewhere("kube-system", **{"k8s-app": "konnectivity-agent"}),
    ):
        assert [allowed(result, peer, pod(result, "api"), port) for port in (80, 81)] == [True, False]
        assert not allowed(result, peer, pod(result, "store"), 80)
        assert not allowed(result, peer, pod(result, "worker"), 80)
    assert not allowed(result, outside("192.0.2.8"), pod(result, "api"), 80)
    assert not allowed(result, elsewhere("kube-system"), pod(result, "api"), 80)


@pytest.mark.parametrize("target", ["k3s", "gke", "eks"])
def test_whatever_health_asks_over_http_lets_the_control_plane_in(target: str) -> None:
    result = platform_on(target, "production", control_plane_cidrs=["192.0.2.7/32"])
    asked = [check for check in result["health"] if check["type"] == "http"]
    assert asked
    for check in asked:
        owner = pod(result, check.get("owner") or check["service"])
        port = int(check["url"].partition("://")[2].partition("/")[0].rpartition(":")[2])
        assert allowed(result, outside("192.0.2.7"), owner, port), check["service"]


def test_the_outside_is_open_on_the_named_ports_but_never_the_rights_of_the_machine() -> None:
    services = {"api": on_cluster(outbound_ports=[443, 80])}
    result = well_rendered(services, {"proxy_env": {"HTTPS_PROXY": "http://proxy.example.org:3128"}})
    api = pod(result, "api")
    assert [allowed(result, api, outside("192.0.2.1"), port) for port in (443, 80, 3128, 22)] == [
        True,
        True,
        True,
        False,
    ]
    assert allowed(result, api, outside("2001:db8::1"), 443)
    assert not allowed(result, api, outside("169.254.169.254"), 80)


def test_what_stands_in_for_a_service_can_be_reached() -> None:
    managed = {"managed": {"k3s": "cloud"}}
    services = {
        "db": on_cluster(ports={"sql": {"port": 5432, "reached_at": "db.example.org:6432"}}, **managed),
        "mail": on_cluster(ports={"smtp": {"port": 25, "reached_at": "mail.post.svc:2525"}}, **managed),
        "api": on_cluster(command=["x", "${service.db.endpoint.sql}", "${service.mail.endpoint.smtp}"]),
    }
    result = well_rendered(services)
    api = pod(result, "api")
    assert [allowed(result, api, outside("192.0.2.1"), port) for port in (6432, 5432)] == [True, False]
    assert allowed(result, api, elsewhere("post"), 25)
    assert not allowed(result, api, elsewhere("other"), 25)


@given(st.data())
@settings(max_examples=examples(25))
def test_every_call_that_is_described_is_allowed_and_no_other(data: st.DataObject) -> None:
    names = ["a", "b", "c", "d"]
    calls = {
        name: data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(["x", "y"]), max_size=3))
        for name in names
    }
    ports = {"x": {"port": 80}, "y": {"port": 81}}
    services = {
        name: on_cluster(
            ports=ports, command=["run", *(f"${{service.{to}.port.{port}}}" for to, port in found.items())]
        )
        for name, found in calls.items()
    }
    result = well_rendered(services)
    for source in names:
        for target in names:
            for port, number in (("x", 80), ("y", 81)):
                said = calls[source].get(target) == port and source != target
                assert allowed(result, pod(result, source), pod(result, target), number) == said


@pytest.mark.parametrize("environment", ["development", "production"])
def test_the_object_store_s_own_parts_are_closed_to_everybody(environment: str) -> None:
    result = platform_on("k3s", environment)
    store = pod(result, "object-store")
    peers = [pod(result, name) for name in workloads(result)] + [elsewhere("monitoring"), elsewhere("kube-system")]
    open_ports = {
        port["containerPort"]
        for port in workloads(result)["object-store"]["spec"]["template"]["spec"]["containers"][0]["ports"]
        if any(allowed(result, peer, store, port["containerPort"]) for peer in peers)
    }
    assert open_ports == {8333, 8181, 9327}


def test_the_flows_reach_what_they_need_and_the_api_has_no_way_to_the_worker() -> None:
    result = platform_on("k3s")
    worker, api = pod(result, "worker"), pod(result, "api")
    for name, port in (("database", 5432), ("object-store", 8333), ("object-store", 8181), ("orchestrator", 4200)):
        assert allowed(result, worker, pod(result, name), port)
    assert allowed(result, worker, outside("192.0.2.1"), 443)
    assert not allowed(result, api, worker, 4201)
    assert not allowed(result, pod(result, "orchestrator"), outside("192.0.2.1"), 443)


def test_on_eks_pods_with_rights_reach_the_agent_that_hands_them_out() -> None:
    result = platform_on("eks", "production")
    agent = outside("169.254.170.23")
    assert allowed(result, pod(result, "worker"), agent, 80)
    assert not allowed(result, pod(result, "orchestrator"), agent, 80)


def test_an_operated_database_is_reached_by_its_clients_its_operator_and_its_own_instances() -> None:
    result = platform_on("k3s", "production")
    instance = {"namespace": NAMESPACE, "labels": {"cnpg.io/cluster": "database"}}
    assert allowed(result, pod(result, "api"), instance, 5432)
    assert not allowed(result, pod(result, "trino"), instance, 5432)
    for peer in (instance, elsewhere("cnpg-system")):
        assert [allowed(result, peer, instance, port) for port in (5432, 8000)] == [True, True]
    assert allowed(result, elsewhere("monitoring"), instance, 9187)
    assert allowed(result, instance, outside("192.0.2.1"), 6443)
    moved = platform_on("k3s", "production", operator_namespace="operators")
    peers = (elsewhere("operators"), elsewhere("cnpg-system"))
    assert [allowed(moved, peer, instance, 8000) for peer in peers] == [True, False]
