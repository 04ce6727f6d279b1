# SPDX-License-Identifier: GPL-3.0-or-later
"""References: their syntax, permitted places, and values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import UnresolvedError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.reference import (
    Reference,
    find,
    parse,
    resolve,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.value import Secret, Unknown
from tests.unit.engine.cloud import EXAMPLES

VALUES: dict[str, Any] = {
    "${stack.zones}": ["a", "b"],
    "${stack.account_id}": "111122223333",
    "${vpc.main.id}": Unknown(),
    "${vpc.main.cidr}": "10.0.0.0/16",
    "${vpc.main.count}": 3,
    "${vpc.main.open}": True,
    "${vpc.main.nothing}": None,
    "${vpc.main.tags}": {"Name": "main"},
    "${secret.word}": Secret("v1", "hush"),
    "${db.main.password}": Secret("v2"),
    "${db.main.key}": Unknown(sensitive=True),
}


def lookup(reference: Reference) -> Any:
    return VALUES[str(Reference(reference.address, reference.attribute))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${vpc.main}", "is not a reference"),
        ("${}", "is not a reference"),
        ("${stack}", "is not a reference"),
        ("${a..b}", "is not a reference"),
        ("${aws:username}", r"$${aws:username} for the text itself"),
        ("x ${vpc.main.id", "is never closed"),
        ("${stack.zones.2}", "there is no item '2'; the list has 2 items"),
        ("${vpc.main.tags.Nam}", "there is no 'Nam'; did you mean 'Name'?"),
        ("${vpc.main.cidr.first}", "there is nothing inside"),
        ("all: ${stack.zones}", "is a list and cannot stand inside a string"),
        ("all: ${vpc.main.tags}", "is a map and cannot stand inside a string"),
        ("all: ${vpc.main.nothing}", "is nothing and cannot stand inside a string"),
    ],
)
def test_what_cannot_be_resolved_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(UnresolvedError) as caught:
        resolve({"rules": [{"peer": text}]}, lookup)
    assert caught.value.path == "rules[0].peer"
    assert message in f"{caught.value.message}; {caught.value.remedy}"


@pytest.mark.parametrize("key", ["${secret.word}", "${stack.zones}"])
def test_a_key_has_to_be_a_plain_string(key: str) -> None:
    with pytest.raises(UnresolvedError, match="a key of a map"):
        resolve({key: 1}, lookup)


def test_two_keys_that_become_one_are_refused() -> None:
    with pytest.raises(UnresolvedError, match="two keys"):
        resolve({"111122223333": 1, "${stack.account_id}": 2}, lookup)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${stack.zones}", ["a", "b"]),
        ("${stack.zones.1}", "b"),
        ("${vpc.main.tags.Name}", "main"),
        ("${vpc.main.id}", Unknown()),
        ("${vpc.main.id.0}", Unknown()),
        ("${vpc.main.open}", True),
        ("n=${vpc.main.count}, o=${vpc.main.open}", "n=3, o=true"),
        ("arn:${stack.account_id}:${vpc.main.id}", Unknown("arn:111122223333:(known after apply)")),
        ("$${aws:username}", "${aws:username}"),
        ("$${", "${"),
        ("$$${x}", "$${x}"),
        ("cost: $5 {x}", "cost: $5 {x}"),
        ("pw ${secret.word}", "pw hush"),
        ("${secret.word} ${vpc.main.id}", Unknown("(sensitive) (known after apply)", sensitive=True)),
        ("${db.main.key}!", Unknown("(known after apply)!", sensitive=True)),
    ],
)
def test_a_reference_becomes_its_value(text: str, value: Any) -> None:
    resolved = resolve({"a": [text]}, lookup)["a"][0]
    assert (resolved.reveal() if isinstance(resolved, Secret) else resolved) == value


def test_a_string_with_a_secret_is_a_secret_that_changes_with_it() -> None:
    first = resolve("pw ${secret.word}", lookup)
    other = resolve("pw ${secret.word}", lambda _: Secret("v9", "other"))
    assert isinstance(first, Secret)
    assert first != other
    assert "hush" not in f"{first} {first!r}"


def test_a_string_with_a_secret_that_was_read_as_a_version_stays_one() -> None:
    assert resolve("pw ${db.main.password}", lookup).value is None


def test_a_map_with_an_unknown_key_is_unknown() -> None:
    assert resolve({"${vpc.main.id}:sub": "x", "y": 1}, lookup) == Unknown()
    assert resolve({"${vpc.main.cidr}": "x"}, lookup) == {"10.0.0.0/16": "x"}


def test_references_are_found_with_their_paths_in_values_and_keys() -> None:
    value = {"a": ["x", {"b.c": "${vpc.main.id} ${stack.zones.0}"}], "${db.main.key}": 1, "d": "$${not.a.ref}"}
    assert [(path, str(reference)) for path, reference in find(value)] == [
        ('a[1]["b.c"]', "${vpc.main.id}"),
        ('a[1]["b.c"]', "${stack.zones.0}"),
        ('["${db.main.key}"]', "${db.main.key}"),
    ]


@given(st.text(alphabet="${}ab. \n"))
@EXAMPLES
def test_a_text_with_doubled_dollars_is_itself(text: str) -> None:
    assert resolve(text.replace("${", "$${"), lookup) == text


@given(st.lists(st.one_of(st.text(alphabet="ab$ {"), st.just(Reference("k.n", "x")))))
@EXAMPLES
def test_parsing_undoes_writing(parts: list[str | Reference]) -> None:
    written = "".join(part.replace("{", "") if isinstance(part, str) else str(part) for part in parts)
    if "$$" not in written:
        assert "".join(map(str, parse(written))) == written
