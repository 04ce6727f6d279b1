# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup of resources renders templates with Ansible's variables and filters, and reports errors in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible import constants

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.resource_templates import (
    TemplateFaultError,
    described,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return Ansible's home, which contains the compiled templates."""
    place = tmp_path / "home"
    monkeypatch.setattr(constants.config, "get_config_value", lambda _name: str(place))
    return place


def _described(folder: Path, text: str, **variables: Any) -> list[Any]:
    file = folder / "resources.yml.j2"
    file.write_text(text, "utf-8")
    return described(str(file), variables, lambda value: value)


def test_the_items_of_all_documents_are_one_list(tmp_path: Path) -> None:
    (tmp_path / "more.j2").write_text("{% set name = given %}\n- {{ name | to_json }}\n")
    text = "- a: [1]\n---\n{% include 'more.j2' %}\n\n---\n{% for item in [] %}\n- {{ item }}\n{% endfor %}\n"
    assert _described(tmp_path, text, given='b: "c"') == [{"a": [1]}, 'b: "c"']


def test_a_variable_that_a_template_names_is_resolved_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def resolve(value: str) -> str:
        asked.append(value)
        return value.upper()

    file = tmp_path / "resources.yml.j2"
    file.write_text("- {{ one }}{{ one }}\n")
    assert described(str(file), {"one": "x", "two": "y"}, resolve) == ["XX"]
    assert asked == ["x"]


def test_filters_are_ansibles_and_else_jinjas(tmp_path: Path) -> None:
    text = "- {{ 'yes' | bool | to_json }}\n- {{ 'a' | hash('sha1') }}\n- {{ [1, 2] | join('') | int }}\n"
    assert _described(tmp_path, text) == [True, "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8", 12]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- {{ nothing }}", "'nothing' is undefined"),
        ("- {{ 1 | nothing }}", "No filter named 'nothing'"),
        ("{% include 'nothing.j2' %}", "nothing.j2"),
        ("- {{ 1 ", "unexpected end of template"),
        ("- {a: 1, a: 2}", "a key of the map is not unique"),
        ("- {", "did not find expected node content"),
        ("a: 1", "a document is not a list"),
    ],
)
def test_what_is_wrong_with_a_template_is_told(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(TemplateFaultError, match=reason):
        _described(tmp_path, text)


def test_a_compiled_template_is_kept_where_others_cannot_write(tmp_path: Path, home: Path) -> None:
    assert _described(tmp_path, "- 1") == [1]
    (folder,) = (home / "crypto_lakehouse_templates").iterdir()
    assert list(folder.iterdir())
    for file in folder.iterdir():
        file.unlink()
    folder.chmod(0o777)
    assert _described(tmp_path, "- 2") == [2]
    assert not list(folder.iterdir())
