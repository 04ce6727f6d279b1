# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose certificates a pod trusts: the authorities of a closed network, and the one that signed the database's.

A database in a pod of the platform has no certificate: its traffic stays in the namespace, whose policies keep others
out. One that an operator or a cloud runs has one, and a client that asks for no proof would send what it knows to
whoever answers under the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .layout import CA_FOLDER, DATABASE_CA_FOLDER
from .part import Entry, Part

CA_KEY = "ca.crt"
CA_CONFIG, DATABASE_CA_CONFIG = "lakehouse-ca", "lakehouse-database-ca"
_CA_VARIABLES = ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Trust:
    """Certificates in a pod.

    name: of their volume. folder: where they are, as `ca.crt`. source: what the volume is of. variables: by which
    clients find them.
    """

    name: str
    folder: str
    source: Entry
    variables: Mapping[str, str]


def trusts(part: Part) -> Iterator[Trust]:
    """Yield the certificates that the pods of a service are given."""
    if part.layout.cluster.ca_bundle:
        found = dict.fromkeys(_CA_VARIABLES, f"{CA_FOLDER}/{CA_KEY}")
        yield Trust(CA_CONFIG, CA_FOLDER, {"configMap": {"name": CA_CONFIG}}, found)
    database = part.certified_database
    if database:
        # libpq and asyncpg read both, at each connection: a certificate that is renewed asks for no restart.
        found = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": f"{DATABASE_CA_FOLDER}/{CA_KEY}"}
        yield Trust(DATABASE_CA_CONFIG, DATABASE_CA_FOLDER, _authority(part, database), found)


def _authority(part: Part, database: str) -> Entry:
    """Return where the certificates are kept that sign the database's."""
    if database not in part.layout.present:
        return {"configMap": {"name": DATABASE_CA_CONFIG}}
    # CloudNativePG makes the secret, and keeps the authority's key beside the certificate.
    return {"secret": {"secretName": f"{database}-ca", "items": [{"key": CA_KEY, "path": CA_KEY}]}}


def bundles(parts: list[Part]) -> Iterator[tuple[str, str]]:
    """Yield the certificates that the inventory brings and something here is given, by the name of their ConfigMap."""
    cluster = parts[0].layout.cluster
    given = {CA_CONFIG: cluster.ca_bundle, DATABASE_CA_CONFIG: cluster.database_ca_bundle}
    used = {found.name for part in parts for found in trusts(part) if "configMap" in found.source}
    yield from ((name, text) for name, text in given.items() if name in used)
