# SPDX-License-Identifier: GPL-3.0-or-later
"""The module runs in Ansible's process where the result is the same: additions of its action."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.action import (
    cluster_foreign,
    helm_chart,
    k8s_apply,
    kube_secrets,
    lakehouse_health,
    lakehouse_job,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import KubeError
from ansible_collections.crypto_lakehouse.platform.plugins.plugin_utils import in_process

SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"password": "hunter-2"}}


def outcome_of(told: Any) -> Any:
    if isinstance(told, KubeError):
        raise told
    return told


class Task:
    """Replaces the module's own task."""

    outcome: ClassVar[Any] = {}
    seen: tuple[bool, bool] = (False, False)

    def __init__(
        self, parameters: Any, connect: Any, no_log: Any, *, check_mode: bool, with_diff: bool, kept: Any
    ) -> None:
        Task.seen = (check_mode, with_diff)
        no_log({"hunter-2"})

    def run(self) -> Any:
        return dict(outcome_of(Task.outcome))


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> type[Task]:
    monkeypatch.setattr(k8s_apply, "ApplyTask", Task)
    Task.outcome = {"changed": False, "notices": []}
    return Task


def run_here(
    arguments: dict[str, Any], *, check_mode: bool = False, with_diff: bool = False, tells_arguments: bool = False
) -> dict[str, Any]:
    circumstances = in_process.Circumstances(check_mode, with_diff)
    return in_process.run_here(k8s_apply.ActionModule.module, arguments, circumstances, tells_arguments=tells_arguments)


def test_another_name_of_the_same_python_is_run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").touch()
    for name in ("one/python", "one/python3", "other/python"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "base")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "one/python"))

    assert in_process.is_this_python(str(tmp_path / "one/python"))
    assert in_process.is_this_python(str(tmp_path / "one/python3"))
    # The interpreter of another virtual environment, though the same file.
    assert not in_process.is_this_python(str(tmp_path / "other/python"))
    assert not in_process.is_this_python(str(tmp_path / "one/python3.99"))
    assert not in_process.is_this_python("python3")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prune": "set"}, "missing parameter(s) required by 'prune': namespace"),
        ({"secrets_from": "store"}, "missing parameter(s) required by 'secrets_from': namespace"),
        ({"create_namespace": True}, "create_namespace is True but all of the following are missing: namespace"),
        ({"manifest": []}, "Unsupported parameters for (crypto_lakehouse.platform.k8s_apply) module: manifest."),
        ({"state": "gone"}, "value of state must be one of"),
    ],
)
def test_arguments_are_refused_as_the_module_refuses_them(
    task: type[Task], arguments: dict[str, Any], words: str
) -> None:
    outcome = run_here(arguments)
    assert outcome["failed"]
    assert words in outcome["msg"]


def test_check_mode_and_diff_arrive(task: type[Task]) -> None:
    run_here({}, check_mode=True, with_diff=True)
    assert task.seen == (True, True)


def test_what_the_module_learns_to_be_secret_is_in_no_result(task: type[Task]) -> None:
    task.outcome = {"changed": True, "notices": ["it is hunter-2"], "msg": "hunter-2", "failed": True}
    outcome = run_here({"manifests": [SECRET]}, tells_arguments=True)
    assert "hunter-2" not in json.dumps(outcome)
    assert outcome["failed"] is True


@pytest.mark.parametrize(
    "action", [cluster_foreign, helm_chart, k8s_apply, kube_secrets, lakehouse_health, lakehouse_job]
)
def test_credentials_of_a_given_kubeconfig_are_secret(action: Any) -> None:
    given = {"kubeconfig": {"users": [{"user": {"token": "hunter-3"}}]}}
    assert set(action.ActionModule.module.secrets(given)) == {"hunter-3"}


def test_what_a_module_calls_secret_in_its_arguments_is_in_no_result(task: type[Task]) -> None:
    task.outcome = {"changed": True, "notices": [], "msg": "hunter-3"}
    kubeconfig = {"users": [{"name": "one", "user": {"token": "hunter-3"}}]}
    outcome = run_here({"kubeconfig": kubeconfig}, tells_arguments=True)
    assert outcome["changed"] is True
    assert "hunter-3" not in json.dumps(outcome)


def test_objects_are_not_repeated_among_the_arguments(task: type[Task]) -> None:
    outcome = run_here({"manifests": [SECRET]}, tells_arguments=True)
    assert outcome["invocation"]["module_args"]["manifests"] == "(1 given)"


def test_what_the_server_remarks_is_a_warning(task: type[Task]) -> None:
    task.outcome = {"changed": False, "notices": ["v1beta1 is deprecated"]}
    assert run_here({}) == {"changed": False, "warnings": ["v1beta1 is deprecated"]}


def test_an_error_is_a_message(task: type[Task]) -> None:
    task.outcome = KubeError("no such context")
    assert run_here({}) == {"failed": True, "msg": "no such context"}


UNKNOWN_CLUSTER = {"kubeconfig": {"users": [{"name": "jo", "user": {"token": "hunter-2"}}]}, "context": "gone-hunter-2"}
STORE = {"name": "store", "namespace": "one", "secrets": [], "values": {"password": "hunter-2"}}
CHART = {"chart": "stack", "release_name": "stack", "release_namespace": "one", "chart_password": "hunter-2"}


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        (cluster_foreign, {"namespaces": ["one"], "expected": [], "remove": []}),
        (helm_chart, CHART),
        (kube_secrets, STORE),
    ],
)
def test_an_unknown_cluster_is_a_failure_that_tells_no_secret(action: Any, arguments: dict[str, Any]) -> None:
    given = {**arguments, **UNKNOWN_CLUSTER}
    told = in_process.run_here(
        action.ActionModule.module, given, in_process.Circumstances(check_mode=True), tells_arguments=True
    )
    assert told["failed"] is True
    assert "gone" in told["msg"]
    assert "hunter-2" not in json.dumps(told)


def test_secrets_of_a_planned_cluster_are_only_planned() -> None:
    given = {**STORE, "kubernetes_version": "1.36"}
    told = in_process.run_here(kube_secrets.ActionModule.module, given, in_process.Circumstances())
    assert told["failed"] is True
    assert "can only be planned" in told["msg"]


def test_health_of_a_host_needs_its_home() -> None:
    told = in_process.run_here(lakehouse_health.ActionModule.module, {}, in_process.Circumstances())
    assert told == {"failed": True, "msg": "target is host but all of the following are missing: home"}


def test_an_unhealthy_lakehouse_fails_only_where_it_is_asked_to(tmp_path: Path) -> None:
    given = {"home": str(tmp_path), "timeout_s": 0.2}
    for asked in (True, False):
        arguments = {**given, "fail_on_unhealthy": asked}
        told = in_process.run_here(lakehouse_health.ActionModule.module, arguments, in_process.Circumstances())
        assert told["healthy"] is False
        assert told.get("failed", False) is asked
