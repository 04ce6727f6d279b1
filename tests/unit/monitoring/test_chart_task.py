# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that the module helm_chart writes, and its requests to the cluster."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm import chart_task
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm.chart_pull import ChartError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import Client
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import KubeError
from ansible_collections.crypto_lakehouse.platform.tests.unit.monitoring.charts_double import HELM, Helm, make_folder

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RENDERED = (
    "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n---\nkind: Job\nmetadata: {annotations: {helm.sh/hook: x}}\n"
)
CRDS = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {default: =}\n"


class Secrets:
    """A cluster with these Secrets that answers a single request."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.items, self.query = items, ""

    def pages(self, path: str, *, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        assert path == "/api/v1/namespaces/space/secrets"
        self.query = query["labelSelector"]
        yield from self.items


def secret(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels, "creationTimestamp": "2026-01-01T11:00:00Z"}}


def pending(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return chart_task.find_pending(cast(Client, Secrets(*items)), "stack", "space", NOW)


def parameters(folder: Path, **changes: Any) -> dict[str, Any]:
    text = dict.fromkeys(("version", "repository", "checksum", "ca_bundle", "chart_username", "chart_password"), "")
    release = {"release_name": "stack", "release_namespace": "space", "release_values": {"a": 1}}
    return {**text, **release, "left_to_helm": [], "chart": "stack", "path": str(make_folder(folder)), **changes}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def test_unfinished_revisions_are_found_by_what_helm_writes_on_them() -> None:
    cluster = Secrets()
    chart_task.find_pending(cast(Client, cluster), "stack", "space", NOW)
    assert cluster.query == "owner=helm,name=stack,status in (pending-install,pending-upgrade,pending-rollback)"


@pytest.mark.parametrize(
    ("labels", "age_s"),
    [
        ({"modifiedAt": str(int(NOW.timestamp()) - 30), "createdAt": "1"}, 30),
        ({"createdAt": str(int(NOW.timestamp()) - 40)}, 40),
        ({"modifiedAt": "soon"}, 3600),
        ({}, 3600),
        ({"modifiedAt": str(int(NOW.timestamp()) + 30)}, 0),
    ],
)
def test_the_age_of_an_unfinished_revision_is_when_helm_touched_it_last(labels: dict[str, str], age_s: int) -> None:
    found = pending(secret("sh.helm.release.v1.stack.v2", status="pending-upgrade", **labels))
    assert found == [{"name": "sh.helm.release.v1.stack.v2", "status": "pending-upgrade", "age_s": age_s}]


@pytest.mark.parametrize(("name", "message"), [("nowhere", "is not a folder"), (".", "is not empty")])
def test_a_destination_that_is_not_empty_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("", encoding="utf-8")
    with pytest.raises(ChartError, match=message):
        chart_task.check_destination(tmp_path / name)


def test_what_helm_renders_and_cannot_be_read_names_document_and_line(tmp_path: Path, into: Path) -> None:
    helm = Helm({"template": (0, "kind: A\n---\nkind: [\n", "")})
    with pytest.raises(ChartError, match=r"cannot read the rendered objects of stack 1.2.3: .*document 2, line"):
        chart_task.render(parameters(tmp_path), HELM, helm, chart_task.Cluster("v1.36.1"), into)


def test_objects_and_definitions_are_written_for_others_to_apply(tmp_path: Path, into: Path) -> None:
    helm = Helm({"template": (0, RENDERED, ""), "show": (0, CRDS, "")})
    result = chart_task.render(parameters(tmp_path), HELM, helm, chart_task.Cluster("v1.36.1", ("apps/v1",)), into)
    assert result["kubernetes_version"] == "v1.36.1"
    assert (result["objects"], result["crds"]) == (1, 1)
    (service,) = json.loads(Path(result["objects_path"]).read_text(encoding="utf-8"))["items"]
    assert service["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "Helm"}
    assert Path(result["crds_path"]).read_text(encoding="utf-8") == CRDS
    (command,) = (command for command in helm.commands if command[1] == "template")
    assert command[2:6] == ["stack", str(tmp_path / "stack"), "--namespace", "space"]
    assert command[-6:] == [*("--no-hooks", "--skip-tests", "--kube-version", "v1.36.1"), "--api-versions", "apps/v1"]


def test_what_is_left_to_helm_is_for_nobody_else_to_apply(tmp_path: Path, into: Path) -> None:
    helm = Helm({"template": (0, RENDERED, "")})
    given = parameters(tmp_path, left_to_helm=["Service"])
    result = chart_task.render(given, HELM, helm, chart_task.Cluster(""), into)
    assert result["objects"] == 0
    assert json.loads(Path(result["objects_path"]).read_text(encoding="utf-8"))["items"] == []


def test_values_are_for_the_owner_alone(tmp_path: Path, into: Path) -> None:
    helm = Helm({"template": (0, RENDERED, "")})
    chart_task.render(parameters(tmp_path), HELM, helm, chart_task.Cluster(""), into)
    values = into / "values.json"
    assert json.loads(values.read_text(encoding="utf-8")) == {"a": 1}
    assert values.stat().st_mode & 0o777 == 0o600


CHART = {"name": "stack", "version": "1.2.3", "app_version": "v9", "path": "/x", "checksum": ""}
RECORD = {"chart": {"metadata": {"name": "stack", "version": "1.2.3", "appVersion": "v9"}}, "config": {"a": 1}}


@pytest.mark.parametrize(
    ("record", "values", "expected"),
    [
        (None, {"a": 1}, False),
        (RECORD, {"a": 2}, False),
        ({**RECORD, "config": None}, {"a": 1}, False),
        ({**RECORD, "chart": {"metadata": {"name": "stack", "version": "1.2.4", "appVersion": "v9"}}}, {"a": 1}, False),
        ({**RECORD, "chart": {"metadata": {"name": "stack", "version": "1.2.3"}}}, {"a": 1}, False),
        ({**RECORD, "config": None}, {}, True),
        (RECORD, {"a": 1}, True),
    ],
)
def test_helm_has_nothing_to_do_where_chart_and_values_are_those_of_the_last_revision(
    record: dict[str, Any] | None, values: dict[str, Any], expected: bool
) -> None:
    assert chart_task.is_current(record, CHART, values) is expected


@pytest.mark.parametrize("status", ["failed", "pending-upgrade", "superseded"])
def test_a_revision_that_did_not_end_well_is_not_even_read(status: str) -> None:
    newest = {"name": "sh.helm.release.v1.stack.v2", "namespace": "space", "labels": {"status": status}}
    assert chart_task.deployed_record(cast(Client, None), newest) is None


class Programs:
    """The programs of a machine: no helm, or one at a path. commands: the executed ones."""

    def __init__(self, found: str | None) -> None:
        self.found = found
        self.commands: list[list[str]] = []

    def find(self, name: str) -> str | None:
        assert name == "helm"
        return self.found

    def run(self, command: Sequence[str]) -> tuple[int, str, str]:
        self.commands.append(list(command))
        return Helm({"template": (0, RENDERED, "")})(command)

    def result(self, destination: Path | None, **given: Any) -> dict[str, Any]:
        """Return the result of a task for a planned cluster."""
        common = {"state": "present", "render": True, "binary_path": "", "kubernetes_version": "1.36"}
        asked = {**common, **given, "destination": destination and str(destination)}
        return chart_task.ChartTask(asked, None, set[str]().update, self.run, self.find).result()


RELEASE_NAMES = {"release_name": "stack", "release_namespace": "space"}


def test_without_helm_the_message_says_how_to_get_it(into: Path, tmp_path: Path) -> None:
    with pytest.raises(ChartError, match=r"helm is not on the search path.*make kubernetes.*lakehouse_helm_binary"):
        Programs(None).result(into, **parameters(tmp_path))


@pytest.mark.parametrize(("named", "used"), [("", "/found/helm"), ("/named/helm", "/named/helm")])
def test_a_named_helm_wins_over_that_of_the_search_path(named: str, used: str, into: Path, tmp_path: Path) -> None:
    programs = Programs("/found/helm")
    result = programs.result(into, **parameters(tmp_path), binary_path=named)
    assert (result["binary_path"], result["helm_version"]) == (used, "4.2.3")
    assert (result["pending"], result["kubeconfig_path"], result["kubernetes_version"]) == ([], "", "1.36")
    (rendering,) = (command for command in programs.commands if command[1] == "template")
    # Charts fall back to versions that servers no longer have unless these are set.
    assert {"apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1"} <= set(rendering)


@pytest.mark.parametrize("option", ["release_name", "release_namespace"])
@pytest.mark.parametrize("value", ["..", ".", "a/b", "%2e%2e", "A", "a\x00"])
def test_a_release_that_leads_elsewhere_is_refused_before_helm_runs(into: Path, option: str, value: str) -> None:
    programs = Programs(None)
    with pytest.raises(KubeError, match=f"cannot use `{option}`: "):
        programs.result(into, **{**RELEASE_NAMES, option: value}, render=False)
    assert programs.commands == []


def test_a_removal_needs_neither_chart_nor_helm_where_nothing_is_installed(into: Path) -> None:
    programs = Programs(None)
    expected = {"folder": str(into), "installed": False, "current": False, "pending": [], "kubeconfig_path": ""}
    assert programs.result(into, **RELEASE_NAMES, render=False) == expected
    assert programs.commands == []


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_folder_of_a_task_without_destination_is_private_and_removed_by_another_task(
    temporary: Path, tmp_path: Path
) -> None:
    programs = Programs("/found/helm")
    result = programs.result(None, **parameters(tmp_path))
    (folder,) = temporary.iterdir()
    assert result["folder"] == str(folder)
    assert Path(result["objects_path"]).parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    for _time in range(2):
        assert programs.result(folder, state="absent") == {}
        assert list(temporary.iterdir()) == []


def test_a_task_that_fails_leaves_no_folder(temporary: Path, tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="helm is not on the search path"):
        Programs(None).result(None, **parameters(tmp_path))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("path", ["other", "lakehouse-chart-1/..", "lakehouse-chart-1/a", "../lakehouse-chart-2", "."])
def test_only_folders_of_this_module_are_removed(temporary: Path, path: str) -> None:
    for name in ("other", "lakehouse-chart-1/a", "../lakehouse-chart-2"):
        (temporary / name).mkdir(parents=True)
    with pytest.raises(ChartError, match=r"cannot remove .*: only .*/lakehouse-chart-\*"):
        Programs(None).result(temporary / path, state="absent")
    assert (temporary / "lakehouse-chart-1" / "a").is_dir()
    assert (temporary.parent / "lakehouse-chart-2").is_dir()


def test_a_link_in_place_of_the_folder_is_not_followed(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    link = temporary / "lakehouse-chart-1"
    link.symlink_to(tmp_path / "data")
    with pytest.raises(ChartError, match="cannot remove"):
        Programs(None).result(link, state="absent")
    assert (tmp_path / "data").is_dir()


def test_a_program_returns_exit_code_output_and_errors() -> None:
    command = ["/bin/sh", "-c", "cat; printf 'o\\377'; printf e >&2; exit 3"]
    assert chart_task.run_program(command) == (3, "o\udcff", "e")
