# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubeconfigs of the controller as a table: files that a run may replace, and the required CA."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.kubeconfig import (
    REMEDY,
    kubeconfig_ca_hash,
    kubeconfig_problems,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.k3s.tokens import ca_hash

PEMS = {name: f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n".encode() for name in ("AAAA", "BBBB")}


def entry(name: str, pem: str = "AAAA") -> dict[str, Any]:
    return {"name": name, "cluster": {"certificate-authority-data": base64.b64encode(PEMS[pem]).decode()}}


def context(name: str, cluster: str) -> dict[str, Any]:
    return {"name": name, "context": {"cluster": cluster}}


def document(*clusters: dict[str, Any], contexts: tuple[dict[str, Any], ...] = (), current: str = "") -> dict[str, Any]:
    return {"clusters": list(clusters), "contexts": list(contexts), "current-context": current}


OWN = document(entry("lake"), contexts=(context("lake", "lake"),), current="lake")
RENAMED = document(entry("default"), contexts=(context("default", "default"),), current="default")
BOTH = (context("home", "home"), context("lake", "lake"))
HOME = document(entry("home", "BBBB"), entry("lake"), contexts=BOTH, current="home")
LAKE = {**HOME, "current-context": "lake"}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param(None, "", id="an empty file"),
        pytest.param(OWN, "", id="that of an installation"),
        pytest.param(RENAMED, "", id="one cluster of another name"),
        pytest.param(
            HOME, "holds home, lake and its current context is `home`, not `lake`: a run would replace it", id="two"
        ),
        pytest.param(LAKE, "holds home, lake: a run would replace it", id="two, and the context of this cluster"),
        pytest.param(
            document(entry("lake"), contexts=(context("lake", "lake"), context("me", "lake")), current="me"),
            "holds lake, me and its current context is `me`, not `lake`: a run would replace it",
            id="two contexts of one cluster",
        ),
        pytest.param(
            document(entry("home"), entry("lake")),
            "holds home, lake and its current context is ``, not `lake`: a run would replace it",
            id="no current context",
        ),
        pytest.param({"clusters": "x"}, "is not a kubeconfig, and a run would replace it", id="another document"),
        pytest.param("127.0.0.1 localhost", "is not a kubeconfig, and a run would replace it", id="another file"),
    ],
)
def test_a_file_of_more_than_this_cluster_is_not_replaced(found: Any, message: str) -> None:
    problems = kubeconfig_problems("/home/me/.kube/config", found, "lake")
    expected = [("k3s_kubeconfig", f"/home/me/.kube/config {message}", REMEDY)] if message else []
    assert [(problem.variable, problem.message, problem.remedy) for problem in problems] == expected


@pytest.mark.parametrize(
    ("found", "pem"),
    [
        (OWN, "AAAA"),
        (HOME, "BBBB"),
        (LAKE, "AAAA"),
        ({"clusters": [{"cluster": entry("lake")["cluster"]}]}, "AAAA"),
        (document({"name": "lake", "cluster": {}}), ""),
        (document({"name": "lake", "cluster": {"certificate-authority-data": "?"}}), ""),
        (None, ""),
        ("text", ""),
    ],
)
def test_the_ca_is_that_of_the_current_context(found: Any, pem: str) -> None:
    assert kubeconfig_ca_hash(found) == (ca_hash(PEMS[pem]) if pem else "")
