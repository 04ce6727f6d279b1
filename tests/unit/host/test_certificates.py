# SPDX-License-Identifier: GPL-3.0-or-later
"""The platform's own authority: generated once, renewed in time, replaced by a rotation, and not required by a plan."""

from __future__ import annotations

import datetime as dt
import ssl
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.store import read_store
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.store_files import SecretFile, converge
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.host.tree import Tree
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.secrets.values import (
    UNKNOWN,
    SecretError,
    SecretSpec,
    Stored,
    check_values,
    plan_store,
    values_of,
)

DAY_S = 86400.0
SPECS = (
    SecretSpec("store_certificate", "certificate", of="store_key", issuer="store_authority", common_name="store"),
    SecretSpec("store_authority", "authority", of="store_authority_key", common_name="the store's authority"),
    SecretSpec("store_key", "private_key"),
    SecretSpec("store_authority_key", "private_key"),
)
NAMES = ("store_authority", "store_authority_key", "store_certificate", "store_key")


@pytest.fixture(scope="module")
def issued() -> dict[str, Stored]:
    """Return a store right after its first run."""
    return plan_store(SPECS, {}, {}, rotate=False)[0]


def loaded(store: dict[str, Stored], name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(store[name].value.encode())


def test_the_authority_signs_a_certificate_for_both_ends_of_a_connection(issued: dict[str, Stored]) -> None:
    authority, certificate = loaded(issued, "store_authority"), loaded(issued, "store_certificate")
    certificate.verify_directly_issued_by(authority)
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value == x509.BasicConstraints(True, 0)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(purposes) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["store", "localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["store"]
    key = serialization.load_pem_private_key(issued["store_key"].value.encode(), None)
    assert key.public_key() == certificate.public_key()


def test_openssl_takes_them(issued: dict[str, Stored], tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in NAMES}
    for name, path in files.items():
        path.write_text(issued[name].value)
    context = ssl.create_default_context(cafile=str(files["store_authority"]))
    context.load_cert_chain(files["store_certificate"], files["store_key"])
    assert [found["subject"] for found in context.get_ca_certs()] == [((("commonName", "the store's authority"),),)]


def test_a_second_run_changes_nothing_and_check_mode_of_it_needs_no_package(
    issued: dict[str, Stored], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    future, changes = plan_store(SPECS, issued, {}, rotate=False)
    assert (future, changes.names) == (issued, [])


def test_check_mode_on_an_empty_machine_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secrets/store.json"
    files = [SecretFile(path.parent / "store/key", "store_key")]
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "cryptography", None)
        predicted = converge(path, SPECS, {}, files, check_mode=True)
        with pytest.raises(SecretError, match="the Python package 'cryptography' is missing"):
            converge(tmp_path / "other/store.json", SPECS, {}, [])
    done = converge(path, SPECS, {}, files)
    assert (predicted.changes, predicted.diff) == (done.changes, done.diff)
    # A mask of these words would hide them in all other results.
    assert UNKNOWN not in predicted.secret_values
    assert files[0].path.stat().st_mode & 0o777 == 0o600
    assert files[0].path.read_text() == values_of(read_store(Tree(path.parent), path))["store_key"]
    assert not converge(path, SPECS, {}, files).changed


@pytest.mark.parametrize(("days", "renewed"), [(0, []), (264, []), (266, ["store_certificate"])])
def test_a_certificate_is_renewed_in_the_last_third_of_its_lifetime(
    issued: dict[str, Stored], days: float, renewed: list[str]
) -> None:
    _future, changes = plan_store(SPECS, issued, {}, rotate=False, now_s=time.time() + days * DAY_S)
    assert changes.names == renewed


def test_a_renewed_authority_has_the_same_key_and_its_certificates_follow(issued: dict[str, Stored]) -> None:
    future, changes = plan_store(SPECS, issued, {}, rotate=False, now_s=time.time() + 2500 * DAY_S)
    assert changes.names == ["store_authority", "store_certificate"]
    # Processes that still run with the former certificate are accepted during its replacement.
    loaded(issued, "store_certificate").verify_directly_issued_by(loaded(future, "store_authority"))


def test_a_rotation_replaces_every_key_and_certificate(issued: dict[str, Stored]) -> None:
    future, changes = plan_store(SPECS, issued, {}, rotate=True)
    assert changes.names == list(NAMES)
    assert [name for name in NAMES if future[name].value == issued[name].value] == []
    with pytest.raises(ValueError, match="signature of another"):
        verify(loaded(issued, "store_certificate"), loaded(future, "store_authority"))


def verify(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(authority)
    except InvalidSignature:
        raise ValueError("signature of another authority") from None


def test_another_common_name_makes_another_certificate(issued: dict[str, Stored]) -> None:
    other = (
        SecretSpec("store_certificate", "certificate", None, "store_key", False, "store_authority", "b"),
        *SPECS[1:],
    )
    assert plan_store(other, issued, {}, rotate=False)[1].names == ["store_certificate"]


def test_a_certificate_is_good_from_some_minutes_ago(issued: dict[str, Stored]) -> None:
    now = dt.datetime.now(dt.UTC)
    certificate = loaded(issued, "store_certificate")
    assert certificate.not_valid_before_utc < now - dt.timedelta(minutes=5)
    assert now + dt.timedelta(days=396) < certificate.not_valid_after_utc < now + dt.timedelta(days=398)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "certificate", "of": "key", "common_name": "a"}, "`issuer` does not fit kind certificate"),
        ({"kind": "authority", "of": "key"}, "`common_name` does not fit kind authority"),
        ({"kind": "authority", "common_name": "a"}, "`of` does not fit kind authority"),
        ({"kind": "password", "issuer": "a"}, "`issuer` does not fit kind password"),
    ],
)
def test_a_description_that_makes_no_certificate_is_refused(words: dict[str, str], message: str) -> None:
    with pytest.raises(SecretError, match=message):
        SecretSpec("a", **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_the_inventory_cannot_give_keys_and_certificates(name: str) -> None:
    with pytest.raises(SecretError, match=f"secret '{name}' is a .* of the platform's own authority"):
        check_values(SPECS, {name: "long enough"})


def test_an_issuer_that_is_not_described_is_an_error() -> None:
    with pytest.raises(SecretError, match="is signed by 'store_authority', which is not described"):
        plan_store((SPECS[0], SPECS[2]), {}, {}, rotate=False)
