# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments that a run of a Job is given beside those of its description."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.errors import KubeError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.job import with_arguments


def job(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": {"containers": list(containers)}}}}


@pytest.mark.parametrize("manifest", [{}, {"spec": None}, job()])
def test_a_job_without_a_container_takes_no_arguments(manifest: dict[str, Any]) -> None:
    with pytest.raises(KubeError, match="has no container for the arguments"):
        with_arguments(manifest, ["--check"])
    assert with_arguments(manifest, []) == manifest


def test_arguments_follow_those_of_the_first_container_and_the_description_stays() -> None:
    described = job({"name": "verify", "args": ["--json"]}, {"name": "other"})
    made = with_arguments(described, ["--unless-verified"])
    assert made == job({"name": "verify", "args": ["--json", "--unless-verified"]}, {"name": "other"})
    assert described == job({"name": "verify", "args": ["--json"]}, {"name": "other"})
    assert with_arguments(job({"name": "verify"}), ["--x"]) == job({"name": "verify", "args": ["--x"]})
