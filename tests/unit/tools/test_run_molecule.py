# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from tools import run_molecule
from tools.steps import read_report


def test_no_scenario_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_molecule, "REPOSITORY", tmp_path)
    assert run_molecule.main([]) == 1


def test_every_scenario_runs_though_the_first_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("default", "another"):
        (tmp_path / "molecule" / name).mkdir(parents=True)
        (tmp_path / "molecule" / name / "molecule.yml").touch()
    monkeypatch.setattr(run_molecule, "REPOSITORY", tmp_path)
    monkeypatch.setattr(run_molecule, "run", lambda name: (name != "default", 1.0))
    report = tmp_path / "reports" / "molecule.xml"
    assert run_molecule.scenarios(tmp_path) == ["default", "another"]
    assert run_molecule.main([f"--junit-xml={report}"]) == 1
    assert read_report(report)[0] == {"passed": 1, "failed": 1, "skipped": 0}
