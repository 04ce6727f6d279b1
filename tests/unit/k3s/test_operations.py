# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of operations: each has options of its own, and its decision is that of its module."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import HostReport, SnapshotSettings
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.operations import (
    OPERATIONS,
    Situation,
    plan_operation,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.shapes import ShapeError
from tests.unit.k3s.hosts import AGENTS, DATA_DIR, MARKER, SERVERS, blank, cluster, server, spec, stopped, unreachable

NEWER = "v1.34.4+k3s1"
RECIPIENTS = SnapshotSettings(recipients=("age1recipient",))
DAY_S = 86_400.0
TOKEN = "0123456789ab"


def snapshot(name: str, created_s: float = 0.0) -> dict[str, Any]:
    found = {"name": name, "created_s": created_s, "size": 100, "host": "s1", "verified": True, "token_hash": TOKEN}
    return {**found, "cluster_id": MARKER.cluster_id}


ESCROW = {"cluster_id": MARKER.cluster_id, "token_hash": TOKEN}
STATES = {
    host: {"path": DATA_DIR, "resolved": DATA_DIR, "marker_cluster": "lake", "entries": ["server"], "remains": ["x"]}
    for host in (*SERVERS, *AGENTS)
}


def blanks() -> dict[str, HostReport]:
    return {host: blank(host) for host in (*SERVERS, *AGENTS)}


def planned(operation: str, reports: dict[str, HostReport], /, **options: Any) -> Plan:
    found = spec(version=NEWER if operation == "upgrade" else spec().version, snapshots=RECIPIENTS)
    return plan_operation(operation, options, Situation(found, reports, 30 * DAY_S))


def acts(plan: Plan) -> list[str]:
    assert not plan.refused, plan.problems
    return [step.action for step in plan.steps]


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(ShapeError, match="`options`: unknown key 'modus'"):
        planned(name, cluster(), modus="drain", **({"kind": "same_hosts"} if name == "restore" else {}))


def test_an_unknown_operation_is_an_error() -> None:
    with pytest.raises(KeyError):
        planned("reinstall", cluster())


def test_an_option_of_another_type_names_its_path() -> None:
    with pytest.raises(ShapeError, match=r"`options\.mode`: expected one of 'auto', 'drain', 'cordon_only'"):
        planned("upgrade", cluster(), mode="both")


def test_an_installation_begins_a_cluster() -> None:
    assert acts(planned("install", blanks()))[0] == actions.INITIALISE


def test_an_upgrade_saves_a_snapshot_and_follows_its_mode() -> None:
    assert acts(planned("upgrade", cluster()))[:2] == [actions.SNAPSHOT, actions.VERIFY_SNAPSHOT]
    assert actions.DRAIN in acts(planned("upgrade", cluster(), mode="drain"))
    assert actions.DRAIN not in acts(planned("upgrade", cluster(), mode="cordon_only"))


def test_a_release_in_between_has_to_be_one() -> None:
    problems = planned("upgrade", cluster(), via=["stable"]).problems
    assert [problem.variable for problem in problems] == ["k3s_upgrade_via"]


def test_a_snapshot_is_saved_and_expired_ones_are_deleted() -> None:
    many = [snapshot(f"lake-k3s-{number:02}", number) for number in range(20)]
    found = acts(planned("snapshot", cluster(), snapshots=many, escrows=[ESCROW], name="nightly"))
    assert found == [actions.SNAPSHOT, actions.VERIFY_SNAPSHOT, *[actions.DELETE_SNAPSHOT] * 6]


def test_a_snapshot_in_production_needs_recipients() -> None:
    asked = spec(environment="production")
    problems = plan_operation("snapshot", {}, Situation(asked, cluster())).problems
    assert [problem.variable for problem in problems] == ["lakehouse_backup_recipients"]


def test_no_snapshot_is_taken_of_two_clusters() -> None:
    plan = planned("snapshot", {**cluster(), "s3": server("s3", cluster="c2")})
    assert "the hosts belong to 2 clusters" in plan.problems[0].message


RESTORES: dict[str, tuple[dict[str, HostReport], dict[str, Any], str]] = {
    "same_hosts": (cluster(), {}, actions.RESTORE),
    "new_hosts": (blanks(), {"escrows": [ESCROW]}, actions.PLACE_ESCROW),
    "quorum_loss": (
        {**cluster(), "s1": stopped("s1"), "s2": unreachable("s2"), "s3": unreachable("s3")},
        {"lost": ["s2", "s3"]},
        actions.RESET,
    ),
}


@pytest.mark.parametrize("kind", RESTORES)
def test_a_restore_of_each_kind_is_confirmed_and_planned(kind: str) -> None:
    reports, options, action = RESTORES[kind]
    found = {"kind": kind, "snapshots": [snapshot("lake-k3s-1")], **options}
    assert [problem.variable for problem in planned("restore", reports, **found).problems] == ["k3s_restore_confirm"]
    assert action in acts(planned("restore", reports, confirm="lake", **found))


def test_a_restore_without_a_usable_snapshot_is_refused() -> None:
    problems = planned("restore", cluster(), kind="same_hosts", confirm="lake").problems
    assert [problem.variable for problem in problems] == ["k3s_restore_snapshot"]


def test_a_removal_concerns_the_cluster_or_nodes() -> None:
    whole = planned("remove", cluster(), confirm="lake", states=STATES)
    assert {step.host for step in whole.steps} == {*SERVERS, *AGENTS}
    some = planned("remove", cluster(), nodes=["a1", "a2"], states=STATES)
    assert {step.host for step in some.steps} == {"", "a1", "a2"}
    wrong = planned("remove", cluster(), nodes=["a1"], confirm="sea", states=STATES)
    assert [problem.variable for problem in wrong.problems] == ["k3s_remove_confirm"]
