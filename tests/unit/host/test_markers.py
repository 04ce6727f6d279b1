# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import string
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.errors import HostError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.markers import (
    HIDDEN_LINE,
    before_text,
    fill,
    mask,
    redacted,
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


def test_the_names_of_secrets_are_listed_once_and_in_order() -> None:
    assert secret_names("${secret_value.b|url} ${secret_value.a}\n${secret_value.b}") == ["b", "a"]


@given(SECRETS)
def test_no_value_survives_masking_in_any_encoding(value: str) -> None:
    masked = mask("".join(f"x {form} y\n" for form in _forms(value)), {"name": value})
    for form in _forms(value):
        assert form not in masked.replace("${secret_value.name}", "")


def test_a_secret_that_is_a_part_of_another_is_not_masked_within_it() -> None:
    assert mask("password-long password", {"a": "password", "b": "password-long"}) == (
        "${secret_value.b} ${secret_value.a}"
    )


def test_a_line_of_a_program_shows_no_credential_that_no_store_has() -> None:
    line = "cannot reach postgresql://lakehouse:former-value@127.0.0.1/lakehouse, Authorization: Bearer former-value"
    assert "former-value" not in redacted(f"{line}, {VALUE}", {"a": VALUE})
    assert VALUE not in redacted(f"{line}, {VALUE}", {"a": VALUE})


DESCRIBED = "level=info\nuser=x\npassword=${secret_value.a}\n"


def test_text_as_described_shows_markers() -> None:
    described = "user=x\npassword=${secret_value.a|url}\n"
    filled = fill(described, {"a": VALUE}, "")
    assert before_text(filled, [described], {"a": VALUE}) == described


@pytest.mark.parametrize("values", [{"a": VALUE}, {}])
def test_another_value_shows_as_such_whether_typed_by_hand_or_replaced_or_of_a_lost_store(
    values: dict[str, str],
) -> None:
    shown = before_text("password=typed-in\n", ["password=${secret_value.a}\n"], values)
    assert shown == "password=(another value of a)\n"


def test_a_former_description_shows_with_its_own_markers() -> None:
    former = "level=debug\nkey=${secret_value.b}\ntoken=${secret_value.a|json}\n"
    before = f"level=debug\nkey=former-b-value\ntoken={json.dumps(VALUE)}\n"
    shown = before_text(before, [former, DESCRIBED], {"a": VALUE})
    assert shown == "level=debug\nkey=(another value of b)\ntoken=${secret_value.a|json}\n"


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (f"level=debug\nuser=x\npassword={VALUE}\n", f"{HIDDEN_LINE}\nuser=x\npassword=${{secret_value.a}}\n"),
        ("user=x\npassword = typed-in\n", f"user=x\n{HIDDEN_LINE}\n"),
        ("password=typed-in\nuser=x\nlevel=info\n", "password=(another value of a)\nuser=x\nlevel=info\n"),
        ("typed-in\n", f"{HIDDEN_LINE}\n"),
        ("user=x\npassword=typed-in", "user=x\npassword=(another value of a)"),
        ("", ""),
    ],
)
def test_a_line_of_a_hand_edit_shows_only_where_it_stands_in_the_description(before: str, expected: str) -> None:
    assert before_text(before, [DESCRIBED], {"a": VALUE}) == expected


LINES = st.sampled_from(["a=1", "level=info", "# c", "", "user=${secret_value.b}", "x=${secret_value.a|json}"])
TEXTS = st.lists(LINES, max_size=6).map("\n".join)


@given(TEXTS, TEXTS, SECRETS, SECRETS, st.sampled_from(["", "note: ", "x=", "user="]))
def test_no_former_value_is_shown_though_none_is_known(
    former: str, described: str, today: str, replaced: str, typed: str
) -> None:
    before = f"{fill(former, dict.fromkeys('ab', replaced), '')}\n{typed}{replaced}\n"
    shown = before_text(before, [former, described], {"a": today})
    lines = {line for text in (former, described) for line in text.splitlines()}
    markers = {"${secret_value.b}": "(another value of b)", "${secret_value.a|json}": "(another value of a)"}
    lines |= {line.replace(marker, other) for line in lines for marker, other in markers.items()}
    assert set(shown.splitlines()) <= {*lines, HIDDEN_LINE}


def _forms(value: str) -> tuple[str, ...]:
    return value, urllib.parse.quote(value, safe=""), json.dumps(value), json.dumps(value)[1:-1]
