# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets as every target makes them: generated once, given by the inventory, or derived from another.

Each target has its own store. `origin` is generated, given, derived or removed. A value that was replaced is not kept.
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

# The values are random, so the hash only has to be well-formed; a higher cost would slow every scrape.
BCRYPT_COST = 10
_ALPHANUMERIC = string.ascii_letters + string.digits
_KINDS: Mapping[str, tuple[str, int]] = {
    "password": (_ALPHANUMERIC, 32),
    "access_key": (string.ascii_uppercase + string.digits, 20),
    "token": (_ALPHANUMERIC, 48),
    "hex": ("0123456789abcdef", 64),
}
UNKNOWN = "(known after apply)"
"""Stands for a value that only the real run makes: an empty machine has none of the packages that this takes."""


class SecretError(Exception):
    """A message for the user about a secret: what is wrong and what to do. It never holds a value."""


@dataclass(frozen=True)
class SecretSpec:
    """How a secret is made.

    length: in characters, None for the kind's own. of: the secret that a hash or a certificate is made from, of a
    certificate its private key. issuer: the secret of kind authority that signs a certificate. form: the name of the
    form that a given value has, None for that of its kind.
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
    """One secret as the store holds it. The value of a removed one is empty.

    source_digest: of what a derived value was made from. renew_at_s: when a certificate is renewed, seconds since 1970.
    """

    value: str = field(repr=False)
    kind: str
    origin: str
    source_digest: str | None = None
    renew_at_s: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the entry of a store. `renew_at_s` is left out where it is None, as earlier versions wrote it."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name != "renew_at_s" or value is not None}


@dataclass(frozen=True)
class Derived:
    """A value that was made from others, and when it is renewed."""

    value: str = field(repr=False)
    renew_at_s: float | None = None


Store = Mapping[str, Stored]


@dataclass(frozen=True)
class Changes:
    """What a run does to the store, by name. `missing` are optional secrets that the inventory does not give."""

    generated: tuple[str, ...] = ()
    rotated: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Every secret whose value changes."""
        return sorted({*self.generated, *self.rotated, *self.given, *self.derived, *self.removed})


def values_of(store: Store) -> dict[str, str]:
    """name -> value of today, without what was removed."""
    return {name: stored.value for name, stored in store.items() if stored.value}


def hidden_values(store: Store) -> set[str]:
    """Return the values that no message may show."""
    return {value for value in values_of(store).values() if value != UNKNOWN}


def random_value(spec: SecretSpec) -> str:
    """A new random value of the spec's kind. An access key starts with a letter, as some clients want."""
    import secrets as randomness

    if spec.kind == "private_key":
        return str(_with_package("cryptography", secret_certificates.private_key))

    alphabet, length = _KINDS[spec.kind]
    value = "".join(randomness.choice(alphabet) for _position in range(spec.length or length))
    if spec.kind == "access_key":
        return randomness.choice(string.ascii_uppercase) + value[1:]
    return value


def planned_value(spec: SecretSpec) -> str:
    """A value that check mode may use for what the real run will generate."""
    return UNKNOWN if spec.kind == "private_key" else random_value(spec)


def bcrypt_hash(value: str) -> str:
    """The bcrypt hash that Prometheus' and the exporters' web configuration wants."""
    bcrypt: Any = _with_package("bcrypt", lambda: importlib.import_module("bcrypt"))
    hashed: bytes = bcrypt.hashpw(value.encode(), bcrypt.gensalt(rounds=BCRYPT_COST))
    return hashed.decode()


def derived_value(spec: SecretSpec, sources: Sequence[str]) -> Derived:
    """The value that is made from `sources`, which are in the order of `sources_of`."""
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
    """What check mode uses for a value that only the real run makes."""
    return Derived(UNKNOWN)


def _with_package(package: str, make: Callable[[], Any]) -> Any:
    """Return what `make` returns. Raises `SecretError` where the Python package that it takes is missing."""
    try:
        return make()
    except ImportError:
        raise SecretError(
            f"the Python package '{package}' is missing for {sys.executable}: on a host, run this module with the "
            "interpreter of the service environment (HOME/software/DIGEST/venv/bin/python), which the platform's "
            f"software brings along; elsewhere install it: pip install {package}"
        ) from None


def check_values(specs: Sequence[SecretSpec], values: Mapping[str, Any]) -> dict[str, str]:
    """Return the inventory's values without empty ones. Raises one `SecretError` that names every unusable one."""
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
    """The store as it will be, and what that changes. Secrets no longer described stay: their data may come back.

    A value from the inventory wins over a generated one and is never rotated. What the inventory alone can give (kind
    given) leaves the store when the inventory no longer gives it.
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
    """Return the names of what a derived secret is made from: its key, its issuer, its issuer's key."""
    issuer = specs.get(spec.issuer or "")
    if spec.issuer and issuer is None:
        raise SecretError(f"secret '{spec.name}' is signed by '{spec.issuer}', which is not described")
    found: Iterable[str | None] = (spec.of, spec.issuer, issuer.of if issuer else None)
    return [name for name in found if name]


def _source(spec: SecretSpec, name: str, store: Store) -> str:
    if name not in store:
        raise SecretError(f"secret '{spec.name}' is made from '{name}', which is not described")
    return store[name].value


def _digest(spec: SecretSpec, sources: Sequence[str]) -> str:
    texts = [*sources, *([spec.common_name] if spec.common_name else ())]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _is_outdated(stored: Stored | None, digest: str, now_s: float) -> bool:
    if stored is None or stored.source_digest != digest:
        return True
    return stored.renew_at_s is not None and now_s >= stored.renew_at_s
