# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input on a real API server: a clear error for each case, and complete reports."""

from __future__ import annotations

import base64
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.explain import explained
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import MERGE
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import (
    ApiError,
    ConfigError,
    KubeError,
    ManifestError,
    UnreachableError,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Identity
from tests.integration.kube.applying import Fields, Kind, Shop, actions, config_map, one, secret, service
from tests.integration.kube.cluster import Authority
from tests.integration.kube.kubelet import deployment, pod_spec

GOOD = config_map("good")


def with_metadata(**metadata: Any) -> Fields:
    return {**config_map(), "metadata": {"name": "settings", **metadata}}


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("kind: [", "line 1"),
        ("a: 1\na: 2", "a"),
        ("just words", "the string 'just words', not an object"),
        ({"kind": "ConfigMap", "metadata": {"name": "a"}}, "apiVersion is missing"),
        ({"apiVersion": "v1", "metadata": {"name": "a"}}, "kind is missing"),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "metadata is missing"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}, "metadata.name is missing"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}}, "set a name"),
        (with_metadata(labels={"a": True}), "quote it"),
        ({"apiVersion": "v1", "kind": "ConfigMapp", "metadata": {"name": "a"}}, "did you mean ConfigMap?"),
        ({"apiVersion": "apps/v1beta1", "kind": "Deployment", "metadata": {"name": "a"}}, "served as apps/v1"),
        ({"apiVersion": "example.org/v1", "kind": "Lamp", "metadata": {"name": "a"}}, "install the CRD"),
        (with_metadata(namespace="nowhere-at-all"), "there is no namespace nowhere-at-all"),
        (GOOD, "was given before"),
        (secret("key", a="${secret_value.password}"), "secrets_from"),
    ],
)
def test_what_can_be_known_before_is_told_with_its_place_and_nothing_is_changed(
    shop: Shop, manifest: Any, words: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        shop.run(GOOD, manifest)

    assert words in str(caught.value)
    assert "manifests[1]" in str(caught.value)
    assert shop.get("configmaps", "good") is None


def test_everything_that_is_wrong_is_told_at_once(shop: Shop) -> None:
    unknown = {"apiVersion": "example.org/v1", "kind": "Lamp", "metadata": {"name": "a"}}
    other = {"apiVersion": "v1", "kind": "Lamp", "metadata": {"name": "b"}}

    with pytest.raises(ManifestError) as caught:
        shop.run(unknown, other)
    assert str(caught.value).startswith("2 problems in the manifests:")


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("name", ["Bad", "..", "."])
def test_a_name_that_no_server_accepts_is_refused_before_anything_is_applied(
    shop: Shop, name: str, check: bool
) -> None:
    with pytest.raises(ManifestError, match=r"metadata\.name .* lowercase letters"):
        shop.run(config_map(name), GOOD, check=check)
    with pytest.raises(ManifestError, match=r"metadata\.name"):
        shop.run(config_map(name), state="absent", check=check)
    assert shop.get("configmaps", GOOD["metadata"]["name"]) is None
    # The parent of an object `..` is its namespace.
    assert shop.client.request("GET", f"/api/v1/namespaces/{shop.namespace}")["status"]["phase"] == "Active"


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({**config_map("bad"), "dat": {}}, ("dat", "correct the name")),
        (deployment("bad", replica=2), (".spec.replica", "correct the name")),
        ({**config_map("bad"), "data": {"a": 1}}, ("data",)),
        (service("bad", 70000), ("spec.ports[0].port", "between 1 and 65535")),
        (deployment("bad", -1), ("spec.replicas", "greater than or equal to 0")),
        (deployment("bad", selector={"matchLabels": {"app": "other"}}), ("`selector` does not match",)),
        ({**secret("bad"), "data": {"a": "not base64!"}}, ("base64", "`stringData`")),
        (with_metadata(name="bad", managedFields=[{"manager": "x"}]), ("managedFields",)),
        (with_metadata(name="bad", labels={"a b": "c"}), ("metadata.labels",)),
        (with_metadata(name="bad", ownerReferences=[{"name": "x"}]), ("ownerReferences",)),
        ({**config_map("bad"), "data": {"a": "x" * 1_100_000}}, ("1048576",)),
        (
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": pod_spec(serviceAccountName="no")},
            ('serviceaccount "no" not found',),
        ),
        (
            {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "bad"}, "spec": {"schedule": "soon"}},
            ("spec.schedule",),
        ),
    ],
)
def test_what_the_server_refuses_names_the_field_and_keeps_nothing_else_from_being_applied(
    shop: Shop, manifest: Fields, words: tuple[str, ...]
) -> None:
    result = shop.run(manifest, GOOD)
    name = manifest["metadata"]["name"]

    assert result["failed"]
    assert one(result, name)["action"] == "failed"
    assert one(result, "good")["action"] == "create"
    for word in words:
        assert word in one(result, name)["error"]
        assert word in result["msg"]


