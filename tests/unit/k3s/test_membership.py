# SPDX-License-Identifier: GPL-3.0-or-later
"""Membership: order of joins, rebuilt nodes, removals, and the majority that every step keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s import actions
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.discovery import discover
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.membership import (
    api_address,
    blankness,
    departures,
    join_plan,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    ClusterSpec,
    DataDirectory,
    HostReport,
    Member,
    Reports,
    by_host,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.plan import Plan, Step
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.quorum import (
    Voters,
    quorum,
    removal_problems,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.problem import Problem
from tests.unit.k3s.hosts import (
    AGENTS,
    DATA_DIR,
    MARKER,
    SERVERS,
    address,
    agent,
    blank,
    cluster,
    member,
    node,
    server,
    spec,
    stopped,
    system,
    unreachable,
)


def joined(asked: ClusterSpec, reports: Reports) -> Plan:
    return join_plan(asked, reports, discover(asked, reports))


def shown(plan: Plan) -> list[str]:
    return [" ".join(part for part in (step.action, step.host, step.value) if part) for step in plan.steps]


URL = "https://10.0.0.11:6443"


def test_a_new_cluster_grows_server_by_server_and_then_by_all_agents_at_once() -> None:
    plan = joined(spec(), by_host(map(blank, spec().hosts)))
    assert [(step.batch, step.action, step.host) for step in plan.steps] == [
        (1, "initialise", "s1"),
        (2, "wait_voter", "s1"),
        (3, "join_server", "s2"),
        (4, "wait_voter", "s2"),
        (5, "join_server", "s3"),
        (6, "wait_voter", "s3"),
        (7, "write_membership", "s1"),
        (8, "join_agent", "a1"),
        (8, "join_agent", "a2"),
        (9, "wait_ready", "a1"),
        (9, "wait_ready", "a2"),
    ]
    assert plan.steps[2].value == URL
    assert plan.steps[6].value == "https://10.0.0.12:6443"


def test_a_single_server_keeps_cluster_init_until_another_one_is_there() -> None:
    alone = spec(servers=("s1",), agents=())
    first = server("s1", ["s1"], configuration={"cluster-init": True})
    assert joined(alone, {"s1": first}).steps == ()
    grown = joined(spec(agents=()), by_host([first, blank("s2"), blank("s3")]))
    assert shown(grown)[-1] == "write_membership s1 https://10.0.0.12:6443"


def test_an_unreachable_agent_is_left_out_and_named() -> None:
    plan = joined(spec(), by_host([*map(blank, SERVERS), blank("a1"), unreachable("a2")]))
    assert {step.host for step in plan.steps} == {*SERVERS, "a1"}
    assert plan.notices == ("a2 is unreachable and is left as it is",)


def test_a_complete_cluster_needs_no_step() -> None:
    assert joined(spec(), cluster()).steps == ()


def test_a_refused_discovery_refuses_the_plan() -> None:
    assert joined(spec(), {"s1": unreachable("s1")}).refused


DB_3 = Member("id-s3", "db-3-0a1b2c3d", address("s3"))


def wiped(host: str) -> dict[str, HostReport]:
    """Return a healthy cluster one host of which was reinstalled."""
    return {**cluster(), host: blank(host)}


@pytest.mark.parametrize("host", SERVERS)
def test_any_wiped_server_is_cleared_and_joins_again(host: str) -> None:
    name = member(host).name
    address = URL if host != "s1" else "https://10.0.0.12:6443"
    assert shown(joined(spec(), wiped(host))) == [
        f"remove_member {name}",
        f"wait_settled {name}",
        f"delete_node {host}",
        f"delete_password {host}",
        f"join_server {host} {address}",
        f"wait_voter {host}",
    ]


def test_a_rebuilt_host_whose_node_name_the_inventory_sets_is_cleared_under_that_name() -> None:
    asked = spec(host_configuration={"s3": {"node-name": "db-3"}})
    reports = by_host([server(host, [member("s1"), member("s2"), DB_3]) for host in ("s1", "s2")])
    plan = joined(replace(asked, agents=()), {**reports, "s3": blank("s3")})
    assert shown(plan)[:4] == [
        "remove_member db-3-0a1b2c3d",
        "wait_settled db-3-0a1b2c3d",
        "delete_node db-3",
        "delete_password db-3",
    ]


def test_a_wiped_agent_is_cleared_and_joins_again_beside_a_new_one() -> None:
    asked = spec(agents=(*AGENTS, "a3"))
    plan = joined(asked, {**wiped("a1"), "a3": blank("a3")})
    assert [(step.batch, step.action, step.host or step.value) for step in plan.steps] == [
        (1, "delete_node", "a1"),
        (2, "delete_password", "a1"),
        (3, "join_agent", "a1"),
        (3, "join_agent", "a3"),
        (4, "wait_ready", "a1"),
        (4, "wait_ready", "a3"),
    ]


NOT_BLANK: dict[str, tuple[HostReport, str]] = {
    "unreachable": (unreachable("s1"), "it is unreachable"),
    "data": (blank("s1", data=DataDirectory(DATA_DIR, True, "etcd")), "a datastore"),
    "a CA": (blank("s1", data=DataDirectory(DATA_DIR, True, ca_hash="a")), "a CA"),
    "a password": (blank("s1", data=DataDirectory(DATA_DIR, node_password=True)), "the node's password"),
    "a service": (blank("s1", service="active"), "a running service"),
}


@pytest.mark.parametrize("case", NOT_BLANK)
def test_a_host_is_blank_only_on_proof(case: str) -> None:
    report, trace = NOT_BLANK[case]
    assert blankness(report).traces == (trace,)
    assert blankness(blank("s1")).proven


def test_records_of_a_host_with_its_password_are_kept() -> None:
    kept = blank("a1", data=DataDirectory(DATA_DIR, True, node_password=True))
    assert shown(joined(spec(), {**cluster(), "a1": kept})) == [f"join_agent a1 {URL}", "wait_ready a1"]


def test_a_server_that_is_only_unreachable_keeps_its_records() -> None:
    plan = joined(spec(), {**cluster(), "s1": unreachable("s1")})
    assert (plan.steps, plan.notices) == ((), ("s1 is unreachable and is left as it is",))


def test_a_stopped_member_starts_before_a_new_server_joins() -> None:
    asked = spec(servers=("s4", *SERVERS))
    reports = {**cluster(), "s2": stopped("s2"), "s4": blank("s4")}
    assert shown(joined(asked, reports)) == ["start s2", "wait_voter s2", f"join_server s4 {URL}", "wait_voter s4"]


def test_a_learner_is_waited_for_before_the_next_server_joins() -> None:
    members: list[str | Member] = ["s1", member("s2", learner=True)]
    reports = by_host([server("s1", members), server("s2", members, ready=False), blank("s3")])
    assert shown(joined(spec(agents=()), reports))[:2] == ["wait_voter s2", f"join_server s3 {URL}"]


def test_a_learner_of_no_listed_host_is_waited_for() -> None:
    members: list[str | Member] = ["s1", member("s9", learner=True)]
    reports = by_host([server("s1", members), blank("s2"), blank("s3")])
    assert shown(joined(spec(agents=()), reports))[:2] == ["wait_learners", f"join_server s2 {URL}"]


JOINING = replace(MARKER, state="joining")


def test_a_join_that_did_not_end_is_repeated() -> None:
    half = blank("s3", role="server", service="activating", data=DataDirectory(DATA_DIR, True, marker=JOINING))
    reports = by_host([server("s1", ["s1", "s2"]), server("s2", ["s1", "s2"]), half])
    assert shown(joined(spec(agents=()), reports)) == [f"join_server s3 {URL}", "wait_voter s3"]


def test_data_of_a_join_that_etcd_forgot_is_moved_aside_and_not_deleted() -> None:
    half = stopped("s3", data=replace(stopped("s3").data, marker=JOINING))
    reports = by_host([server("s1", ["s1", "s2"]), server("s2", ["s1", "s2"]), half])
    assert shown(joined(spec(agents=()), reports)) == [
        "stop s3",
        "move_aside s3",
        f"join_server s3 {URL}",
        "wait_voter s3",
    ]


def test_a_host_whose_datastore_a_restore_moved_aside_joins() -> None:
    aside = stopped("s3", data=replace(stopped("s3").data, datastore="none", marker=JOINING))
    reports = by_host([server("s1", ["s1", "s2"]), server("s2", ["s1", "s2"]), aside])
    assert shown(joined(spec(agents=()), reports)) == [f"join_server s3 {URL}", "wait_voter s3"]


REFUSED: dict[str, tuple[Iterable[HostReport], str]] = {
    "a removed member that still has its data": (
        [server("s1", ["s1", "s2"]), server("s2", ["s1", "s2"]), stopped("s3")],
        "s3 runs K3s or holds its data, and is not a member of etcd",
    ),
    "a join while a voter is unreachable": (
        [server("s1"), server("s2"), unreachable("s3"), blank("s4")],
        "cannot join s4: etcd accepts no member while s3-0a1b2c3d is not running",
    ),
    "a rebuilt server of two": (
        [server("s1", ["s1", "s2"]), blank("s2")],
        "cannot remove s2 from etcd: 1 of 2 voters are alive, 2 must agree",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_joins(case: str) -> None:
    reports, message = REFUSED[case]
    listed = by_host(reports)
    plan = joined(spec(servers=tuple(listed), agents=()), listed)
    assert plan.steps == ()
    assert message in [problem.message for problem in plan.problems]


def test_a_url_puts_ipv6_in_brackets_and_prefers_an_endpoint() -> None:
    assert api_address(spec(endpoints=("api.example.org",)), cluster(), "s1") == "https://api.example.org:6443"
    assert (
        api_address(spec(), {"s1": blank("s1", system=system("s1", addresses=("fd00::1",)))}, "s1")
        == "https://[fd00::1]:6443"
    )
    assert api_address(spec(), {}, "s1") == "https://s1:6443"


# Voters, alive, the member to remove, and a part of the message; an empty one for a permitted removal.
REMOVALS: dict[str, tuple[str, str, str, str]] = {
    "one of three": ("abc", "abc", "a", ""),
    "the lost one of three": ("abc", "ab", "c", ""),
    "the second of three while one is down": ("abc", "ab", "b", "1 of 2 would be left alive, and 2 are needed"),
    "one of two": ("ab", "ab", "b", ""),
    "one of two while the other is down": ("ab", "b", "b", "1 of 2 voters are alive, 2 must agree"),
    "the last": ("a", "a", "a", "it is the last voter"),
    "two of five are down": ("abcde", "abc", "a", "2 of 4 would be left alive, and 3 are needed"),
    "a lost one of five": ("abcde", "abc", "e", ""),
    "without a majority": ("abc", "a", "b", "1 of 3 voters are alive, 2 must agree"),
    "not a voter": ("abc", "abc", "x", ""),
}


@pytest.mark.parametrize("case", REMOVALS)
def test_removals(case: str) -> None:
    everyone, alive, name, message = REMOVALS[case]
    problems = removal_problems(Voters(frozenset(everyone), frozenset(alive)), name, name)
    assert [message in problem.message for problem in problems] == ([True] if message else [])


@pytest.mark.parametrize(("voters", "expected"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_quorum(voters: int, expected: int) -> None:
    assert quorum(voters) == expected


def leave(reports: Reports, *hosts: str, asked: ClusterSpec | None = None) -> list[str]:
    problems, leaving = departures(asked or spec(), reports, hosts)
    assert not problems
    return [f"{step.action} {step.host or step.value}" for each in leaving for step in each.steps]


def refused(reports: Reports, *hosts: str) -> Problem:
    return departures(spec(), reports, hosts)[0][0]


def test_a_node_is_drained_and_removed_from_etcd_before_it_is_stopped_and_deleted() -> None:
    assert leave(cluster(), "s1") == [
        "cordon s1",
        "drain s1",
        "remove_member s1-0a1b2c3d",
        "wait_settled s1-0a1b2c3d",
        "stop s1",
        "delete_node s1",
        "delete_password s1",
    ]


def test_an_agent_has_no_member_to_remove() -> None:
    assert leave(cluster(), "a1") == [
        "cordon a1",
        "drain a1",
        "stop a1",
        "delete_node a1",
        "delete_password a1",
    ]


def lost_third(**conditions: str) -> Reports:
    nodes = [node("s1"), node("s2"), node("s3", conditions={"Ready": "Unknown", **conditions})]
    return by_host([server("s1", SERVERS, nodes), server("s2", SERVERS, nodes), unreachable("s3")])


def test_a_lost_server_is_only_taken_out_of_the_records() -> None:
    assert leave(lost_third(), "s3") == [
        "cordon s3",
        "remove_member s3-0a1b2c3d",
        "wait_settled s3-0a1b2c3d",
        "delete_node s3",
        "delete_password s3",
    ]


def test_a_lost_server_goes_before_a_running_one() -> None:
    members = [step for step in leave(lost_third(), "s2", "s3") if step.startswith("remove_member")]
    assert members == ["remove_member s3-0a1b2c3d", "remove_member s2-0a1b2c3d"]


def test_a_removal_that_loses_the_majority_is_refused() -> None:
    problem = refused({**cluster(), "s3": unreachable("s3")}, "s2")
    assert "1 of 2 would be left alive" in problem.message
    assert "s3-0a1b2c3d" in problem.remedy


def test_a_host_that_runs_unreachably_is_not_taken_out_of_the_records() -> None:
    assert "its node is ready, so that it runs" in refused(lost_third(Ready="True"), "s3").message


def test_a_removal_without_another_server_or_a_known_name_is_refused() -> None:
    assert "no other server answers" in refused({"s1": server("s1")}, "s1").message
    assert "no other server answers" in refused(cluster(), *SERVERS).message
    assert "no member and no node s9" in refused(cluster(), "s9").message


@dataclass
class Simulation:
    """etcd as far as plans concern it. A step that etcd would refuse fails the test."""

    voting: set[str]
    alive: set[str]
    learners: set[str] = field(default_factory=set)

    @property
    def has_quorum(self) -> bool:
        return len(self.voting & self.alive) >= quorum(len(self.voting))

    def run(self, step: Step) -> None:
        if step.action == actions.REMOVE_MEMBER:
            host = step.value.rsplit("-", 1)[0]
            assert self.has_quorum
            self.voting.discard(host)
            self.learners.discard(host)
        elif step.action in (actions.START, actions.INITIALISE):
            self.alive.add(step.host)
        elif step.action == actions.JOIN_SERVER:
            assert self.has_quorum
            assert self.voting <= self.alive, "etcd: unhealthy cluster"
            assert not self.learners, "etcd: too many learner members"
            self.learners.add(step.host)
            self.alive.add(step.host)
        elif step.action == actions.WAIT_VOTER:
            self.learners.discard(step.host)
            self.voting.add(step.host)
        assert self.has_quorum or not self.voting


@st.composite
def clusters(draw: st.DrawFn) -> Mapping[str, str]:
    """Return the kind of each server: a majority of one to five members answers, and new blank ones may be listed."""
    count = draw(st.integers(1, 5))
    away = draw(st.integers(0, count - quorum(count)))
    kinds = ["answers"] * (count - away)
    kinds += draw(st.lists(st.sampled_from(["stopped", "unreachable", "wiped"]), min_size=away, max_size=away))
    kinds += ["blank"] * draw(st.integers(0, 2))
    return {f"s{number}": kind for number, kind in enumerate(draw(st.permutations(kinds)), 1)}


def reports_of(kinds: Mapping[str, str]) -> dict[str, Any]:
    members = [host for host, kind in kinds.items() if kind != "blank"]
    makers = {
        "answers": lambda host: server(host, members),
        "stopped": stopped,
        "unreachable": unreachable,
        "blank": blank,
        "wiped": blank,
    }
    return {host: makers[kind](host) for host, kind in kinds.items()}


@given(clusters())
def test_every_planned_step_keeps_a_majority_and_the_plan_completes_the_cluster(kinds: Mapping[str, str]) -> None:
    members = {host for host, kind in kinds.items() if kind != "blank"}
    alive = {host for host, kind in kinds.items() if kind == "answers"}
    reports = reports_of(kinds)
    plan = joined(spec(servers=tuple(kinds), agents=()), reports)
    etcd = Simulation(set(members), set(alive))
    for step in plan.steps:
        etcd.run(step)
    if not plan.refused:
        reachable = {host for host, kind in kinds.items() if kind != "unreachable"}
        assert etcd.voting >= reachable
        assert etcd.alive >= reachable
    else:
        assert "unreachable" in kinds.values() or any("must agree" in str(problem) for problem in plan.problems)


@given(clusters(), st.data())
def test_a_planned_removal_keeps_a_majority(kinds: Mapping[str, str], data: st.DataObject) -> None:
    members = {host for host, kind in kinds.items() if kind != "blank"}
    alive = {host for host, kind in kinds.items() if kind == "answers"}
    host = data.draw(st.sampled_from(sorted(members)))
    problems, leaving = departures(spec(servers=tuple(kinds), agents=()), reports_of(kinds), [host])
    etcd = Simulation(set(members), set(alive))
    for step in [step for each in leaving if not problems for step in each.steps]:
        etcd.run(step)
        if step.action == actions.STOP:
            etcd.alive.discard(step.host)
            assert etcd.has_quorum
    assert problems or host not in etcd.voting


def test_every_action_is_in_the_table() -> None:
    used = {step.action for host in SERVERS for step in joined(spec(), wiped(host)).steps}
    assert used <= actions.ACTIONS.keys()
    named = {value for name, value in vars(actions).items() if name.isupper() and isinstance(value, str)}
    assert named == actions.ACTIONS.keys()


def test_a_running_agent_whose_node_is_not_ready_is_started_again() -> None:
    nodes = [*map(node, SERVERS), node("a1", server=False, conditions={"Ready": "False"})]
    reports = {**{host: server(host, SERVERS, nodes) for host in SERVERS}, "a1": agent("a1")}
    assert shown(joined(spec(agents=("a1",)), reports)) == [f"join_agent a1 {URL}", "wait_ready a1"]


@pytest.mark.parametrize("host", ["s3", "a1"])
def test_records_of_a_node_that_runs_on_another_machine_are_not_cleared(host: str) -> None:
    """A blank machine of the same name replaced one that continues to run."""
    asked = spec(agents=("a1",))
    for addresses, conditions, refused in (
        ((address(host),), {"Ready": "True"}, False),
        (("10.9.9.9",), {"Ready": "True"}, True),
        (("10.9.9.9",), {"Ready": "Unknown"}, False),
    ):
        nodes = [node(one, addresses=(address(one),)) for one in (*SERVERS, "a1") if one != host]
        nodes.append(node(host, addresses=addresses, conditions=conditions))
        reports = {**{one: server(one, SERVERS, nodes) for one in SERVERS}, "a1": agent("a1"), host: blank(host)}
        plan = join_plan(asked, reports, discover(asked, reports))
        assert [f"runs at {addresses[0]}" in problem.message for problem in plan.problems] == [True] * refused
