# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypt data on the controller for recipients of age, by pyrage. Messages contain neither keys nor data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

try:
    import pyrage
except ImportError:
    pyrage = None


class AgeError(ValueError):
    """An invalid age key, or data that none of the given identities can decrypt."""


def _pyrage() -> Any:
    if pyrage is None:
        raise AgeError("the Python package `pyrage` is missing on the controller; install meta/ee-requirements.txt")
    return pyrage


def encrypt(data: bytes, recipients: Sequence[str]) -> bytes:
    """Return data encrypted for recipients `age1...`; raise `AgeError` for an invalid or missing key."""
    if not recipients:
        raise AgeError("cannot encrypt: there is no recipient")
    keys = [_recipient(recipient) for recipient in recipients]
    sealed: bytes = _pyrage().encrypt(data, keys)
    return sealed


def decrypt(data: bytes, identities: Iterable[str]) -> bytes:
    """Return data decrypted with one of the identities `AGE-SECRET-KEY-1...`; raise `AgeError` if none fits."""
    keys = [_identity(identity) for identity in identities]
    try:
        opened: bytes = _pyrage().decrypt(data, keys)
    except _pyrage().DecryptError:
        raise AgeError("cannot decrypt: no identity belongs to a recipient, or the data was changed") from None
    return opened


def recipient_of(identity: str) -> str:
    """Return the public key of an identity."""
    return str(_identity(identity).to_public())


def new_identity() -> str:
    """Return a new identity."""
    return str(_pyrage().x25519.Identity.generate())


def _recipient(text: str) -> Any:
    module = _pyrage()
    try:
        return module.x25519.Recipient.from_str(text)
    except module.RecipientError:
        raise AgeError("a key is not a public key of age, which begins with `age1`") from None


def _identity(text: str) -> Any:
    module = _pyrage()
    try:
        return module.x25519.Identity.from_str(text.strip())
    except module.IdentityError:
        raise AgeError("a key is not a private key of age, which begins with `AGE-SECRET-KEY-1`") from None
