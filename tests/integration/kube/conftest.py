# SPDX-License-Identifier: GPL-3.0-or-later
"""Provide a real cluster, where one is available, and a separate namespace for each test.

Only a real API server proves the semantics of server-side apply. Without one, the tests that need it are skipped, and
the report says so. Tests of rendered objects and of faults of the transport always run.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ApiError, KubeError
from tests.integration.kube.applying import Kind, Shop
from tests.integration.kube.cluster import ASSETS, Cluster, ControlPlane, given_assets, given_kubeconfig
from tests.integration.kube.database import lacks

NEEDS = "cluster"
CHARTS = "LAKEHOUSE_TEST_CHARTS"
OWN = "own_plane"
OPERATED = "operated_cluster"
_NUMBERS = itertools.count(1)
_NAMESPACES = "/api/v1/namespaces"
_found: dict[str, str] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"charts: needs the real charts, which {CHARTS} names a folder of")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests that need a cluster without one, and tests that need a separate one where none can be started."""
    if not os.environ.get(CHARTS):
        charts = [item for item in items if item.get_closest_marker("charts")]
        if charts:
            _found["charts"] = f"no charts: {len(charts)} tests of real charts were left out (set {CHARTS})"
            config.hook.pytest_deselected(items=charts)
            items[:] = [item for item in items if item not in set(charts)]
    if not given_assets(os.environ):
        own = [item for item in items if OWN in getattr(item, "fixturenames", ())]
        if own:
            _found["own"] = f"no binaries: {len(own)} tests that start a control plane were left out (set {ASSETS})"
            config.hook.pytest_deselected(items=own)
            items[:] = [item for item in items if item not in set(own)]
    operated = [item for item in items if OPERATED in getattr(item, "fixturenames", ())]
    if operated and (reason := _lacks_operator()):
        _found["operated"] = f"{reason}: {len(operated)} tests of the replicated database were left out"
        config.hook.pytest_deselected(items=operated)
        items[:] = [item for item in items if item not in set(operated)]
    if given_kubeconfig(os.environ) or given_assets(os.environ):
        return
    without = [item for item in items if NEEDS in getattr(item, "fixturenames", ())]
    if without:
        _found["left out"] = f"no API server: {len(without)} tests were left out (set KUBECONFIG or {ASSETS})"
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in set(without)]


def _lacks_operator() -> str:
    """Return the missing requirements of a test of the replicated database; our own control plane has no nodes."""
    kubeconfig = given_kubeconfig(os.environ)
    if kubeconfig is None:
        return "no cluster with nodes (set KUBECONFIG)"
    try:
        with Cluster(kubeconfig, NEEDS, has_controllers=True).client() as client:
            return lacks(client)
    except KubeError:
        # A cluster without an answer skips nothing: the tests fail with the cause.
        return ""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Pass the findings to the reporting process, where several processes run the tests."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[NEEDS] = dict(_found)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect the findings of one of several processes."""
    _found.update(getattr(node, "workeroutput", {}).get(NEEDS, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the cluster of the tests."""
    for line in _found.values():
        terminalreporter.write_line(f"Kubernetes: {line}", bold=True)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane | None]:
    """Return a control plane of this session, or None where KUBECONFIG sets a cluster."""
    assets = given_assets(os.environ)
    if given_kubeconfig(os.environ) or assets is None:
        yield None
        return
    plane = ControlPlane(tmp_path_factory.mktemp("control-plane"), assets)
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="module")
def own_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Return a control plane that is not started, for a file that adds nodes and similar objects."""
    assets = given_assets(os.environ)
    assert assets is not None
    plane = ControlPlane(tmp_path_factory.mktemp("own-plane"), assets)
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def cluster(control_plane: ControlPlane | None) -> Cluster:
    """Return the API server for the tests of this session."""
    if control_plane:
        found = control_plane.start()
    else:
        kubeconfig = given_kubeconfig(os.environ)
        assert kubeconfig is not None
        found = Cluster(kubeconfig, "the cluster that KUBECONFIG names", has_controllers=True)
    version = found.client().request("GET", "/version")["gitVersion"]
    _found["server"] = f"{found.name}, {version}"
    return found


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that adds a line to the report of this session."""
    return lambda line: _found.update({request.node.nodeid: line})


@pytest.fixture(scope="session")
def operated_cluster(cluster: Cluster) -> Cluster:
    """Return the cluster with nodes that run pods and the operator of the database."""
    return cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """Return an empty namespace; it is deleted after the test."""
    client, name = cluster.client(), f"lakehouse-test-{os.getpid()}-{next(_NUMBERS)}"
    client.request("POST", _NAMESPACES, body={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield name
    finally:
        client.request("DELETE", f"{_NAMESPACES}/{name}")
        client.close()


@pytest.fixture
def shop(cluster: Cluster, namespace: str) -> Iterator[Shop]:
    """Return the module, run on a separate namespace."""
    with cluster.client() as client:
        yield Shop(cluster, namespace, client)


@pytest.fixture
def kind(shop: Shop) -> Iterator[Kind]:
    """Return a kind whose definition is deleted after the test, independent of its creator."""
    made = Kind()
    yield made
    try:
        shop.client.request("DELETE", made.path)
    except ApiError as error:
        if not error.is_not_found:
            raise
