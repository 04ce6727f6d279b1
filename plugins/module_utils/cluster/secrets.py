# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manage the secret store of a cluster: one Secret with an entry for each value, and one for their origins.

With a secret backend of a cloud (`SecretBackend`), that is the store, and the Secret is a copy. The Secret has no label
of an ApplySet, so it is never pruned.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..kube.client.client import Client, look
from ..kube.client.errors import ApiError
from ..kube.client.paths import core_path
from ..kube.manifests.names import LABEL, SUBDOMAIN, check_names
from ..secrets.values import (
    UNKNOWN,
    Changes,
    SecretError,
    SecretSpec,
    Store,
    Stored,
    check_values,
    derived_value,
    plan_store,
    planned_derivation,
    random_value,
    values_of,
)

ORIGINS = "origins.json"
"""The entry with the origin of each value. It contains a dot, so no secret can have this name."""
ORIGINS_VERSION = 1
FIELD_MANAGER = "crypto-lakehouse-secrets"
MANAGED_BY = "crypto-lakehouse"
# Of two concurrent runs, the second reads the values of the first and changes nothing.
_ATTEMPTS = 5


class SecretBackend(Protocol):
    """A service outside of the cluster that stores the secrets."""

    name: str

    def read(self) -> tuple[dict[str, Stored], str]:
        """Return the stored secrets and their version; an empty store has an empty version."""

    def write(self, store: Store, version: str) -> bool:
        """Write `store`, or return False if the stored version is no longer `version`."""


@dataclass(frozen=True)
class Wish:
    """Desired state: `name` and `namespace` of the Secret, the described secrets, and the given values."""

    name: str
    namespace: str
    specs: Sequence[SecretSpec]
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    rotate: bool = False
    check_mode: bool = False

    def __post_init__(self) -> None:
        check_names({"name": (self.name, SUBDOMAIN), "namespace": (self.namespace, LABEL)})

    @property
    def place(self) -> str:
        return f"Secret {self.namespace}/{self.name}"

    @property
    def collection_path(self) -> str:
        return core_path(self.namespace, "secrets")

    @property
    def path(self) -> str:
        return core_path(self.namespace, "secrets", self.name)

    @property
    def labels(self) -> dict[str, str]:
        labels = {"name": self.name, "component": "secrets", "part-of": "crypto-lakehouse", "managed-by": MANAGED_BY}
        return {f"app.kubernetes.io/{word}": value for word, value in labels.items()}


@dataclass(frozen=True)
class Kept:
    """Result of a run, or in check mode its planned result. `secret_values`: values that no output may contain.

    copied: secrets that did not change in the backend, but are new or different in the cluster.
    """

    changes: Changes
    copied: list[str]
    changed: bool
    diff: list[dict[str, str]]
    versions: Mapping[str, int]
    secret_values: list[str] = field(repr=False)

    @property
    def changed_names(self) -> list[str]:
        """Return every secret that is new or different in the cluster."""
        return sorted({*self.changes.names, *self.copied})


@dataclass(frozen=True)
class _Attempt:
    """State of the stores, and the changes that follow from it."""

    live: Mapping[str, Any]
    before: Store
    kept: Store
    version: str
    future: Store
    changes: Changes
    moved: frozenset[str]
    versions: Mapping[str, int]
    data: Mapping[str, str] = field(repr=False)


def keep(
    client: Client | None,
    wish: Wish,
    keeper: SecretBackend | None = None,
    generate: Callable[[SecretSpec], str] = random_value,
) -> Kept:
    """Update the store to the described state. In check mode, only return the changes.

    `client` is None for a planned cluster, which has no Secret. Raises `SecretError` for invalid values, and for a
    Secret that is damaged or has another owner. Raises `KubeError` for a rejection by the API.
    """
    given = check_values(wish.specs, wish.values)
    for _attempt in range(_ATTEMPTS):
        live = {} if client is None else _read(client, wish)
        attempt = _plan(wish, given, live, keeper, generate)
        if wish.check_mode or _carry_out(client, wish, attempt, keeper):
            return _kept(wish, attempt, keeper)
    raise SecretError(f"{wish.place} is changed by others all the time; run it again when they are through")


def _read(client: Client, wish: Wish) -> Mapping[str, Any]:
    """Return the Secret, or an empty mapping. Raises `SecretError` if it has another owner."""
    live = look(client, wish.path)
    if live is None:
        return {}
    owner = (live["metadata"].get("labels") or {}).get("app.kubernetes.io/managed-by")
    if owner != MANAGED_BY:
        by = f"belongs to {owner!r}" if owner else "was not made by this collection"
        raise SecretError(
            f"{wish.place} {by} and was left as it is. Remove or rename it; or, when its values are to be used from "
            f"now on, label it: kubectl -n {wish.namespace} label secret {wish.name} "
            f"app.kubernetes.io/managed-by={MANAGED_BY}"
        )
    return live


