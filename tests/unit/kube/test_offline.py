# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects checked against schemas without a server."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import ConfigError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Manifest
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.offline import (
    Schema,
    validation_errors,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.schemas import (
    DefinedKinds,
    PackagedSchemas,
)

LAMP: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "required": ["colour"],
            "properties": {
                "colour": {"type": "string", "enum": ["red", "green"]},
                "watts": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 100},
                "step": {"type": "integer", "multipleOf": 5},
                "dimmed": {"type": "boolean"},
                "share": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
                "label": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "port": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "tags": {"type": "array", "maxItems": 2, "items": {"type": "string", "minLength": 1}},
                "options": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
                "anything": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "closed": {"type": "object"},
                "nothing": {"type": "string", "nullable": True},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {}},
                "source": {
                    "type": "object",
                    "properties": {"file": {"type": "string"}, "url": {"type": "string"}},
                    "oneOf": [{"required": ["file"]}, {"required": ["url"]}],
                },
                "either": {"type": "string", "anyOf": [{"pattern": "^a"}, {"maxLength": 1}]},
                "never": {"type": "string", "not": {"enum": ["x"]}},
            },
        },
    },
}


def lamp(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "example.org/v1",
        "kind": "Lamp",
        "metadata": {"name": "desk", "namespace": "shop", "labels": {"a": "b"}},
        "spec": {"colour": "red", **spec},
    }


def found(obj: dict[str, Any], schema: dict[str, Any] | None = None) -> list[str]:
    return [str(one) for one in validation_errors(Schema(schema or LAMP), obj)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"colour": None}, "spec.colour: is required"),
        ({"colour": "blue"}, "spec.colour: must be one of red, green"),
        ({"color": "red"}, "spec.color: is an unknown field; did you mean 'colour'?"),
        ({"watts": "5"}, "spec.watts: is not an integer, but a string"),
        ({"watts": True}, "spec.watts: is not an integer, but a boolean"),
        ({"watts": 0}, "spec.watts: is 0, less than 1"),
        ({"watts": 101}, "spec.watts: is 101, more than 100"),
        ({"watts": 2**31}, "spec.watts: is 2147483648, more than 32 bits hold"),
        ({"step": 7}, "spec.step: is 7, no multiple of 5"),
        ({"dimmed": "yes"}, "spec.dimmed: is not a boolean, but a string"),
        ({"share": 0}, "spec.share: is 0, less than 0"),
        ({"label": "ab1"}, "spec.label: does not match ^[a-z]+$"),
        ({"label": "ab\n"}, "spec.label: does not match ^[a-z]+$"),
        ({"label": "abcdef"}, "spec.label: has 6 characters, at most 5 are allowed"),
        ({"port": 1.5}, "spec.port: is neither a whole number nor a string, but a number"),
        ({"tags": "x"}, "spec.tags: is not an array, but a string"),
        ({"tags": ["a", ""]}, "spec.tags[1]: has 0 characters, at least 1 are needed"),
        ({"tags": ["a", "b", "c"]}, "spec.tags: has 3 items, at most 2 are allowed"),
        ({"options": {"a": 1}}, "spec.options.a: is not a string, but a whole number"),
        ({"options": {"a": "", "b": "", "c": ""}}, "spec.options: has 3 entries, at most 2 are allowed"),
        ({"closed": {"a": 1}}, "spec.closed.a: is an unknown field; there are none"),
        ({"source": {}}, "spec.source: does not fit exactly one of the forms that are allowed here"),
        ({"source": {"file": "a", "url": "b"}}, "spec.source: does not fit exactly one"),
        ({"either": "bc"}, "spec.either: fits none of the forms"),
        ({"never": "x"}, "spec.never: has a form that is not allowed here"),
        ({"anything": []}, "spec.anything: is not an object, but a list"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(spec: dict[str, Any], message: str) -> None:
    assert any(message in text for text in found(lamp(**spec))), found(lamp(**spec))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"watts": None},
        {"port": "http"},
        {"port": 80},
        {"tags": []},
        {"anything": {"a": {"b": [1]}}},
        {"nothing": None},
        {"pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}},
        {"source": {"url": "x"}},
        {"either": "abc"},
        {"share": 0.1},
    ],
)
def test_what_fits_is_left_alone(spec: dict[str, Any]) -> None:
    assert found(lamp(**spec)) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"name": "desk", "lables": {}}, "metadata.lables: is an unknown field; did you mean 'labels'?"),
        ({"name": "desk", "labels": {"a": 1}}, "metadata.labels.a: is not a string"),
        ({"name": "Desk"}, "metadata.name: 'Desk' is not a valid name"),
        ({"name": "a" * 254}, "at most 253 characters"),
    ],
)
def test_metadata_is_checked_although_its_schema_says_nothing(metadata: dict[str, Any], message: str) -> None:
    assert any(message in text for text in found({**lamp(), "metadata": metadata}))


