# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets of every target: generated once, set by the inventory, or derived from another.

Each target has its own store. `origin` is generated, given, derived or removed. Replaced values are discarded.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import importlib
import string
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import certificates as secret_certificates
from .rules import DERIVED, description_problems, value_problems

# The values are random, so a low cost suffices; a higher one would slow every scrape.
BCRYPT_COST = 10
_ALPHANUMERIC = string.ascii_letters + string.digits
_KINDS: Mapping[str, tuple[str, int]] = {
    "password": (_ALPHANUMERIC, 32),
    "access_key": (string.ascii_uppercase + string.digits, 20),
    "token": (_ALPHANUMERIC, 48),
    "hex": ("0123456789abcdef", 64),
}
UNKNOWN = "(known after apply)"
"""Placeholder of a value that only a real run creates: an empty machine lacks the required packages."""


class SecretError(Exception):
    """An error of a secret, with its cause and remedy. The message does not contain a value."""


@dataclass(frozen=True)
class SecretSpec:
    """The description of a secret.

    length: in characters, None for the kind's default. of: the secret that a hash is derived from, or the private key
    of a certificate. issuer: the secret of kind authority that signs a certificate. form: the name of the form of a
    given value, None for the form of its kind.
    """

    name: str
    kind: str
    length: int | None = None
    of: str | None = None
    optional: bool = False
    issuer: str | None = None
    common_name: str | None = None
    form: str | None = None

    def __post_init__(self) -> None:
        problems = [f"{problem.message}; {problem.remedy}" for problem in description_problems(self)]
        if problems:
            raise SecretError(f"secret '{self.name}': {'; '.join(problems)}")


@dataclass(frozen=True)
class Stored:
    """One secret in the store. The value of a removed one is empty.

    source_digest: of the sources of a derived value. renew_at_s: time of a certificate's renewal, seconds since 1970.
    """

    value: str = field(repr=False)
    kind: str
    origin: str
    source_digest: str | None = None
    renew_at_s: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the entry of a store. `renew_at_s` is omitted if None, as in earlier versions."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name != "renew_at_s" or value is not None}


@dataclass(frozen=True)
class Derived:
    """A derived value, and the time of its renewal."""

    value: str = field(repr=False)
    renew_at_s: float | None = None


Store = Mapping[str, Stored]


@dataclass(frozen=True)
class Changes:
    """A run's changes of the store, by name. `missing` are optional secrets that the inventory does not set."""

    generated: tuple[str, ...] = ()
    rotated: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Return every secret whose value changes."""
        return sorted({*self.generated, *self.rotated, *self.given, *self.derived, *self.removed})


def values_of(store: Store) -> dict[str, str]:
    """Return the current values by name, without removed ones."""
    return {name: stored.value for name, stored in store.items() if stored.value}


def hidden_values(store: Store) -> set[str]:
    """Return the values that messages must not contain."""
    return {value for value in values_of(store).values() if value != UNKNOWN}


def random_value(spec: SecretSpec) -> str:
    """Return a new random value. An access key starts with a letter, which some clients require."""
    import secrets as randomness

    if spec.kind == "private_key":
        return str(_with_package("cryptography", secret_certificates.private_key))

    alphabet, length = _KINDS[spec.kind]
    value = "".join(randomness.choice(alphabet) for _position in range(spec.length or length))
    if spec.kind == "access_key":
        return randomness.choice(string.ascii_uppercase) + value[1:]
    return value


def planned_value(spec: SecretSpec) -> str:
    """Return a value that check mode uses instead of a generated one."""
    return UNKNOWN if spec.kind == "private_key" else random_value(spec)


def bcrypt_hash(value: str) -> str:
    """Return the bcrypt hash for the web configuration of Prometheus and the exporters."""
    bcrypt: Any = _with_package("bcrypt", lambda: importlib.import_module("bcrypt"))
    hashed: bytes = bcrypt.hashpw(value.encode(), bcrypt.gensalt(rounds=BCRYPT_COST))
    return hashed.decode()


def derived_value(spec: SecretSpec, sources: Sequence[str]) -> Derived:
    """Return the value derived from `sources`, which are in the order of `sources_of`."""
    if spec.kind == "bcrypt":
        return Derived(bcrypt_hash(sources[0]))
    issued = _with_package("cryptography", lambda: _issued(spec, sources))
    return Derived(issued.pem, issued.renew_at_s)


def _issued(spec: SecretSpec, sources: Sequence[str]) -> secret_certificates.Issued:
    now, name = dt.datetime.now(dt.UTC), spec.common_name or ""
    if spec.kind == "authority":
        return secret_certificates.authority(name, sources[0], now)
    key, issuer, issuer_key = sources
    return secret_certificates.certificate(name, key, issuer, issuer_key, now)


def planned_derivation(_spec: SecretSpec, _sources: Sequence[str]) -> Derived:
    """Return the value that check mode uses for a derived one."""
    return Derived(UNKNOWN)


def _with_package(package: str, make: Callable[[], Any]) -> Any:
    """Return the result of `make`. Raises `SecretError` where its Python package is missing."""
    try:
        return make()
    except ImportError:
        raise SecretError(
            f"the Python package '{package}' is missing for {sys.executable}: on a host, run this module with the "
            "interpreter of the service environment (HOME/software/DIGEST/venv/bin/python), which the platform's "
            f"software brings along; elsewhere install it: pip install {package}"
        ) from None


def check_values(specs: Sequence[SecretSpec], values: Mapping[str, Any]) -> dict[str, str]:
    """Return the inventory's values without empty ones. Raises one `SecretError` for all invalid ones."""
    problems = value_problems(specs, values)
    if problems:
        raise SecretError("; ".join(f"{problem.message}; {problem.remedy}" for problem in problems))
    return {name: value for name, value in sorted(values.items()) if value}


