# SPDX-License-Identifier: GPL-3.0-or-later
"""Expiry of the platform's own certificates, as a Prometheus series."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

UNREADABLE: Final = 0.0
"""Expired since 1970, so that an unreadable certificate raises the same alert."""


class CertificateCollector(Collector):
    """The expiry of each certificate file, read at each scrape: a renewed certificate needs no restart."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    @classmethod
    def of(cls, setting: str) -> CertificateCollector:
        """Return the collector of the files in `setting`, which are separated as in PATH."""
        return cls([Path(path) for path in setting.split(os.pathsep) if path])

    def describe(self) -> Iterator[Metric]:
        """Return no description: the registration must not read a file."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read each file; the label is its name."""
        family = GaugeMetricFamily(
            "crypto_lakehouse_certificate_expiry_timestamp_seconds",
            "When a certificate of the platform expires",
            labels=["certificate"],
        )
        for path in self._paths:
            family.add_metric([path.name], expiry_s(path))
        yield family


def expiry_s(path: Path) -> float:
    """Return the expiry of the certificate in `path`, in seconds since 1970; 0 when it is unreadable."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return UNREADABLE
