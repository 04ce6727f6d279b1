# SPDX-License-Identifier: GPL-3.0-or-later
"""Join tokens: formats, CA hashes, rules, and that no message or representation shows a secret."""

from __future__ import annotations

import datetime as dt
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.tokens import (
    Token,
    TokenError,
    ca_hash,
    matches_ca,
    parse,
    same_secret,
    token_hash,
    token_problems,
)

HASH = "0" * 64
SECRET = "5ecre7" * 10
OTHER = "07he4s" * 10

# Rows follow `parseToken` of pkg/clientaccess/token.go.
PARSED: dict[str, Token] = {
    f"K10{HASH}::server:{SECRET}": Token(HASH, "server", SECRET),
    f"K10{HASH}::node:{SECRET}": Token(HASH, "node", SECRET),
    f"K10::server:{SECRET}": Token("", "server", SECRET),
    f"K10server:{SECRET}": Token("", "server", SECRET),
    f"K10{HASH}::abcdef.0123456789abcdef": Token(HASH, bootstrap="abcdef.0123456789abcdef"),
    "abcdef.0123456789abcdef": Token(bootstrap="abcdef.0123456789abcdef"),
    SECRET: Token(password=SECRET),
    f"{SECRET}::more": Token(password=f"{SECRET}::more"),
    f"K10{HASH}::server:{SECRET}:with:colons": Token(HASH, "server", f"{SECRET}:with:colons"),
}
REFUSED = {
    "": "it is empty",
    f"{SECRET}\n": "white space",
    f"{SECRET}\x00{SECRET}": "control characters",
    f"K10{HASH[1:]}::server:{SECRET}": "its CA hash has 63 characters, not 64",
    f"K10{HASH}::{SECRET}": "after the CA hash it must read",
    f"K10{HASH}::server:": "after the CA hash it must read",
    f"K10{SECRET}": "after the CA hash it must read",
}


@pytest.mark.parametrize("text", PARSED)
def test_formats_of_tokens(text: str) -> None:
    assert parse(text) == PARSED[text]
    assert parse(text).short == (HASH not in text)


@pytest.mark.parametrize("text", REFUSED)
def test_malformed_tokens_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(TokenError) as error:
        parse(text)
    assert REFUSED[text] in str(error.value)
    assert SECRET not in str(error.value)


@given(st.text(st.characters(codec="ascii"), min_size=1).filter(lambda text: len(text) > 5))
def test_no_representation_or_message_holds_a_secret(secret: str) -> None:
    for text in (secret, f"K10{HASH}::server:{secret}", f"K10{secret}"):
        try:
            shown = repr(parse(text)) + str(parse(text))
        except TokenError as error:
            shown = str(error)
        assert secret not in shown or secret in repr(Token(HASH)) + REASONS


REASONS = " ".join(REFUSED.values()) + " cannot read token: `::user:password`"


def test_full_and_short_tokens_of_one_secret_are_equal() -> None:
    assert same_secret(f"K10{HASH}::server:{SECRET}", SECRET)
    assert not same_secret(f"K10{HASH}::server:{SECRET}", OTHER)


def test_the_hash_of_a_token_is_that_of_its_password() -> None:
    # `ShortHash(normalizedToken, 12)` of pkg/util/token.go
    expected = hashlib.sha256(SECRET.encode()).hexdigest()[:12]
    assert token_hash(SECRET) == token_hash(f"K10{HASH}::server:{SECRET}") == expected
    with pytest.raises(TokenError):
        token_hash("abcdef.0123456789abcdef")


Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certificate(name: str, issuer: Pair | None = None) -> Pair:
    """Return a certificate of a CA, self-signed without an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    builder = builder.issuer_name(issuer[0].subject if issuer else subject).serial_number(7)
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=3650))
    builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256()), key


def pem(*pairs: Pair) -> bytes:
    return b"".join(pair[0].public_bytes(serialization.Encoding.PEM) for pair in pairs)


def der_hash(pair: Pair) -> str:
    return hashlib.sha256(pair[0].public_bytes(serialization.Encoding.DER)).hexdigest()


ROOT = certificate("root")
INTERMEDIATE = certificate("intermediate", ROOT)
CA = certificate("k3s-server-ca", INTERMEDIATE)


def test_one_certificate_is_hashed_as_the_bytes_of_its_file() -> None:
    assert ca_hash(pem(ROOT)) == hashlib.sha256(pem(ROOT)).hexdigest()
    assert ca_hash(pem(ROOT) + b"\n") != ca_hash(pem(ROOT))


def test_a_bundle_is_hashed_as_the_der_of_its_root() -> None:
    assert ca_hash(pem(CA, INTERMEDIATE, ROOT)) == der_hash(ROOT)
    assert ca_hash(pem(CA, ROOT, INTERMEDIATE)) == der_hash(ROOT)


def test_a_bundle_without_its_root_is_hashed_as_bytes() -> None:
    bundle = pem(CA, INTERMEDIATE)
    assert ca_hash(bundle) == hashlib.sha256(bundle).hexdigest()


def test_a_bundle_whose_first_certificate_leads_to_no_other_is_hashed_as_bytes() -> None:
    bundle = pem(CA, ROOT)
    assert ca_hash(bundle) == hashlib.sha256(bundle).hexdigest()


@pytest.mark.parametrize(
    "bundle",
    [
        b"",
        b"no certificate",
        pem(CA, ROOT).replace(b"MII", b"!!!"),
        pem(CA) + pem(ROOT)[:27] + b"MAA=\n-----END CERTIFICATE-----",
    ],
)
def test_other_bytes_are_not_a_bundle(bundle: bytes) -> None:
    with pytest.raises(ValueError, match="CA bundle"):
        ca_hash(bundle)


def test_a_token_matches_the_ca_that_it_was_made_for() -> None:
    assert matches_ca(f"K10{der_hash(ROOT)}::server:{SECRET}", pem(CA, INTERMEDIATE, ROOT))
    assert not matches_ca(f"K10{HASH}::server:{SECRET}", pem(ROOT))
    assert not matches_ca(SECRET, pem(ROOT))


PROBLEMS: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "good": (SECRET, OTHER, []),
    "equal": (SECRET, f"K10{'1' * 64}::node:{SECRET}", [("k3s_agent_token", "are equal")]),
    "empty": ("", OTHER, [("k3s_token", "it is empty")]),
    "guessable": ("secret", OTHER, [("k3s_token", "shorter than 32")]),
    "kubeadm's format": ("abcdef.0123456789abcdef", OTHER, [("k3s_token", "kubeadm's format")]),
    "another cluster": (f"K10{HASH}::server:{SECRET}", OTHER, [("k3s_token", "that of another cluster")]),
    "both malformed": ("\n", "K10", [("k3s_token", "white space"), ("k3s_agent_token", "must read")]),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_problems_of_tokens(case: str) -> None:
    one, two, expected = PROBLEMS[case]
    found = token_problems(one, two, known_ca_hash="1" * 64)
    assert [problem.variable for problem in found] == [variable for variable, _text in expected]
    for problem, (_variable, text) in zip(found, expected, strict=True):
        assert text in problem.message
        assert SECRET not in str(problem)
        assert OTHER not in str(problem)
