# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.placeholders import (
    Scope,
    references,
    secret_values,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.words import Complaint
from tests.unit.catalogue.descriptions import LINES, escaped

SCOPE = Scope(
    {"port.http": "8080", "service.api.host": "127.0.0.1", "secret.key": "/s/key", "text": 'a b/"c"'}, {"key"}
)


def filled(text: str, markers: bool = False) -> tuple[str, list[Complaint]]:
    complaints: list[Complaint] = []
    return SCOPE.fill(text, complaints.append, markers), complaints


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("${prot.http}", "${prot.http} is not known", "write port.http"),
        ("${zzz}", "${zzz} is not known", "README"),
        ("${}", "${} is not known", "README"),
        ("${port.http", "a ${ has no }", "write $${ for a literal ${"),
        ("${a${port.http}}", "a ${ has no }", "close it"),
        ("${port.http|hex}", "${port.http|hex} has an unknown encoding 'hex'", "use one of: json, url"),
        ("${port.http|jsn}", "unknown encoding 'jsn'", "write json"),
        ("${secret.kye}", "${secret.kye} is not among the service's secrets", "write key, or add kye"),
        ("${secret_value.key}", "would show a secret to every user", "${secret.key}"),
        ("$${secret_value.key}", "reads like the marker of a secret", "another way"),
    ],
)
def test_what_cannot_be_put_in_is_said_with_a_remedy(text: str, message: str, remedy: str) -> None:
    _text, complaints = filled(text)
    assert [(message in said, remedy in todo) for said, todo in complaints] == [(True, True)]


def test_a_marker_of_a_secret_that_the_service_does_not_name_is_refused_where_markers_are_allowed() -> None:
    _text, complaints = filled("${secret_value.other|url}", markers=True)
    assert complaints == [
        ("${secret_value.other|url} is not among the service's secrets", "add other to the service's `secrets`")
    ]


def test_markers_stay_for_the_machine_to_replace() -> None:
    text = "a:${secret_value.key} b:${secret_value.key|json} c:${secret_value.key|url}"
    assert filled(text, markers=True) == (text, [])


def test_names_are_replaced_and_encoded() -> None:
    text, complaints = filled("${service.api.host}:${port.http} ${text} ${text|url} ${text|json}")
    assert (text, complaints) == ('127.0.0.1:8080 a b/"c" a%20b%2F%22c%22 "a b/\\"c\\""', [])


@given(LINES)
def test_an_escaped_text_comes_out_as_it_is(text: str) -> None:
    assert filled(escaped(text)) == (text, [])


@given(LINES)
def test_encodings_can_be_undone(text: str) -> None:
    scope, complaints = Scope({"name": text}), list[Complaint]()
    assert unquote(scope.fill("${name|url}", complaints.append)) == text
    assert json.loads(scope.fill("${name|json}", complaints.append)) == text
    assert complaints == []


@given(st.text(max_size=30))
def test_no_text_makes_it_fail(text: str) -> None:
    filled(text)


def test_references_are_found_and_escaped_ones_are_not() -> None:
    text = "${secret.one} ${secret.two|json} $${secret.three} ${secret_value.four|url} ${file.five}"
    assert references(text, "secret") == ["one", "two"]
    assert secret_values(text) == ["four"]
