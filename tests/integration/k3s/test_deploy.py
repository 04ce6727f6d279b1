# SPDX-License-Identifier: GPL-3.0-or-later
"""`deploy.yml` and `plan.yml` with an inventory of K3s hosts, on blank hosts that stay unchanged.

Molecule tests the later steps, the platform on a running cluster, on hosts with systemd.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.k3s.machines import REPOSITORY, Machine, Site

VERSION = "v1.34.3+k3s1"
HELM = REPOSITORY / ".cache/kube/bin/helm"
BINARY = b"#!/bin/sh\ntouch /executed\n"


def local(tmp_path: Path, *servers: Machine) -> Site:
    """Return the inventory of `inventories/k3s_local`, with a blank agent and blank servers."""
    shutil.copytree(REPOSITORY / "inventories/k3s_local/group_vars", tmp_path / "group_vars")
    release = tmp_path / "release"
    release.mkdir()
    (release / "k3s").write_bytes(BINARY)
    (release / "sha256sum-amd64.txt").write_text(f"{hashlib.sha256(BINARY).hexdigest()}  k3s\n")
    given = {"lakehouse_helm_binary": str(HELM), "k3s_airgap_dir": str(release)}
    return Site(tmp_path, servers, [Machine("agent1", "10.77.0.2")], variables=given)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return an inventory of a blank server and a blank agent."""
    return local(tmp_path, Machine("server1", "10.77.0.1"))


@pytest.fixture(autouse=True)
def unchanged(site: Site) -> Iterator[None]:
    """Fail if a test changed a host or wrote the kubeconfig."""
    before = site.state()
    yield
    assert site.state() == before
    assert not (site.folder / ".cache").exists()


@pytest.mark.parametrize(("playbook", "words"), [("plan", ()), ("deploy", ("--check", "--diff"))])
def test_a_blank_host_is_planned_to_become_a_cluster_before_the_platform(
    site: Site, playbook: str, words: tuple[str, ...]
) -> None:
    run = site.run(playbook, *words)
    assert run.exit_code == 0, run.output
    steps = [run.words.index(step) for step in ("1. initialise server1", "join agent agent1", "wait ready agent1")]
    path = f"{site.folder}/.cache/development/kubeconfig"
    told = run.words.index(f"Objects of the platform are not planned, since {path} does not exist")
    assert [*steps, told] == sorted([*steps, told])
    assert "playbooks/deploy.yml installs the K3s cluster on server1, fetches this kubeconfig" in run.words
    assert "failed=0" in run.output


def test_drift_names_what_blank_hosts_lack(site: Site) -> None:
    run = site.run("drift")
    assert run.exit_code != 0, run.output
    told = run.words[run.words.index("The K3s cluster is not as described") :]
    assert "server1: the files of the release or their record are not those of v1.34.3+k3s1" in told
    assert "1. initialise server1" in told
    assert "join agent agent1" in told
    assert "Remedy: run playbooks/deploy.yml, or change the inventory." in told


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a variable of the platform": ({"lakehouse_namespce": "x"}, "write lakehouse_namespace"),
    "a program of the controller": (
        {"lakehouse_helm_binary": "/nonexistent/helm"},
        "https://helm.sh/docs/intro/install",
    ),
    "a chart that is not there": (
        {"lakehouse_chart_folder": "/nonexistent/charts", "lakehouse_auto_scaling": True},
        "holds no chart kube-prometheus-stack",
    ),
    "the kubeconfig of another cluster": (
        {"lakehouse_kubeconfig": "/root/.kube/config"},
        "the platform would be deployed with the kubeconfig '/root/.kube/config'",
    ),
    "no kubeconfig": ({"k3s_kubeconfig": "", "lakehouse_kubeconfig": ""}, "Remedy: set `k3s_kubeconfig` to a path"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_problem_of_the_platform_is_told_before_a_host_is_changed(site: Site, case: str) -> None:
    given, message = BAD[case]
    run = site.run("deploy", **given)
    assert run.exit_code != 0, run.output
    assert message in run.words
    assert "holds no chart metrics-server" not in run.words
    assert "Install the K3s cluster" not in run.output


def test_a_problem_of_a_host_is_told_before_the_platform_is_deployed(site: Site) -> None:
    run = site.run("deploy", k3s_version="stable")
    assert run.exit_code != 0, run.output
    assert "cannot read version 'stable'" in run.words
    assert "Objects of the platform" not in run.words


def test_a_kubeconfig_of_several_clusters_is_refused_and_kept(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "several"
    text = "{clusters: [{name: home}, {name: lakehouse}], contexts: [], current-context: home}"
    path.write_text(text)
    run = site.run("k3s_install", k3s_kubeconfig=str(path))
    assert run.exit_code != 0, run.output
    assert f"{path} holds home, lakehouse and its current context is `home`" in run.words
    assert "set `k3s_kubeconfig` to a file of this cluster alone" in run.words
    assert path.read_text() == text


def test_agents_without_a_server_are_refused(site: Site) -> None:
    run = local(site.folder / "agents").run("deploy")
    assert run.exit_code != 0, run.output
    assert "group k3s_servers has no host. Remedy: add the servers to this group" in run.words


def test_services_alone_leave_the_hosts_alone(site: Site) -> None:
    run = site.run("deploy", "--tags", "services")
    assert run.exit_code != 0, run.output
    assert f"{site.folder}/.cache/development/kubeconfig cannot be read" in run.words
    assert "the K3s cluster" not in run.output
