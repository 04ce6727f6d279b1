# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's SCRAM-SHA-256 verifiers, so that a password itself never reaches a statement or its log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from typing import Final

ITERATIONS: Final = 4096
"""PostgreSQL's own default (`scram_iterations`)."""

_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$(?P<iterations>[0-9]+):(?P<salt>[A-Za-z0-9+/=]+)\$(?P<stored>[A-Za-z0-9+/=]+):(?P<server>[A-Za-z0-9+/=]+)"
)


def verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return the value that PostgreSQL stores for a password: `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY`.

    Source: RFC 5802 section 3, RFC 7677, and PostgreSQL's scram_build_secret().
    """
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", _prepare(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored_key)}:{_text(server_key)}"


def matches(password: str, kept: str | None) -> bool:
    """Return whether the stored verifier belongs to this password."""
    match = _VERIFIER.fullmatch(kept or "")
    if match is None:
        return False
    again = verifier(password, base64.b64decode(match["salt"]), int(match["iterations"]))
    return hmac.compare_digest(again, match.string)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _prepare(password: str) -> bytes:
    # SASLprep's mapping (RFC 4013 section 2.1 and 2.2); for ASCII it changes nothing.
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in password
        if not stringprep.in_table_b1(character)
    )
    return unicodedata.normalize("NFKC", mapped).encode("utf-8")