JOB: Fields = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "once"},
    "spec": {"template": {"spec": pod_spec(restartPolicy="Never")}},
}
POD: Fields = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"}, "spec": pod_spec(hostname="a")}
STATEFUL: Fields = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "once"},
    "spec": {
        "serviceName": "a",
        "selector": {"matchLabels": {"app": "once"}},
        "template": {"metadata": {"labels": {"app": "once"}}, "spec": pod_spec()},
    },
}
CLAIM: Fields = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "once"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


def spec(obj: Fields, **fields: Any) -> Fields:
    return {**obj, "spec": {**obj["spec"], **fields}}


@pytest.mark.parametrize(
    ("before", "after", "field", "remedy"),
    [
        (
            deployment("once"),
            deployment(
                "once",
                selector={"matchLabels": {"app": "b"}},
                template={"metadata": {"labels": {"app": "b"}}, "spec": pod_spec()},
            ),
            "spec.selector",
            "delete the object",
        ),
        (
            service("once", clusterIP="None"),
            service("once", clusterIP="10.0.0.77"),
            "spec.clusterIP",
            "`replace: always`",
        ),
        (JOB, spec(JOB, template={"spec": pod_spec(restartPolicy="OnFailure")}), "spec.template", "delete the object"),
        (POD, spec(POD, hostname="b"), "spec.hostname", "delete the object"),
        (STATEFUL, spec(STATEFUL, serviceName="b"), "spec.serviceName", "delete the object with its pods"),
        (CLAIM, spec(CLAIM, accessModes=["ReadWriteMany"]), "access modes", "delete pvc once"),
        (
            {**config_map("once"), "immutable": True},
            {**config_map("once", a="2"), "immutable": True},
            "data.a",
            "restore the former value",
        ),
        (
            {**config_map("once", **dict.fromkeys("abcdef", "1")), "immutable": True},
            {**config_map("once", **dict.fromkeys("abcdef", "2")), "immutable": True},
            'data.d from "1" to "2" and 2 more fields of ConfigMap',
            "restore the former value",
        ),
    ],
)
def test_a_field_that_cannot_be_changed_is_named_with_what_to_do(
    shop: Shop, before: Fields, after: Fields, field: str, remedy: str
) -> None:
    shop.run(before)
    result = shop.run(after)

    assert actions(result) == {f"{before['kind']} once": "failed"}
    assert field in one(result, "once")["error"]
    assert remedy in one(result, "once")["error"]


def test_a_dump_of_the_server_does_not_hide_the_remedy(shop: Shop) -> None:
    shop.run(JOB)
    body = {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}}
    with pytest.raises(ApiError) as caught:
        shop.client.request("PATCH", shop.path("jobs", "once", "/apis/batch/v1"), body=body, content_type=MERGE)
    error = caught.value
    told = str(explained(error, Identity("batch/v1", "Job", shop.namespace, "once")))
    assert len(error.message) > 500
    assert len(told) < 500
    assert told.endswith("restore the former value, or delete the object and run again: it cannot be changed in place")


def test_a_version_that_is_out_of_date_is_refused(shop: Shop) -> None:
    shop.run(config_map())
    result = shop.run({**with_metadata(resourceVersion="1"), "data": {"a": "2"}})

    assert "the object has been modified" in one(result, "settings")["error"]


def test_an_object_of_a_kind_that_its_schema_refuses_is_an_error(shop: Shop, kind: Kind) -> None:
    shop.run(kind.definition())

    assert "spec.watts" in one(shop.run(kind.lamp(watts="many")), "desk")["error"]
    assert "spec.colour" in one(shop.run(kind.lamp(colour="red")), "desk")["error"]


def test_a_namespace_that_is_going_away_takes_nothing_in(shop: Shop) -> None:
    name = f"{shop.namespace}-leaving"
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    held = {**config_map("held"), "metadata": {"name": "held", "namespace": name, "finalizers": ["example.org/hold"]}}
    shop.run(made, held)
    shop.client.request("DELETE", f"/api/v1/namespaces/{name}")
    result = shop.run(config_map(), namespace=name)
    shop.client.request(
        "PATCH",
        f"/api/v1/namespaces/{name}/configmaps/held",
        body={"metadata": {"finalizers": None}},
        content_type="application/merge-patch+json",
    )

    assert "wait until the namespace is gone" in one(result, "settings")["error"]


def test_no_namespace_at_all_is_an_error_that_says_where_to_set_one(shop: Shop) -> None:
    with pytest.raises(ManifestError, match="it belongs into a namespace, and none is named"):
        shop.run(GOOD, namespace=None)


@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_server_that_does_not_answer_is_an_error(shop: Shop, state: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}"):
        shop.run(GOOD, state=state, kubeconfig=None, host=f"https://127.0.0.1:{port}", api_key="token-of-a-test")


