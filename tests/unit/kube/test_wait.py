# SPDX-License-Identifier: GPL-3.0-or-later
"""The wait: no missed event, no duplicate request after any failure, and an end in time."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ApiError,
    ConfigError,
    UnreachableError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Identity
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.verdict import Failed, Ready, Waiting
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.wait import (
    Waited,
    late_binding,
    wait_gone,
    wait_ready,
)
from ansible_collections.crypto_lakehouse.platform.tests.unit.kube.scripted import Scripted, expired, later
from tests.sweep import examples

API = Identity("apps/v1", "Deployment", "shop", "api")
WEB = Identity("apps/v1", "Deployment", "shop", "web")
CLAIM = Identity("v1", "PersistentVolumeClaim", "shop", "data")
POD = Identity("v1", "Pod", "shop", "api-0")
PATH = "/apis/apps/v1/namespaces/shop/deployments"
ENOUGH_S = 60.0
DEADLINE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too slow"}


def deployment(available: int, **said: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), available)
    return {"spec": {"replicas": 1}, "status": {**counts, **said}}


def waited(cluster: Scripted, *identities: Identity, timeout_s: float = ENOUGH_S, **options: Any) -> list[Waited]:
    return wait_ready(cluster.client, cluster.discovery, identities, timeout_s, **options)


def of_deployments(cluster: Scripted) -> Counter[str]:
    return Counter(method for method, path in cluster.requests if path == PATH)


def test_a_failure_ends_the_wait_of_its_object_and_of_no_other() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0, conditions=[DEADLINE]))
    cluster.put(WEB, **deployment(0))
    thread = later(0.2, lambda: cluster.put(WEB, **deployment(1)))
    api, web = waited(cluster, API, WEB)
    thread.join()
    assert api.has_failed
    assert "no progress within 600 s (ProgressDeadlineExceeded: too slow)" in str(api)
    assert web.is_ready
    assert api.duration_s < web.duration_s < ENOUGH_S / 2


def test_when_the_time_is_up_it_says_what_was_seen_last() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    started_s = time.monotonic()
    (api,) = waited(cluster, API, timeout_s=0.4)
    assert 0.4 <= time.monotonic() - started_s < ENOUGH_S
    assert (api.status, api.is_ready, api.has_failed) == (Waiting("0 of 1 pod updated"), False, False)
    assert re.match(r"Deployment shop/api \(apps/v1\) is not ready after \d+ s: 0 of 1 pod updated", str(api))


def test_what_is_ready_costs_one_list_for_each_resource_and_namespace() -> None:
    cluster = Scripted()
    names = [Identity("apps/v1", "Deployment", "shop", f"api-{number}") for number in range(50)]
    for name in names:
        cluster.put(name, **deployment(1))
    assert all(one.is_ready for one in waited(cluster, *names))
    assert cluster.requests == [("GET", PATH)]


def test_what_an_answer_already_shows_as_ready_costs_no_request() -> None:
    cluster = Scripted()
    seen = cluster.put(API, **deployment(1))
    (api,) = waited(cluster, API, seen={API: seen})
    assert api.is_ready
    assert cluster.requests == []


def test_many_objects_share_one_watch_and_one_object_watches_itself_alone() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    cluster.put(WEB, **deployment(0))
    thread = later(0.1, lambda: cluster.put(API, **deployment(1)), lambda: cluster.put(WEB, **deployment(1)))
    assert all(one.is_ready for one in waited(cluster, API, WEB))
    thread.join()
    assert of_deployments(cluster) == {"GET": 1, "WATCH": 1}
    assert "fieldSelector" not in cluster.queries[0]
    other = Scripted()
    other.put(API, **deployment(0))
    thread = later(0.1, lambda: other.put(API, **deployment(1)))
    assert waited(other, API)[0].is_ready
    thread.join()
    assert [query.get("fieldSelector") for query in other.queries] == ["metadata.name=api"] * 2


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(expired(), id="410"),
        pytest.param(UnreachableError("https://c: the connection was lost", sent=True), id="dropped"),
        pytest.param(ApiError(429, "TooManyRequests", "later"), id="429"),
        pytest.param(ApiError(500, "InternalError", "etcd leader changed"), id="500"),
        pytest.param(0, id="ended by the server"),
    ],
)
def test_a_watch_that_breaks_is_taken_up_again_and_misses_nothing(fault: Exception | int) -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    cluster.put(WEB, **deployment(0))
    cluster.faults["WATCH", PATH] = [fault, 1, fault]
    thread = later(0.1, lambda: cluster.put(API, **deployment(1)), lambda: cluster.put(WEB, **deployment(1)))
    api, web = waited(cluster, API, WEB)
    thread.join()
    assert (api.is_ready, web.is_ready) == (True, True)
    assert of_deployments(cluster)["WATCH"] <= 6


def test_a_server_that_ends_every_watch_at_once_is_not_stormed() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    cluster.faults["WATCH", PATH] = [0] * 1000
    waited(cluster, API, timeout_s=2.0)
    assert sum(of_deployments(cluster).values()) <= 8


def test_a_server_that_forgets_every_version_is_not_stormed() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    cluster.faults["WATCH", PATH] = [expired() for _number in range(1000)]
    waited(cluster, API, timeout_s=2.0)
    assert sum(of_deployments(cluster).values()) <= 16


def test_who_may_list_and_not_watch_lists_again_at_a_slow_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.follow._POLL_S", 0.2
    )
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    cluster.faults["WATCH", PATH] = [ApiError(403, "Forbidden", "cannot watch deployments")]
    thread = later(0.5, lambda: cluster.put(API, **deployment(1)))
    (api,) = waited(cluster, API)
    thread.join()
    assert api.is_ready
    assert of_deployments(cluster)["WATCH"] == 1
    assert 2 <= of_deployments(cluster)["GET"] <= 7


@pytest.mark.parametrize(
    "refusal",
    [
        ApiError(403, "Forbidden", 'User "ci" cannot list resource "deployments"'),
        ApiError(401, "Unauthorized", "Unauthorized"),
        ConfigError("the token's helper failed"),
    ],
)
def test_what_cannot_be_read_fails_at_once_and_says_why(refusal: Exception) -> None:
    cluster = Scripted()
    cluster.faults["GET", PATH] = [refusal]
    (api,) = waited(cluster, API)
    assert api.status == Failed(str(refusal))
    assert api.duration_s < ENOUGH_S / 2


def test_a_server_that_is_away_for_the_whole_time_is_the_reason() -> None:
    cluster = Scripted()
    cluster.faults["GET", PATH] = [UnreachableError("https://c: nothing listens there") for _number in range(99)]
    (api,) = waited(cluster, API, timeout_s=1.0)
    assert api.status == Waiting("https://c: nothing listens there")


def test_a_kind_that_the_server_does_not_know_fails() -> None:
    (thing,) = waited(Scripted(), Identity("example.com/v1", "Thing", "shop", "it"))
    assert thing.status == Failed("the server does not know its kind")


def test_what_somebody_deletes_meanwhile_fails_and_what_never_was_there_is_waited_for() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    thread = later(0.2, lambda: cluster.remove(API))
    api, web = waited(cluster, API, WEB, timeout_s=3.0)
    thread.join()
    assert api.status == Failed("was deleted while it was waited for")
    assert web.status == Waiting("does not exist")


def test_a_claim_that_its_first_pod_will_bind_is_ready_and_says_so() -> None:
    cluster = Scripted()
    cluster.put(CLAIM, spec={"storageClassName": "gp3"}, status={"phase": "Pending"})
    cluster.answers["/apis/storage.k8s.io/v1/storageclasses"] = {
        "items": [{"metadata": {"name": "gp3"}, "volumeBindingMode": "WaitForFirstConsumer"}]
    }
    (claim,) = waited(cluster, CLAIM)
    assert str(claim) == (
        "PersistentVolumeClaim shop/data (v1) is ready: is bound later, when the first pod that uses it is scheduled "
        "(WaitForFirstConsumer)"
    )


def test_without_the_right_to_read_storage_classes_a_claim_is_waited_for() -> None:
    cluster = Scripted()
    cluster.put(CLAIM, spec={"storageClassName": "gp3"}, status={"phase": "Pending"})
    cluster.answers["/apis/storage.k8s.io/v1/storageclasses"] = ApiError(403, "Forbidden", "no")
    thread = later(0.2, lambda: cluster.put(CLAIM, spec={"storageClassName": "gp3"}, status={"phase": "Bound"}))
    assert waited(cluster, CLAIM)[0].status == Ready()
    thread.join()


def test_only_classes_that_wait_for_a_consumer_bind_late() -> None:
    classes: list[dict[str, Any]] = [
        {"metadata": {"name": "gp3"}, "volumeBindingMode": "WaitForFirstConsumer"},
        {"metadata": {"name": "nfs"}, "volumeBindingMode": "Immediate"},
        {"metadata": {"name": "old"}},
    ]
    assert late_binding(classes) == {"gp3"}


def test_resources_are_waited_for_at_the_same_time() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    cluster.put(CLAIM, spec={}, status={"phase": "Pending"})
    cluster.put(POD, status={"phase": "Pending"})
    started_s = time.monotonic()
    results = waited(cluster, API, CLAIM, POD, timeout_s=0.5)
    assert time.monotonic() - started_s < ENOUGH_S
    assert [one.identity for one in results] == [API, CLAIM, POD]
    assert not any(one.is_ready for one in results)


def test_the_same_object_named_twice_is_waited_for_once() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(1))
    assert len(waited(cluster, API, API)) == 1


def test_the_clock_that_is_given_decides() -> None:
    cluster = Scripted()
    cluster.put(API, **deployment(0))
    ticks = iter(range(0, 100_000, 2000))
    (api,) = waited(cluster, API, timeout_s=1000.0, clock=lambda: float(next(ticks)))
    assert api.status == Waiting("nothing is known of it yet")
    assert api.duration_s > 1000


def test_a_deleted_object_is_waited_for_until_it_is_gone() -> None:
    cluster = Scripted()
    cluster.put(POD, metadata={"deletionTimestamp": "2027-01-15T08:00:00Z"})
    thread = later(0.2, lambda: cluster.remove(POD))
    (pod,) = wait_gone(cluster.client, cluster.discovery, [POD], ENOUGH_S)
    thread.join()
    assert pod.is_ready


def test_what_holds_a_deleted_object_back_is_named() -> None:
    cluster = Scripted()
    cluster.put(POD, metadata={"deletionTimestamp": "2027-01-15T08:00:00Z", "finalizers": ["example.com/hold"]})
    (pod,) = wait_gone(cluster.client, cluster.discovery, [POD], 0.3)
    assert isinstance(pod.status, Waiting)
    assert pod.status.reason.startswith("is being deleted for ")
    assert pod.status.reason.endswith(" s, held by example.com/hold")


def test_another_object_of_the_same_name_is_not_waited_for_to_go() -> None:
    cluster = Scripted()
    cluster.put(POD, metadata={"uid": "new"})
    assert wait_gone(cluster.client, cluster.discovery, [POD], 5.0, uids={POD: "old"})[0].is_ready
    (still,) = wait_gone(cluster.client, cluster.discovery, [POD], 0.2, uids={POD: "new"})
    assert still.status == Waiting("is still there, and not being deleted")


def test_what_has_no_kind_any_more_is_gone() -> None:
    cluster = Scripted()
    thing = Identity("example.com/v1", "Thing", "shop", "it")
    cluster.faults["GET", PATH] = [ApiError(404, "NotFound", "the server could not find the requested resource")]
    results = wait_gone(cluster.client, cluster.discovery, [thing, API], 5.0)
    assert all(one.is_ready for one in results)


FAULTS = st.lists(
    st.one_of(
        st.none(),
        st.integers(0, 2),
        st.builds(expired),
        st.builds(lambda: UnreachableError("lost", sent=True)),
        st.builds(lambda: ApiError(503, "ServiceUnavailable", "leaving")),
    ),
    max_size=4,
)


@settings(max_examples=examples(15))
@given(of_watches=FAULTS, of_lists=FAULTS, order=st.permutations([0, 1, 2]))
def test_whatever_breaks_in_whatever_order_everything_that_gets_ready_is_seen(
    of_watches: list[Exception | int | None], of_lists: list[Exception | int | None], order: list[int]
) -> None:
    cluster = Scripted()
    names = [Identity("apps/v1", "Deployment", "shop", f"api-{number}") for number in range(3)]
    for name in names:
        cluster.put(name, **deployment(0))
    cluster.faults["WATCH", PATH] = of_watches
    cluster.faults["GET", PATH] = [None if isinstance(fault, int) else fault for fault in of_lists]

    def become_ready(number: int) -> None:
        cluster.put(names[number], **deployment(1))

    thread = later(0.03, *(lambda number=number: become_ready(number) for number in order))
    results = waited(cluster, *names)
    thread.join()
    assert [one.status for one in results] == [Ready()] * 3
