# SPDX-License-Identifier: GPL-3.0-or-later
"""Job objects as they are created for a run."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import KubeError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready import job_manifest
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.ready.job_manifest import (
    prepared,
    with_arguments,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.jobs import Request


def job(*containers: dict[str, Any], **pod: Any) -> dict[str, Any]:
    template = {"spec": {"containers": list(containers), **pod}}
    metadata = {"name": "verify", "namespace": "x"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template}}


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("manifest", [{}, {"spec": None}, job()])
def test_a_job_without_a_container_takes_no_arguments(manifest: dict[str, Any]) -> None:
    with pytest.raises(KubeError, match="has no container for the arguments"):
        with_arguments(manifest, ["--check"])
    assert with_arguments(manifest, []) == manifest


def test_arguments_follow_those_of_the_first_container_and_the_description_stays() -> None:
    described = job({"name": "verify", "args": ["--json"]}, {"name": "other"})
    before = deepcopy(described)
    made = with_arguments(described, ["--unless-verified"])
    assert made == job({"name": "verify", "args": ["--json", "--unless-verified"]}, {"name": "other"})
    assert described == before
    assert with_arguments(job({"name": "verify"}), ["--x"]) == job({"name": "verify", "args": ["--x"]})


def test_a_run_is_labelled_and_has_a_deadline_of_the_cluster() -> None:
    described = job({"name": "verify", "env": [{"name": "A", "value": "1"}]})
    before = deepcopy(described)
    made = prepared(described, Request("verify", "verify", "d1", owner="jo@controller"), 90)
    assert described == before
    assert made["metadata"]["labels"] == {"lakehouse/job": "verify", "lakehouse/job-digest": "d1"}
    assert made["metadata"]["annotations"] == {"lakehouse/job-owner": "jo@controller"}
    assert made["spec"]["activeDeadlineSeconds"] == 90
    assert made["spec"]["ttlSecondsAfterFinished"] > 0
    assert "suspend" not in made["spec"]
    assert pod_of(made)["containers"][0]["env"] == [
        {"name": "A", "value": "1"},
        {"name": "LAKEHOUSE_JOB_LOG", "value": "framed"},
    ]


def test_input_is_mounted_from_a_secret_of_the_job_and_stands_in_no_part_of_it() -> None:
    request = Request("restore", "restore", "d1", input="AGE-SECRET-KEY-1")
    made = prepared(job({"name": "restore"}, securityContext={"fsGroup": 10001}), request, 90)
    assert made["spec"]["suspend"] is True
    assert "AGE-SECRET" not in str(made)
    (volume,) = pod_of(made)["volumes"]
    assert volume["secret"] == {"secretName": "verify-input", "defaultMode": 0o440}
    assert job_manifest.has_input(made)
    assert not job_manifest.has_input(job({"name": "x"}))
    secret = job_manifest.input_secret(job_manifest.place_of(made), {"metadata": {"uid": "u1"}}, "AGE-SECRET-KEY-1")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert secret["stringData"] == {"input": "AGE-SECRET-KEY-1"}


@pytest.mark.parametrize(
    ("storage_class", "volume"),
    [
        ("", {"emptyDir": {"sizeLimit": "2Gi"}}),
        (
            "fast",
            {
                "ephemeral": {
                    "volumeClaimTemplate": {
                        "spec": {
                            "accessModes": ["ReadWriteOnce"],
                            "storageClassName": "fast",
                            "resources": {"requests": {"storage": "2Gi"}},
                        }
                    }
                }
            },
        ),
    ],
)
def test_scratch_is_a_volume_that_goes_with_the_pod(storage_class: str, volume: dict[str, Any]) -> None:
    request = Request("backup", "backup", "d1", scratch="2Gi", scratch_class=storage_class)
    made = prepared(job({"name": "backup", "volumeMounts": [{"name": "a", "mountPath": "/a"}]}), request, 90)
    assert pod_of(made)["volumes"] == [{"name": "lakehouse-job-scratch", **volume}]
    container = pod_of(made)["containers"][0]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/a", "/scratch"]
    assert {"name": "TMPDIR", "value": "/scratch"} in container["env"]
