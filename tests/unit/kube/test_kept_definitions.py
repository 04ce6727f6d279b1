# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsed definitions on a disk: read back unchanged, by this user alone, with a limited lifetime."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import kept_definitions
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.kept_definitions import KeptDefinitions

VALUE = [1, {"kind": "CustomResourceDefinition", "spec": {"a": [1.5, 10**30, None, True], "b": "\N{SNOWMAN}"}}]


@pytest.fixture
def kept(tmp_path: Path) -> KeptDefinitions:
    return KeptDefinitions(tmp_path / "definitions" / "1")


def test_a_value_is_read_back_for_the_same_text_alone(kept: KeptDefinitions) -> None:
    assert kept.get("a") is None
    kept.put("a", VALUE)
    assert kept.get("a") == VALUE
    assert kept.get("b") is None
    (file,) = kept.folder.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert kept.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{", b"\x00\x01"])
def test_a_file_that_is_damaged_is_as_none(kept: KeptDefinitions, content: bytes) -> None:
    kept.put("a", VALUE)
    (file,) = kept.folder.iterdir()
    file.write_bytes(content)
    assert kept.get("a") is None


def test_what_others_may_write_is_not_read(kept: KeptDefinitions) -> None:
    kept.put("a", VALUE)
    kept.folder.chmod(0o777)
    assert kept.get("a") is None
    kept.put("b", VALUE)
    assert len(list(kept.folder.iterdir())) == 1


def test_a_folder_that_cannot_be_written_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kept = KeptDefinitions(tmp_path / "file" / "1")
    kept.put("a", VALUE)
    assert kept.get("a") is None


def test_the_oldest_are_removed(kept: KeptDefinitions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_definitions, "_MOST", 3)
    for text in "abcde":
        kept.put(text, VALUE)
    assert len(list(kept.folder.iterdir())) == 3
    assert kept.get("e") == VALUE


def test_another_parser_reads_nothing_of_this_one() -> None:
    folder = kept_definitions.kept_definitions().folder
    assert folder.parent.name == "crypto_lakehouse_definitions"
    assert folder.name.count("-") >= 3
