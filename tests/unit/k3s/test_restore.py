# SPDX-License-Identifier: GPL-3.0-or-later
"""The three restores: order, refusals, and no server that continues with former data beside the restored cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.install import install_plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    DataDirectory,
    Etcd,
    HostReport,
    Marker,
    by_host,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.restore import (
    confirmation_problems,
    new_hosts_plan,
    quorum_loss_plan,
    same_hosts_plan,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.snapshots import Escrow, Snapshot
from tests.unit.k3s.hosts import (
    DATA_DIR,
    MARKER,
    OTHER_CA,
    SERVERS,
    VERSION,
    blank,
    cluster,
    server,
    spec,
    stopped,
    unreachable,
)
from tests.unit.k3s.world import World

TOKEN = "0123456789ab"
SNAPSHOT = Snapshot(
    "lake-k3s-1",
    1.0,
    100,
    host="s2",
    verified=True,
    version=VERSION,
    cluster_id=MARKER.cluster_id,
    token_hash=TOKEN,
    nodes=("s1", "old2", "old3"),
)
ESCROW = Escrow(MARKER.cluster_id, TOKEN)
ALONE = spec(agents=())


def shown(plan: Plan) -> list[str]:
    return [f"{step.batch} {step.action} {step.host or step.value}" for step in plan.steps]


def messages(plan: Plan) -> str:
    assert plan.steps == ()
    assert all(problem.remedy for problem in plan.problems)
    return "\n".join(problem.message for problem in plan.problems)


def test_a_restore_asks_for_the_name_of_the_cluster() -> None:
    assert confirmation_problems(spec(), "lake") == []
    for wrong in ("", "Lake", "yes"):
        assert confirmation_problems(spec(), wrong)[0].variable == "k3s_restore_confirm"


def test_on_the_same_hosts_all_servers_stop_and_join_the_one_that_is_restored() -> None:
    plan = same_hosts_plan(spec(), cluster(), SNAPSHOT, [])
    assert shown(plan) == [
        "1 verify_snapshot s2",
        "2 stop s1",
        "2 stop s2",
        "2 stop s3",
        "3 restore s2",
        "4 start s2",
        "5 wait_voter s2",
        "6 move_aside s1",
        "7 join_server s1",
        "8 wait_voter s1",
        "9 move_aside s3",
        "10 join_server s3",
        "11 wait_voter s3",
        "12 write_membership s2",
        "13 wait_ready a1",
        "13 wait_ready a2",
    ]


def test_a_snapshot_in_s3_is_restored_on_the_first_server() -> None:
    plan = same_hosts_plan(spec(), cluster(), replace(SNAPSHOT, location="s3", host=""), [])
    assert [step.host for step in plan.steps if step.action == actions.RESTORE] == ["s1"]


def test_a_rotated_token_comes_back_from_the_escrow() -> None:
    reports = {
        host: replace(report, data=replace(report.data, token_hash="other")) for host, report in cluster().items()
    }
    assert "4 restore s2" in shown(same_hosts_plan(spec(), reports, SNAPSHOT, [ESCROW]))
    assert "3 place_escrow s2" in shown(same_hosts_plan(spec(), reports, SNAPSHOT, [ESCROW]))
    assert "neither on s2 nor in an escrow" in messages(same_hosts_plan(spec(), reports, SNAPSHOT, []))


def test_an_unreachable_server_refuses_a_restore_on_the_same_hosts() -> None:
    plan = same_hosts_plan(spec(), {**cluster(), "s3": unreachable("s3")}, SNAPSHOT, [])
    assert "s3 cannot be reached and would go on with the former data" in messages(plan)


@pytest.mark.parametrize("version", ["v1.33.7+k3s3", "v1.36.1+k3s1", "v2.0.0+k3s1"])
def test_another_release_than_that_of_the_snapshot_refuses_a_restore(version: str) -> None:
    assert f"which {version} cannot restore" in messages(
        same_hosts_plan(spec(version=version), cluster(), SNAPSHOT, [])
    )


def test_a_snapshot_of_the_former_minor_is_restored() -> None:
    assert not same_hosts_plan(spec(), cluster(), replace(SNAPSHOT, version="v1.33.7+k3s3"), []).refused


def alive(host: str, index: int = 0, **given: Any) -> HostReport:
    """Return a server that runs without a majority; an index of 0 means unknown."""
    etcd = Etcd("c1", f"id-{host}", raft_index=index) if index else None
    return replace(server(host), ready=False, etcd=etcd, **given)


def test_after_the_loss_of_two_of_three_the_survivor_is_reset_and_the_others_join() -> None:
    plan = quorum_loss_plan(ALONE, by_host([alive("s1"), blank("s2"), unreachable("s3")]), lost=["s3"])
    assert shown(plan) == [
        "1 stop s1",
        "2 copy_aside s1",
        "3 reset s1",
        "4 start s1",
        "5 wait_voter s1",
        "6 delete_node s2",
        "7 delete_password s2",
        "8 join_server s2",
        "9 wait_voter s2",
        "10 write_membership s1",
    ]
    assert plan.notices == ("s3 is lost: take it out of the inventory or rebuild it",)


def test_the_survivor_with_the_most_recent_data_is_reset() -> None:
    five = spec(servers=("s1", "s2", "s3", "s4", "s5"), agents=())
    reports = by_host([alive("s1", 7), alive("s2", 9), blank("s3"), blank("s4"), blank("s5")])
    plan = quorum_loss_plan(five, reports)
    assert [step.host for step in plan.steps if step.action == actions.RESET] == ["s2"]
    assert [step.host for step in plan.steps if step.action == actions.STOP] == ["s1", "s2"]
    assert [step.host for step in plan.steps if step.action == actions.MOVE_ASIDE] == ["s1"]


def test_a_survivor_can_be_named_where_data_cannot_be_compared() -> None:
    reports = by_host([stopped("s1"), stopped("s2"), blank("s3")])
    assert "cannot be compared" in messages(quorum_loss_plan(ALONE, reports))
    named = quorum_loss_plan(ALONE, reports, host="s2")
    assert [step.host for step in named.steps if step.action == actions.RESET] == ["s2"]


def test_a_restore_that_ended_after_the_reset_lets_the_other_servers_join() -> None:
    reports = by_host([server("s1", ["s1"]), stopped("s2"), blank("s3")])
    assert shown(quorum_loss_plan(ALONE, reports)) == [
        "1 stop s2",
        "2 move_aside s2",
        "3 join_server s2",
        "4 wait_voter s2",
        "5 delete_node s3",
        "6 delete_password s3",
        "7 join_server s3",
        "8 wait_voter s3",
        "9 write_membership s1",
    ]


FOREIGN = DataDirectory(DATA_DIR, True, "etcd", "a" * 64, Marker("other", "x"), True)
REFUSED: dict[str, tuple[Mapping[str, HostReport], list[str], str, str]] = {
    "a cluster that answers": (cluster(agents=()), [], "", "s1 answers, so the majority is not lost"),
    "servers that may run elsewhere": (
        by_host([alive("s1"), unreachable("s2"), unreachable("s3")]),
        ["s2"],
        "",
        "s3 cannot be reached and may still run the cluster",
    ),
    "a lost server that answers": (
        by_host([alive("s1"), blank("s2"), blank("s3")]),
        ["s2"],
        "",
        "s2 is not an unreachable",
    ),
    "a lost server that is not listed": (by_host([alive("s1"), blank("s2"), blank("s3")]), ["x"], "", "x is not an"),
    "two clusters that answer": (
        by_host([server("s1", ["s1"]), server("s2", ["s2"], cluster="c2"), blank("s3")]),
        [],
        "",
        "s2 answers and is not a member of the cluster of s1",
    ),
    "no survivor": (by_host([blank("s1"), blank("s2"), blank("s3")]), [], "", "no reachable server holds a datastore"),
    "data of another cluster": (
        by_host([stopped("s1", data=FOREIGN), blank("s2"), blank("s3")]),
        [],
        "",
        "another cluster",
    ),
    "two CAs": (
        by_host(
            [alive("s1", 1), replace(alive("s2", 2), data=replace(alive("s2").data, ca_hash=OTHER_CA)), blank("s3")]
        ),
        [],
        "",
        "the survivors hold data of several clusters",
    ),
    "another release": (
        by_host([alive("s1", version="v1.33.7+k3s1"), blank("s2"), blank("s3")]),
        [],
        "",
        "s1 has v1.33.7+k3s1, not v1.34.3+k3s1",
    ),
    "a host without data": (by_host([alive("s1"), blank("s2"), blank("s3")]), [], "s2", "s2 holds no datastore"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_resets(case: str) -> None:
    reports, lost, host, message = REFUSED[case]
    assert message in messages(quorum_loss_plan(ALONE, reports, lost, host))


def test_new_hosts_become_the_cluster_of_a_snapshot_with_nothing_but_its_escrow() -> None:
    asked = spec(agents=("a1",))
    plan = new_hosts_plan(asked, by_host(map(blank, asked.hosts)), SNAPSHOT, [ESCROW])
    assert shown(plan) == [
        "1 place_escrow s1",
        "2 place_snapshot s1",
        "3 verify_snapshot s1",
        "4 restore s1",
        "5 start s1",
        "6 wait_voter s1",
        "7 delete_password old2",
        "8 delete_password old3",
        "9 delete_password s2",
        "10 delete_password s3",
        "11 delete_password a1",
        "12 delete_node old2",
        "13 delete_node old3",
        "14 join_server s2",
        "15 wait_voter s2",
        "16 join_server s3",
        "17 wait_voter s3",
        "18 write_membership s1",
        "19 join_agent a1",
        "20 wait_ready a1",
    ]


def test_a_restore_onto_new_hosts_that_ended_before_the_first_start_is_repeated() -> None:
    begun = replace(MARKER, state="initialising")
    data = replace(stopped("s1").data, marker=begun)
    reports = by_host(blank(host, data=data) if host == "s1" else blank(host) for host in SERVERS)
    assert shown(new_hosts_plan(ALONE, reports, SNAPSHOT, [ESCROW]))[0] == "1 place_escrow s1"
    reports["s1"] = replace(reports["s1"], service="activating")
    problem = new_hosts_plan(ALONE, reports, SNAPSHOT, [ESCROW]).problems[0]
    assert "its restore has begun" in problem.message
    assert "k3s_install" in problem.remedy
    reports["s1"] = blank("s1", data=replace(data, marker=replace(begun, cluster_id="other")))
    assert "s1 is not blank" in messages(new_hosts_plan(ALONE, reports, SNAPSHOT, [ESCROW]))


def test_a_snapshot_of_the_controller_is_copied_before_anything_stops() -> None:
    found = shown(same_hosts_plan(spec(), cluster(), replace(SNAPSHOT, host=""), []))
    assert found[:3] == ["1 place_snapshot s1", "2 verify_snapshot s1", "3 stop s1"]


def test_hosts_that_are_not_blank_or_a_snapshot_without_escrow_refuse_a_restore_onto_new_hosts() -> None:
    reports = by_host([blank("s1"), stopped("s2"), unreachable("s3")])
    text = messages(new_hosts_plan(ALONE, reports, SNAPSHOT, []))
    assert "s2 is not blank: a datastore, a CA, the node's password" in text
    assert "s3 is not blank: it is unreachable" in text
    assert "lake-k3s-1 has no escrow" in text


kinds = st.sampled_from(["answers", "alive", "stopped", "blank", "unreachable"])
MAKERS = {
    "answers": server,
    "alive": lambda host: alive(host, 5),
    "stopped": stopped,
    "blank": blank,
    "unreachable": unreachable,
}


@given(st.tuples(kinds, kinds, kinds), st.sets(st.sampled_from(SERVERS)), st.sampled_from(["same", "lost", "new"]))
def test_no_server_goes_on_with_former_data_beside_a_restored_one(
    found: tuple[str, ...], lost: set[str], how: str
) -> None:
    reports = by_host(MAKERS[kind](host) for host, kind in zip(SERVERS, found, strict=True))
    plans = {
        "same": lambda: same_hosts_plan(ALONE, reports, SNAPSHOT, [ESCROW]),
        "lost": lambda: quorum_loss_plan(ALONE, reports, sorted(lost)),
        "new": lambda: new_hosts_plan(ALONE, reports, SNAPSHOT, [ESCROW]),
    }
    running = {host for host, report in reports.items() if report.service in ("active", "activating")}
    holding = {host for host, report in reports.items() if report.holds_data}
    for step in plans[how]().steps:
        if step.action == actions.STOP:
            running.discard(step.host)
        elif step.action in (actions.RESTORE, actions.RESET):
            assert not running
            holding.discard(step.host)
        elif step.action == actions.MOVE_ASIDE:
            holding.discard(step.host)
        elif step.action in (actions.JOIN_SERVER, actions.START):
            assert step.host not in holding
            running.add(step.host)


ALONE_STEPS = 14


@pytest.mark.parametrize("end", range(ALONE_STEPS + 1))
def test_a_restore_after_a_lost_majority_that_ends_anywhere_is_completed_by_the_next_run(end: int) -> None:
    world = World(ALONE)
    world.run(install_plan(ALONE, world.reports()).steps)
    world.wipe("s2")
    world.wipe("s3")
    world.lost = True
    first = quorum_loss_plan(ALONE, world.reports()).steps
    assert len(first) == ALONE_STEPS
    world.run(first[:end])
    again = quorum_loss_plan(ALONE, world.reports())
    assert not again.refused or "use `k3s_install`" in again.problems[0].remedy
    world.run(again.steps)
    world.run(install_plan(ALONE, world.reports()).steps)
    assert (world.voters, world.clusters) == (set(SERVERS), 1)
    assert install_plan(ALONE, world.reports()).steps == ()