def _authority(tmp_path: Path) -> str:
    path = tmp_path / "other.crt"
    path.write_bytes(Authority.make().pem)
    return str(path)


def test_another_authority_is_no_authority(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="certificate"):
        shop.run(GOOD, ca_cert=_authority(tmp_path))
    assert shop.get("configmaps", "good") is None


def _as(shop: Shop, token: str) -> dict[str, Any]:
    """Return options for the same server with this token alone."""
    given = yaml.safe_load(shop.cluster.kubeconfig.read_text())
    cluster = given["clusters"][0]["cluster"]
    if "certificate-authority" in cluster:
        path = Path(cluster.pop("certificate-authority"))
        authority = path if path.is_absolute() else shop.cluster.kubeconfig.parent / path
        cluster["certificate-authority-data"] = base64.b64encode(authority.read_bytes()).decode()
    given["users"] = [{"name": "test", "user": {"token": token}}]
    given["contexts"] = [{"name": "test", "context": {"cluster": given["clusters"][0]["name"], "user": "test"}}]
    return {"kubeconfig": {**given, "current-context": "test"}}


def _token(shop: Shop, account: str) -> str:
    """Return a token of an account of the namespace that has only the rights given by a test."""
    shop.run({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}})
    path = f"{shop.path('serviceaccounts', account)}/token"
    made = shop.client.request("POST", path, body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"})
    return str(made["status"]["token"])


def test_a_wrong_token_is_an_error_that_does_not_show_it(shop: Shop) -> None:
    with pytest.raises(ApiError) as caught:
        shop.run(GOOD, **_as(shop, "a-token-of-nobody"))

    assert caught.value.status == 401
    assert "a-token-of-nobody" not in str(caught.value)


def test_a_token_of_an_account_that_is_gone_is_an_error(shop: Shop) -> None:
    token = _token(shop, "leaving")
    shop.client.request("DELETE", shop.path("serviceaccounts", "leaving"))

    with pytest.raises(ApiError) as caught:
        shop.run(GOOD, **_as(shop, token))
    assert caught.value.status == 401


def test_a_forbidden_look_is_an_error_before_anything_is_changed(shop: Shop) -> None:
    token = _token(shop, "nobody")

    with pytest.raises(ApiError, match="cannot get resource") as caught:
        shop.run(GOOD, **_as(shop, token))
    assert caught.value.is_forbidden
    assert shop.get("configmaps", "good") is None


def test_a_forbidden_verb_is_named_and_what_is_allowed_is_done(shop: Shop) -> None:
    token = _token(shop, "half")
    rules = [
        {"apiGroups": [""], "resources": ["configmaps", "services"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "patch"]},
    ]
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": "half", "namespace": shop.namespace}
    shop.run(
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "half"}, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "half"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "half"},
            "subjects": [subject],
        },
    )
    # More than two of a kind would be listed, which is not allowed either: they are then read one by one.
    manifests = [*(config_map(f"c{number}") for number in range(4)), service()]
    result = shop.run(*manifests, **_as(shop, token))

    assert [one(result, f"c{number}")["action"] for number in range(4)] == ["create"] * 4
    assert 'cannot patch resource "services"' in one(result, "api")["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kubeconfig": "/nowhere/config"}, "/nowhere/config"),
        ({"context": "nobody"}, "nobody"),
        ({"kubeconfig": {"clusters": "x"}}, "kubeconfig"),
        ({"kubeconfig": None, "host": "https://", "api_key": "x"}, "not an address"),
        ({"ca_cert": "/nowhere/ca.crt"}, "/nowhere/ca.crt"),
        ({"client_cert": "/nowhere/client.crt"}, "/nowhere/client.crt"),
        ({"impersonate_groups": ["x"]}, "impersonate_user"),
        ({"kubernetes_version": "newest"}, "is not a version"),
        ({"kubernetes_version": "1.3"}, "has no schemas of 1.3"),
    ],
)
def test_a_way_to_the_cluster_that_is_none_is_told(shop: Shop, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        shop.run(GOOD, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("source", ["/nowhere/*.yaml", "/nowhere/a.yaml", "https://example.org/a.yaml"])
def test_files_that_are_none_are_told(shop: Shop, source: str) -> None:
    with pytest.raises(ManifestError) as caught:
        shop.run(src=[source])
    assert source in str(caught.value)


def test_a_file_that_is_no_text_is_told_with_its_name(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ManifestError, match=r"a\.yaml"):
        shop.run(src=[str(tmp_path)])


def test_nothing_to_apply_changes_nothing(shop: Shop) -> None:
    result = shop.run()

    assert result["summary"] == "Nothing to apply."
    assert not result["changed"]
    assert issubclass(ManifestError, KubeError)
