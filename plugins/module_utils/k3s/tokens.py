# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens of K3s: formats, the CA hash in them, and rules for a cluster's server and agent token.

Formats and hashes follow pkg/clientaccess/token.go and pkg/util/token.go of K3s. No message and no representation
holds any part of a token's credentials.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field

from ..shared.problem import Problem

PREFIX = "K10"
CA_HASH_LENGTH = 64
TOKEN_HASH_LENGTH = 12
# A generated token has 256 bits in 64 hexadecimal digits; a shorter one may be guessed offline from a snapshot.
MINIMUM_LENGTH = 32
_BOOTSTRAP = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}", re.ASCII)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


class TokenError(ValueError):
    """A token that K3s would refuse to parse. The message holds nothing of the token."""


@dataclass(frozen=True)
class Token:
    """A parsed token. `username` is empty in a short token; `bootstrap` is that of kubeadm, `ID.SECRET`."""

    ca_hash: str = ""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    bootstrap: str = field(default="", repr=False)

    @property
    def short(self) -> bool:
        """Whether the token has no CA hash, so that a joining node trusts any server."""
        return not self.ca_hash


def parse(text: str) -> Token:
    """Return a token of the form `K10<ca-hash>::user:password`, `password` or `ID.SECRET`; raise `TokenError`."""
    if not text:
        raise TokenError("cannot read token: it is empty")
    if text != text.strip() or any(not character.isprintable() for character in text):
        raise TokenError("cannot read token: it contains white space at its ends or control characters")
    if not text.startswith(PREFIX):
        return Token(bootstrap=text) if _BOOTSTRAP.fullmatch(text) else Token(password=text)
    ca_hash, separator, credentials = text[len(PREFIX) :].partition("::")
    if not separator:
        ca_hash, credentials = "", ca_hash
    if ca_hash and len(ca_hash) != CA_HASH_LENGTH:
        raise TokenError(f"cannot read token: its CA hash has {len(ca_hash)} characters, not {CA_HASH_LENGTH}")
    return _with_credentials(ca_hash, credentials)


def _with_credentials(ca_hash: str, credentials: str) -> Token:
    if _BOOTSTRAP.fullmatch(credentials):
        return Token(ca_hash, bootstrap=credentials)
    username, separator, password = credentials.partition(":")
    if not separator or not password:
        raise TokenError("cannot read token: after the CA hash it must read `::user:password`")
    return Token(ca_hash, username, password)


def same_secret(one: str, other: str) -> bool:
    """Return whether two tokens, short or full, carry the same credentials. Compares in constant time."""
    first, second = parse(one), parse(other)
    return hmac.compare_digest(_secret(first).encode(), _secret(second).encode())


def _secret(token: Token) -> str:
    return token.password or token.bootstrap


def token_hash(text: str) -> str:
    """Return the hash that K3s records with a snapshot: 12 hexadecimal digits of the SHA-256 of the password.

    Raises `TokenError` for a kubeadm token, which encrypts no bootstrap data.
    """
    token = parse(text)
    if not token.password:
        raise TokenError("cannot hash token: a kubeadm token is not a server token")
    return hashlib.sha256(token.password.encode()).hexdigest()[:TOKEN_HASH_LENGTH]


def ca_hash(bundle: bytes) -> str:
    """Return the hash of a PEM bundle as tokens carry it.

    One certificate: SHA-256 of the file's bytes. Several: SHA-256 of the DER of the root that the first one leads to;
    without such a root, of the file's bytes. Issuers are followed by name: signatures are not verified here.
    Raises `ValueError` for a bundle without a certificate.
    """
    certificates = _certificates(bundle)
    if not certificates:
        raise ValueError("cannot hash CA bundle: it contains no certificate")
    root = _root_of(certificates) if len(certificates) > 1 else None
    return hashlib.sha256(bundle if root is None else root).hexdigest()


def matches_ca(text: str, bundle: bytes) -> bool:
    """Return whether a token's CA hash is that of the bundle; a short token has none and does not match."""
    return hmac.compare_digest(parse(text).ca_hash, ca_hash(bundle))


def _certificates(bundle: bytes) -> list[bytes]:
    try:
        return [base64.b64decode(b"".join(match.split()), validate=True) for match in _CERTIFICATE.findall(bundle)]
    except binascii.Error as error:
        raise ValueError("cannot read CA bundle: a certificate is not valid base64") from error


def _root_of(certificates: list[bytes]) -> bytes | None:
    names = [_names(certificate) for certificate in certificates]
    current, seen = 0, {0}
    while names[current][0] != names[current][1]:
        following = [
            number for number in range(len(names)) if number not in seen and names[number][1] == names[current][0]
        ]
        if not following:
            return None
        current = next((number for number in following if names[number][0] == names[number][1]), following[0])
        seen.add(current)
    return certificates[current]


def _names(certificate: bytes) -> tuple[bytes, bytes]:
    """Return the DER of a certificate's issuer and subject, RFC 5280 section 4.1."""
    try:
        outer = _children(_content(certificate))
        fields = [entry for entry in _children(_content(outer[0])) if entry[0] != 0xA0]
        return fields[2], fields[4]
    except IndexError as error:
        raise ValueError("cannot read CA bundle: a certificate is not valid DER") from error


def _content(element: bytes) -> bytes:
    start, end = _bounds(element, 0)
    return element[start:end]


def _children(content: bytes) -> list[bytes]:
    found, position = [], 0
    while position < len(content):
        end = _bounds(content, position)[1]
        found.append(content[position:end])
        position = end
    return found


def _bounds(data: bytes, position: int) -> tuple[int, int]:
    length, start = data[position + 1], position + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    return start, start + length


def token_problems(server: str, agent: str, known_ca_hash: str = "") -> list[Problem]:
    """Return the problems of a cluster's tokens: format, length, equality, and the CA hash of another cluster."""
    problems = [*_format_problems("k3s_token", server), *_format_problems("k3s_agent_token", agent)]
    if problems:
        return problems
    if same_secret(server, agent):
        message = "the server and the agent token are equal, so an agent could join as a server"
        problems.append(Problem("k3s_agent_token", message, "generate another agent token"))
    for variable, text in (("k3s_token", server), ("k3s_agent_token", agent)):
        found = parse(text).ca_hash
        if found and known_ca_hash and found != known_ca_hash:
            message = "the token's CA hash is that of another cluster"
            problems.append(Problem(variable, message, "use the token of this cluster, or its password alone"))
    return problems


def _format_problems(variable: str, text: str) -> list[Problem]:
    try:
        token = parse(text)
    except TokenError as error:
        return [Problem(variable, str(error), "generate a token of 64 hexadecimal digits")]
    if token.bootstrap:
        message = "the token has kubeadm's format, which expires and encrypts no bootstrap data"
        return [Problem(variable, message, "generate a token of 64 hexadecimal digits")]
    if len(token.password) < MINIMUM_LENGTH:
        message = f"the token's password is shorter than {MINIMUM_LENGTH} characters"
        return [Problem(variable, message, "generate a token of 64 hexadecimal digits")]
    return []
