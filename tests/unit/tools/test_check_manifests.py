# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding of the policy check is an error unless it is explained. An explanation without a finding is an error."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from tools import check_manifests
from tools.check_manifests import Finding, problems

ROOT_USER = Finding("CKV_K8S_6", "Deployment.lake.api", "k3s-production.yaml", "Do not admit root containers")


def program(folder: Path, output: str) -> Path:
    """Return a program that prints `output` instead of checkov."""
    path = folder / "checkov"
    path.write_text(f"#!{sys.executable}\nprint({output!r})\n", "utf-8")
    path.chmod(0o700)
    return path


def report(*findings: Finding, passed: int = 3) -> str:
    failed = [
        {"check_id": each.check, "resource": each.resource, "file_path": f"/{each.file}", "check_name": each.name}
        for each in findings
    ]
    return json.dumps({"results": {"failed_checks": failed}, "summary": {"passed": passed}})


def test_a_finding_that_nobody_has_explained_is_named() -> None:
    assert list(problems([ROOT_USER], {})) == [
        "k3s-production.yaml: Deployment.lake.api: Do not admit root containers (CKV_K8S_6)"
    ]
    assert list(problems([ROOT_USER], {("CKV_K8S_6", "Deployment.lake.web"): "why", ("CKV_K8S_6", "*"): "why"})) == [
        "tools/check_manifests.py: the exception of CKV_K8S_6 for Deployment.lake.web is needed by nothing; remove it"
    ]


def test_a_finding_that_is_explained_is_accepted() -> None:
    assert list(problems([ROOT_USER], {("CKV_K8S_6", "Deployment.lake.api"): "why"})) == []


@pytest.mark.parametrize("output", ["", "no json", "{}", json.dumps([])])
def test_a_program_that_gives_no_report_is_an_error(tmp_path: Path, output: str) -> None:
    with pytest.raises(RuntimeError, match="checkov gave no report"):
        check_manifests.findings(program(tmp_path, output), tmp_path)


def test_a_report_is_read(tmp_path: Path) -> None:
    found = check_manifests.findings(program(tmp_path, report(ROOT_USER)), tmp_path)
    assert found == ([ROOT_USER], 3)


def test_a_check_that_looked_at_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_manifests, "EXCEPTIONS", {})
    assert check_manifests.main([str(program(tmp_path, report(passed=0)))]) == 1
    assert "checkov looked at nothing" in capsys.readouterr().err
    assert check_manifests.main([str(program(tmp_path, report()))]) == 0


def test_every_target_and_environment_is_written(tmp_path: Path) -> None:
    check_manifests.write_manifests(tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {
        f"{target}-{environment}"
        for target in ("k3s", "eks", "gke")
        for environment in ("development", "staging", "production")
    }
    kinds = [each["kind"] for each in yaml.safe_load_all((tmp_path / "gke-production.yaml").read_text("utf-8"))]
    assert {"Namespace", "Deployment", "NetworkPolicy", "Job"} <= set(kinds)
    assert "*id0" not in (tmp_path / "gke-production.yaml").read_text("utf-8")
