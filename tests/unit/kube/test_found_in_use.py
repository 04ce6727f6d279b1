# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports about status, copied labels, terminating namespaces, and long refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.arguments import CONNECTION_SPEC
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.arguments import connection as aws
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import EngineError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply import Apply
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.explain import explained
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.judge import compared, created
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.options import Options
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.prune import is_made_by_controller
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.discovery import Discovery, Resource
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ApiError,
    Cause,
    shortened,
    with_remedy,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Identity, load
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.schemas import DefinedKinds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.readiness import held_by
from tests.unit.kube.server import ApiServer, Reply, status

Fields = dict[str, Any]
LAMP = Identity("example.org/v1", "Lamp", "shop", "desk")
KEY = Identity("v1", "Secret", "shop", "key")


def lamp(state: str) -> Fields:
    return {
        "apiVersion": "example.org/v1",
        "kind": "Lamp",
        "metadata": {"name": "desk", "namespace": "shop"},
        "status": {"state": state},
    }


def test_a_status_that_is_written_like_every_field_is_a_change() -> None:
    result = compared(LAMP, lamp("off"), lamp("on"), lamp("on"), with_status=True)
    assert (result.action, [change.path for change in result.changes]) == ("update", ["status.state"])
    assert compared(LAMP, lamp("off"), lamp("on"), lamp("on")).action == "none"
    assert "status.state" in [change.path for change in _flat(created(LAMP, lamp("on"), lamp("on"), with_status=True))]


def _flat(result: Any) -> list[Any]:
    from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.compare import changes

    return [change for key, value in result.after.items() for change in changes({}, value, key)]


@pytest.mark.parametrize("subresources", [{}, {"status": {}}])
def test_a_definition_says_whether_its_status_is_written_so(subresources: Fields) -> None:
    version = {"name": "v1", "served": True, "storage": True, "subresources": subresources}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.org"},
        "spec": {"group": "example.org", "names": {"kind": "Lamp", "plural": "lamps"}, "versions": [version]},
    }
    resource = DefinedKinds(load([crd])).resource("example.org/v1", "Lamp")
    assert resource is not None
    assert resource.keeps_status is not bool(subresources)


def test_of_a_kind_that_was_not_discovered_no_status_is_written() -> None:
    assert not Resource("", "v1", "Namespace", "namespaces", namespaced=False).keeps_status


@pytest.mark.parametrize(
    ("metadata", "is_copy"),
    [
        ({"ownerReferences": [{"kind": "Service", "name": "web"}]}, True),
        ({"managedFields": [{"manager": "kube-controller-manager"}]}, True),
        ({"managedFields": [{"manager": "k3s"}]}, True),
        ({"managedFields": [{"manager": "kube-controller-manager"}, {"manager": "kubectl-label"}]}, False),
        ({"managedFields": [{"manager": "kubectl-create"}]}, False),
        ({}, False),
    ],
)
def test_what_a_controller_made_carries_copies_of_labels(metadata: Fields, is_copy: bool) -> None:
    assert is_made_by_controller({"metadata": {"name": "web", **metadata}}) is is_copy


REMAINS = {
    "type": "NamespaceFinalizersRemaining",
    "status": "True",
    "reason": "SomeFinalizersRemain",
    "message": "Some content in the namespace has finalizers remaining: example.org/clean in 1 resource instances",
}


def leaving() -> Fields:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"phase": "Terminating", "conditions": [REMAINS, {**REMAINS, "type": "Other", "message": "no"}]},
    }


def test_a_namespace_is_held_by_the_finalizers_of_what_is_in_it() -> None:
    assert held_by(leaving()) == REMAINS["message"]
    assert held_by({"kind": "ConfigMap", "metadata": {"finalizers": ["a/b", "c/d"]}}) == "a/b, c/d"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as made:
        yield made


def test_a_refusal_by_a_namespace_that_is_being_deleted_names_the_finalizer(server: ApiServer) -> None:
    server.on("GET", "/namespaces/shop$", Reply(200, leaving()))
    told = "unable to create new content in namespace shop because it is being terminated"
    server.on("PATCH", "/configmaps/", status(403, told, "Forbidden"))
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    with server.client() as client:
        outcome = Apply(client, Discovery(client), Options(namespace="shop")).run(load([config_map]))
    (result,) = outcome.objects
    assert "the namespace shop waits for Some content in the namespace has finalizers remaining: example.org/clean" in (
        result.error
    )
    assert result.error.endswith("wait until the namespace is gone, then run again")


GO_DUMP = 'core.PodSpec{Volumes:[]core.Volume(nil), Name:"a } b", Inner:core.X{Y:"' + "x" * 900 + '"}}'


@pytest.mark.parametrize("dump", [GO_DUMP, '{"spec":{"text":"a \\" } b' + "x" * 500 + '"}}', GO_DUMP[:-2]])
def test_a_long_dump_is_left_out_and_the_remedy_is_not(dump: str) -> None:
    cause = Cause("spec.template", "FieldValueInvalid", f"Invalid value: {dump}: field is immutable")
    error = ApiError(422, "Invalid", f"spec.template: Invalid value: {dump}: field is immutable", [cause])
    text = str(with_remedy(error, "delete it and run again"))
    assert len(text) < 400
    assert "xxxx" not in text
    assert text.endswith("; delete it and run again")
    assert error.message.count("x") > 400


def test_a_short_dump_and_the_words_around_it_stay() -> None:
    text = 'spec.ports[1]: Duplicate value: {"name":"http"}: see spec.ports[0]'
    assert shortened(text) == text
    assert len(shortened("x" * 9000)) < 2100


def test_text_that_is_not_base64_has_a_field_of_its_own() -> None:
    error = ApiError(400, "BadRequest", "cannot be handled as a Secret: illegal base64 data at input byte 3")
    assert "`stringData`" in str(explained(error, KEY))


@pytest.mark.parametrize("value", ['"http"', 'map[string]interface {}{"name":"http"}', '{"containerPort":80}'])
def test_a_name_that_is_there_twice_says_where_to_look(value: str) -> None:
    error = ApiError(422, "Invalid", f"spec.ports[1].name: Duplicate value: {value}")
    text = str(explained(error, Identity("v1", "Service", "shop", "web")))
    assert text.endswith("remove the one that another manager added: kubectl -n shop edit service web")


@pytest.mark.parametrize("value", [0, -1])
def test_aws_refuses_to_send_no_request_at_once(value: int) -> None:
    given = {name: option.get("default") for name, option in CONNECTION_SPEC.items()}
    with pytest.raises(EngineError, match=rf"cannot use `parallelism`: {value} is less than 1; set it to 1 or more"):
        aws({**given, "parallelism": value})
