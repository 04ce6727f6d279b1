# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of the orchestrator are those that Prefect copied, and edited ones are written again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from services import settings_from

from crypto_lakehouse.bootstrap import pages
from crypto_lakehouse.bootstrap.ledger import BootstrapError, Ledger

COPY = "from prefect.server.api.server import create_ui_app; create_ui_app(ephemeral=False)"


def copy_pages(folder: Path, home: Path, served_at: str) -> None:
    """Let Prefect copy its pages, as at the start of its server."""
    environment = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(folder),
        "PREFECT_SERVER_UI_SERVE_BASE": served_at,
    }
    subprocess.run([sys.executable, "-c", COPY], env=environment, cwd=home, check=True)


@pytest.fixture(scope="module")
def described() -> dict[str, bytes]:
    return pages.expected(pages._prefect(), "/")


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("prefect")
    copy_pages(home / "pages", home, "/")
    return home / "pages"


@pytest.fixture
def folder(copied: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(copied, tmp_path / "pages"))


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *, check: bool = False) -> list[str]:
    monkeypatch.setattr(pages, "_served_at", lambda _settings: "/")
    ledger = Ledger(check=check, wait_s=0)
    pages.ensure(settings_from({"LAKEHOUSE_ORCHESTRATOR_PAGES": str(folder)}), ledger)
    return ledger.changed


def test_copies_of_prefect_are_those_that_are_expected(copied: Path, described: dict[str, bytes]) -> None:
    assert {"v1/index.html", "v2/index.html", "v1/UI_SERVE_BASE"} < described.keys()
    assert pages.differences(copied, described) == {}


def test_pages_below_another_path_are_expected_there(tmp_path: Path) -> None:
    copy_pages(tmp_path / "pages", tmp_path, "/lake")
    assert pages.differences(tmp_path / "pages", pages.expected(pages._prefect(), "/lake")) == {}
    assert pages.differences(tmp_path / "pages", pages.expected(pages._prefect(), "/"))


@pytest.mark.parametrize(
    ("given", "v1", "v2"),
    [
        ("", "/", "/v2"),
        ("/", "/", "/v2"),
        ("lake/", "/lake", "/lake/v2"),
        ("/v2", "/", "/v2"),
        ("/a/v2", "/a", "/a/v2"),
    ],
)
def test_the_paths_of_both_pages_follow_from_one_setting(given: str, v1: str, v2: str) -> None:
    assert pages.bases(given) == {"v1": v1, "v2": v2}


def _link(path: Path) -> None:
    target = path.with_name("elsewhere.html")
    path.rename(target)
    path.symlink_to(target)


def _move_aside(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to(path.with_name("aside"))


EDITS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "text": (
        lambda folder: (folder / "v2/index.html").write_text("<script src=//evil.example>"),
        ["v2/index.html differs"],
    ),
    "image": (lambda folder: (folder / "v1/ico").rename(folder / "v1/icon"), []),
    "removed": (lambda folder: (folder / "v1/index.html").unlink(), ["v1/index.html is missing"]),
    "added": (lambda folder: (folder / "v1/evil\n.js").write_text(""), ["v1/evil\\n.js is not part of it"]),
    "root of another copy": (
        lambda folder: (folder / "UI_SERVE_BASE").write_text("v1:0:/"),
        ["UI_SERVE_BASE is not part of it"],
    ),
    "link": (
        lambda folder: _link(folder / "v2/index.html"),
        ["v2/elsewhere.html is not part of it", "v2/index.html differs"],
    ),
    "other version": (lambda folder: (folder / "v1/UI_SERVE_BASE").write_text("v1:2.0:/"), ["v1"]),
    "linked copy": (lambda folder: _move_aside(folder / "v2"), ["v2"]),
    "missing": (shutil.rmtree, ["v1", "v2"]),
}


@pytest.mark.parametrize("name", EDITS)
def test_edited_pages_are_named_and_written_again(
    folder: Path, described: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    edit, named = EDITS[name]
    edit(folder)
    changes = run(folder, monkeypatch, check=True)
    assert {f"{pages.WHAT}: {each}" for each in named} <= set(changes)
    assert pages.differences(folder, described), "a look writes nothing"
    assert run(folder, monkeypatch) == changes
    assert pages.differences(folder, described) == {}
    assert run(folder, monkeypatch) == []


def test_a_link_in_the_place_of_the_folder_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    (elsewhere / "v1/index.html").write_text("mine")
    folder.symlink_to(elsewhere)
    assert run(folder, monkeypatch) == [f"{pages.WHAT}: v1", f"{pages.WHAT}: v2"]
    assert not folder.is_symlink()
    assert (elsewhere / "v1/index.html").read_text() == "mine"


def test_a_page_that_cannot_be_written_is_named_with_its_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path, _content: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(folder / "v1/index.html"))

    (folder / "v1/index.html").write_text("edited")
    monkeypatch.setattr(pages, "_write", refuse)
    with pytest.raises(BootstrapError, match=r"cannot write .*/v1/index.html: Permission denied; give it"):
        run(folder, monkeypatch)


def test_a_bootstrap_on_another_machine_compares_no_pages() -> None:
    ledger = Ledger(check=False, wait_s=0)
    pages.ensure(settings_from({}), ledger)
    assert (ledger.changed, ledger.unchanged) == ([], 0)