def plan_store(
    specs: Sequence[SecretSpec],
    store: Store,
    given: Mapping[str, str],
    rotate: bool,
    generate: Callable[[SecretSpec], str] = random_value,
    derive: Callable[[SecretSpec, Sequence[str]], Derived] = derived_value,
    now_s: float | None = None,
) -> tuple[dict[str, Stored], Changes]:
    """Return the new store and its changes. Secrets that are no longer described stay: their data may return.

    A value of the inventory takes precedence over a generated one and is never rotated. A secret of kind given is
    removed from the store when the inventory no longer sets it.
    """
    future = dict(store)
    done: dict[str, list[str]] = {word.name: [] for word in dataclasses.fields(Changes)}

    def put(spec: SecretSpec, made: Derived, origin: str, word: str, source: str | None = None) -> None:
        future[spec.name] = Stored(made.value, spec.kind, origin, source, made.renew_at_s)
        done[word].append(spec.name)

    today = values_of(store)

    for spec in (spec for spec in specs if spec.kind not in DERIVED):
        old = today.get(spec.name)
        if spec.name in given:
            if old != given[spec.name]:
                put(spec, Derived(given[spec.name]), "given", "given")
        elif spec.kind == "given":
            done["missing"].append(spec.name)
            if old is not None:
                put(spec, Derived(""), "removed", "removed")
        elif old is None or rotate:
            put(spec, Derived(generate(spec)), "generated", "generated" if old is None else "rotated")
    by_name = {spec.name: spec for spec in specs}
    moment_s = time.time() if now_s is None else now_s
    for spec in sorted((spec for spec in specs if spec.kind in DERIVED), key=lambda spec: DERIVED.index(spec.kind)):
        sources = [_source(spec, name, future) for name in sources_of(spec, by_name)]
        digest = _digest(spec, sources)
        if _is_outdated(store.get(spec.name), digest, moment_s):
            put(spec, derive(spec, sources), "derived", "derived", digest)
    return future, Changes(**{word: tuple(sorted(names)) for word, names in done.items()})


def sources_of(spec: SecretSpec, specs: Mapping[str, SecretSpec]) -> list[str]:
    """Return the names of a derived secret's sources: its key, its issuer, its issuer's key."""
    issuer = specs.get(spec.issuer or "")
    if spec.issuer and issuer is None:
        raise SecretError(f"secret '{spec.name}' is signed by '{spec.issuer}', which is not described")
    found: Iterable[str | None] = (spec.of, spec.issuer, issuer.of if issuer else None)
    return [name for name in found if name]


def _source(spec: SecretSpec, name: str, store: Store) -> str:
    if name not in store:
        raise SecretError(f"secret '{spec.name}' is derived from '{name}', which is not described")
    return store[name].value


def _digest(spec: SecretSpec, sources: Sequence[str]) -> str:
    texts = [*sources, *([spec.common_name] if spec.common_name else ())]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _is_outdated(stored: Stored | None, digest: str, now_s: float) -> bool:
    if stored is None or stored.source_digest != digest:
        return True
    return stored.renew_at_s is not None and now_s >= stored.renew_at_s
