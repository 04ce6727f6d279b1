# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of secrets, as data: valid descriptions, and the values that services accept.

Every rule is only defined here. The preflight checks values before any change, and the stores check them again. No
message contains a value.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

from ..shared.nearest import closest

Kind = Literal["password", "access_key", "token", "hex", "private_key", "bcrypt", "authority", "certificate", "given"]
FormName = Literal["text", "http_url"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
DERIVED: Final = ("bcrypt", "authority", "certificate")
"""Kinds that are derived from other secrets, in their order of derivation."""
GENERATED: Final = ("password", "access_key", "token", "hex")
"""Kinds of random characters, whose value the inventory may set."""
OPTIONS_OF_KINDS: Final[Mapping[str, Sequence[str]]] = {
    "of": DERIVED,
    "issuer": ("certificate",),
    "common_name": ("authority", "certificate"),
}
"""By option, the kinds that require it; it is invalid for other kinds."""
OPTIONAL_OF_KINDS: Final[Mapping[str, Sequence[str]]] = {"length": GENERATED, "form": ("given",)}
"""By option, the kinds that support it."""
LONGEST_GENERATED: Final = 1024
BCRYPT_LIMIT_BYTES: Final = 72
NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
NAME_RULE: Final = "lower case letters, digits and _, a letter first, at most 63"
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Form:
    """The values of one kind that services accept. `noun` and `characters` are for messages."""

    noun: str
    characters: str
    pattern: re.Pattern[str]
    minimum_characters: int = 8
    maximum_characters: int | None = None


FORMS: Final[Mapping[str, Form]] = {
    "text": Form("one line of text", "one line of printable characters", re.compile(r"[^\x00-\x1f\x7f]*")),
    # HTTP basic authentication does not define an encoding (RFC 7617), and clients that read a file strip blanks.
    "password": Form(
        "a password that every client can send",
        "printable ASCII characters, with blanks only inside",
        re.compile(r"[!-~]([ -~]*[!-~])?"),
    ),
    # The header of a signed request contains it between slashes; IAM's access keys have 16 to 128 characters.
    "access_key": Form("an access key", "letters, digits and _ only", re.compile(r"[A-Za-z0-9_]*"), 16, 128),
    # RFC 6750, section 2.1: the characters after "Bearer" in a header.
    "token": Form(
        "a bearer token",
        "letters, digits and -._~+/ only, and = at its end",
        re.compile(r"[A-Za-z0-9._~+/-]+=*"),
        16,
    ),
    "hex": Form("a hexadecimal key", "hexadecimal digits only", re.compile(r"[0-9A-Fa-f]*"), 32),
    "http_url": Form(
        "an http(s) address",
        "an address such as https://hooks.example.org/services/T0/B0/X0, without a user name",
        re.compile(
            r"https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
            r"([/?#]([!-$&-~]|%[0-9A-Fa-f]{2})*)?"
        ),
    ),
}
_FORM_OF_KIND: Final[Mapping[str, str]] = {**{kind: kind for kind in GENERATED}, "given": "text"}
PLAIN_KINDS: Final = tuple(_FORM_OF_KIND)
"""Kinds whose value the inventory may set."""
SOURCES: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "bcrypt": {"of": PLAIN_KINDS},
    "authority": {"of": ("private_key",)},
    "certificate": {"of": ("private_key",), "issuer": ("authority",)},
}
"""By kind and option, the kinds of the secret that the option may name."""


class Description(Protocol):
    """The options of a secret that the rules read."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def length(self) -> int | None: ...
    @property
    def of(self) -> str | None: ...
    @property
    def form(self) -> str | None: ...
    @property
    def optional(self) -> bool: ...


class DescriptionProblem(NamedTuple):
    """An invalid option of a secret's description. `message` and `remedy` are for users."""

    option: str
    message: str
    remedy: str


class ValueProblem(NamedTuple):
    """An invalid value. `message` and `remedy` are for users and do not contain the value."""

    message: str
    remedy: str


def description_problems(secret: Description) -> Iterator[DescriptionProblem]:
    """Yield every invalid option of a description."""
    if not NAME.fullmatch(secret.name):
        yield DescriptionProblem("name", f"{secret.name!r} is not a usable secret name", f"use {NAME_RULE}")
    if secret.kind not in KINDS:
        yield DescriptionProblem("kind", f"{secret.kind!r} is not a kind of secret", f"use one of {', '.join(KINDS)}")
        return
    for option, kinds in OPTIONS_OF_KINDS.items():
        if (secret.kind in kinds) != (getattr(secret, option) is not None):
            remedy = f"give `{option}` together with kind {', '.join(kinds)}, and with no other"
            yield DescriptionProblem(option, f"`{option}` does not fit kind {secret.kind}", remedy)
    for option, kinds in OPTIONAL_OF_KINDS.items():
        if secret.kind not in kinds and getattr(secret, option) is not None:
            remedy = f"remove it; it belongs to kind {', '.join(kinds)}"
            yield DescriptionProblem(option, f"`{option}` does not fit kind {secret.kind}", remedy)
    if secret.form is not None and secret.form not in get_args(FormName):
        remedy = f"use one of {', '.join(get_args(FormName))}"
        yield DescriptionProblem("form", f"{secret.form!r} is not a form of values", remedy)
    if secret.length is not None and secret.kind in GENERATED:
        yield from _length_problems(secret.length, FORMS[secret.kind])


