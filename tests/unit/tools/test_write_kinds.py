# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the kinds agrees with their schemas."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.schema import Property
from tools import write_kinds


def test_a_page_that_is_out_of_date_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(write_kinds, "PAGE", tmp_path / "kinds.md")

    assert write_kinds.main(["--check"]) == 1
    assert "run tools/write_kinds.py" in capsys.readouterr().err
    assert write_kinds.main([]) == 0
    assert write_kinds.main(["--check"]) == 0


def test_the_page_of_the_repository_is_up_to_date() -> None:
    assert write_kinds.main(["--check"]) == 0


def test_every_kind_has_a_section_and_an_entry_in_the_contents() -> None:
    text = write_kinds.page()

    for name in KINDS:
        assert f"\n## {name}\n" in text
        assert f"[{name}](#{name})" in text


@pytest.mark.parametrize(
    ("item", "row"),
    [
        (Property(required=True, replace=True, purpose="Its name."), "string | required | replaces | Its name."),
        (Property("integer", default=7, purpose="Days."), "integer | `7` | in place | Days."),
        (Property("boolean", when_unset=False, purpose="X."), "boolean | `false` | in place | X."),
        (Property(computed=True, sensitive=True, purpose="X."), "string | chosen by AWS | in place | X. A secret."),
        (Property("set", deferred=True, elements=Property(), purpose="X."), "set of string | - | later | X."),
        (Property(replace=lambda _old, _new: True, purpose="X."), "string | - | may replace | X."),
        (
            Property("integer", owned_by="the autoscaler", purpose="X."),
            "integer | - | not compared: the autoscaler | X.",
        ),
        (Property(choices=("a", "b"), purpose="X|Y."), "string | - | in place | X\\|Y. One of `a`, `b`."),
    ],
)
def test_a_row_says_what_a_property_takes_and_what_its_change_does(item: Property, row: str) -> None:
    assert list(write_kinds.rows({"it": item})) == [f"| `it` | {row} |"]


def test_what_is_inside_of_a_property_is_replaced_with_it() -> None:
    inner = {"port": Property("integer", purpose="X.")}
    rows = write_kinds.rows(
        {
            "one": Property("map", fields=inner, replace=True, purpose="Y."),
            "many": Property("list", elements=Property("map", fields=inner), purpose="Z."),
            "named": Property("map", elements=Property("map", fields=inner), deferred=True, purpose="Z."),
        }
    )

    assert [row for row in rows if "port" in row] == [
        "| `one.port` | integer | - | replaces | X. |",
        "| `many[].port` | integer | - | in place | X. |",
        "| `named.*.port` | integer | - | later | X. |",
    ]
