# SPDX-License-Identifier: GPL-3.0-or-later
"""The production database survives the loss of its primary: no acknowledged data is lost, without manual actions.

It uses the cluster of KUBECONFIG, if its nodes run pods and CloudNativePG is installed. The objects are those of the
catalogue. One database serves this file, and each test restores its state.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from tests.integration.kube.applying import Shop, actions
from tests.integration.kube.cluster import Cluster
from tests.integration.kube.database import SERVICE, Database, Written, until

# The lost primary's lease lasts for 15 s of it, so that there are never two.
TAKEN_OVER_S = 90.0
HEALED_S = 300.0
ROLES = ["primary", "replica", "replica"]
Note = Callable[[str], None]
REPLICATION = "SELECT state, sync_state FROM pg_stat_replication"


@pytest.fixture(scope="module")
def database(operated_cluster: Cluster) -> Iterator[Database]:
    namespace = f"lakehouse-test-{os.getpid()}-failover"
    with operated_cluster.client() as client:
        database = Database(Shop(operated_cluster, namespace, client))
        try:
            database.shop.run(database.rendered["namespace"])
            database.keep_secrets()
            database.apply()
            yield database
        finally:
            database.remove()


def test_it_comes_up_as_described_and_a_second_run_changes_nothing(database: Database) -> None:
    assert database.apply(check=True)["changed"] is False
    assert database.apply()["changed"] is False
    assert sorted(database.instances().values()) == ROLES
    assert database.ailing() == {}


def test_text_sorts_as_on_every_other_target(database: Database) -> None:
    template = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'template1'"
    assert database.ask(template) == ["b|C.UTF-8"]


def test_a_commit_waits_until_another_instance_has_it(database: Database) -> None:
    (names,) = database.ask("SHOW synchronous_standby_names")
    assert names.startswith("ANY 1 (")
    assert database.ask(REPLICATION) == ["streaming|quorum", "streaming|quorum"]


def test_clients_verify_whom_they_talk_to(database: Database) -> None:
    assert database.ask("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == ["t"]
    service = database.shop.get("services", f"{SERVICE}-rw")
    assert service is not None
    elsewhere = database.complaint(PGHOST=service["spec"]["clusterIP"])
    assert "server certificate for" in elsewhere
    assert "does not match host name" in elsewhere


def test_a_primary_that_is_taken_away_is_replaced_and_comes_back_as_a_replica(database: Database, note: Note) -> None:
    lost = database.primary
    identity = database.identity(lost)
    with database.writing() as written:
        outage = ride_out(database, lambda: database.kill_pod(lost), lambda seen: not seen and database.primary != lost)
        _goes_on(written)
        pause_s = _lost_nothing(database, written())
    note(f"primary taken away: another after {outage.taken_over_s:.1f} s, writers waited {pause_s:.1f} s at most")
    place = database.shop.namespace
    assert outage.taken_over_s < TAKEN_OVER_S
    assert outage.worst[f"services/{SERVICE}"] == "unhealthy"
    assert outage.worst[f"network/{place}/service/{SERVICE}-rw"] == "unhealthy"
    assert outage.worst[f"workloads/{place}/cluster/{SERVICE}"] in ("degraded", "unhealthy")
    assert database.identity(lost) not in ("", identity)
    assert database.instances()[lost] == "replica"
    assert lost in database.ask("SELECT application_name FROM pg_stat_replication")
    _is_as_described(database)


def test_a_primary_whose_server_is_killed_is_repaired_or_replaced(database: Database, note: Note) -> None:
    lost = database.primary
    # The operator decides whether the others wait for it; health reports its end for a while.
    remark = {f"pods/{database.shop.namespace}/{lost}": "degraded"}
    with database.writing() as written:
        ride_out(database, database.kill_server, lambda seen: seen == remark)
        _goes_on(written)
        pause_s = _lost_nothing(database, written())
    note(f"server of the primary killed: writers waited {pause_s:.1f} s at most")
    _is_as_described(database)


def test_a_new_password_of_the_superuser_is_taken_while_it_runs(database: Database) -> None:
    before = {name: database.identity(name) for name in database.instances()}
    database.keep_secrets(rotate=True)
    assert actions(database.apply())[f"Secret {SERVICE}-superuser"] == "update"
    database.log_in()
    assert {name: database.identity(name) for name in database.instances()} == before
    _is_as_described(database)


@dataclass
class Outage:
    """Observations from the loss of a primary on. worst: the worst verdict of each unhealthy check."""

    worst: dict[str, str] = field(default_factory=dict)
    taken_over_s: float = math.inf


def ride_out(database: Database, kill: Callable[[], None], is_over: Callable[[dict[str, str]], bool]) -> Outage:
    """Kill, and observe until every instance is ready, one of them is the primary, and health reports the end."""
    outage, lost = Outage(), database.primary
    with ThreadPoolExecutor(1) as beside:
        begun_s = time.monotonic()
        killed = beside.submit(kill)
        while True:
            ailing = database.ailing()
            outage.worst |= {name: said for name, said in ailing.items() if outage.worst.get(name) != "unhealthy"}
            passed_s = time.monotonic() - begun_s
            if database.primary not in ("", lost):
                outage.taken_over_s = min(outage.taken_over_s, passed_s)
            roles = sorted(database.instances().values())
            if killed.done() and roles == ROLES and is_over(ailing):
                killed.result()
                return outage
            assert passed_s < HEALED_S, ailing
            time.sleep(0.1)


def _goes_on(written: Callable[[], Written]) -> None:
    """Assert that the existing writer continues, at its former address."""
    last = max(written().commits)
    until(lambda: max(written().commits) > last + 20, "writes go on", TAKEN_OVER_S)


def _lost_nothing(database: Database, told: Written) -> float:
    """Return the writer's pause, which is short, and assert that every acknowledged row exists."""
    kept = {int(line) for line in database.ask("SELECT number FROM kept")}
    assert sorted(set(told.commits) - kept) == []
    assert told.longest_pause_s < TAKEN_OVER_S
    return told.longest_pause_s


def _is_as_described(database: Database) -> None:
    assert sorted(database.instances().values()) == ROLES
    assert database.ask(REPLICATION) == ["streaming|quorum", "streaming|quorum"]
    assert database.apply()["changed"] is False
