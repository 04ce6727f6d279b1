# SPDX-License-Identifier: GPL-3.0-or-later
"""A verifier computed here equals that of PostgreSQL."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto_lakehouse.bootstrap.scram import matches, verifier

RFC_7677_SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
# The example of RFC 7677, section 3, in PostgreSQL's format.
OF_PENCIL = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


@pytest.mark.parametrize("kept", [None, "", "md5abcdef", "plain", "SCRAM-SHA-256$4096:x", OF_PENCIL + "x"])
def test_what_is_no_verifier_matches_no_password(kept: str | None) -> None:
    assert not matches("pencil", kept)


def test_another_password_does_not_match() -> None:
    assert not matches("Pencil", OF_PENCIL)


def test_the_example_of_the_standard() -> None:
    assert verifier("pencil", RFC_7677_SALT) == OF_PENCIL
    assert matches("pencil", OF_PENCIL)


def test_two_verifiers_of_a_password_differ_by_their_salt() -> None:
    assert verifier("pencil") != verifier("pencil")


@given(st.text(min_size=1, max_size=30))
def test_every_password_matches_its_verifier(password: str) -> None:
    kept = verifier(password, b"salt", 1)
    assert matches(password, kept)
    assert password not in kept or len(password) < 4
