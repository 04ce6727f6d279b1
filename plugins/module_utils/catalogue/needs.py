# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which secrets somebody reads, whatever the target is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from .check import credentials_of
from .service import Catalogue, Secret, Service


def scraped_secrets(services: Iterable[Service]) -> set[str]:
    """Return the secrets that the metrics of the services ask for."""
    return {
        credentials.secret for service in services for word, credentials in credentials_of(service) if word == "metrics"
    }


def needed_secrets(catalogue: Catalogue, readers: Mapping[str, Collection[str]]) -> list[dict[str, Any]]:
    """Return the secrets that somebody reads, and those that these are derived from."""
    services = {
        name: sorted(reader for reader, names in readers.items() if name in names) for name in sorted(catalogue.secrets)
    }
    needed = {name for name, found in services.items() if found}
    while sources := {source for name in needed for source in _sources(catalogue.secrets, name)} - needed:
        needed |= sources
    return [{**_described(catalogue.secrets[name]), "services": services[name]} for name in sorted(needed)]


def _described(secret: Secret) -> dict[str, Any]:
    """Return what a store of secrets has to know of one."""
    words = {word: getattr(secret, word) for word in ("name", "kind", "length", "of", "optional")}
    of_some = {word: getattr(secret, word) for word in ("issuer", "common_name", "form")}
    return words | {word: value for word, value in of_some.items() if value is not None}


def _sources(secrets: Mapping[str, Secret], name: str) -> Iterator[str]:
    """Yield the secrets that one is made from."""
    secret = secrets.get(name)
    if secret is not None:
        yield from (source for source in (secret.of, secret.issuer) if source is not None and source in secrets)
