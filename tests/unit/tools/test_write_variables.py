# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the inventory variables agrees with the collection's checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.inventory.variables import VARIABLES
from tools import write_variables


def test_a_page_that_is_out_of_date_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "variables.md"
    page.write_text(f"{write_variables.page()}| `lakehouse_gone` | `1` | What no longer is. |\n", encoding="utf-8")
    monkeypatch.setattr(write_variables, "PAGE", page)
    assert write_variables.main(["--check"]) == 1
    assert "run tools/write_variables.py" in capsys.readouterr().err
    assert write_variables.main([]) == 0
    assert write_variables.main(["--check"]) == 0


def test_the_page_of_the_repository_is_up_to_date() -> None:
    assert write_variables.main(["--check"]) == 0


def test_every_variable_is_a_row_with_its_default() -> None:
    rows = [line for line in write_variables.page().splitlines() if line.startswith("| `lakehouse_")]
    assert len(rows) == len(VARIABLES)
    assert any(row.startswith("| `lakehouse_target` | required |") for row in rows)
