# SPDX-License-Identifier: GPL-3.0-or-later
"""Start ministack with what its EKS lacks of the real one: Fargate, a cluster's group and issuer, words of node groups.

The group that EKS makes for a cluster belongs to the network, which another emulator keeps: CLUSTER_SECURITY_GROUP
names it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ministack.app import main  # type: ignore[import-untyped]
from ministack.services import eks  # type: ignore[import-untyped]

Answer = tuple[int, Mapping[str, str], bytes]
Create = Callable[..., Answer]
KEPT = ("launchTemplate", "updateConfig")
ISSUER = "https://oidc.eks.eu-central-1.amazonaws.com"
_FARGATE = re.compile(r"/clusters/([^/]+)/fargate-profiles(?:/([^/]+))?")
_profiles: dict[tuple[str, str], dict[str, Any]] = {}


def remembering(create: Create) -> Create:
    """Return a creation of node groups that keeps every word that can be read back."""

    def created(cluster_name: str, body: Mapping[str, Any]) -> Answer:
        answer = create(cluster_name, body)
        group = eks._nodegroups.get(f"{cluster_name}/{body.get('nodegroupName')}")
        if group is not None:
            group.update({word: body[word] for word in KEPT if word in body})
        return answer

    return created


def with_group(create: Create) -> Create:
    """Return a creation of clusters whose group exists."""

    def created(body: Mapping[str, Any], *arguments: Any, **words: Any) -> Answer:
        status, headers, content = create(body, *arguments, **words)
        cluster = eks._clusters.get(body.get("name"))
        if cluster is None or status != 200:
            return status, headers, content
        group = os.environ["CLUSTER_SECURITY_GROUP"]
        cluster["resourcesVpcConfig"]["clusterSecurityGroupId"] = group
        answer = json.loads(content)
        answer["cluster"]["resourcesVpcConfig"]["clusterSecurityGroupId"] = group
        return status, headers, json.dumps(answer).encode()

    return created


def with_fargate(handle: Create) -> Create:
    """Return a handler that knows Fargate profiles as well."""

    def handled(method: str, path: str, headers: Any, body: bytes, query: Any) -> Answer:
        found = _FARGATE.fullmatch(path)
        if found is None:
            return handle(method, path, headers, body, query)
        return fargate(method, found[1], found[2] or "", body)

    return handled


def fargate(method: str, cluster: str, name: str, body: bytes) -> Answer:
    """Answer a call about Fargate profiles."""
    if method == "POST":
        given = json.loads(body)
        arn = f"arn:aws:eks:eu-central-1:000000000000:fargateprofile/{cluster}/{given['fargateProfileName']}/1"
        profile = {**given, "clusterName": cluster, "fargateProfileArn": arn, "status": "ACTIVE"}
        _profiles[cluster, given["fargateProfileName"]] = profile
        return _answer(200, {"fargateProfile": profile})
    if not name:
        return _answer(200, {"fargateProfileNames": [one for where, one in _profiles if where == cluster]})
    if (cluster, name) not in _profiles:
        return _missing(name)
    found = _profiles.pop((cluster, name)) if method == "DELETE" else _profiles[cluster, name]
    return _answer(200, {"fargateProfile": found})


def _answer(status: int, content: Mapping[str, Any]) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _missing(name: str) -> Answer:
    status, headers, content = _answer(404, {"message": f"No Fargate profile found with name: {name}."})
    return status, {**headers, "x-amzn-errortype": "ResourceNotFoundException"}, content


if __name__ == "__main__":
    eks._ministack_issuer_base = lambda: ISSUER
    eks._create_nodegroup = remembering(eks._create_nodegroup)
    eks._create_cluster = with_group(eks._create_cluster)
    eks._handle_request_sync = with_fargate(eks._handle_request_sync)
    sys.exit(main())