def _length_problems(length: int, form: Form) -> Iterator[DescriptionProblem]:
    low, high = form.minimum_characters, form.maximum_characters or LONGEST_GENERATED
    if not low <= length <= high:
        remedy = f"use a number from {low} to {high}"
        yield DescriptionProblem("length", f"{length} is not a length of {form.noun}", remedy)


def form_of(secret: Description) -> Form | None:
    """Return the form of a secret's values; None where the inventory cannot set its value."""
    name = secret.form or _FORM_OF_KIND.get(secret.kind)
    return FORMS[name] if name else None


def value_problems(
    secrets: Sequence[Description], values: Mapping[str, Any], *, allow_empty: bool = True, allow_unknown: bool = False
) -> list[ValueProblem]:
    """Return all problems of the values in the inventory, by the name of the secret.

    allow_empty: whether an empty value counts as unset. allow_unknown: whether values of secrets outside `secrets` are
    permitted.
    """
    by_name = {secret.name: secret for secret in secrets}
    problems: list[ValueProblem] = []
    for name, value in sorted(values.items()):
        if name in by_name:
            problems += _problems_of(by_name[name], value, by_name, allow_empty=allow_empty)
        elif not allow_unknown:
            near = closest(name, by_name)
            remedy = f"did you mean '{near}'?" if near else "remove it, no service reads it"
            problems.append(ValueProblem(f"secret '{name}' is unknown", remedy))
    problems += _missing(secrets, {name: value or not allow_empty for name, value in values.items()})
    return [*problems, *_shared_access_keys(by_name, values)]


def _problems_of(
    secret: Description, value: Any, secrets: Mapping[str, Description], *, allow_empty: bool
) -> Iterator[ValueProblem]:
    name, form = secret.name, form_of(secret)
    if value is None or value == "":
        if not allow_empty:
            remedy = "set its value, or remove it to generate or omit the secret"
            yield ValueProblem(f"the value of secret '{name}' is empty", remedy)
    elif not isinstance(value, str):
        yield ValueProblem(f"the value of secret '{name}' is of type {_type_name(value)}", "put it in quotes")
    elif secret.kind == "bcrypt":
        yield ValueProblem(f"secret '{name}' is derived from '{secret.of}'", "set the value of that secret instead")
    elif form is None:
        yield ValueProblem(f"secret '{name}' is a {secret.kind} of the platform's own authority", "remove its value")
    elif _UNPRINTABLE.search(value):
        message = f"the value of secret '{name}' holds a line break or another control character"
        yield ValueProblem(message, f"give {form.characters}")
    else:
        yield from _form_problems(name, value, form)
        hashed = any(other.kind == "bcrypt" and other.of == name for other in secrets.values())
        if hashed and len(value.encode()) > BCRYPT_LIMIT_BYTES:
            message = f"the value of secret '{name}' is longer than the {BCRYPT_LIMIT_BYTES} bytes of bcrypt"
            yield ValueProblem(message, f"give at most {BCRYPT_LIMIT_BYTES} bytes")


def _form_problems(name: str, value: str, form: Form) -> Iterator[ValueProblem]:
    low, high = form.minimum_characters, form.maximum_characters
    if len(value) < low:
        yield ValueProblem(f"the value of secret '{name}' is shorter than {low} characters", "give a longer one")
    if high is not None and len(value) > high:
        yield ValueProblem(f"the value of secret '{name}' is longer than {high} characters", "give a shorter one")
    if not form.pattern.fullmatch(value):
        yield ValueProblem(f"the value of secret '{name}' is not {form.noun}", f"give {form.characters}")


def _missing(secrets: Sequence[Description], given: Mapping[str, Any]) -> Iterator[ValueProblem]:
    for secret in secrets:
        if secret.kind == "given" and not secret.optional and not given.get(secret.name):
            message = f"secret '{secret.name}' is missing: it cannot be generated"
            yield ValueProblem(message, "give its value in the inventory")


def _shared_access_keys(secrets: Mapping[str, Description], values: Mapping[str, Any]) -> Iterator[ValueProblem]:
    """Yield access keys that several secrets share: the object store could not distinguish their owners."""
    owners = defaultdict(list)
    for name, value in sorted(values.items()):
        if value and isinstance(value, str) and name in secrets and secrets[name].kind == "access_key":
            owners[value].append(name)
    for names in owners.values():
        if len(names) > 1:
            message = f"secrets {', '.join(repr(name) for name in names)} have the same value"
            yield ValueProblem(message, "set a different access key for each")


def _type_name(value: object) -> str:
    """Return the name of a value's built-in type, instead of Ansible's class that derives from it."""
    return next(each.__name__ for each in type(value).__mro__ if each.__module__ == "builtins")
