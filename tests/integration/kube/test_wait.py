# SPDX-License-Identifier: GPL-3.0-or-later
"""The wait on a real API server, whose own controllers decide about readiness."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Identity
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.verdict import Failed, Ready, Waiting
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.wait import (
    Waited,
    wait_gone,
    wait_ready,
)
from tests.integration.kube.cluster import Cluster
from tests.integration.kube.kubelet import (
    Fields,
    crash,
    deployment,
    end,
    pod_spec,
    pods_of,
    run,
    until,
    write_status,
)

ENOUGH_S = 60.0


class Shop:
    """One namespace, and the actions of tests in it."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.discovery = Discovery(client)

    def identity(self, obj: Fields) -> Identity:
        resource = self.discovery.find(obj["apiVersion"], obj["kind"])
        assert resource is not None
        namespace = self.namespace if resource.namespaced else ""
        return Identity(obj["apiVersion"], obj["kind"], namespace, obj["metadata"]["name"])

    def path(self, identity: Identity) -> str:
        resource = self.discovery.find(identity.api_version, identity.kind)
        assert resource is not None
        return resource.path(identity.namespace, identity.name)

    def create(self, obj: Fields) -> Identity:
        identity = self.identity(obj)
        self.client.request("POST", self.path(identity).rpartition("/")[0], body=obj)
        return identity

    def status(self, identity: Identity, **status: Any) -> None:
        write_status(self.client, self.path(identity), status)

    def wait(self, *identities: Identity, timeout_s: float = ENOUGH_S, client: Client | None = None) -> list[Waited]:
        return wait_ready(client or self.client, self.discovery, identities, timeout_s)

    def pods(self, name: str, count: int = 1) -> list[Fields]:
        def enough() -> list[Fields]:
            found = pods_of(self.client, self.namespace, name)
            return found if len(found) >= count else []

        found: list[Fields] = until(enough)
        return found


@pytest.fixture
def shop(cluster: Cluster, namespace: str) -> Iterator[Shop]:
    with cluster.client() as client:
        yield Shop(client, namespace)


