# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration of K3s: layers, files by role, refused settings, critical and immutable ones, and restarts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.configuration import (
    COMMON_FILE,
    HOST_FILE,
    MEMBERSHIP_FILE,
    change_problems,
    changes,
    configuration_problems,
    critical_differences,
    desired,
    digest,
    files,
    merge,
    restarting,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import ClusterSpec, DataDirectory
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.settings import OWNED, SETTINGS
from tests.unit.k3s.hosts import DATA_DIR, agent, blank, cluster, server, spec, unreachable

# Rows follow `readConfigFile` of pkg/configfilearg/parser.go and its test data.
MERGES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "a later value replaces": ([{"debug": False}, {"debug": True}], {"debug": True}),
    "a later list replaces": ([{"disable": ["a"]}, {"disable": ["b"]}], {"disable": ["b"]}),
    "a plus appends": ([{"disable": ["a"]}, {"disable+": ["b", "c"]}], {"disable": ["a", "b", "c"]}),
    "a plus makes a list of scalars": (
        [{"node-ip": "10.0.0.1"}, {"node-ip+": "fd00::1"}],
        {"node-ip": ["10.0.0.1", "fd00::1"]},
    ),
    "a plus without a former value sets": ([{"disable+": ["a"]}], {"disable": ["a"]}),
    "a value after a plus replaces": (
        [{"disable": ["a"]}, {"disable+": ["b"]}, {"disable": ["c"]}],
        {"disable": ["c"]},
    ),
    "nothing": ([], {}),
}


@pytest.mark.parametrize("case", MERGES)
def test_layers_merge_as_k3s_merges_files(case: str) -> None:
    layers, expected = MERGES[case]
    assert merge(*layers) == expected


ASKED = spec(
    configuration={"disable": ["traefik"], "kubelet-arg": ["max-pods=200"]},
    host_configuration={"s2": {"node-ip": "10.0.0.12"}, "a1": {"kubelet-arg+": ["cpu-manager-policy=static"]}},
    endpoints=("api.example.org", "10.0.0.100"),
)


def test_a_server_gets_common_and_own_settings_and_names_of_the_api() -> None:
    assert files(ASKED, "s2", {"cluster-init": True}) == {
        COMMON_FILE: {
            "disable": ["traefik"],
            "kubelet-arg": ["max-pods=200"],
            "data-dir": DATA_DIR,
            "etcd-disable-snapshots": True,
            "tls-san": ["api.example.org", "10.0.0.100"],
        },
        HOST_FILE: {"node-ip": "10.0.0.12"},
        MEMBERSHIP_FILE: {"cluster-init": True},
    }


def test_an_agent_gets_no_setting_of_servers() -> None:
    assert files(ASKED, "a1", {})[COMMON_FILE] == {"kubelet-arg": ["max-pods=200"], "data-dir": DATA_DIR}
    assert desired(ASKED, "a1")["kubelet-arg"] == ["max-pods=200", "cpu-manager-policy=static"]


def test_fragments_are_read_after_the_common_file_in_their_order() -> None:
    assert sorted(files(ASKED, "s1", {})) == [COMMON_FILE, HOST_FILE, MEMBERSHIP_FILE]


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "a slip": ({"clustercidr": "10.42.0.0/16"}, "which would ignore it", "set `cluster-cidr`"),
    "a word unlike any": ({"zzzzzz": 1}, "is not a setting of K3s", "`k3s server --help`"),
    "a token": ({"token": "x"}, "`token` is not a setting of the inventory", "files of mode 0600"),
    "an appended token": ({"token+": "x"}, "`token` is not a setting of the inventory", "files of mode 0600"),
    "a join": ({"server": "https://s1:6443"}, "is not a setting of the inventory", "the role decides it"),
    "a reset": ({"cluster-reset": True}, "is not a setting of the inventory", "the role decides it"),
    "an external datastore": ({"datastore-endpoint": "mysql://"}, "not a setting of the inventory", "embedded etcd"),
    "the data directory": ({"data-dir": "/data"}, "not a setting of the inventory", "set `k3s_data_dir`"),
    "a list for one value": ({"cluster-domain": ["a", "b"]}, "has a list of values", "set one value"),
    "a mapping": ({"node-label": {"a": "b"}}, "neither text, a number nor a boolean", "set a plain value"),
    "null": ({"flannel-iface": None}, "neither text, a number nor a boolean", "or remove it"),
    "empty": ({"flannel-iface": ""}, "is empty or contains control characters", "set a printable value"),
    "two lines": ({"kubelet-arg": ["a\nb"]}, "is empty or contains control characters", "set a printable value"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused_with_a_remedy(case: str) -> None:
    settings, message, remedy = BAD[case]
    (problem,) = configuration_problems(spec(configuration=settings))
    assert problem.variable == "k3s_configuration"
    assert message in problem.message
    assert remedy in problem.remedy


def test_settings_that_servers_share_are_refused_on_one_host() -> None:
    (problem,) = configuration_problems(spec(host_configuration={"s2": {"disable+": ["traefik"]}}))
    assert problem.variable == "k3s_host_configuration of s2"
    assert "`disable` must be equal on all servers" in problem.message


def test_no_setting_is_both_known_and_owned_by_the_role() -> None:
    assert not SETTINGS.keys() & OWNED.keys()
    assert all(setting.scope == "cluster" for setting in SETTINGS.values() if setting.critical)


DIFFERENCES: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "equal": ({}, {}, []),
    "defaults that are written": (
        {"cluster-cidr": "10.42.0.0/16", "flannel-backend": "vxlan", "cluster-dns": "10.43.0.10"},
        {"disable-network-policy": False},
        [],
    ),
    "spellings of one value": (
        {"cluster-cidr": "10.42.0.0/16,fd42::/56"},
        {"cluster-cidr": ["10.42.0.0/16", "fd42::/56"]},
        [],
    ),
    "booleans as text": ({"secrets-encryption": True}, {"secrets-encryption": "true"}, []),
    "the service network moves the name server": (
        {"service-cidr": "10.96.0.0/16"},
        {},
        ["cluster-dns", "service-cidr"],
    ),
    "flannel and policies (k3s#12745)": (
        {"flannel-backend": "none", "disable-network-policy": True},
        {},
        ["disable-network-policy", "flannel-backend"],
    ),
    "encryption (k3s#6448)": ({"secrets-encryption": True}, {}, ["secrets-encryption"]),
    "the service load balancer": (
        {"disable": ["servicelb", "traefik"]},
        {"disable": "traefik"},
        ["disable: servicelb"],
    ),
    "settings that K3s does not compare": ({"disable": ["traefik"], "tls-san": ["a"]}, {}, []),
}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_critical_differences(case: str) -> None:
    one, other, expected = DIFFERENCES[case]
    for pair in ((one, other), (other, one)):
        assert critical_differences(*pair) == expected


IMMUTABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "pods' network": (
        {},
        {"cluster-cidr": "10.50.0.0/16"},
        "`cluster-cidr` on s1: ['10.42.0.0/16'] -> ['10.50.0.0/16']",
    ),
    "IPv6 later (k3s#10726)": ({}, {"service-cidr": ["10.43.0.0/16", "fd43::/112"]}, "cannot change `service-cidr`"),
    "domain": ({"cluster-domain": "lake.local"}, {}, "`cluster-domain` on s1: lake.local -> cluster.local"),
    "encryption": ({"secrets-encryption": True}, {}, "cannot change `secrets-encryption`"),
    "node name": ({"node-name": "one"}, {"node-name": "two"}, "cannot change `node-name` on s1: one -> two"),
}


@pytest.mark.parametrize("case", IMMUTABLE)
def test_immutable_settings_are_refused_where_data_is(case: str) -> None:
    on_disk, asked, message = IMMUTABLE[case]
    wanted = spec(configuration=asked)
    reports = {"s1": server("s1", configuration={**on_disk, "data-dir": DATA_DIR})}
    assert message in " ".join(problem.message for problem in change_problems(wanted, reports))
    assert change_problems(wanted, {"s1": blank("s1", configuration=on_disk), "s2": unreachable("s2")}) == []


def test_the_data_directory_does_not_change() -> None:
    reports = {"s1": server("s1", configuration={"debug": True})}
    (problem,) = change_problems(spec(data_dir="/data"), reports)
    assert problem.message == f"cannot change `k3s_data_dir` on s1: {DATA_DIR} -> /data"


def settled(asked: ClusterSpec) -> dict[str, Any]:
    """Return reports of hosts whose files and services match their description."""
    return {
        host: replace(report, configuration=desired(asked, host), applied_digest=digest(desired(asked, host)))
        for host, report in cluster().items()
    }


def test_nothing_restarts_without_a_change() -> None:
    assert restarting(spec(), settled(spec()), spec().hosts) == {}


def test_a_setting_restarts_the_nodes_that_it_concerns() -> None:
    reports = settled(spec())
    every = restarting(spec(configuration={"kubelet-arg": ["max-pods=200"]}), reports, spec().hosts)
    servers = restarting(spec(configuration={"disable": ["traefik"]}), reports, spec().hosts)
    one = restarting(spec(host_configuration={"a2": {"debug": True}}), reports, spec().hosts)
    assert list(every) == ["s1", "s2", "s3", "a1", "a2"]
    assert list(servers) == ["s1", "s2", "s3"]
    assert [change.name for change in one["a2"]] == ["debug"]


def test_a_changed_membership_or_label_restarts_nothing() -> None:
    reports = settled(spec())
    reports["s1"] = replace(reports["s1"], configuration={**reports["s1"].configuration, "server": "https://s2:6443"})
    asked = spec(host_configuration={"s1": {"node-label": ["disk=ssd"]}})
    assert restarting(asked, reports, ["s1"]) == {}
    (label,) = (change for change in changes({}, {"node-label": ["disk=ssd"]}))
    assert label.effect == "registration"


def test_a_service_that_started_with_other_settings_than_its_files_restarts() -> None:
    reports = settled(spec())
    reports["s2"] = replace(reports["s2"], applied_digest="")
    assert restarting(spec(), reports, spec().hosts) == {"s2": []}


def test_a_stopped_or_unreachable_host_does_not_restart() -> None:
    reports = {"s1": unreachable("s1"), "s2": blank("s2"), "s3": replace(server("s3"), service="inactive")}
    assert restarting(spec(), reports, spec().servers) == {}


values = st.one_of(st.booleans(), st.integers(0, 9), st.text("ab,=", min_size=1, max_size=5))
layers = st.dictionaries(st.sampled_from(["debug", "disable", "tls-san", "kubelet-arg", "cluster-cidr"]), values)


@given(layers)
def test_a_configuration_does_not_differ_from_itself(layer: dict[str, Any]) -> None:
    as_text = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in layer.items()}
    assert changes(layer, as_text) == []
    assert digest(layer) == digest(as_text)
    assert critical_differences(layer, as_text) == []


def test_an_agent_with_data_keeps_its_node_name() -> None:
    reports = {
        "a1": agent(
            "a1",
            configuration={"node-name": "x", "data-dir": DATA_DIR},
            data=DataDirectory(DATA_DIR, True, node_password=True),
        )
    }
    (problem,) = change_problems(spec(), reports)
    assert "cannot change `node-name` on a1: x -> None" in problem.message
