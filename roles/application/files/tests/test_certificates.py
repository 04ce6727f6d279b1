# SPDX-License-Identifier: GPL-3.0-or-later
"""The expiry of certificates as a series: read at each scrape, with an alert for unreadable files."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import CollectorRegistry, generate_latest

from crypto_lakehouse.certificates import CertificateCollector

SERIES = "crypto_lakehouse_certificate_expiry_timestamp_seconds"


def write_certificate(path: Path, expires: dt.datetime) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC)).not_valid_after(expires)
    certificate = builder.sign(key, hashes.SHA256())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def exposition(setting: str) -> list[str]:
    registry = CollectorRegistry()
    registry.register(CertificateCollector.of(setting))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_each_certificate_has_a_series_that_follows_its_file(tmp_path: Path) -> None:
    first, second = tmp_path / "store", tmp_path / "authority"
    write_certificate(first, dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    write_certificate(second, dt.datetime(2040, 1, 1, tzinfo=dt.UTC))
    registry = CollectorRegistry()
    registry.register(CertificateCollector.of(f"{first}:{second}"))
    assert (
        registry.get_sample_value(SERIES, {"certificate": "store"})
        == dt.datetime(2030, 1, 1, tzinfo=dt.UTC).timestamp()
    )
    assert registry.get_sample_value(SERIES, {"certificate": "authority"}) == 2208988800.0
    write_certificate(first, dt.datetime(2031, 1, 1, tzinfo=dt.UTC))
    assert registry.get_sample_value(SERIES, {"certificate": "store"}) == 1924992000.0


def test_a_file_that_cannot_be_read_counts_as_expired(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("no certificate")
    assert exposition(f"{broken}:{tmp_path / 'missing'}") == [
        f'{SERIES}{{certificate="broken"}} 0.0',
        f'{SERIES}{{certificate="missing"}} 0.0',
    ]
