# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets get their values, in the form that the server stores."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ManifestError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.fill import Store, filled, names
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Manifest

STORE = Store("the Secret shop/lakehouse-secrets", {"password": 'p"@ss', "user": "api"})


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(**fields: Any) -> Manifest:
    metadata = {"name": "api", "namespace": "shop"}
    return Manifest({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **fields}, "secret.yaml")


def data(manifest: Manifest, store: Store = STORE) -> Any:
    return filled([manifest], store)[0].content.get("data")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${secret_value.password}", 'p"@ss'),
        ("postgresql://${secret_value.user}:${secret_value.password|url}@db", "postgresql://api:p%22%40ss@db"),
        ('{"p": ${secret_value.password|json}}', '{"p": "p\\"@ss"}'),
        ("${secret_value.user|base64}", b64("api")),
        ("$HOME ${other} {}", "$HOME ${other} {}"),
        ("", ""),
    ],
)
def test_a_placeholder_is_replaced_as_it_asks_for(text: str, value: str) -> None:
    assert data(secret(stringData={"a": text})) == {"a": b64(value)}


def test_data_is_filled_where_it_stands_in_base64() -> None:
    assert data(secret(data={"a": "${secret_value.user|base64}"})) == {"a": b64("api")}


def test_string_data_wins_over_data_and_is_gone_afterwards() -> None:
    content = filled([secret(data={"a": b64("old"), "b": b64("kept")}, stringData={"a": "new"})], STORE)[0].content

    assert content["data"] == {"a": b64("new"), "b": b64("kept")}
    assert "stringData" not in content


@pytest.mark.parametrize(
    "fields", [{"stringData": {"a": 1}}, {"stringData": "x"}, {"data": [], "stringData": {"a": "b"}}]
)
def test_what_has_a_wrong_form_is_left_for_the_server_to_refuse(fields: dict[str, Any]) -> None:
    assert filled([secret(**fields)], STORE)[0].content["stringData"] == fields["stringData"]


def test_everything_that_is_wrong_is_told_at_once_without_a_value() -> None:
    wrong = secret(stringData={"a": "${secret_value.pasword} ${secret_value.user|rot13}", "b": "${secret_value.x}"})

    with pytest.raises(ManifestError) as caught:
        filled([wrong], STORE)

    text = str(caught.value)
    assert "has no entry 'pasword'" in text
    assert "${secret_value.user|rot13} has an unknown encoding; known are: base64, json, url" in text
    assert "has no entry 'x'" in text
    assert "secret.yaml: Secret shop/api (v1)" in text
    assert 'p"@ss' not in text


def test_a_placeholder_without_a_store_is_an_error_that_says_what_to_set() -> None:
    with pytest.raises(ManifestError, match="secrets_from"):
        filled([secret(stringData={"a": "${secret_value.user}"})], Store())


def test_a_store_that_is_only_planned_leaves_placeholders_in_a_form_that_the_server_takes() -> None:
    planned = Store("the Secret shop/lakehouse-secrets", None)

    assert data(secret(stringData={"a": "${secret_value.user}"}), planned) == {"a": b64("${secret_value.user}")}
    assert data(secret(data={"a": "${secret_value.user|base64}", "b": b64("x")}), planned) == {
        "a": b64("${secret_value.user|base64}"),
        "b": b64("x"),
    }


def test_only_secrets_are_filled() -> None:
    other = Manifest(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "${secret_value.user}"}}, "x"
    )

    assert filled([other], STORE) == [other]
    assert names([other]) == set()


def test_names_are_those_of_all_placeholders() -> None:
    assert names([secret(stringData={"a": "${secret_value.user}"}, data={"b": "${secret_value.password|base64}"})]) == {
        "user",
        "password",
    }


def test_a_store_does_not_show_what_it_holds() -> None:
    assert 'p"@ss' not in repr(STORE)
