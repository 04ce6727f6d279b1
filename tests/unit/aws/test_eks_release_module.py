# SPDX-License-Identifier: GPL-3.0-or-later
"""The module `eks_release`: arguments, results, failures, and no secrets in its output."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.arguments import CONNECTION_SPEC
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.release import (
    Left,
    LeftError,
    Released,
    Wish,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.release_objects import ClusterError, Object
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Session
from ansible_collections.crypto_lakehouse.platform.plugins.modules import eks_release

DOCUMENTED = yaml.safe_load(eks_release.DOCUMENTATION)["options"]
BALANCER = Left("load balancer", "arn:aws:elasticloadbalancing:eu-central-1:111122223333:x", "k8s-site")
VOLUME = Left("volume", "vol-1", "data")
RELEASED = Released("reached", (Object("Ingress", "lake", "site"),), (BALANCER,), (VOLUME,))


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], becomes: Released | Exception, **options: Any
) -> tuple[dict[str, Any], list[tuple[Session, Wish]]]:
    """Run the module with `becomes` as the result of its work; return its result and its request."""
    asked: list[tuple[Session, Wish]] = []

    def released(session: Session, wish: Wish) -> Released:
        asked.append((session, wish))
        if isinstance(becomes, Exception):
            raise becomes
        return becomes

    monkeypatch.setattr(eks_release, "release", released)
    with patch_module_args({"cluster_name": "lake", **options}), pytest.raises(SystemExit):
        eks_release.main()
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1]), asked


def test_what_was_removed_and_what_stays_is_returned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, asked = run(monkeypatch, capsys, RELEASED, volumes=True, timeout_s=60, region="eu-central-1")

    assert result["changed"] is True
    assert result["cluster"] == "reached"
    assert result["removed"] == [{"kind": "Ingress", "namespace": "lake", "name": "site"}]
    assert result["released"] == [{"type": BALANCER.type, "id": BALANCER.id, "name": "k8s-site"}]
    assert result["kept"] == [{"type": "volume", "id": "vol-1", "name": "data"}]
    before = f"Ingress lake/site\nload balancer {BALANCER.id} (k8s-site)\n"
    assert result["diff"] == {"before": before, "after": ""}
    assert [wish for _session, wish in asked] == [Wish("lake", volumes=True, timeout_s=60.0)]
    assert asked[0][0].connection.region == "eu-central-1"


def test_check_mode_is_handed_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _result, asked = run(monkeypatch, capsys, RELEASED, _ansible_check_mode=True)

    assert asked[0][1].only_look


def test_what_is_left_fails_the_task_and_is_returned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, _asked = run(monkeypatch, capsys, LeftError("still there: it", (BALANCER,)))

    assert result["failed"] is True
    assert result["msg"] == "still there: it"
    assert result["left"] == [BALANCER.to_data()]


def test_a_refusal_fails_the_task(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    result, _asked = run(monkeypatch, capsys, ClusterError("the cluster refuses"))

    assert (result["failed"], result["msg"]) == (True, "the cluster refuses")


def test_a_cluster_that_was_never_reached_warns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    warned: list[str] = []
    # The destination of the result's warnings depends on the Ansible modules that this process has loaded.
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda _module, text: warned.append(text))
    result, _asked = run(monkeypatch, capsys, Released("unreachable", warnings=("nobody answers",)))

    assert (result["changed"], result["cluster"]) == (False, "unreachable")
    assert warned == ["nobody answers"]


def test_a_context_without_a_kubeconfig_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, asked = run(monkeypatch, capsys, RELEASED, context="tunnel")

    assert result["failed"] is True
    assert "kubeconfig" in result["msg"]
    assert not asked


@pytest.mark.parametrize("library", ["boto3", "kubernetes"])
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    result, _asked = run(monkeypatch, capsys, RELEASED)

    assert library in result["msg"]


def test_nothing_secret_is_in_the_result(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    result, _asked = run(
        monkeypatch, capsys, ClusterError("with a-secret-key"), access_key="AKIATEST", secret_key="a-secret-key"
    )

    assert "a-secret-key" not in json.dumps(result)


def test_every_option_is_documented_as_it_is_taken() -> None:
    own = {name: spec for name, spec in eks_release.ARGUMENT_SPEC.items() if name in DOCUMENTED}

    assert own.keys() == DOCUMENTED.keys()
    assert set(eks_release.ARGUMENT_SPEC) - set(DOCUMENTED) == set(CONNECTION_SPEC)
    for name, spec in own.items():
        told = DOCUMENTED[name]
        assert (told["type"], told.get("default"), told.get("required", False)) == (
            spec["type"],
            spec.get("default"),
            spec.get("required", False),
        ), name
