# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption in the format of age: a file of another implementation, round trips, and what is refused."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils.age import (
    CHUNK_BYTES,
    AgeError,
    decrypt,
    encrypt,
    new_identity,
    recipient_of,
)

# Made by pyrage 1.4.0 (rage), with a stanza of another type that readers have to skip.
IDENTITY = "AGE-SECRET-KEY-1TW23GRYH9KEUKZ4UVVE7UYVTSX8WYX3HCKWZ0YWDLT99GP556U8Q28U4ZM"
RECIPIENT = "age1rg8lu9lgsklt2g3cmtksvqpg3jc385zn6xcp9rgtykv5y64dj59sn9x8hp"
FILE = base64.b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSA1VDJ6clZUYklHdGNDdnl0MkdJZTZLdnFsN1E4TzhUdEVVcDdNcXFTS1QwCm1DZVFib0t4"
    "QW0zMTk0WXh0cVkxZ3U5QlpNTHoyYUI1RXA3U2dnWWRReWcKLT4gVS1ncmVhc2UgKiBzUi89XyBybDYgQDYtYHZYcTQKQnpwbUdnTDNCL3E3aXhm"
    "ZC9WcwotLS0gVDJLOWlaVnRrWDNWMkpOeks5aklYbXNzY2MwSU1iZkFkcHhtNUZGMU1XNAo5jF/x7VElARd9EZ4WZVt7yiaX+igdOUdtTFuvhW5E"
    "MivLUjU9ng=="
)


def test_a_file_of_another_implementation_is_read() -> None:
    assert recipient_of(IDENTITY) == RECIPIENT
    assert decrypt(FILE, [IDENTITY]) == b"escrow"


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
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
    sealed = encrypt(bytes(2 * CHUNK_BYTES), [RECIPIENT])
    with pytest.raises(AgeError, match="not complete"):
        decrypt(sealed[: -CHUNK_BYTES - 16], [IDENTITY])


@pytest.mark.parametrize("key", ["", "age1", RECIPIENT[:-1] + "q", RECIPIENT.upper(), "ssh-ed25519 AAAA", IDENTITY])
def test_a_key_that_is_not_one_of_age_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(AgeError) as caught:
        encrypt(b"secret", [key])
    assert len(key) < len(RECIPIENT) or key not in str(caught.value)


def test_no_recipient_is_refused() -> None:
    with pytest.raises(AgeError, match="there is no recipient"):
        encrypt(b"secret", [])
