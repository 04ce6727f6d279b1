# SPDX-License-Identifier: GPL-3.0-or-later
"""The source of a chart, and its identity with the requested one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm import charts
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.helm.chart_pull import ChartError, Wanted
from ansible_collections.crypto_lakehouse.platform.tests.unit.monitoring.charts_double import (
    DESCRIPTION,
    HELM,
    Helm,
    checksum,
    make_folder,
    make_package,
)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((1, "", "exec format error"), "is not Helm: its version is exec format error"),
        ((0, "Usage: helm", ""), "is not Helm"),
        ((0, "v2.17.0", ""), "is Helm 2.17.0, 3.14 is the oldest supported version"),
        ((0, "v3.13.9", ""), "is Helm 3.13.9"),
    ],
)
def test_what_is_no_helm_or_an_old_one_is_refused_with_how_to_get_one(
    answer: tuple[int, str, str], message: str
) -> None:
    with pytest.raises(ChartError, match="lakehouse_helm_binary") as raised:
        charts.helm_version(Helm({"version": answer}), HELM)
    assert message in str(raised.value)


def test_a_helm_that_is_not_there_is_refused_with_how_to_get_one() -> None:
    def run(command: object) -> tuple[int, str, str]:
        raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ChartError, match=r"cannot be started: No such file or directory.*helm.sh/docs/intro/install"):
        charts.helm_version(run, "/nowhere/helm")


@pytest.mark.parametrize("version", ["3.14.0", "4.2.3", "10.0.0"])
def test_a_newer_helm_is_taken(version: str) -> None:
    assert charts.helm_version(Helm({"version": (0, f"v{version}", "")}), HELM) == version


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("stack", path="/nowhere/stack.tgz"), "there is no chart at /nowhere/stack.tgz"),
        (Wanted("stack", path="/nowhere", checksum="md5:12"), "is not a checksum. Set `sha256:` and 64 hexadecimal"),
    ],
)
def test_a_chart_that_is_not_fully_described_is_refused(wanted: Wanted, message: str, tmp_path: Path) -> None:
    with pytest.raises(ChartError, match=message):
        charts.fetch(wanted, HELM, Helm(), tmp_path)


def test_a_package_with_another_checksum_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    package = make_package(tmp_path / "stack.tgz")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ChartError, match=f"sha256:{checksum(package)} and not sha256:{'0' * 64}"):
        charts.fetch(Wanted("stack", path=str(package), checksum="0" * 64), HELM, Helm(), into)
    assert list(into.iterdir()) == []


def test_a_folder_has_no_checksum(tmp_path: Path) -> None:
    with pytest.raises(ChartError, match="is a folder and has no checksum: package it with `helm package"):
        charts.fetch(Wanted("stack", path=str(make_folder(tmp_path)), checksum="0" * 64), HELM, Helm(), tmp_path)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("name: other\nversion: 1.2.3\n", "is the chart 'other' and not 'stack'"),
        ("name: stack\nversion: 1.2.4\n", "is stack 1.2.4 and not 1.2.3: bring that one, or set"),
        ("[1]\n", "is not the description of a chart"),
        ("a: [\n", "cannot be read"),
    ],
)
def test_another_chart_or_version_is_refused(description: str, message: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, description)
    with pytest.raises(ChartError, match=message):
        charts.fetch(Wanted("stack", "1.2.3", path=str(folder)), HELM, Helm(), tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/Chart.yaml": DESCRIPTION, "b/Chart.yaml": DESCRIPTION}, "holds 2 charts and not one"),
        ({"stack/values.yaml": ""}, "holds 0 charts"),
        ({"../outside": "x", "stack/Chart.yaml": DESCRIPTION}, "is not a package of a chart"),
    ],
)
def test_a_package_that_holds_something_else_is_refused(files: dict[str, str], message: str, tmp_path: Path) -> None:
    package = make_package(tmp_path / "stack.tgz", files)
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ChartError, match=message):
        charts.fetch(Wanted("stack", path=str(package)), HELM, Helm(), into)
    assert not (tmp_path / "outside").exists()


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "stack.tgz"
    package.write_text("<html>404</html>", encoding="utf-8")
    with pytest.raises(ChartError, match="is not a package of a chart"):
        charts.fetch(Wanted("stack", path=str(package)), HELM, Helm(), tmp_path)


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_a_package_is_verified_and_unpacked(prefix: str, tmp_path: Path) -> None:
    package = make_package(tmp_path / "stack.tgz")
    wanted = Wanted("stack", "1.2.3", path=str(package), checksum=prefix + checksum(package).upper())
    chart = charts.fetch(wanted, HELM, Helm(), tmp_path)
    assert (chart.name, chart.version, chart.app_version) == ("stack", "1.2.3", "v9")
    assert (chart.folder / "Chart.yaml").read_text(encoding="utf-8") == DESCRIPTION
    assert chart.described()["checksum"] == checksum(package)


def test_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    assert charts.fetch(Wanted("stack", path=str(folder)), HELM, Helm(), tmp_path).folder == folder


def test_a_folder_without_the_charts_that_it_needs_says_how_to_get_them(tmp_path: Path) -> None:
    chart = charts.Chart(make_folder(tmp_path), "stack", "1.2.3", "v9", "")
    error = "Error: found in Chart.yaml, but missing in charts/ directory: grafana, crds"
    with pytest.raises(ChartError, match=r"missing below charts/: grafana, crds. Run `helm dependency build"):
        charts.show_crds(chart, HELM, Helm({"show": (1, "", error)}))


def test_values_that_do_not_render_say_what_helm_says(tmp_path: Path) -> None:
    chart = charts.Chart(make_folder(tmp_path), "stack", "1.2.3", "v9", "")
    helm = Helm({"template": (1, "", "Error: values don't meet the specifications of the schema(s)")})
    with pytest.raises(ChartError, match=r"cannot render stack 1.2.3: values don't meet the specifications"):
        charts.template(chart, HELM, helm, release="r", namespace="n", values=tmp_path / "v.json", cluster=[])


def test_helm_is_told_what_the_cluster_serves() -> None:
    assert charts.cluster_arguments("v1.36.1", ["b/v1", "apps/v1"]) == [
        *("--kube-version", "v1.36.1", "--api-versions", "apps/v1", "--api-versions", "b/v1")
    ]
    assert charts.cluster_arguments("", []) == []


def test_hooks_are_left_out_and_lists_taken_apart() -> None:
    hook = {"kind": "Job", "metadata": {"name": "h", "annotations": {"helm.sh/hook": "pre-install"}}}
    listed = {"kind": "SecretList", "items": [{"kind": "Secret", "metadata": {"name": "s"}}]}
    found = charts.release_objects([None, "text", hook, listed], "r", "n")
    assert [item["metadata"]["name"] for item in found] == ["s"]


@given(
    st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=3)),
    st.dictionaries(st.sampled_from(["c", "d"]), st.text(max_size=3)),
)
def test_objects_get_the_marks_of_helm_and_keep_everything_else(
    labels: dict[str, str], annotations: dict[str, str]
) -> None:
    given_object = {
        "kind": "Service",
        "spec": {"x": 1},
        "metadata": {"name": "s", "labels": labels or None, "annotations": annotations or None},
    }
    (found,) = charts.release_objects([given_object], "monitoring", "space")
    assert found["spec"] == {"x": 1}
    assert found["metadata"]["labels"] == {**labels, "app.kubernetes.io/managed-by": "Helm"}
    assert found["metadata"]["annotations"] == {
        **annotations,
        "meta.helm.sh/release-name": "monitoring",
        "meta.helm.sh/release-namespace": "space",
    }
