# SPDX-License-Identifier: GPL-3.0-or-later
"""Causes of unreadiness: containers, last log lines and events are shown; values of Secrets are not."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Identity
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.reasons import (
    age,
    explain,
    secret_names,
    selector_of,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.redact import MASK, Redactor, values_of
from ansible_collections.crypto_lakehouse.platform.tests.unit.kube.scripted import Scripted

Fields = dict[str, Any]
API = Identity("apps/v1", "Deployment", "shop", "api")
DEPLOYMENT: Fields = {"metadata": {"uid": "u1"}, "spec": {"selector": {"matchLabels": {"app": "api"}}}}
PASSWORD = "correct-horse-7-battery"
CORE = "/api/v1/namespaces/shop"
# 2027-01-15T08:00:00Z
NOW_S = 1_800_000_000.0
CRASHING = {
    "name": "api",
    "ready": False,
    "restartCount": 4,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
}
RUNNING = {"name": "api", "ready": False, "restartCount": 0, "state": {"running": {}}, "lastState": {}}


def pod(name: str, *statuses: Fields, phase: str = "Running", **spec: Any) -> Fields:
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "creationTimestamp": "2027-01-15T07:00:00Z"}
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase, "containerStatuses": list(statuses)}}


def event(reason: str, message: str, minute: int, count: int = 1, kind: str = "Warning") -> Fields:
    at = f"2027-01-15T07:{minute:02d}:00Z"
    return {"type": kind, "reason": reason, "message": message, "count": count, "lastTimestamp": at}


def shop(pods: list[Fields], events: dict[str, list[Fields]] | None = None, log: str = "") -> Scripted:
    """Return a cluster whose events are found by the name of their object."""

    def answer(query: Any) -> Fields:
        name = query["fieldSelector"].split("involvedObject.name=")[1].split(",")[0]
        return {"items": (events or {}).get(name, [])}

    cluster = Scripted()
    cluster.answers[f"{CORE}/pods"] = {"items": pods}
    cluster.answers[f"{CORE}/events"] = answer
    for one in pods:
        cluster.answers[f"{CORE}/pods/{one['metadata']['name']}/log"] = log
    return cluster


def told(cluster: Scripted, identity: Identity = API, obj: Fields | None = None) -> list[str]:
    return explain(cluster.client, identity, DEPLOYMENT if obj is None else obj, now_s=NOW_S)


def secret(**values: str) -> Fields:
    metadata = {"name": "api", "namespace": "shop"}
    return {
        "metadata": metadata,
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def test_a_value_of_a_secret_that_a_container_printed_is_not_shown() -> None:
    url = f"postgresql://api:{PASSWORD}@db/lakehouse"
    entry = {"name": "URL", "valueFrom": {"secretKeyRef": {"name": "api"}}}
    cluster = shop(
        [pod("api-1", CRASHING, containers=[{"name": "api", "env": [entry]}])],
        {"api-1": [event("BackOff", f"with {PASSWORD}", 1)]},
        log=f"connecting to {url}\npassword is {PASSWORD}!\nfailed\n",
    )
    cluster.answers[f"{CORE}/secrets/api"] = secret(url=url, password=PASSWORD)
    lines = told(cluster)
    assert PASSWORD not in "\n".join(lines)
    assert lines[:4] == [
        "pod api-1: container api: CrashLoopBackOff, 4 restarts, last exit status 1",
        f"pod api-1: log of api: connecting to {MASK}",
        f"pod api-1: log of api: password is {MASK}!",
        "pod api-1: log of api: failed",
    ]
    assert lines[4].endswith(f"BackOff: with {MASK}")


def test_what_the_caller_knows_to_be_secret_is_taken_out_of_every_line() -> None:
    cluster = shop([pod("api-1", RUNNING)], {"api-1": [event("Unhealthy", f"got {PASSWORD}", 1)]}, log=f"x {PASSWORD}")
    lines = explain(cluster.client, API, DEPLOYMENT, hide=lambda line: line.replace(PASSWORD, MASK), now_s=NOW_S)
    assert len(lines) == 3
    assert PASSWORD not in "\n".join(lines)


def test_what_a_container_left_behind_when_it_ended_is_not_shown_unmasked() -> None:
    """Its last message may be the end of its log (terminationMessagePolicy: FallbackToLogsOnError)."""
    ended = {**CRASHING, "state": {"terminated": {"exitCode": 1, "reason": "Error", "message": f"with {PASSWORD}"}}}
    cluster = shop([pod("api-1", ended, phase="Failed")])
    assert PASSWORD not in "\n".join(told(cluster))


def test_a_log_is_not_shown_where_its_secrets_cannot_be_read() -> None:
    cluster = shop([pod("api-1", CRASHING, volumes=[{"secret": {"secretName": "api"}}])], log=f"it is {PASSWORD}")
    cluster.answers[f"{CORE}/secrets/api"] = ApiError(403, "Forbidden", "cannot get secrets")
    lines = told(cluster)
    assert PASSWORD not in "\n".join(lines)
    assert lines[1] == (
        "pod api-1: its log is not shown, since the Secrets that it must not repeat cannot be read: "
        "403 cannot get secrets"
    )


def test_a_secret_that_is_missing_is_no_reason_to_keep_a_log_back() -> None:
    cluster = shop([pod("api-1", CRASHING, volumes=[{"secret": {"secretName": "api"}}])], log="no such file")
    cluster.answers[f"{CORE}/secrets/api"] = ApiError(404, "NotFound", "not found")
    assert "pod api-1: log of api: no such file" in told(cluster)


def test_the_previous_log_is_read_of_a_container_that_crashed_and_the_present_one_otherwise() -> None:
    for status, previous in ((CRASHING, "true"), (RUNNING, None)):
        cluster = shop([pod("api-1", status)], log="last words")
        assert "pod api-1: log of api: last words" in told(cluster)
        (query,) = (one for one in cluster.queries if "tailLines" in one)
        assert (query.get("previous"), query["container"]) == (previous, "api")


def test_a_container_that_never_ran_has_no_log() -> None:
    pulling = {"name": "api", "ready": False, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "x"}}}
    cluster = shop([pod("api-1", pulling, phase="Pending")])
    assert told(cluster) == ["pod api-1: container api: ImagePullBackOff: x"]
    assert not [path for _method, path in cluster.requests if path.endswith("/log")]


def test_a_log_that_cannot_be_read_is_a_line_and_the_rest_is_told() -> None:
    cluster = shop([pod("api-1", CRASHING)], {"api": [event("Unhealthy", "probe failed", 58)]})
    cluster.answers[f"{CORE}/pods/api-1/log"] = ApiError(400, "BadRequest", "previous terminated container not found")
    assert told(cluster)[1:] == [
        "pod api-1: the log of api cannot be read: 400 previous terminated container not found",
        "event of Deployment api, 2 min ago: Unhealthy: probe failed",
    ]


@pytest.mark.parametrize(("path", "line"), [("pods", "its pods cannot"), ("events", "its events cannot")])
def test_what_may_not_be_read_is_said(path: str, line: str) -> None:
    cluster = shop([pod("api-1", RUNNING)])
    cluster.answers[f"{CORE}/{path}"] = ApiError(403, "Forbidden", f"cannot list {path}")
    assert any(one.startswith(line) for one in told(cluster))


def test_pods_in_trouble_come_first_and_not_all_of_many_are_told() -> None:
    pods = [pod(f"api-{number}", RUNNING) for number in range(8)] + [pod("api-9", CRASHING)]
    lines = told(shop(pods))
    assert lines[0].startswith("pod api-9: container api: CrashLoopBackOff")
    assert len({line.split(":")[0] for line in lines}) == 3


def test_pods_that_are_ready_are_not_told() -> None:
    ready = pod("api-1", {**RUNNING, "ready": True})
    ready["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert told(shop([ready])) == []


def test_events_are_the_newest_few_each_once_and_warnings_alone_where_there_are_any() -> None:
    events = {
        "api": [event("ScalingReplicaSet", "Scaled up", 59, kind="Normal")],
        "api-1": [event("BackOff", "Back-off restarting api in pod api-1", 50, count=3)],
        "api-2": [
            event("BackOff", "Back-off restarting api in pod api-2", 57, count=2),
            *(event(f"Reason{number}", "old", number) for number in range(9)),
        ],
    }
    lines = told(shop([pod("api-1", RUNNING), pod("api-2", RUNNING)], events))
    of_events = [line for line in lines if line.startswith("event")]
    assert of_events[0] == "event of Pod api-2, 5 times, 3 min ago: BackOff: Back-off restarting api in pod api-2"
    assert [line.split(": ")[1] for line in of_events] == ["BackOff", "Reason8", "Reason7", "Reason6", "Reason5"]


def test_events_without_a_warning_are_told_where_there_is_nothing_else() -> None:
    claim = Identity("v1", "PersistentVolumeClaim", "shop", "data")
    said = event("ExternalProvisioning", "waiting for a volume to be created", 59, kind="Normal")
    said |= {"lastTimestamp": None, "eventTime": "2027-01-15T07:59:00.000000Z", "series": {"count": 7}}
    (line,) = told(shop([], {"data": [said]}), claim, {"spec": {"selector": {"matchLabels": {"disk": "fast"}}}})
    assert line == (
        "event of PersistentVolumeClaim data, 7 times, 60 s ago: ExternalProvisioning: "
        "waiting for a volume to be created"
    )


def test_events_of_an_earlier_object_of_the_name_are_not_asked_for() -> None:
    cluster = shop([])
    told(cluster)
    assert cluster.queries[-1]["fieldSelector"] == (
        "involvedObject.kind=Deployment,involvedObject.name=api,involvedObject.uid=u1"
    )


def test_what_has_no_namespace_has_its_events_in_the_default_one() -> None:
    cluster = Scripted()
    cluster.answers["/api/v1/namespaces/default/events"] = {"items": []}
    assert explain(cluster.client, Identity("v1", "Node", "", "node-1"), {}) == []


@pytest.mark.parametrize(
    ("identity", "spec", "selector"),
    [
        (API, {"selector": {"matchLabels": {"a": "1", "b": "2"}}}, "a=1,b=2"),
        (
            API,
            {
                "selector": {
                    "matchExpressions": [
                        {"key": "a", "operator": "In", "values": ["1", "2"]},
                        {"key": "b", "operator": "NotIn", "values": ["3"]},
                        {"key": "c", "operator": "Exists"},
                        {"key": "d", "operator": "DoesNotExist"},
                    ]
                }
            },
            "a in (1,2),b notin (3),c,!d",
        ),
        (Identity("postgresql.cnpg.io/v1", "Cluster", "shop", "db"), {}, "cnpg.io/cluster=db"),
        (Identity("v1", "Service", "shop", "api"), {"selector": {"app": "api"}}, ""),
        (Identity("v1", "PersistentVolumeClaim", "shop", "d"), {"selector": {"matchLabels": {"a": "1"}}}, ""),
    ],
)
def test_pods_are_found_by_the_selector(identity: Identity, spec: Fields, selector: str) -> None:
    assert selector_of(identity, {"spec": spec}) == selector


def test_all_secrets_that_a_pod_gets_are_known() -> None:
    spec = {
        "containers": [
            {"env": [{"valueFrom": {"secretKeyRef": {"name": "of-env"}}}, {"name": "PLAIN", "value": "x"}]},
            {"envFrom": [{"secretRef": {"name": "of-env-from"}}, {"configMapRef": {"name": "no"}}]},
        ],
        "initContainers": [{"envFrom": [{"secretRef": {"name": "of-init"}}]}],
        "volumes": [
            {"secret": {"secretName": "of-volume"}},
            {"projected": {"sources": [{"secret": {"name": "of-projected"}}, {"serviceAccountToken": {}}]}},
            {"emptyDir": {}},
        ],
    }
    assert secret_names({"spec": spec}) == {"of-env", "of-env-from", "of-init", "of-volume", "of-projected"}


SECRET_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=4, max_size=30)


@given(value=SECRET_TEXT, before=st.text(max_size=10), after=st.text(max_size=10))
@example(value='a"b\\c/d+e f', before="", after="")
def test_a_known_value_is_masked_in_every_form_that_programs_write(value: str, before: str, after: str) -> None:
    redact = Redactor([value])
    forms = [value, json.dumps(value)[1:-1], quote_plus(value), base64.b64encode(value.encode()).decode()]
    for form in forms:
        shown = redact(f"{before}\n{form}\n{after}")
        assert form not in shown or form in f"{before}\n{MASK}\n{after}"


def test_words_of_a_configuration_that_look_random_are_masked_and_ordinary_ones_are_not() -> None:
    configuration = 'identities:\n  - name: lakehouse\n    secretKey: "Zr8TqLw29XvB"\n    actions: [Read, Write]\n'
    redact = Redactor([configuration])
    assert redact("user lakehouse with Zr8TqLw29XvB may Read") == f"user lakehouse with {MASK} may Read"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("connect to redis://:hunter2@cache:6379", f"connect to redis://:{MASK}@cache:6379"),
        ("postgresql://api:hunter2@db/x failed", f"postgresql://api:{MASK}@db/x failed"),
        ("Authorization: Bearer abcdefgh.ijklm", f"Authorization: Bearer {MASK}"),
        ("DB_PASSWORD=hunter2 retry=3", f"DB_PASSWORD={MASK} retry=3"),
        ('{"api_key": "hunter2", "port": 5432}', f'{{"api_key": {MASK}, "port": 5432}}'),
        ("aws_secret_access_key: hunter2", f"aws_secret_access_key: {MASK}"),
        ("key AKIA" + "IOSFODNN7EXAMPLE is inactive", f"key {MASK} is inactive"),
        ("token eyJhbGciOiJI.eyJzdWIiOiIx.c2ln", f"token {MASK}"),
        ("listening on http://0.0.0.0:8080", "listening on http://0.0.0.0:8080"),
        ("password authentication failed for user api", "password authentication failed for user api"),
    ],
)
def test_what_looks_like_a_secret_is_masked_though_nobody_told_of_it(line: str, shown: str) -> None:
    assert Redactor([])(line) == shown


def test_what_a_secret_holds_is_decoded_and_what_is_no_text_is_left_out() -> None:
    data = {"a": "aHVudGVyMg==", "binary": base64.b64encode(b"\xff\xfe").decode(), "broken": "?", "nothing": None}
    assert values_of({"data": data}) == {"hunter2"}
    assert values_of({}) == set()


@pytest.mark.parametrize(
    ("elapsed_s", "told_"), [(-1, "0 s"), (42, "42 s"), (420, "7 min"), (10800, "3 h"), (10**6, "12 d")]
)
def test_an_age_is_told_with_one_figure(elapsed_s: float, told_: str) -> None:
    assert age(elapsed_s) == told_
