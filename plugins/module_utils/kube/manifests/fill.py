# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert Secrets to the server's form: values replace placeholders, and `data` contains `stringData`. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...shared import placeholders
from ..client.errors import ManifestError, ManifestProblem
from .manifests import Manifest
from .mask import is_secret


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# Encodings of the catalogue, and the encoding of the field `data`.
ENCODINGS: Mapping[str, Callable[[str], str]] = {"base64": _base64, **placeholders.ENCODINGS}
_HELD = ("data", "stringData")


@dataclass(frozen=True)
class Store:
    """Source of the values of placeholders.

    name: name of the store for messages; empty without a store. values: None for a planned store.
    """

    name: str = ""
    values: Mapping[str, str] | None = field(default_factory=dict, repr=False)


def filled(manifests: Sequence[Manifest], store: Store) -> list[Manifest]:
    """Return the manifests with the values of their placeholders.

    With a planned store, placeholders stay. Raises ManifestError with all problems.
    """
    problems: list[ManifestProblem] = []
    whole = [_filled(manifest, store, problems) if is_secret(manifest.content) else manifest for manifest in manifests]
    if problems:
        raise ManifestError(problems)
    return whole


def _filled(manifest: Manifest, store: Store, problems: list[ManifestProblem]) -> Manifest:
    def complain(message: str, remedy: str) -> None:
        problems.append(ManifestProblem(manifest.source, f"{manifest.identity}: {message}", remedy))

    content = dict(manifest.content)
    for part in _HELD:
        values = content.get(part)
        if isinstance(values, Mapping):
            texts = {key: _text(value, store, complain) for key, value in values.items()}
            content[part] = _decodable(texts) if part == "data" and store.values is None else texts
    return replace(manifest, content=_folded(content))


def _decodable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `data` with unresolved placeholders encoded in base64, as the server requires."""
    return {
        key: _base64(value) if isinstance(value, str) and placeholders.SECRET.search(value) else value
        for key, value in values.items()
    }


def _text(value: Any, store: Store, complain: Callable[[str, str], None]) -> Any:
    if not isinstance(value, str):
        return value

    def value_at(match: re.Match[str]) -> str:
        name, encoding = match[1], match[2]
        if encoding is not None and encoding not in ENCODINGS:
            complain(f"{match[0]} has an unknown encoding", f"known are: {', '.join(sorted(ENCODINGS))}")
        elif not store.name:
            complain(f"{match[0]} stands for a secret", "name the Secret that holds it in secrets_from")
        elif store.values is not None and name not in store.values:
            complain(f"{match[0]}: {store.name} has no entry {name!r}", "make it first, or correct the name")
        elif store.values is not None:
            return ENCODINGS[encoding](store.values[name]) if encoding else store.values[name]
        return match[0]

    return placeholders.SECRET.sub(value_at, value)


def _folded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Secret with its `stringData` in `data`, as the server stores it.

    The next apply can then remove entries that were removed from `stringData`, and differences show them.
    """
    told = content.get("stringData")
    if not isinstance(told, Mapping) or not all(isinstance(value, str) for value in told.values()):
        # The server rejects the Secret with its own message.
        return dict(content)
    rest = {key: value for key, value in content.items() if key != "stringData"}
    data = rest.get("data")
    if data is not None and not isinstance(data, Mapping):
        return dict(content)
    return {**rest, "data": {**(data or {}), **{key: _base64(value) for key, value in told.items()}}}


def has_placeholder(text: str) -> bool:
    return bool(placeholders.SECRET.search(text))


def names(manifests: Sequence[Manifest]) -> set[str]:
    """Return the names of the secrets that placeholders of these manifests reference."""
    return {
        match[1]
        for manifest in manifests
        if is_secret(manifest.content)
        for text in _texts(manifest.content)
        for match in placeholders.SECRET.finditer(text)
    }


def _texts(content: Mapping[str, Any]) -> Iterator[str]:
    for part in _HELD:
        values = content.get(part)
        if isinstance(values, Mapping):
            yield from (value for value in values.values() if isinstance(value, str))