@contextlib.contextmanager
def meanwhile(*actions: Callable[[], object], delay_s: float = 0.3) -> Iterator[None]:
    """Run actions in order while the block runs."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for action in actions:
                time.sleep(delay_s)
                action()
        except BaseException as error:  # noqa: BLE001  the test's own thread raises it again
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


def test_a_deployment_that_makes_no_progress_fails_before_the_time_is_up_with_what_its_pods_say(shop: Shop) -> None:
    api = shop.create(deployment("api", progressDeadlineSeconds=2))
    crash(shop.client, shop.pods("api")[0])
    (waited,) = shop.wait(api)
    assert waited.has_failed
    assert waited.duration_s < ENOUGH_S / 2
    told = str(waited)
    assert "no progress within 2 s (ProgressDeadlineExceeded: " in told
    assert "container main: CrashLoopBackOff, 4 restarts, last exit status 137 (OOMKilled)" in told


def test_a_quota_that_refuses_the_pods_is_named_when_the_time_is_up(shop: Shop) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": 0}}}
    shop.create(quota)
    until(lambda: shop.client.request("GET", shop.path(shop.identity(quota)))["status"].get("hard"))
    api = shop.create(deployment("api"))
    (waited,) = shop.wait(api, timeout_s=3.0)
    assert isinstance(waited.status, Waiting)
    assert "exceeded quota: none" in str(waited)


def test_events_of_a_pod_that_is_not_ready_are_told(shop: Shop) -> None:
    api = shop.create(deployment("api"))
    pod = shop.pods("api")[0]
    about = {"kind": "Pod", "namespace": shop.namespace, "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    shop.create(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "api.1"},
            "involvedObject": about,
            "type": "Warning",
            "reason": "FailedMount",
            "message": 'MountVolume.SetUp failed for volume "config": configmap "api" not found',
            "count": 7,
            "lastTimestamp": "2026-01-01T00:00:00Z",
        }
    )
    (waited,) = shop.wait(api, timeout_s=1.0)
    assert 'FailedMount: MountVolume.SetUp failed for volume "config": configmap "api" not found' in str(waited)


def test_a_rollout_is_waited_for_until_the_new_pods_are_there_and_the_old_ones_gone(shop: Shop) -> None:
    api = shop.create(deployment("api", 2))

    def run_all() -> None:
        for pod in shop.pods("api", 2):
            run(shop.client, pod)

    with meanwhile(run_all):
        (waited,) = shop.wait(api)
    assert waited.status == Ready()
    old = {pod["metadata"]["name"] for pod in shop.pods("api", 2)}
    template = {"metadata": {"annotations": {"version": "2"}}}
    shop.client.request(
        "PATCH",
        shop.path(api),
        body={"spec": {"template": template}},
        content_type="application/merge-patch+json",
    )
    (halfway,) = shop.wait(api, timeout_s=1.5)
    assert isinstance(halfway.status, Waiting)
    stop = threading.Event()
    thread = threading.Thread(target=_roll, args=(shop, old, stop))
    thread.start()
    try:
        assert shop.wait(api)[0].status == Ready()
    finally:
        stop.set()
        thread.join()
    assert not old & {
        pod["metadata"]["name"] for pod in shop.pods("api", 2) if "deletionTimestamp" not in pod["metadata"]
    }


def _roll(shop: Shop, old: set[str], stop: threading.Event) -> None:
    """Simulate the kubelet: start new pods, and remove those that are terminating."""
    while not stop.wait(0.1):
        for pod in pods_of(shop.client, shop.namespace, "api"):
            name = pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                path = shop.path(Identity("v1", "Pod", shop.namespace, name))
                shop.client.request("DELETE", path, body={"gracePeriodSeconds": 0})
            elif name not in old and pod["status"]["phase"] == "Pending":
                run(shop.client, pod)


def test_a_job_that_failed_often_enough_fails_and_one_that_is_suspended_is_waited_for(shop: Shop) -> None:
    template = {"metadata": {"labels": {"app": "migrate"}}, "spec": pod_spec(restartPolicy="Never")}
    base: Fields = {"apiVersion": "batch/v1", "kind": "Job"}
    job = shop.create({**base, "metadata": {"name": "migrate"}, "spec": {"backoffLimit": 0, "template": template}})
    spec = {"suspend": True, "template": {"spec": pod_spec(restartPolicy="Never")}}
    suspended = shop.create({**base, "metadata": {"name": "later"}, "spec": spec})
    with meanwhile(lambda: end(shop.client, shop.pods("migrate")[0], 3)):
        failed, waiting = shop.wait(job, suspended, timeout_s=8.0)
    assert isinstance(failed.status, Failed)
    assert failed.status.reason.startswith("BackoffLimitExceeded")
    assert waiting.status == Waiting("is suspended (spec.suspend) and does not run")


def test_a_job_that_succeeds_is_ready(shop: Shop) -> None:
    template = {"metadata": {"labels": {"app": "load"}}, "spec": pod_spec(restartPolicy="Never")}
    job = shop.create(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "load"}, "spec": {"template": template}}
    )
    with meanwhile(lambda: end(shop.client, shop.pods("load")[0], 0)):
        assert shop.wait(job)[0].status == Ready("has ended with success")


def test_a_claim_waits_for_its_first_pod_or_for_its_volume_as_its_class_says(shop: Shop) -> None:
    names = {mode: f"{mode.lower()}-{uuid.uuid4().hex[:8]}" for mode in ("WaitForFirstConsumer", "Immediate")}
    created = []
    try:
        for mode, name in names.items():
            storage_class = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": name},
                "provisioner": "example.com/none",
                "volumeBindingMode": mode,
            }
            created.append(shop.create(storage_class))
        late, now = (shop.create(_claim(mode.lower(), name)) for mode, name in names.items())
        for_later, for_now = shop.wait(late, now, timeout_s=2.0)
        assert isinstance(for_later.status, Ready)
        assert "WaitForFirstConsumer" in for_later.status.detail
        assert for_now.status == Waiting(f"no volume is bound to it yet (storage class {names['Immediate']})")
    finally:
        for identity in created:
            shop.client.request("DELETE", shop.path(identity))


def _claim(name: str, storage_class: str) -> Fields:
    spec = {
        "storageClassName": storage_class,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def test_a_load_balancer_and_an_ingress_are_ready_when_they_have_an_address(shop: Shop) -> None:
    # A class that no controller on any cluster has.
    spec: Fields = {"type": "LoadBalancer", "loadBalancerClass": "example.com/none", "ports": [{"port": 80}]}
    service = shop.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}, "spec": spec})
    backend = {"service": {"name": "api", "port": {"number": 80}}}
    ingress = shop.create(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "api"},
            "spec": {"ingressClassName": "none", "defaultBackend": backend},
        }
    )
    without = shop.wait(service, ingress, timeout_s=1.0)
    assert [one.status for one in without] == [
        Waiting("the load balancer has no address yet"),
        Waiting("has no address yet: no controller of class none took it"),
    ]
    address = {"ingress": [{"ip": "203.0.113.7"}]}
    with meanwhile(
        lambda: shop.status(service, loadBalancer=address), lambda: shop.status(ingress, loadBalancer=address)
    ):
        assert all(one.status == Ready() for one in shop.wait(service, ingress))


def _definition(group: str, plural: str, kind: str) -> Fields:
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": [version],
        },
    }


def test_a_definition_is_ready_when_it_is_established_and_fails_when_its_names_are_taken(shop: Shop) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    first = shop.create(_definition(group, "things", "Thing"))
    second = None
    try:
        assert shop.wait(first)[0].status == Ready()
        second = shop.create(_definition(group, "stuffs", "Thing"))
        (taken,) = shop.wait(second)
        assert isinstance(taken.status, Failed)
        assert taken.status.reason.startswith("its names are taken: ListKindConflict: ")
    finally:
        for identity in filter(None, (first, second)):
            shop.client.request("DELETE", shop.path(identity))
    assert all(one.is_ready for one in wait_gone(shop.client, shop.discovery, [first], ENOUGH_S))


def test_an_autoscaler_without_metrics_says_so(shop: Shop) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "none"}
    spec = {"scaleTargetRef": target, "maxReplicas": 2, "minReplicas": 1}
    autoscaler = shop.create(
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "api"}, "spec": spec}
    )
    until(lambda: shop.client.request("GET", shop.path(autoscaler))["status"].get("conditions"))
    (waited,) = shop.wait(autoscaler, timeout_s=1.0)
    assert isinstance(waited.status, Waiting)
    assert "FailedGetScale" in waited.status.reason


def test_an_api_service_without_a_server_is_not_ready(shop: Shop) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    spec = {
        "group": group,
        "version": "v1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"namespace": shop.namespace, "name": "none"},
    }
    api_service = shop.create(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": f"v1.{group}"},
            "spec": spec,
        }
    )
    try:
        until(lambda: shop.client.request("GET", shop.path(api_service))["status"].get("conditions"))
        (waited,) = shop.wait(api_service, timeout_s=1.0)
        assert isinstance(waited.status, Waiting)
        assert "ServiceNotFound" in waited.status.reason
    finally:
        shop.client.request("DELETE", shop.path(api_service))


def test_what_a_finalizer_holds_back_is_waited_for_until_it_is_gone(shop: Shop) -> None:
    metadata = {"name": "held", "finalizers": ["example.com/hold"]}
    held = shop.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    shop.client.request("DELETE", shop.path(held))
    (still,) = wait_gone(shop.client, shop.discovery, [held], 1.0)
    assert isinstance(still.status, Waiting)
    assert "held by example.com/hold" in still.status.reason

    def let_go() -> None:
        body = {"metadata": {"finalizers": None}}
        shop.client.request("PATCH", shop.path(held), body=body, content_type="application/merge-patch+json")

    with meanwhile(let_go):
        assert wait_gone(shop.client, shop.discovery, [held], ENOUGH_S)[0].is_ready


class Forwarder:
    """Forwards connections to a server, and cuts all of them on request."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.accepted = 0

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _address = self._listening.accept()
                far = socket.create_connection(self._target)
                self.accepted += 1
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=_pass_on, args=(source, sink)))
                    self._threads[-1].start()

    def cut(self) -> None:
        for open_ in self._open:
            _hang_up(open_)

    def close(self) -> None:
        _hang_up(self._listening)
        self.cut()
        for thread in self._threads:
            thread.join()
        for open_ in (self._listening, *self._open):
            open_.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    _hang_up(source)
    _hang_up(sink)


