# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's secret store: one file that contains all secrets.

The store is `{"version": 1, "secrets": {name: {"value", "kind", "origin", "source_digest"}}}`; certificates also have
"renew_at_s". Earlier versions stored former values as "previous": they are not read, and the next run removes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..secrets.values import Store, Stored
from .errors import HostError
from .tree import Tree, require_owner

STORE_VERSION = 1


def read_store(tree: Tree, path: Path) -> dict[str, Stored]:
    """Return the secrets of the store, empty if the store does not exist yet.

    Raise `HostError` for a store that is damaged, of an unknown version, not a file, or of another user. A damaged
    store is never repaired with new secrets, because the platform could no longer access its own data.
    """
    entry = tree.entry(path, read=True)
    if entry.kind == "missing":
        return {}
    if entry.kind != "file":
        raise HostError(f"{path}: the secret store must be a file, but it is a {entry.kind}; move it away")
    require_owner(entry)
    if entry.data is None:
        raise HostError(f"{path}: the secret store may not be read; make it readable for its owner: chmod 600 {path}")
    try:
        document = json.loads(entry.data)
        if document["version"] != STORE_VERSION:
            raise HostError(
                f"{path}: the secret store has version {document['version']!r}, this collection knows {STORE_VERSION}; "
                "use the collection version that wrote it, or a newer one"
            )
        return {name: _stored(fields) for name, fields in document["secrets"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise HostError(
            f"{path}: the secret store is damaged and was left as it is; restore it from a backup. Only where no data "
            "is to be kept, move it away: new secrets are then generated, and a database with the old ones must go too"
        ) from None


def _stored(fields: Mapping[str, Any]) -> Stored:
    value = fields["value"]
    if not isinstance(value, str):
        raise ValueError("a value is text")
    return Stored(value, fields["kind"], fields["origin"], fields.get("source_digest"), fields.get("renew_at_s"))


def store_document(store: Store) -> bytes:
    """Return the content of the store's file, sorted, so that equal secrets result in equal bytes."""
    secrets = {name: stored.document() for name, stored in sorted(store.items()) if stored.value}
    return (json.dumps({"version": STORE_VERSION, "secrets": secrets}, indent=1) + "\n").encode()
