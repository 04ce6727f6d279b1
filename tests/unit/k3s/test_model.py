# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports and plans as data: shapes that are refused, round trips, and lookups of members and nodes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    ClusterSpec,
    HostReport,
    Member,
    cluster_view,
    node_name,
    report_of,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan, Step, in_batches, refusal
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.shapes import ShapeError, json_schema
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from tests.unit.k3s.hosts import agent, blank, cluster, member, server, spec, system, unreachable

BAD_REPORTS: dict[str, tuple[Any, str]] = {
    "not an object": ([], "cannot read `report`: expected object, found array"),
    "without a host": ({}, "cannot read `report`: key 'host' is missing"),
    "an unknown key": ({"host": "s1", "reachabel": True}, "unknown key 'reachabel'; did you mean 'reachable'"),
    "an unknown key unlike any": ({"host": "s1", "zzz": 1}, "unknown key 'zzz'"),
    "a key that is not a string": ({"host": "s1", "data": {1: 2}}, "expected string keys, found 1"),
    "a number for a string": ({"host": 7}, "cannot read `report.host`: expected string, found integer"),
    "a string for a boolean": ({"host": "s1", "ready": "yes"}, "expected boolean, found string"),
    "an unknown state": ({"host": "s1", "service": "up"}, "cannot read `report.service`: expected one of 'absent'"),
    "a boolean for a number": (
        {"host": "s1", "system": {**vars(system("s1")), "memory_mib": True}},
        "cannot read `report.system.memory_mib`: expected integer, found boolean",
    ),
    "a fault in a list": (
        {"host": "s1", "etcd": {"cluster_id": "c", "member_id": "m", "members": [{"id": "m"}, {"id": None}]}},
        "cannot read `report.etcd.members[1].id`: expected string, found null",
    ),
    "a fault in a mapping": (
        {"host": "s1", "nodes": [{"name": "s1", "conditions": {"Ready": True}}]},
        "cannot read `report.nodes[0].conditions.Ready`: expected string, found boolean",
    ),
    "an object for a list": ({"host": "s1", "nodes": {}}, "expected array, found object"),
}


@pytest.mark.parametrize("case", BAD_REPORTS)
def test_reports_of_another_shape_are_refused(case: str) -> None:
    value, message = BAD_REPORTS[case]
    with pytest.raises(ShapeError) as error:
        HostReport.from_dict(value)
    assert message in str(error.value)


@pytest.mark.parametrize("report", [server("s1"), agent("a1"), blank("s1"), unreachable("s1")], ids=lambda r: r.host)
def test_a_report_survives_json(report: HostReport) -> None:
    assert HostReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report


def test_a_specification_survives_json() -> None:
    asked = spec(host_configuration={"s1": {"node-ip": "10.0.0.11"}}, endpoints=("api.example.org",))
    assert ClusterSpec.from_dict(json.loads(json.dumps(asked.as_dict()))) == asked


def test_the_schema_of_a_report_lists_every_key_and_the_required_ones() -> None:
    schema = json_schema(HostReport)
    assert schema["required"] == ["host"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(server("s1").as_dict())
    properties = schema["properties"]
    assert properties["service"] == {"enum": ["absent", "inactive", "activating", "active", "failed"]}
    assert properties["etcd"]["anyOf"][1] == {"type": "null"}
    assert properties["nodes"]["items"]["properties"]["conditions"]["additionalProperties"] == {"type": "string"}
    assert properties["configuration"] == {"type": "object", "additionalProperties": {}}


def test_a_host_without_a_report_counts_as_unreachable() -> None:
    assert report_of({}, "s9") == unreachable("s9")


def test_a_node_is_named_as_it_is_set_up_then_by_the_inventory_then_by_its_hostname() -> None:
    planned = spec(host_configuration={"s1": {"node-name": "db-2"}})
    assert node_name(spec(), blank("s1", system=system("s1", hostname="Server-ONE"))) == "server-one"
    assert node_name(planned, blank("s1", configuration={"node-name": "db-1"})) == "db-1"
    assert node_name(planned, blank("s1")) == node_name(planned, unreachable("s1")) == "db-2"
    assert node_name(spec(), unreachable("s1")) == ""


@pytest.mark.parametrize(
    ("name", "expected"), [("node-a-0a1b2c3d", "node-a"), ("", ""), ("node-a", "node-a"), ("x-0a1b2c3", "x-0a1b2c3")]
)
def test_a_member_names_its_node(name: str, expected: str) -> None:
    assert Member("1", name).node == expected


def test_a_view_finds_members_by_id_by_node_and_unnamed_ones_by_address() -> None:
    reports = cluster()
    reports["s9"] = blank("s9")
    view = cluster_view(spec(), reports)
    assert view is not None
    assert view.member_of(blank("s2")) == member("s2")
    assert view.member_of(blank("s9")) is None
    unnamed = replace(member("s2"), name="")
    reports["s1"] = server("s1", ["s1", unnamed, "s3"])
    again = cluster_view(spec(), reports)
    assert again is not None
    assert again.member_of(blank("s2")) == unnamed


def test_no_view_exists_where_no_server_answers() -> None:
    assert cluster_view(spec(), {"s1": unreachable("s1"), "s2": blank("s2")}) is None


def test_batches_are_numbered_without_gaps() -> None:
    plan = in_batches([[Step("a", "s1", "r")], [], [Step("b", "s2", "r"), Step("b", "s3", "r")]])
    assert [(step.host, step.batch) for step in plan.steps] == [("s1", 1), ("s2", 2), ("s3", 2)]
    assert not plan.refused


def test_a_refusal_has_no_steps_and_sorts_its_problems() -> None:
    plan = refusal([Problem("b", "m", "r"), Problem("a", "m", "r"), Problem("b", "m", "r")])
    assert plan.refused
    assert plan.as_dict() == {
        "refused": True,
        "steps": [],
        "problems": [
            {"variable": "a", "message": "m", "remedy": "r"},
            {"variable": "b", "message": "m", "remedy": "r"},
        ],
        "notices": [],
    }
    assert Plan().as_dict()["refused"] is False
