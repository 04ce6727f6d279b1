# SPDX-License-Identifier: GPL-3.0-or-later
"""The digest of a host's software, and the links to its programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.software import describe


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Path, Path]:
    application, host = tmp_path / "application", tmp_path / "host"
    (application / "src").mkdir(parents=True)
    (application / "src" / "main.py").write_text("print('héllo')\n", encoding="utf-8")
    host.mkdir()
    for name in ("requirements.txt", "unpack_packages.py", "link_programs.py"):
        (host / name).write_text(name, encoding="utf-8")
    return application, host


def test_files_keep_path_and_text(sources: tuple[Path, Path]) -> None:
    software = describe(*sources, ["prometheus"])
    placed = {file["path"]: file["content"] for file in software.placed("/software")}
    assert placed["/software/application/src/main.py"] == "print('héllo')\n"
    assert "/software/requirements.txt" in placed


def test_caches_tests_and_what_makes_images_are_left_out(sources: tuple[Path, Path]) -> None:
    before = describe(*sources, ["prometheus"]).digest
    for folder in ("src/__pycache__", "tests", ".cache"):
        (sources[0] / folder).mkdir()
        (sources[0] / folder / "x.py").write_text("noise", encoding="utf-8")
    (sources[0] / "Containerfile").write_text("FROM scratch\n", encoding="utf-8")
    assert describe(*sources, ["prometheus"]).digest == before


@pytest.mark.parametrize("changed", ["source", "lock", "packages"])
def test_whatever_goes_in_changes_the_digest(sources: tuple[Path, Path], changed: str) -> None:
    before = describe(*sources, ["prometheus"]).digest
    packages = ["prometheus"]
    if changed == "source":
        (sources[0] / "src" / "main.py").write_text("print()\n", encoding="utf-8")
    elif changed == "lock":
        (sources[1] / "requirements.txt").write_text("other", encoding="utf-8")
    else:
        packages.append("grafana")
    assert describe(*sources, packages).digest != before