def _plan(
    wish: Wish,
    given: Mapping[str, str],
    live: Mapping[str, Any],
    keeper: SecretBackend | None,
    generate: Callable[[SecretSpec], str],
) -> _Attempt:
    copied, versions = read_secret(live, wish.place)
    kept, version = keeper.read() if keeper else (copied, "")
    # With an empty backend, the values that the cluster already uses are kept.
    before = kept or copied
    # A plan does not derive values that only the real run writes.
    derive = planned_derivation if wish.check_mode else derived_value
    future, changes = plan_store(wish.specs, before, given, wish.rotate, generate, derive)
    values = values_of(future)
    moved = frozenset(name for name, value in values.items() if name not in copied or copied[name].value != value)
    numbers = {name: versions.get(name, 0) + (name in moved) for name in future}
    return _Attempt(live, before, kept, version, future, changes, moved, numbers, _data(live, future, numbers))


def read_secret(live: Mapping[str, Any], place: str) -> tuple[dict[str, Stored], dict[str, int]]:
    """Return the secrets in a Secret, and the number of changes of each.

    Raises `SecretError` for a damaged Secret, because new passwords would make the platform's data inaccessible.
    """
    try:
        entries = {name: _decode(value) for name, value in (live.get("data") or {}).items()}
        told = json.loads(entries.pop(ORIGINS, "") or json.dumps({"version": ORIGINS_VERSION, "secrets": {}}))
        if told["version"] != ORIGINS_VERSION:
            raise SecretError(
                f"{place} has version {told['version']!r}, this collection knows {ORIGINS_VERSION}; use the version of "
                "the collection that wrote it, or a newer one"
            )
        origins = told["secrets"]
        # A manually added value has no origin, but is a valid value.
        store = {name: _stored(entries.get(name, ""), origins.get(name, {})) for name in {*entries, *origins}}
        return store, {name: int(origin.get("version", 1)) for name, origin in origins.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SecretError(
            f"{place} is damaged and was left as it is; restore it from a backup. Only where no data is to be kept, "
            "delete it: new secrets are then generated, and a database with the old ones must go too"
        ) from None


def _stored(value: str, origin: Mapping[str, Any]) -> Stored:
    kind, came = origin.get("kind", "given"), origin.get("origin", "given")
    return Stored(value, kind, came, origin.get("source_digest") or None, origin.get("renew_at_s"))


def _decode(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("an entry is text in base64") from None


def _data(live: Mapping[str, Any], future: Store, versions: Mapping[str, int]) -> dict[str, str]:
    """Return the future entries of the Secret, in base64. Other entries stay."""
    origins = {
        name: {
            **{word: told for word, told in stored.document().items() if word != "value"},
            "version": versions[name],
        }
        for name, stored in sorted(future.items())
    }
    entries = {**values_of(future), ORIGINS: json.dumps({"version": ORIGINS_VERSION, "secrets": origins})}
    others = {name: value for name, value in (live.get("data") or {}).items() if name not in {*future, ORIGINS}}
    return {**others, **{name: base64.b64encode(value.encode()).decode() for name, value in entries.items()}}


def _carry_out(client: Client | None, wish: Wish, attempt: _Attempt, keeper: SecretBackend | None) -> bool:
    """Write the changes, first to the backend; the next run completes an interrupted run. Return False to retry."""
    if keeper and attempt.future != attempt.kept and not keeper.write(attempt.future, attempt.version):
        return False
    if client is None or _is_as_described(wish, attempt):
        return True
    found = attempt.live.get("metadata", {})
    metadata = {**found, "name": wish.name, "namespace": wish.namespace}
    metadata["labels"] = {**(found.get("labels") or {}), **wish.labels}
    metadata.pop("managedFields", None)
    body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": attempt.data}
    query = {"fieldManager": FIELD_MANAGER}
    try:
        if attempt.live:
            # The request contains the resource version, so a Secret that changed meanwhile is a conflict.
            client.request("PUT", wish.path, query=query, body=body)
        else:
            client.request("POST", wish.collection_path, query=query, body=body)
    except ApiError as error:
        if error.status == 409:
            return False
        raise
    return True


def _is_as_described(wish: Wish, attempt: _Attempt) -> bool:
    labels = attempt.live.get("metadata", {}).get("labels") or {}
    return attempt.live.get("data") == attempt.data and wish.labels.items() <= labels.items()


def _kept(wish: Wish, attempt: _Attempt, keeper: SecretBackend | None) -> Kept:
    words = [word.name for word in dataclasses.fields(Changes) if word.name != "missing"]
    copied = sorted(attempt.moved - set(attempt.changes.names))
    told = [(name, word) for word in words for name in getattr(attempt.changes, word)]
    lines = sorted(f"{name}: {word}\n" for name, word in [*told, *((name, "copied") for name in copied)])
    if not _is_as_described(wish, attempt):
        lines.append(f"{wish.place}: {'changed' if attempt.live else 'made'}\n")
    if keeper and attempt.future != attempt.kept:
        lines.append(f"{keeper.name}: changed\n")
    header = f"{wish.place} (names only)"
    diff = {"before_header": header, "after_header": header, "before": "", "after": "".join(lines)}
    live = values_of(read_secret(attempt.live, wish.place)[0]).values()
    values = {*values_of(attempt.before).values(), *values_of(attempt.future).values(), *live, *wish.values.values()}
    hidden = {value for value in values if isinstance(value, str) and value not in ("", UNKNOWN)}
    encoded = {base64.b64encode(value.encode()).decode() for value in hidden}
    differences = [diff] if lines else []
    return Kept(attempt.changes, copied, bool(lines), differences, attempt.versions, sorted(hidden | encoded))
