# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets Manager as backend for the secrets of a platform: all in one secret, as one JSON document."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..secrets.values import SecretError, Store, Stored
from .errors import CallError

if TYPE_CHECKING:
    from .session import Session

VERSION = 1
ABSENT = ("ResourceNotFoundException",)
# Another run wrote a version with the same token: runs that start from the same version use the same token.
TAKEN = ("ResourceExistsException",)
_TOKENS = uuid.UUID("6f1c1d6e-7a35-4d55-9f0e-0b8d1a4c5a11")


class SecretsManagerBackend:
    """Keeps the secrets in one secret of Secrets Manager, which must exist, even if it has no value yet."""

    def __init__(self, session: Session, secret_id: str) -> None:
        self._session, self._secret_id = session, secret_id
        self.name = f"secret {secret_id} of Secrets Manager"

    def read(self) -> tuple[dict[str, Stored], str]:
        """Return the secrets and their version; empty where there is no value yet."""
        answer = self._session.look("secretsmanager", "get_secret_value", ABSENT, SecretId=self._secret_id)
        if not answer:
            return {}, ""
        try:
            document = json.loads(answer["SecretString"])
            if document["version"] != VERSION:
                raise SecretError(
                    f"{self.name} has version {document['version']!r}, this collection knows {VERSION}; use the "
                    "version of the collection that wrote it, or a newer one"
                )
            store = {name: _stored(fields) for name, fields in document["secrets"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SecretError(
                f"{self.name} is damaged and was left as it is; restore an earlier version of it: "
                f"aws secretsmanager list-secret-version-ids --secret-id {self._secret_id}"
            ) from None
        return store, str(answer["VersionId"])

    def write(self, store: Store, version: str) -> bool:
        """Write a new version, or return False when another run has written one since `version`."""
        secrets = {name: stored.document() for name, stored in sorted(store.items())}
        text = json.dumps({"version": VERSION, "secrets": secrets})
        token = str(uuid.uuid5(_TOKENS, f"{self._secret_id} {version}"))
        try:
            self._session.call(
                "secretsmanager",
                "put_secret_value",
                SecretId=self._secret_id,
                SecretString=text,
                ClientRequestToken=token,
            )
        except CallError as error:
            if error.is_one_of(TAKEN):
                return False
            if error.is_one_of(ABSENT):
                raise SecretError(f"there is no {self.name}; create it first: playbooks/deploy.yml -t aws") from None
            raise
        return True


def _stored(fields: Mapping[str, Any]) -> Stored:
    # Earlier versions wrote an empty list of former values.
    return Stored(**{word: value for word, value in fields.items() if word != "previous"})


def managed_values(session: Session, wanted: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return values of other secrets of Secrets Manager, by `name`.

    Each is `name`, `secret_id` and, where that secret is a JSON document, `key`. Secrets without a value are omitted.
    Raises SecretError for a missing key.
    """
    found = {}
    for word in wanted:
        answer = session.look("secretsmanager", "get_secret_value", ABSENT, SecretId=word["secret_id"])
        if answer is None:
            continue
        text = str(answer["SecretString"])
        found[word["name"]] = _entry(text, word["key"], word["secret_id"]) if word.get("key") else text
    return found


def _entry(text: str, key: str, secret_id: str) -> str:
    try:
        value = json.loads(text)[key]
    except (ValueError, KeyError, TypeError):
        raise SecretError(f"secret {secret_id} of Secrets Manager has no entry {key!r}") from None
    return str(value)
