# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which secrets somebody reads, whatever the target is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.check import credentials_of
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.catalogue.service import Catalogue, Service


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
    sources = {catalogue.secrets[name].of for name, found in services.items() if found}
    words = ("name", "kind", "length", "of", "optional")
    return [
        {**{word: getattr(catalogue.secrets[name], word) for word in words}, "services": found}
        for name, found in services.items()
        if found or name in sources
    ]