@pytest.mark.parametrize(
    ("kind", "name", "fits"),
    [
        ("Service", "1api", False),
        ("Service", "api.v1", False),
        ("Namespace", "a.b", False),
        ("ClusterRole", "system:reader", True),
        ("ClusterRole", "..", False),
        ("ClusterRole", "a/b", False),
        ("ConfigMap", "a.b-c", True),
        ("ConfigMap", "a_b", False),
    ],
)
def test_names_follow_the_rule_of_their_kind(kind: str, name: str, fits: bool) -> None:
    wrong = validation_errors(Schema({}), {"kind": kind, "metadata": {"name": name}})

    assert (wrong == ()) is fits


def crd(**version: Any) -> Manifest:
    versions = [
        {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": LAMP}, **version},
        {"name": "v0", "served": False, "storage": False},
    ]
    spec = {
        "group": "example.org",
        "scope": "Cluster",
        "names": {"kind": "Lamp", "plural": "lamps"},
        "versions": versions,
    }
    return Manifest(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "lamps.example.org"},
            "spec": spec,
        },
        "crd.yaml",
    )


def test_a_definition_tells_the_schema_the_address_and_the_scope_of_its_kind() -> None:
    kinds = DefinedKinds([crd()])

    assert kinds.find("example.org/v1", "Lamp") == Schema(LAMP)
    resource = kinds.resource("example.org/v1", "Lamp")
    assert resource is not None
    assert resource.path(None, "desk") == "/apis/example.org/v1/lamps/desk"
    assert kinds.definition("example.org/v1", "Lamp") == "lamps.example.org"
    assert kinds.served_by("lamps.example.org") == [("example.org/v1", "Lamp")]
    assert kinds.find("example.org/v0", "Lamp") is None


@pytest.mark.parametrize("spec", [None, [], {}, {"names": "x", "versions": []}, {"names": {}, "versions": {}}])
def test_a_definition_that_is_none_defines_nothing(spec: Any) -> None:
    broken = Manifest({**crd().content, "spec": spec}, "crd.yaml")

    assert DefinedKinds([broken]).served_by("lamps.example.org") == []


BUILT_IN: dict[str, Any] = {
    "io.k8s.Meta": {"type": "object", "properties": {"name": {"type": ["string", "null"]}}},
    "io.k8s.IntOrString": {"oneOf": [{"type": ["string", "null"]}, {"type": ["integer", "null"]}]},
    "io.k8s.Raw": {"type": "object"},
}
ROOT = {
    "type": "object",
    "properties": {
        "kind": {"type": ["string", "null"]},
        "metadata": {"allOf": [{"$ref": "#/components/schemas/io.k8s.Meta"}], "default": {}},
        "port": {"$ref": "#/$defs/io.k8s.IntOrString"},
        "raw": {"$ref": "#/$defs/io.k8s.Raw"},
    },
}


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        ({"metadata": {"nam": "x"}}, "metadata.nam: is an unknown field; did you mean 'name'?"),
        ({"port": []}, "port: does not fit exactly one"),
        ({"metadata": "x"}, "metadata: is not an object, but a string"),
    ],
)
def test_references_are_followed_in_both_spellings(obj: dict[str, Any], message: str) -> None:
    wrong = validation_errors(Schema(ROOT, BUILT_IN, is_open=True), obj)

    assert any(message in str(one) for one in wrong)


def test_a_type_of_go_without_fields_takes_anything() -> None:
    assert validation_errors(Schema(ROOT, BUILT_IN, is_open=True), {"port": 80, "raw": {"a": [1]}}) == ()


def test_schemas_that_refer_to_each_other_in_a_circle_end() -> None:
    circle = {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}

    assert validation_errors(Schema({"$ref": "#/$defs/a"}, circle), {"x": 1}) == ()


@pytest.mark.parametrize("version", ["", "latest", "one.36"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match="is not a version"):
        PackagedSchemas(version)
