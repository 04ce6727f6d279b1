# SPDX-License-Identifier: GPL-3.0-or-later
"""Discovery: one cluster, never two. Every case that is not a first installation or a running cluster is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.discovery import discover
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.model import (
    ClusterSpec,
    DataDirectory,
    HostReport,
    Marker,
    by_host,
)
from tests.unit.k3s.hosts import (
    CA,
    DATA_DIR,
    MARKER,
    OTHER_CA,
    SERVERS,
    agent,
    blank,
    cluster,
    server,
    spec,
    stopped,
    unreachable,
)

FOREIGN = Marker("other", "22222222-2222-4222-8222-222222222222")
UNFINISHED = replace(MARKER, state="initialising")


def data(marker: Marker | None = MARKER, ca: str = CA, datastore: Any = "etcd") -> DataDirectory:
    return DataDirectory(DATA_DIR, True, datastore, ca, marker, True)


def three(*reports: HostReport, asked: ClusterSpec | None = None) -> Any:
    return discover(asked or spec(agents=()), by_host(reports))


def test_blank_hosts_that_all_answer_become_a_cluster_on_the_first_server() -> None:
    found = discover(spec(), by_host(map(blank, spec().hosts)))
    assert (found.decision, found.first) == ("initialise", "s1")


def test_an_unreachable_agent_does_not_hold_up_a_new_cluster() -> None:
    found = discover(spec(), by_host([*map(blank, SERVERS), blank("a1"), unreachable("a2")]))
    assert found.decision == "initialise"


def test_a_running_cluster_is_found_with_its_identity() -> None:
    found = discover(spec(), cluster())
    assert (found.decision, found.answering, found.absent) == ("existing", SERVERS, ())
    assert found.identity is not None
    assert (found.identity.ca_hash, found.identity.etcd_id) == (CA, "c1")


def test_a_wiped_first_server_joins_the_cluster_of_the_others() -> None:
    found = three(blank("s1"), server("s2"), server("s3"))
    assert (found.decision, found.answering) == ("existing", ("s2", "s3"))


def test_a_first_server_that_is_only_unreachable_does_not_become_a_second_cluster() -> None:
    found = three(unreachable("s1"), server("s2"), server("s3"))
    assert (found.decision, found.absent) == ("existing", ("s1",))


def test_a_limit_changes_nothing_since_a_host_without_a_report_counts_as_unreachable() -> None:
    assert three(blank("s1")).decision == "refuse"
    assert three(server("s2")).decision == "existing"


def test_an_interrupted_initialisation_is_resumed() -> None:
    half = replace(stopped("s1"), data=data(UNFINISHED), service="failed")
    assert (three(half, blank("s2"), blank("s3")).decision, three(half, blank("s2"), blank("s3")).first) == (
        "resume",
        "s1",
    )
    starting = replace(
        blank("s1"), role="server", service="activating", data=replace(data(UNFINISHED), datastore="none", ca_hash="")
    )
    assert three(starting, blank("s2"), blank("s3")).decision == "resume"


def test_a_marker_without_data_or_service_is_initialised_again() -> None:
    marked = blank("s1", data=DataDirectory(DATA_DIR, True, marker=UNFINISHED))
    assert three(marked, blank("s2"), blank("s3")).decision == "initialise"


def running(host: str, **given: Any) -> HostReport:
    """Return a server whose service runs and whose API is not ready."""
    return replace(server(host), ready=False, etcd=None, **given)


REFUSED: dict[str, tuple[tuple[HostReport, ...], str]] = {
    "two clusters": (
        (server("s1", cluster="c1"), server("s2", cluster="c2"), server("s3", cluster="c2")),
        "the hosts belong to 2 clusters (s1: etcd c1, CA aaaaaaaaaaaa; s2, s3: etcd c2, CA aaaaaaaaaaaa)",
    ),
    "two CAs": ((server("s1"), server("s2", data=data(ca=OTHER_CA)), blank("s3")), "the hosts belong to 2 clusters"),
    "two ids in markers": (
        (server("s1"), server("s2", data=data(replace(MARKER, cluster_id="3"))), blank("s3")),
        "the markers of the servers name 2 clusters",
    ),
    "a cluster of others": ((server("s1", data=data(None)), blank("s2"), blank("s3")), "did not create"),
    "a cluster of another name": (
        (server("s1", data=data(FOREIGN)), blank("s2"), blank("s3")),
        "s1 belongs to the cluster other, not lake",
    ),
    "first unreachable, the others blank": (
        (unreachable("s1"), blank("s2"), blank("s3")),
        "no server answers, and s1 cannot be reached: the cluster may exist there",
    ),
    "last unreachable, the others blank": ((blank("s1"), blank("s2"), unreachable("s3")), "s3 cannot be reached"),
    "leftover data": ((blank("s1"), stopped("s2"), blank("s3")), "no server answers, and s2 holds data of lake"),
    "leftover CA": (
        (blank("s1", data=data(datastore="none")), blank("s2"), blank("s3")),
        "no server answers, and s1 holds data of lake",
    ),
    "leftover foreign data": ((stopped("s1", data=data(FOREIGN)), blank("s2"), blank("s3")), "data of another cluster"),
    "foreign data beside a cluster": (
        (server("s1"), server("s2"), stopped("s3", data=data(MARKER, OTHER_CA))),
        "s3 holds data of another cluster",
    ),
    "a foreign marker beside a cluster": (
        (server("s1"), server("s2"), stopped("s3", data=data(FOREIGN))),
        "s3 holds data of another cluster",
    ),
    "SQLite beside a cluster": (
        (server("s1"), server("s2"), running("s3", data=data(datastore="sqlite"))),
        "s3 holds data of another cluster",
    ),
    "SQLite alone": ((running("s1", data=data(None, datastore="sqlite")), blank("s2"), blank("s3")), "another cluster"),
    "lost majority": (
        (running("s1"), blank("s2"), blank("s3")),
        "s1 runs K3s, but no server is ready: it starts, or the majority of servers is lost",
    ),
    "a service with another data directory (k3s#10471)": (
        (replace(blank("s1"), role="server", service="active"), blank("s2"), blank("s3")),
        "s1 runs K3s, but no server is ready",
    ),
    "two unfinished initialisations": (
        (stopped("s1", data=data(UNFINISHED)), stopped("s2", data=data(UNFINISHED)), blank("s3")),
        "holds data of lake",
    ),
    "unfinished beside other data": (
        (stopped("s1", data=data(UNFINISHED)), stopped("s2"), blank("s3")),
        "s2 holds data of lake",
    ),
    "unfinished beside an unreachable server": (
        (stopped("s1", data=data(UNFINISHED)), unreachable("s2"), blank("s3")),
        "s2 cannot be reached",
    ),
    "an agent listed as server": (
        (server("s1"), server("s2"), agent("s3")),
        "s3 is listed as server and set up as agent",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_every_other_case_is_refused_with_a_remedy(case: str) -> None:
    reports, message = REFUSED[case]
    found = three(*reports)
    assert found.decision == "refuse"
    assert message in " ".join(problem.message for problem in found.problems)
    assert all(problem.remedy for problem in found.problems)


def test_a_server_listed_as_agent_is_refused() -> None:
    found = discover(
        spec(servers=("s1",), agents=("s2",)), by_host([server("s1", ["s1", "s2"]), server("s2", ["s1", "s2"])])
    )
    assert [problem.message for problem in found.problems] == ["s2 is listed as agent and set up as server"]


def test_a_server_that_is_not_listed_is_refused() -> None:
    found = discover(
        spec(servers=("s1",), agents=()), by_host([server("s1", ["s1", "s2"]), server("s2", ["s1", "s2"])])
    )
    assert "s2 runs a server and is in neither" in found.problems[0].message


def test_a_cluster_of_another_ca_than_the_recorded_one_is_refused() -> None:
    asked = spec(agents=(), ca_hash=OTHER_CA)
    assert "not the one that is recorded for lake" in three(*map(server, SERVERS), asked=asked).problems[0].message
    assert "data of another cluster" in three(stopped("s1"), blank("s2"), blank("s3"), asked=asked).problems[0].message
    assert three(*map(server, SERVERS), asked=spec(agents=(), ca_hash=CA)).decision == "existing"


def test_no_server_in_the_inventory_is_refused() -> None:
    assert discover(spec(servers=(), agents=()), {}).decision == "refuse"


markers = st.sampled_from([None, MARKER, UNFINISHED, FOREIGN])


@st.composite
def reports(draw: st.DrawFn, host: str) -> HostReport:
    kind = draw(st.sampled_from(["blank", "unreachable", "answers", "stopped", "running", "agent"]))
    if kind == "unreachable":
        return unreachable(host)
    if kind == "blank":
        return blank(host, service=draw(st.sampled_from(["absent", "inactive", "failed", "activating"])))
    if kind == "agent":
        return agent(host)
    held = data(
        draw(markers), draw(st.sampled_from([CA, OTHER_CA, ""])), draw(st.sampled_from(["etcd", "sqlite", "none"]))
    )
    if kind == "answers":
        return server(host, cluster=draw(st.sampled_from(["c1", "c2"])), data=replace(held, datastore="etcd"))
    return stopped(host, data=held) if kind == "stopped" else running(host, data=held)


inventories = st.tuples(*map(reports, ("s1", "s2", "s3")))


@given(inventories)
def test_a_cluster_is_initialised_only_on_hosts_that_are_all_reachable_and_hold_nothing(
    hosts: tuple[HostReport, ...],
) -> None:
    found = three(*hosts)
    if found.decision == "initialise":
        assert all(report.reachable and not report.holds_data and not report.answers for report in hosts)
        assert not any(report.service in ("active", "activating") for report in hosts)
    if found.decision == "resume":
        others = [report for report in hosts if report.host != found.first]
        assert all(report.reachable and not report.holds_data and not report.answers for report in others)
    assert (found.decision == "refuse") == bool(found.problems)


@given(inventories)
def test_a_run_never_serves_two_clusters(hosts: tuple[HostReport, ...]) -> None:
    found = three(*hosts)
    answering = [report for report in hosts if report.answers]
    if answering:
        assert found.decision in ("existing", "refuse")
    if found.decision == "existing":
        assert len({(report.data.ca_hash, report.etcd.cluster_id) for report in answering if report.etcd}) == 1
        assert all(report.data.marker and report.data.marker.cluster == "lake" for report in answering)
        assert {report.data.ca_hash for report in hosts if report.holds_data} <= {answering[0].data.ca_hash, ""}


@given(inventories, st.permutations(["s1", "s2", "s3"]))
def test_the_order_of_reports_does_not_matter(hosts: tuple[HostReport, ...], order: list[str]) -> None:
    by_name = by_host(hosts)
    assert discover(spec(agents=()), by_name) == discover(spec(agents=()), {name: by_name[name] for name in order})
