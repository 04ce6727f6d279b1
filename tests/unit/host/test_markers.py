# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import string
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue import placeholders
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.markers import (
    ENCODINGS,
    HIDDEN_LINE,
    before_text,
    fill,
    mask,
    secret_names,
)

VALUE = 's3cr&t/Val"ue'
SECRETS = st.text(string.ascii_letters + string.digits + "&/\"' +%=", min_size=8, max_size=40).filter(
    lambda text: text == text.strip()
)


def test_an_unknown_secret_is_an_error_that_names_file_and_secret() -> None:
    with pytest.raises(HostError, match=r"/etc/x\.conf: the secret 'nobody' is not in the store"):
        fill("a=${secret_value.nobody}", {"somebody": VALUE}, "/etc/x.conf")


def test_an_unknown_encoding_is_an_error_that_lists_the_valid_ones() -> None:
    with pytest.raises(HostError, match=r"unknown encoding; valid: url, json"):
        fill("a=${secret_value.a|hex}", {"a": VALUE}, "/etc/x.conf")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("${secret_value.a}", VALUE),
        ("${secret_value.a|url}", urllib.parse.quote(VALUE, safe="")),
        ("${secret_value.a|json}", json.dumps(VALUE)),
        ("${secret_value.a}${secret_value.a}", VALUE + VALUE),
        ("${HOME} ${secret.a} $1 \\1", "${HOME} ${secret.a} $1 \\1"),
    ],
)
def test_a_marker_becomes_the_value_as_it_is_encoded_and_nothing_else_changes(content: str, expected: str) -> None:
    assert fill(content, {"a": VALUE}, "x") == expected


def test_the_encodings_are_those_that_the_catalogue_checks() -> None:
    assert ENCODINGS.keys() == placeholders.ENCODINGS.keys()
    for name, encode in ENCODINGS.items():
        assert encode(VALUE) == placeholders.ENCODINGS[name](VALUE)


def test_the_names_of_secrets_are_listed_once_and_in_order() -> None:
    assert secret_names("${secret_value.b|url} ${secret_value.a}\n${secret_value.b}") == ["b", "a"]


@given(SECRETS, SECRETS)
def test_no_known_value_survives_masking_in_any_encoding(today: str, before: str) -> None:
    text = "".join(f"x {form} y\n" for value in (today, before) for form in _forms(value))
    masked = mask(text, {"name": [today, before]})
    for value in (today, before):
        for form in _forms(value):
            assert form not in masked.replace("${secret_value.name}", "")


def test_a_secret_that_is_a_part_of_another_is_not_masked_within_it() -> None:
    assert mask("password-long password", {"a": ["password"], "b": ["password-long"]}) == (
        "${secret_value.b} ${secret_value.a}"
    )


def test_what_is_as_described_shows_as_its_marker() -> None:
    described = "user=x\npassword=${secret_value.a|url}\n"
    filled = fill(described, {"a": VALUE}, "")
    assert before_text(filled, described, {"a": VALUE}, {"a": [VALUE]}) == described


def test_a_value_typed_in_by_hand_shows_only_as_another_value() -> None:
    shown = before_text("password=typed-in\n", "password=${secret_value.a}\n", {"a": VALUE}, {"a": [VALUE]})
    assert shown == "password=(another value of a)\n"


def test_a_value_is_hidden_when_the_store_is_lost() -> None:
    shown = before_text("password=old-value\n", "password=${secret_value.a}\n", {}, {})
    assert shown == "password=(another value of a)\n"


def test_an_edit_beside_an_unchanged_secret_is_shown_and_the_secret_is_not() -> None:
    described = "level=info\nuser=x\npassword=${secret_value.a}\n"
    before = f"level=debug\nuser=x\npassword={VALUE}\n"
    assert before_text(before, described, {"a": VALUE}, {"a": [VALUE]}) == (
        "level=debug\nuser=x\npassword=${secret_value.a}\n"
    )


@pytest.mark.parametrize(
    "before",
    [
        "user=x\npassword = typed-in\n",
        "password=typed-in\nuser=x\nlevel=info\n",
        "typed-in\n",
        "level=debug\nuser=x\n  password=typed-in # by hand\n",
        "user=x\npassword=typed-in",
    ],
)
def test_a_line_that_may_stand_where_a_secret_belongs_is_hidden(before: str) -> None:
    described = "level=info\nuser=x\npassword=${secret_value.a}\n"
    shown = before_text(before, described, {"a": VALUE}, {"a": [VALUE]})
    assert "typed-in" not in shown
    assert HIDDEN_LINE in shown


def test_a_file_that_no_longer_holds_a_secret_does_not_show_the_one_it_held() -> None:
    assert VALUE not in before_text(f"hook: {VALUE}\n", "hook: none\n", {}, {"a": [VALUE]})


@given(SECRETS, SECRETS, st.lists(st.sampled_from(["a=1", "b=2", "# c", "", "d"]), max_size=5), st.booleans())
def test_no_value_of_today_or_before_is_ever_shown(today: str, before: str, lines: list[str], swapped: bool) -> None:
    described = "x=1\npassword=${secret_value.a|json}\ny=2\nurl=http://u:${secret_value.a|url}@h/\n"
    there = [*lines, f"password={json.dumps(before)}", "y=3", f"url=http://u:{urllib.parse.quote(before, safe='')}@h/"]
    text = "\n".join(reversed(there) if swapped else there) + "\n"
    shown = before_text(text, described, {"a": today}, {"a": [today, before]})
    for value in (today, before):
        for form in _forms(value):
            assert form not in shown


def _forms(value: str) -> tuple[str, ...]:
    return value, urllib.parse.quote(value, safe=""), json.dumps(value), json.dumps(value)[1:-1]
