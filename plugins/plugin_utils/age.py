# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption for recipients of age with X25519 keys, in the format of https://age-encryption.org/v1.

The primitives are those of `cryptography`, which ansible-core requires.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = b"age-encryption.org/v1"
CHUNK_BYTES, TAG_BYTES, KEY_BYTES, NONCE_BYTES = 64 * 1024, 16, 16, 16
_LABEL = VERSION + b"/X25519"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH, _KEY_LENGTH = 6, 32


class AgeError(ValueError):
    """A key that is not one of age, or data that no given identity can decrypt. The message holds no part of it."""


def encrypt(data: bytes, recipients: Sequence[str]) -> bytes:
    """Return data encrypted for recipients `age1...`; raise `AgeError` for another key or none."""
    if not recipients:
        raise AgeError("cannot encrypt: there is no recipient")
    key, nonce = os.urandom(KEY_BYTES), os.urandom(NONCE_BYTES)
    lines = [VERSION, *(line for recipient in recipients for line in _stanza(key, recipient)), b"---"]
    header = b"\n".join(lines)
    return header + b" " + _b64(_header_mac(key, header)) + b"\n" + nonce + b"".join(_sealed(key, nonce, data))


def decrypt(data: bytes, identities: Iterable[str]) -> bytes:
    """Return the data that one of the identities `AGE-SECRET-KEY-1...` can decrypt; raise `AgeError`."""
    head, separator, rest = data.partition(b"\n--- ")
    mac, _newline, payload = rest.partition(b"\n")
    if not separator or not head.startswith(VERSION + b"\n"):
        raise AgeError("cannot decrypt: the data is not a file of age")
    for identity in identities:
        key = _file_key(head.split(b"\n")[1:], identity)
        if key:
            if not hmac.compare_digest(_b64(_header_mac(key, head + b"\n---")), mac):
                raise AgeError("cannot decrypt: the header was changed")
            return b"".join(_opened(key, payload[:NONCE_BYTES], payload[NONCE_BYTES:]))
    raise AgeError("cannot decrypt: no identity belongs to a recipient of the file")


def is_recipient(text: str) -> bool:
    """Return whether a text is a public key of age."""
    try:
        return bool(_decode(text, "age"))
    except AgeError:
        return False


def recipient_of(identity: str) -> str:
    """Return the public key of an identity."""
    private = X25519PrivateKey.from_private_bytes(_decode(identity.lower(), "age-secret-key-"))
    return _encode("age", private.public_key().public_bytes_raw())


def new_identity() -> str:
    """Return a new identity."""
    return _encode("age-secret-key-", X25519PrivateKey.generate().private_bytes_raw()).upper()


def _stanza(key: bytes, recipient: str) -> list[bytes]:
    public = _decode(recipient, "age")
    ephemeral = X25519PrivateKey.generate()
    share = ephemeral.public_key().public_bytes_raw()
    secret = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    wrapped = ChaCha20Poly1305(_derived(secret, share + public, _LABEL)).encrypt(bytes(12), key, None)
    return [b"-> X25519 " + _b64(share), _b64(wrapped)]


def _file_key(lines: Sequence[bytes], identity: str) -> bytes:
    """Return the file key that a header holds for an identity; empty without one."""
    private = X25519PrivateKey.from_private_bytes(_decode(identity.strip().lower(), "age-secret-key-"))
    public = private.public_key().public_bytes_raw()
    for place, line in enumerate(lines[:-1]):
        words = line.split(b" ")
        if words[:2] != [b"->", b"X25519"] or len(words) != 3:
            continue
        try:
            share = _unb64(words[2])
            secret = private.exchange(X25519PublicKey.from_public_bytes(share))
            wrap = ChaCha20Poly1305(_derived(secret, share + public, _LABEL))
            return wrap.decrypt(bytes(12), _unb64(lines[place + 1]), None)
        except (InvalidTag, ValueError):
            continue
    return b""


def _header_mac(key: bytes, header: bytes) -> bytes:
    return hmac.new(_derived(key, b"", b"header"), header, hashlib.sha256).digest()


def _derived(secret: bytes, salt: bytes, label: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=label).derive(secret)


def _sealed(key: bytes, nonce: bytes, data: bytes) -> Iterator[bytes]:
    cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    for counter, last, chunk in _chunks(data, CHUNK_BYTES):
        yield cipher.encrypt(_chunk_nonce(counter, last), chunk, None)


def _opened(key: bytes, nonce: bytes, data: bytes) -> Iterator[bytes]:
    cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    for counter, last, chunk in _chunks(data, CHUNK_BYTES + TAG_BYTES):
        try:
            yield cipher.decrypt(_chunk_nonce(counter, last), chunk, None)
        except InvalidTag:
            raise AgeError("cannot decrypt: the data was changed or is not complete") from None


def _chunks(data: bytes, size: int) -> Iterator[tuple[int, bool, bytes]]:
    """Yield number, whether it is the last one, and bytes of each chunk; empty data is one empty chunk."""
    starts = range(0, max(len(data), 1), size)
    for counter, start in enumerate(starts):
        yield counter, counter == len(starts) - 1, data[start : start + size]


def _chunk_nonce(counter: int, last: bool) -> bytes:
    return counter.to_bytes(11, "big") + bytes([last])


def _b64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _unb64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def _decode(text: str, prefix: str) -> bytes:
    """Return the 32 bytes of a key in Bech32 (BIP 173); raise `AgeError` for another text."""
    head, _separator, tail = text.rpartition("1")
    values = [_ALPHABET.find(mark) for mark in tail]
    if head != prefix or min(values, default=-1) < 0 or _polymod([*_expanded(prefix), *values]) != 1:
        raise AgeError(f"a key is not one of age that begins with `{prefix}1`")
    key = bytes(_regrouped(values[:-_CHECKSUM_LENGTH], 5, 8))
    if len(key) != _KEY_LENGTH:
        raise AgeError("a key of age has another length")
    return key


def _encode(prefix: str, key: bytes) -> str:
    values = list(_regrouped(key, 8, 5, padded=True))
    check = _polymod([*_expanded(prefix), *values, *[0] * _CHECKSUM_LENGTH]) ^ 1
    values += [(check >> 5 * (5 - place)) & 31 for place in range(_CHECKSUM_LENGTH)]
    return f"{prefix}1{''.join(_ALPHABET[value] for value in values)}"


def _expanded(prefix: str) -> list[int]:
    return [*(ord(mark) >> 5 for mark in prefix), 0, *(ord(mark) & 31 for mark in prefix)]


def _polymod(values: Iterable[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate(_GENERATOR):
            check ^= generator if top >> place & 1 else 0
    return check


def _regrouped(values: Iterable[int], given: int, wanted: int, *, padded: bool = False) -> Iterator[int]:
    """Yield values of `wanted` bits from values of `given` bits."""
    held, bits = 0, 0
    for value in values:
        held, bits = held << given | value, bits + given
        while bits >= wanted:
            bits -= wanted
            yield held >> bits & ((1 << wanted) - 1)
    if padded and bits:
        yield held << (wanted - bits) & ((1 << wanted) - 1)
