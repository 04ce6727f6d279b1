# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption for recipients of age: round trips and rejections."""

from __future__ import annotations

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import age
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.age import (
    AgeError,
    decrypt,
    encrypt,
    new_identity,
    recipient_of,
)

IDENTITY = "AGE-SECRET-KEY-1TW23GRYH9KEUKZ4UVVE7UYVTSX8WYX3HCKWZ0YWDLT99GP556U8Q28U4ZM"
RECIPIENT = "age1rg8lu9lgsklt2g3cmtksvqpg3jc385zn6xcp9rgtykv5y64dj59sn9x8hp"


def test_the_recipient_of_an_identity_is_its_public_key() -> None:
    assert recipient_of(IDENTITY) == RECIPIENT


@pytest.mark.parametrize("size", [0, 1, 65_536, 200_000])
def test_data_of_every_length_comes_back(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    assert decrypt(encrypt(data, [RECIPIENT]), [IDENTITY]) == data


def test_each_recipient_can_read_and_nobody_else() -> None:
    other, stranger = new_identity(), new_identity()
    sealed = encrypt(b"secret", [recipient_of(other), RECIPIENT])
    assert b"secret" not in sealed
    assert decrypt(sealed, [stranger, other]) == decrypt(sealed, [IDENTITY]) == b"secret"
    with pytest.raises(AgeError, match="no identity belongs to a recipient"):
        decrypt(sealed, [stranger])


@pytest.mark.parametrize("place", [-1, -40, 60])
def test_changed_data_is_refused(place: int) -> None:
    sealed = bytearray(encrypt(b"secret", [RECIPIENT]))
    sealed[place] ^= 1
    with pytest.raises(AgeError):
        decrypt(bytes(sealed), [IDENTITY])


def test_data_that_was_cut_is_refused() -> None:
    sealed = encrypt(bytes(131_072), [RECIPIENT])
    with pytest.raises(AgeError, match="the data was changed"):
        decrypt(sealed[:-65_552], [IDENTITY])


@pytest.mark.parametrize("key", ["", "age1", RECIPIENT[:-1] + "q", "ssh-ed25519 AAAA", IDENTITY])
def test_a_key_that_is_not_one_of_age_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(AgeError) as caught:
        encrypt(b"secret", [key])
    assert len(key) < len(RECIPIENT) or key not in str(caught.value)


def test_no_recipient_is_refused() -> None:
    with pytest.raises(AgeError, match="there is no recipient"):
        encrypt(b"secret", [])


def test_a_missing_package_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age, "pyrage", None)
    with pytest.raises(AgeError, match="`pyrage` is missing on the controller; install"):
        encrypt(b"secret", [RECIPIENT])
