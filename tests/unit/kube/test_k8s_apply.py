# SPDX-License-Identifier: GPL-3.0-or-later
"""The module in Ansible: its results, and values that it never shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.access import CLUSTER_SPEC, secrets_in
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.apply_task import shown_parameters
from ansible_collections.crypto_lakehouse.platform.plugins.modules import k8s_apply
from tests.unit.kube.server import TOKEN, ApiServer, Reply, status

Fields = dict[str, Any]
Run = Callable[..., Fields]
SECRET: Fields = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "key"},
    "stringData": {"password": "hush-hush-hush"},
}
SETTINGS: Fields = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}
API: Fields = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "api"},
    "spec": {
        "selector": {"matchLabels": {"app": "api"}},
        "template": {
            "metadata": {"labels": {"app": "api"}},
            "spec": {"containers": [{"name": "api", "image": "api:1"}]},
        },
    },
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(tmp_path) as made:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        made.client().request("POST", "/api/v1/namespaces/shop", body=namespace)
        yield made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_module(**arguments: Any) -> Fields:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            k8s_apply.main()
        found: Fields = json.loads(capsys.readouterr().out)
        return found

    return run_module


def test_what_is_applied_is_told_and_no_secret_is(server: ApiServer, run: Run) -> None:
    arguments = {"kubeconfig": server.kubeconfig(), "namespace": "shop", "manifests": [SECRET, SETTINGS]}
    result = run(**arguments, _ansible_diff=True)

    assert result["changed"]
    assert result["summary"] == "Done: 2 created."
    assert [one["address"] for one in result["plan"]] == ["Secret shop/key (v1)", "ConfigMap shop/settings (v1)"]
    assert result["calls"] >= 5
    for value in ("hush-hush-hush", "aHVzaC1odXNoLWh1c2g=", TOKEN):
        assert value not in json.dumps(result)
    assert not run(**arguments)["changed"]


def test_a_failure_returns_all_results(server: ApiServer, run: Run) -> None:
    server.on("PATCH", "/configmaps/", status(422, "data.a: hush-hush-hush is no good"))
    result = run(kubeconfig=server.kubeconfig(), namespace="shop", manifests=[SECRET, SETTINGS])

    assert result["failed"]
    assert result["changed"]
    assert [one["action"] for one in result["objects"]] == ["create", "failed"]
    assert "ConfigMap shop/settings (v1): PATCH" in result["msg"]
    assert "hush-hush-hush" not in json.dumps(result)


def test_results_repeat_no_parameter_that_holds_objects_or_credentials() -> None:
    shown = shown_parameters({"manifests": [SECRET], "kubeconfig": {"users": []}, "namespace": "shop"})

    assert shown == {"manifests": "(1 given)", "kubeconfig": "(data)", "namespace": "shop"}


def test_an_error_before_the_first_change_is_a_message_and_no_traceback(run: Run, tmp_path: Path) -> None:
    result = run(kubeconfig=str(tmp_path / "nothing"), namespace="shop", manifests=[SETTINGS])

    assert result["failed"]
    assert str(tmp_path / "nothing") in result["msg"]
    assert "Traceback" not in json.dumps(result)


def test_a_placeholder_is_named_by_the_message_that_asks_for_its_secret(server: ApiServer, run: Run) -> None:
    asking = {**SECRET, "stringData": {"password": "${secret_value.password}"}}
    result = run(kubeconfig=server.kubeconfig(), namespace="shop", manifests=[asking])

    assert (
        "${secret_value.password} stands for a secret; name the Secret that holds it in secrets_from" in result["msg"]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prune": "shop-set"}, "namespace"),
        ({"secrets_from": "store"}, "namespace"),
        ({"create_namespace": True}, "namespace"),
        ({"eks_cluster": "lake", "kubeconfig": "x", "namespace": "shop"}, "mutually exclusive"),
        ({"access_key": "x", "namespace": "shop"}, "secret_key"),
        ({"state": "planned", "namespace": "shop"}, "state"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run: Run, arguments: Fields, words: str) -> None:
    result = run(manifests=[SETTINGS], **arguments)

    assert result["failed"]
    assert words in result["msg"]


def test_a_cluster_that_is_only_planned_is_not_asked_for(run: Run) -> None:
    result = run(kubernetes_version="1.36", namespace="shop", create_namespace=True, manifests=[API, SECRET, SETTINGS])

    assert result["changed"]
    assert result["calls"] == 0
    assert result["summary"] == "Plan: 4 to create."
    assert {one["action"] for one in result["objects"]} == {"create"}
    assert "1.36 is only planned" in result["objects"][0]["reason"]
    assert "hush-hush-hush" not in json.dumps(result)


LAMPS: Fields = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "lamps.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"kind": "Lamp", "plural": "lamps"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"watts": {"type": "integer"}}}},
                    }
                },
            }
        ],
    },
}


def lamp(**spec: Any) -> Fields:
    return {"apiVersion": "example.org/v1", "kind": "Lamp", "metadata": {"name": "desk"}, "spec": spec}


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ({**API, "spec": {**API["spec"], "replica": 2}}, "spec.replica: is an unknown field; did you mean 'replicas'?"),
        ({**API, "spec": {**API["spec"], "replicas": "2"}}, "spec.replicas: is not an integer, but a string"),
        ({**API, "spec": {"template": API["spec"]["template"]}}, "spec.selector: is required"),
        (lamp(wats=1), "spec.wats: is an unknown field; did you mean 'watts'?"),
        ({**SETTINGS, "metadata": {"name": "Settings"}}, "metadata.name"),
    ],
)
def test_what_does_not_fit_the_version_of_a_planned_cluster_is_told(run: Run, manifest: Fields, words: str) -> None:
    result = run(kubernetes_version="1.36", namespace="shop", manifests=[LAMPS, manifest])

    assert result["failed"]
    assert words in result["msg"]


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (lamp(), "add its CRD to the manifests, or to planned_src"),
        ({**SETTINGS, "kind": "ConfigMop"}, "did you mean 'ConfigMap'?"),
        ({**API, "apiVersion": "extensions/v1beta1"}, "has Deployment as apps/v1"),
    ],
)
def test_a_kind_that_a_planned_cluster_will_not_have_is_told(run: Run, manifest: Fields, words: str) -> None:
    assert words in run(kubernetes_version="1.36", namespace="shop", manifests=[manifest])["msg"]


def test_a_kind_that_another_task_brings_to_a_planned_cluster_is_known(run: Run, tmp_path: Path) -> None:
    (tmp_path / "crds.yaml").write_text(yaml.safe_dump(LAMPS))
    planned = [str(tmp_path / "crds.yaml")]
    result = run(kubernetes_version="1.36", namespace="shop", manifests=[lamp(watts=1)], planned_src=planned)

    assert result["summary"] == "Plan: 1 to create."


def test_a_version_without_schemas_names_those_that_there_are(run: Run) -> None:
    message = run(kubernetes_version="1.5", namespace="shop", manifests=[SETTINGS])["msg"]

    assert "has no schemas of 1.5; known are" in message
    assert "1.36" in message


def test_credentials_of_a_kubeconfig_given_as_data_are_kept_out_of_logs() -> None:
    users = [{"name": "admin", "user": {"token": "t-o-k-e-n", "client-key-data": "a2V5a2V5"}}]

    assert secrets_in({"kubeconfig": {"users": users}}) == {"t-o-k-e-n", "a2V5a2V5"}
    assert secrets_in({"kubeconfig": "/etc/kubeconfig"}) == set()


def test_every_option_that_may_hold_a_secret_is_marked() -> None:
    marked = {name for name, option in CLUSTER_SPEC.items() if option.get("no_log")}

    assert marked == {"api_key", "password", "secret_key", "session_token"}
    assert all(CLUSTER_SPEC["proxy_headers"]["options"][name]["no_log"] for name in ("basic_auth", "proxy_basic_auth"))


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("name", ["..", ".", "a/b", "%2e%2e"])
def test_a_name_that_leads_elsewhere_is_refused_before_any_request(
    server: ApiServer, run: Run, name: str, state: str, check_mode: bool
) -> None:
    victim = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}}
    server.requests.clear()
    result = run(kubeconfig=server.kubeconfig(), manifests=[victim], state=state, _ansible_check_mode=check_mode)
    assert result["failed"]
    assert f"cannot use ConfigMap {name}: metadata.name {name!r} is not a DNS-1123 subdomain; use" in result["msg"]
    assert server.requests == []


@pytest.mark.parametrize("option", ["namespace", "prune", "secrets_from"])
def test_an_option_that_leads_elsewhere_is_refused_before_any_request(server: ApiServer, run: Run, option: str) -> None:
    server.requests.clear()
    result = run(**{"kubeconfig": server.kubeconfig(), "namespace": "shop", "manifests": [SETTINGS], option: ".."})
    assert result["failed"]
    assert f"cannot use `{option}`: '..' is not a DNS-1123" in result["msg"]
    assert server.requests == []


@pytest.mark.parametrize(
    "found",
    [
        {"kind": "Namespace", "metadata": {"name": "shop", "uid": "1"}},
        {"kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "other", "uid": "1"}},
        {"kind": "ConfigMap", "metadata": {"name": "another", "namespace": "shop", "uid": "1"}},
        {"kind": "Secret", "metadata": {"name": "settings", "namespace": "shop", "uid": "1"}},
        {"kind": "ConfigMap"},
    ],
)
@pytest.mark.parametrize("state", ["present", "absent"])
def test_nothing_is_done_to_an_object_that_was_not_asked_for(
    server: ApiServer, run: Run, state: str, found: Fields
) -> None:
    server.on("GET", "/namespaces/shop/configmaps/settings$", Reply(200, {"apiVersion": "v1", **found}))
    server.requests.clear()
    result = run(kubeconfig=server.kubeconfig(), namespace="shop", manifests=[SETTINGS], state=state)
    assert result["failed"]
    assert "cannot use the answer to GET /api/v1/namespaces/shop/configmaps/settings: it is" in result["msg"]
    assert {request.method for request in server.requests} == {"GET"}


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("state", ["present", "absent"])
def test_no_request_at_once_is_refused(server: ApiServer, run: Run, state: str, value: int) -> None:
    result = run(kubeconfig=server.kubeconfig(), manifests=[SETTINGS], state=state, parallelism=value)
    assert result["msg"] == f"cannot use `parallelism`: {value} is less than 1; set it to 1 or more"