def _hang_up(open_: socket.socket) -> None:
    with contextlib.suppress(OSError):
        open_.shutdown(socket.SHUT_RDWR)


def test_connections_that_are_cut_again_and_again_lose_nothing(shop: Shop, cluster: Cluster) -> None:
    server = urlsplit(shop.client.connection.server)
    forwarder = Forwarder(server.hostname or "", server.port or 443)
    pods = [
        shop.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, "spec": pod_spec()})
        for number in range(3)
    ]

    def get_ready(pod: Identity) -> Callable[[], None]:
        return lambda: run(shop.client, shop.client.request("GET", shop.path(pod)))

    actions = [action for pod in pods for action in (forwarder.cut, get_ready(pod))]
    host = f"https://127.0.0.1:{forwarder.port}"
    with (
        contextlib.closing(forwarder),
        cluster.client(host=host, tls_server_name=server.hostname) as client,
        meanwhile(*actions),
    ):
        results = shop.wait(*pods, client=client)
    assert [one.status for one in results] == [Ready()] * 3
    assert 2 <= forwarder.accepted < 20


def test_a_hundred_objects_that_are_ready_cost_a_list_for_each_kind(shop: Shop) -> None:
    objects = [
        shop.create({"apiVersion": "v1", "kind": kind, "metadata": {"name": f"n{number}"}})
        for kind in ("ConfigMap", "Secret")
        for number in range(50)
    ]
    before = shop.client.calls
    assert all(one.is_ready for one in shop.wait(*objects))
    assert shop.client.calls - before == 2
