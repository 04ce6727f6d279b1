# SPDX-License-Identifier: GPL-3.0-or-later
"""Start ministack with the features of AWS that it lacks.

EKS: Fargate, a cluster's security group and issuer, fields of node groups. Backup: locks and recovery points of vaults.

The security group that EKS creates for a cluster belongs to the network of another emulator. CLUSTER_SECURITY_GROUP
sets its id.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ministack.app import main  # type: ignore[import-untyped]
from ministack.services import backup, eks  # type: ignore[import-untyped]

Answer = tuple[int, Mapping[str, str], bytes]
Handle = Callable[..., Awaitable[Answer]]
Create = Callable[..., Answer]
KEPT = ("launchTemplate", "updateConfig")
ISSUER = "https://oidc.eks.eu-central-1.amazonaws.com"
_FARGATE = re.compile(r"/clusters/([^/]+)/fargate-profiles(?:/([^/]+))?")
_profiles: dict[tuple[str, str], dict[str, Any]] = {}
_VAULT = re.compile(r"/backup-vaults/([^/]+)/(vault-lock|recovery-points)(?:/(.+))?")
_LOCK = ("MinRetentionDays", "MaxRetentionDays")
_DAY_S = 86_400
_points: dict[str, dict[str, dict[str, Any]]] = {}


def remembering(create: Create) -> Create:
    """Return a function that creates node groups with all readable fields."""

    def created(cluster_name: str, body: Mapping[str, Any]) -> Answer:
        answer = create(cluster_name, body)
        group = eks._nodegroups.get(f"{cluster_name}/{body.get('nodegroupName')}")
        if group is not None:
            group.update({word: body[word] for word in KEPT if word in body})
        return answer

    return created


def with_group(create: Create) -> Create:
    """Return a function that creates clusters whose security group exists."""

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
    """Return a handler that also supports Fargate profiles."""

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


def with_vaults(handle: Handle) -> Handle:
    """Return a handler that also supports locks and recovery points of vaults."""

    async def handled(method: str, path: str, headers: Any, body: bytes, query: Any) -> Answer:
        found = _VAULT.fullmatch(urllib.parse.unquote(path).rstrip("/"))
        vault = backup._vaults.get(found[1]) if found else None
        if found is None or vault is None:
            return await handle(method, path, headers, body, query)
        points = _points.setdefault(found[1], {})
        if found[2] == "vault-lock":
            lock(vault, json.loads(body or b"{}") if method == "PUT" else None)
        elif method == "GET":
            answer: Answer = backup._ok({"RecoveryPoints": list(points.values())})
            return answer
        elif vault.get("Locked"):
            refusal: Answer = backup._err("InvalidRequestException", "The vault is locked.")
            return refusal
        else:
            points.pop(found[3], None)
            vault["NumberOfRecoveryPoints"] = len(points)
        done: Answer = backup._no_content()
        return done

    return handled


def lock(vault: dict[str, Any], given: Mapping[str, Any] | None) -> None:
    """Lock a vault, or remove its lock."""
    vault["Locked"] = given is not None
    for word in _LOCK:
        vault.pop(word, None)
    vault.update({word: given[word] for word in _LOCK if word in (given or {})} if given else {})


def keeping(start: Create) -> Create:
    """Return a function that starts backup jobs whose recovery points stay in their vault."""

    def started(body: Mapping[str, Any]) -> Answer:
        answer = start(body)
        if answer[0] == 200:
            name, arn = body["BackupVaultName"], json.loads(answer[2])["RecoveryPointArn"]
            ends = {"DeleteAt": time.time() + 30 * _DAY_S}
            point = {"RecoveryPointArn": arn, "Status": "COMPLETED", "CalculatedLifecycle": ends}
            _points.setdefault(name, {})[arn] = point
        return answer

    return started


def full(delete: Create) -> Create:
    """Return a function that deletes vaults, and refuses to delete vaults with content."""

    def deleted(name: str) -> Answer:
        if _points.get(name):
            refusal: Answer = backup._err("InvalidRequestException", "The vault contains recovery points.")
            return refusal
        return delete(name)

    return deleted


if __name__ == "__main__":
    backup.handle_request = with_vaults(backup.handle_request)
    backup._start_job = keeping(backup._start_job)
    backup._delete_vault = full(backup._delete_vault)
    eks._ministack_issuer_base = lambda: ISSUER
    eks._create_nodegroup = remembering(eks._create_nodegroup)
    eks._create_cluster = with_group(eks._create_cluster)
    eks._handle_request_sync = with_fargate(eks._handle_request_sync)
    sys.exit(main())
