# SPDX-License-Identifier: GPL-3.0-or-later
"""Emulate EKS in the process of a test, as strict and as slow as the real service, unlike any emulator.

It answers `eks:*` calls of a `Wire` (which checks parameters and answers against botocore's service model). Objects are
created, updated and deleted over several reads, with one update of an object at a time. Refusals have EKS' codes and
messages. Calls of other services go to the endpoint of the session, or only STS is answered.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import ReadError
from tests.integration.aws.emulator import Emulator
from tests.integration.aws.lab import Lab, failures
from tests.integration.aws.wire import Answer, Behaviour, Call, Wire, read_timeout

ACCOUNT, REGION = "111122223333", "eu-central-1"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LOG_TYPES = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
MODES = ["CONFIG_MAP", "API_AND_CONFIG_MAP", "API"]
Body = dict[str, Any]
_PAGE = 2
_OWNED = "podIdentityAssociations"


class CrashError(Exception):
    """The process is dead: calls have no effect any more."""


class Refused(Exception):  # noqa: N818 - it is an answer of the service, told in Python
    """An error response of EKS."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.answer = Answer.error(code, message, status)


@dataclass
class Thing:
    """An object of EKS. looks: number of reads until its current operation completes."""

    body: Body
    status: str = "ACTIVE"
    looks: int = 0
    after: str = "ACTIVE"
    token: str = ""

    def begin(self, status: str, after: str, looks: int) -> None:
        self.status, self.after, self.looks = status, after, looks

    @property
    def is_busy(self) -> bool:
        return self.status in {"CREATING", "UPDATING", "DELETING"}


@dataclass
class Update:
    body: Body
    thing: Thing
    effect: Callable[[], object]
    looks: int
    errors: list[Body] = field(default_factory=list)


def instance_type(name: str) -> Body:
    """Return EC2's description of an instance type: a `g` in its family means Graviton."""
    architecture = "arm64" if "g" in name.partition(".")[0][2:] else "x86_64"
    return {"InstanceType": name, "ProcessorInfo": {"SupportedArchitectures": [architecture]}}


@dataclass
class Eks(Behaviour):
    """The service. slowness: reads until an operation completes. failing: by operation, the errors of its next update.

    broken: by `KIND NAME`, the health issues with which the next creation fails. alone: no other service is reachable.
    offered: addon versions by addon and version of Kubernetes, newest first; the default ends in `*`. refusing: by
    operation, the refusals of its next calls. lost: operations whose next answer does not arrive. calls_left: calls
    until the process dies.
    """

    slowness: int = 3
    alone: bool = True
    failing: dict[str, list[Body]] = field(default_factory=dict)
    broken: dict[str, list[Body]] = field(default_factory=dict)
    offered: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    things: dict[tuple[str, str, str], Thing] = field(default_factory=dict)
    updates: dict[str, Update] = field(default_factory=dict)
    policies: dict[tuple[str, str], dict[str, Body]] = field(default_factory=dict)
    refusing: dict[str, list[Answer]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    calls_left: int | None = None
    most_updates_at_once: int = 0
    survived: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._numbers = 0

    def before(self, call: Call) -> Answer | None:
        if call.name == "sts:GetCallerIdentity" and self.alone:
            return Answer({"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/tester", "UserId": "AIDA"})
        if call.name == "ec2:DescribeInstanceTypes" and self.alone:
            return Answer({"InstanceTypes": [instance_type(name) for name in call.parameters["InstanceTypes"]]})
        if call.service != "eks":
            assert not self.alone, f"{call} reaches nobody"
            return None
        method = getattr(self, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", call.operation).lower())
        with self._lock:
            if self.calls_left is not None:
                self.calls_left -= 1
                if self.calls_left < 0:
                    raise CrashError(call.name)
            if self.refusing.get(call.operation):
                return self.refusing[call.operation].pop(0)
            try:
                answer = Answer(copy.deepcopy(method(dict(call.parameters))) or {})
            except Refused as refused:
                return refused.answer
            if call.operation in self.lost:
                self.lost.remove(call.operation)
                raise read_timeout()
            return answer

    def picture(self) -> dict[tuple[str, str, str], Body]:
        """Return all objects, without the fields that only distinguish one creation from another."""
        pictures = {}
        for (kind, cluster, name), thing in self.things.items():
            body = thing.body
            kept = {
                word: value for word, value in body.items() if word == "roleArn" or not word.endswith(("Arn", "Id"))
            }
            kept |= {"status": thing.status, "policies": self.policies.get((cluster, name))}
            told = f"{body['namespace']}/{body['serviceAccount']}" if kind == "association" else name
            pictures[kind, cluster, told] = {**kept, "podIdentityAssociations": len(body.get(_OWNED, ()))}
        return pictures

    def thing(self, kind: str, cluster: str, name: str = "") -> Thing:
        found = self.things.get((kind, cluster, name))
        if found is None:
            raise Refused("ResourceNotFoundException", f"No {kind} found for name: {name or cluster}.", 404)
        return found

    def look(self, kind: str, cluster: str, name: str = "") -> Body:
        """Describe an object, which advances its operation by one step."""
        thing = self.thing(kind, cluster, name)
        body = {**thing.body, "status": thing.status}
        for update in self._updates_of(thing):
            self._advance(update)
        if thing.looks:
            thing.looks -= 1
            if not thing.looks and not self._updates_of(thing):
                thing.status = thing.after
                if thing.after == "GONE":
                    del self.things[kind, cluster, name]
        return body

    def _updates_of(self, thing: Thing) -> list[Update]:
        return [u for u in self.updates.values() if u.thing is thing and u.body["status"] == "InProgress"]

    def _arn(self, resource: str) -> str:
        return f"arn:aws:eks:{REGION}:{ACCOUNT}:{resource}"

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _create(self, kind: str, cluster: str, name: str, body: Body, token: str) -> Body:
        known = self.things.get((kind, cluster, name))
        if known is not None:
            if known.token == token:
                return {**known.body, "status": known.status}
            raise Refused("ResourceInUseException", f"{kind} already exists with name: {name or cluster}", 409)
        issues = self.broken.pop(f"{kind} {name or cluster}", None)
        after = ("FAILED" if kind == "cluster" else "CREATE_FAILED") if issues else "ACTIVE"
        thing = Thing({**body, "health": {"issues": issues or []}}, token=token)
        thing.begin("CREATING", after, self.slowness)
        self.things[kind, cluster, name] = thing
        return {**thing.body, "status": "CREATING"}

    def _delete(self, kind: str, cluster: str, name: str = "") -> Body:
        thing = self.thing(kind, cluster, name)
        if thing.status in {"CREATING", "UPDATING"}:
            raise Refused("ResourceInUseException", f"{kind} {name or cluster} has an update in progress", 409)
        thing.begin("DELETING", "GONE", self.slowness)
        return {**thing.body, "status": "DELETING"}

    def _start(self, operation: str, thing: Thing, kind: str, given: Body, effect: Callable[[], object]) -> Body:
        for update in self.updates.values():
            if update.body["token"] == given["clientRequestToken"]:
                return {"update": _shown(update.body)}
        if thing.is_busy or self._updates_of(thing):
            raise Refused("ResourceInUseException", f"{operation}: an update is currently in progress", 409)
        id_ = f"update-{self._number()}"
        body = {"id": id_, "status": "InProgress", "type": kind, "params": [], "errors": [], "createdAt": NOW}
        update = Update({**body, "token": given["clientRequestToken"]}, thing, effect, self.slowness)
        update.errors = self.failing.pop(operation, [])
        self.updates[id_] = update
        thing.begin("UPDATING", "ACTIVE", self.slowness)
        self.most_updates_at_once = max(self.most_updates_at_once, len(self._updates_of(thing)))
        return {"update": _shown(update.body)}

    def describe_update(self, given: Body) -> Body:
        update = self.updates[given["updateId"]]
        self._advance(update)
        return {"update": _shown(update.body)}

    def _advance(self, update: Update) -> None:
        if update.looks:
            update.looks -= 1
        elif update.body["status"] == "InProgress":
            update.body |= {"status": "Failed" if update.errors else "Successful", "errors": update.errors}
            if not update.errors:
                update.effect()
            update.thing.status = "ACTIVE"

    def _listed(self, key: str, names: Iterable[Any], given: Body) -> Body:
        every, start = list(names), int(given.get("nextToken", 0))
        more = {"nextToken": str(start + _PAGE)} if start + _PAGE < len(every) else {}
        return {key: every[start : start + _PAGE], **more}

    def _in(self, kind: str, cluster: str) -> list[str]:
        self.thing("cluster", cluster)
        return [name for found, where, name in self.things if (found, where) == (kind, cluster)]

    def create_cluster(self, given: Body) -> Body:
        name, network = given["name"], given["resourcesVpcConfig"]
        vpc = {
            "endpointPublicAccess": True,
            "endpointPrivateAccess": False,
            "publicAccessCidrs": ["0.0.0.0/0"],
            "securityGroupIds": [],
            **network,
            "clusterSecurityGroupId": f"sg-of-{name}",
            "vpcId": "vpc-1",
        }
        access = {"authenticationMode": "CONFIG_MAP", **given.get("accessConfig", {})}
        body = {
            "name": name,
            "arn": self._arn(f"cluster/{name}"),
            "createdAt": NOW,
            "version": given.get("version", "1.34"),
            "roleArn": given["roleArn"],
            "resourcesVpcConfig": vpc,
            "kubernetesNetworkConfig": {"serviceIpv4Cidr": "172.20.0.0/16", **given.get("kubernetesNetworkConfig", {})},
            "logging": given.get("logging", _logging([])),
            "identity": {"oidc": {"issuer": f"https://oidc.eks.{REGION}.amazonaws.com/id/{name}"}},
            "endpoint": f"https://{name}.eks.amazonaws.com",
            "certificateAuthority": {"data": "Y2VydGlmaWNhdGU="},
            "encryptionConfig": given.get("encryptionConfig", []),
            "accessConfig": {"authenticationMode": access["authenticationMode"]},
            "upgradePolicy": given.get("upgradePolicy", {"supportType": "EXTENDED"}),
            "deletionProtection": given.get("deletionProtection", False),
            "tags": given.get("tags", {}),
        }
        return {"cluster": self._create("cluster", name, "", body, given["clientRequestToken"])}

    def describe_cluster(self, given: Body) -> Body:
        return {"cluster": self.look("cluster", given["name"])}

    def list_clusters(self, given: Body) -> Body:
        return self._listed("clusters", [cluster for kind, cluster, _name in self.things if kind == "cluster"], given)

    def delete_cluster(self, given: Body) -> Body:
        cluster = self.thing("cluster", given["name"])
        if cluster.body["deletionProtection"]:
            raise Refused("InvalidRequestException", "Cluster has deletion protection enabled")
        for kind, words in (("nodegroup", "nodegroups"), ("profile", "Fargate profiles")):
            if self._in(kind, given["name"]):
                raise Refused("ResourceInUseException", f"Cluster has {words} attached", 409)
        for key in [key for key in self.things if key[1] == given["name"] and key[0] != "cluster"]:
            del self.things[key]
        return {"cluster": self._delete("cluster", given["name"])}

    def update_cluster_version(self, given: Body) -> Body:
        cluster = self.thing("cluster", given["name"])
        has, wanted = cluster.body["version"], given["version"]
        if int(wanted[2:]) - int(has[2:]) != 1:
            message = f"Unsupported Kubernetes minor version update from {has} to {wanted}"
            raise Refused("InvalidParameterException", message)
        for name in self._in("nodegroup", given["name"]):
            if self.thing("nodegroup", given["name"], name).body["version"] != has:
                message = f"Nodegroup(s) {name} must be updated to match cluster version {has}"
                raise Refused("InvalidRequestException", message)
        return self._start(
            "UpdateClusterVersion", cluster, "VersionUpdate", given, lambda: cluster.body.update(version=wanted)
        )

    def update_cluster_config(self, given: Body) -> Body:
        cluster = self.thing("cluster", given["name"])
        changes = {name: value for name, value in given.items() if name not in {"name", "clientRequestToken"}}
        network = changes.get("resourcesVpcConfig", {})
        if len(changes) != 1 or (
            {"subnetIds", "securityGroupIds"} & set(network) and "endpointPublicAccess" in network
        ):
            raise Refused("InvalidParameterException", "Only one type of update can be allowed.")
        (name, value), *_rest = changes.items()
        new = {**cluster.body[name], **value} if isinstance(value, dict) else value
        if new == cluster.body[name]:
            raise Refused("InvalidParameterException", "Cluster is already at the desired configuration")
        if name == "accessConfig":
            modes = [MODES.index(each["authenticationMode"]) for each in (cluster.body[name], new)]
            if modes[1] - modes[0] != 1:
                raise Refused("InvalidParameterException", f"Unsupported authentication mode update to {new}")
        return self._start(
            "UpdateClusterConfig", cluster, "ConfigUpdate", given, lambda: cluster.body.update({name: new})
        )

    def associate_encryption_config(self, given: Body) -> Body:
        cluster = self.thing("cluster", given["clusterName"])
        if cluster.body["encryptionConfig"]:
            raise Refused("InvalidRequestException", "Cluster already has encryption configuration")
        return self._start(
            "AssociateEncryptionConfig",
            cluster,
            "AssociateEncryptionConfig",
            given,
            lambda: cluster.body.update(encryptionConfig=given["encryptionConfig"]),
        )

    def _ready_cluster(self, name: str) -> Thing:
        cluster = self.thing("cluster", name)
        if cluster.status in {"CREATING", "DELETING", "FAILED"}:
            raise Refused("InvalidRequestException", f"Cluster '{name}' is not in ACTIVE status")
        return cluster

    def create_nodegroup(self, given: Body) -> Body:
        cluster, name = given["clusterName"], given["nodegroupName"]
        of_cluster = self._ready_cluster(cluster)
        template = given.get("launchTemplate")
        if template and "diskSize" in given:
            raise Refused("InvalidParameterException", "Disk size must be specified within the launch template.")
        scaling = {"minSize": 1, "maxSize": 2, "desiredSize": 2, **given.get("scalingConfig", {})}
        _check_sizes(scaling)
        body = {
            "nodegroupName": name,
            "nodegroupArn": self._arn(f"nodegroup/{cluster}/{name}/{self._number()}"),
            "clusterName": cluster,
            "version": given.get("version", of_cluster.body["version"]),
            "releaseVersion": given.get("releaseVersion", f"{of_cluster.body['version']}.0-20260101"),
            "createdAt": NOW,
            "modifiedAt": NOW,
            "capacityType": given.get("capacityType", "ON_DEMAND"),
            "scalingConfig": scaling,
            "instanceTypes": given.get("instanceTypes", ["t3.medium"]),
            "subnets": given["subnets"],
            "amiType": given.get("amiType", "CUSTOM" if template else "AL2023_x86_64_STANDARD"),
            "nodeRole": given["nodeRole"],
            "labels": given.get("labels", {}),
            "taints": given.get("taints", []),
            "resources": {"autoScalingGroups": [{"name": f"eks-{name}"}]},
            "updateConfig": given.get("updateConfig", {"maxUnavailable": 1}),
            "tags": given.get("tags", {}),
            **(
                {"launchTemplate": {"version": "1", **template}}
                if template
                else {"diskSize": given.get("diskSize", 20)}
            ),
        }
        return {"nodegroup": self._create("nodegroup", cluster, name, body, given["clientRequestToken"])}

    def describe_nodegroup(self, given: Body) -> Body:
        return {"nodegroup": self.look("nodegroup", given["clusterName"], given["nodegroupName"])}

    def list_nodegroups(self, given: Body) -> Body:
        return self._listed("nodegroups", self._in("nodegroup", given["clusterName"]), given)

    def delete_nodegroup(self, given: Body) -> Body:
        return {"nodegroup": self._delete("nodegroup", given["clusterName"], given["nodegroupName"])}

    def update_nodegroup_config(self, given: Body) -> Body:
        group = self.thing("nodegroup", given["clusterName"], given["nodegroupName"])
        _check_sizes({**group.body["scalingConfig"], **given.get("scalingConfig", {})})

        def effect() -> None:
            body, labels, taints = group.body, given.get("labels", {}), given.get("taints", {})
            body["scalingConfig"] |= given.get("scalingConfig", {})
            body["updateConfig"] = given.get("updateConfig", body["updateConfig"])
            body["labels"] |= labels.get("addOrUpdateLabels", {})
            for name in labels.get("removeLabels", []):
                del body["labels"][name]
            new, gone = taints.get("addOrUpdateTaints", []), taints.get("removeTaints", [])
            touched = {(taint["key"], taint["effect"]) for taint in (*new, *gone)}
            kept = [taint for taint in body["taints"] if (taint["key"], taint["effect"]) not in touched]
            body["taints"] = [*kept, *new]

        return self._start("UpdateNodegroupConfig", group, "ConfigUpdate", given, effect)

    def update_nodegroup_version(self, given: Body) -> Body:
        group = self.thing("nodegroup", given["clusterName"], given["nodegroupName"])
        template, has = given.get("launchTemplate"), group.body.get("launchTemplate")
        if template and (not has or template["id"] != has["id"]):
            raise Refused("InvalidParameterException", "You cannot specify a different launch template.")
        cluster = self.thing("cluster", given["clusterName"]).body["version"]
        version = given.get("version", cluster)
        if version not in {cluster, group.body["version"]}:
            raise Refused("InvalidParameterException", f"Requested version {version} is not valid")

        def effect() -> None:
            group.body["version"] = version
            group.body["releaseVersion"] = given.get("releaseVersion", f"{version}.1-20260601")
            if template:
                group.body["launchTemplate"] = template

        return self._start("UpdateNodegroupVersion", group, "VersionUpdate", given, effect)

    def create_fargate_profile(self, given: Body) -> Body:
        cluster, name = given["clusterName"], given["fargateProfileName"]
        self._ready_cluster(cluster)
        self._check_queue(cluster, name)
        body = {
            "fargateProfileName": name,
            "fargateProfileArn": self._arn(f"fargateprofile/{cluster}/{name}/{self._number()}"),
            "clusterName": cluster,
            "createdAt": NOW,
            "podExecutionRoleArn": given["podExecutionRoleArn"],
            "subnets": given["subnets"],
            "selectors": given["selectors"],
            "tags": given.get("tags", {}),
        }
        return {"fargateProfile": self._create("profile", cluster, name, body, given["clientRequestToken"])}

    def _check_queue(self, cluster: str, name: str) -> None:
        for other in self._in("profile", cluster):
            busy = self.thing("profile", cluster, other)
            if other != name and busy.is_busy:
                message = f"cluster {cluster} currently has Fargate profile {other} in status {busy.status}"
                raise Refused("ResourceInUseException", f"Cannot touch Fargate Profile {name}: {message}", 409)

    def describe_fargate_profile(self, given: Body) -> Body:
        return {"fargateProfile": self.look("profile", given["clusterName"], given["fargateProfileName"])}

    def list_fargate_profiles(self, given: Body) -> Body:
        return self._listed("fargateProfileNames", self._in("profile", given["clusterName"]), given)

    def delete_fargate_profile(self, given: Body) -> Body:
        self._check_queue(given["clusterName"], given["fargateProfileName"])
        return {"fargateProfile": self._delete("profile", given["clusterName"], given["fargateProfileName"])}

    def create_addon(self, given: Body) -> Body:
        cluster, name = given["clusterName"], given["addonName"]
        of_cluster = self._ready_cluster(cluster)
        offered = [v.rstrip("*") for v in self.offered.get(name, {}).get(of_cluster.body["version"], [])]
        version = given.get("addonVersion") or (offered[0] if offered else "v0-unknown")
        if offered and version not in offered:
            raise Refused("InvalidParameterException", f"Addon version {version} is not supported")
        arn = self._arn(f"addon/{cluster}/{name}/{self._number()}")
        optional = ("serviceAccountRoleArn", "configurationValues")
        body = {
            "addonName": name,
            "clusterName": cluster,
            "addonVersion": version,
            "addonArn": arn,
            "createdAt": NOW,
            "podIdentityAssociations": self._owned(cluster, arn, given.get("podIdentityAssociations", [])),
            "tags": given.get("tags", {}),
            **{word: given[word] for word in optional if word in given},
        }
        return {"addon": self._create("addon", cluster, name, body, given["clientRequestToken"])}

    def _owned(self, cluster: str, owner: str, wanted: list[Body]) -> list[str]:
        for key in [k for k, t in self.things.items() if k[0] == "association" and t.body.get("ownerArn") == owner]:
            del self.things[key]
        made = [self._associate(cluster, {**item, "namespace": "kube-system", "ownerArn": owner}) for item in wanted]
        return [item["associationArn"] for item in made]

    def describe_addon(self, given: Body) -> Body:
        return {"addon": self.look("addon", given["clusterName"], given["addonName"])}

    def list_addons(self, given: Body) -> Body:
        return self._listed("addons", self._in("addon", given["clusterName"]), given)

    def update_addon(self, given: Body) -> Body:
        addon = self.thing("addon", given["clusterName"], given["addonName"])

        def effect() -> None:
            addon.body |= {
                word: given[word] for word in ("addonVersion", "configurationValues") if given.get(word) is not None
            }
            # A role that is not passed is not set.
            addon.body.pop("serviceAccountRoleArn", None)
            addon.body |= {word: given[word] for word in ("serviceAccountRoleArn",) if word in given}
            if "podIdentityAssociations" in given:
                owned = self._owned(given["clusterName"], addon.body["addonArn"], given["podIdentityAssociations"])
                addon.body["podIdentityAssociations"] = owned
            addon.body["health"] = {"issues": []}

        if addon.status == "DEGRADED":
            addon.status = "ACTIVE"
        return self._start("UpdateAddon", addon, "AddonUpdate", given, effect)

    def delete_addon(self, given: Body) -> Body:
        addon = self.thing("addon", given["clusterName"], given["addonName"])
        self._owned(given["clusterName"], addon.body["addonArn"], [])
        return {"addon": self._delete("addon", given["clusterName"], given["addonName"])}

    def describe_addon_versions(self, given: Body) -> Body:
        version, only = given["kubernetesVersion"], given.get("addonName")
        # Addons of other owners are matched by name alone.
        names = [n for n in self.offered if n == only or (only is None and not n.startswith("market"))]
        addons = [
            {
                "addonName": name,
                "addonVersions": [
                    {
                        "addonVersion": offered.rstrip("*"),
                        "compatibilities": [{"clusterVersion": version, "defaultVersion": offered.endswith("*")}],
                    }
                    for offered in self.offered[name].get(version, [])
                ],
            }
            for name in names
        ]
        return self._listed("addons", addons, given)

    def create_access_entry(self, given: Body) -> Body:
        cluster, principal = given["clusterName"], given["principalArn"]
        if self._ready_cluster(cluster).body["accessConfig"]["authenticationMode"] == "CONFIG_MAP":
            raise Refused("InvalidRequestException", "The cluster's authentication mode must be set to API")
        body = {
            "clusterName": cluster,
            "principalArn": principal,
            "kubernetesGroups": given.get("kubernetesGroups", []),
            "accessEntryArn": self._arn(f"access-entry/{cluster}/{self._number()}"),
            "createdAt": NOW,
            "tags": given.get("tags", {}),
            "type": given.get("type", "STANDARD"),
        }
        self._create("entry", cluster, principal, body, given["clientRequestToken"])
        return {"accessEntry": body}

    def describe_access_entry(self, given: Body) -> Body:
        body = self.look("entry", given["clusterName"], given["principalArn"])
        return {"accessEntry": {name: value for name, value in body.items() if name not in {"status", "health"}}}

    def list_access_entries(self, given: Body) -> Body:
        return self._listed("accessEntries", self._in("entry", given["clusterName"]), given)

    def update_access_entry(self, given: Body) -> Body:
        entry = self.thing("entry", given["clusterName"], given["principalArn"])
        entry.body["kubernetesGroups"] = given["kubernetesGroups"]
        return {}

    def delete_access_entry(self, given: Body) -> Body:
        self.thing("entry", given["clusterName"], given["principalArn"])
        del self.things["entry", given["clusterName"], given["principalArn"]]
        self.policies.pop((given["clusterName"], given["principalArn"]), None)
        return {}

    def associate_access_policy(self, given: Body) -> Body:
        entry = self.thing("entry", given["clusterName"], given["principalArn"])
        if entry.body["type"] not in {"STANDARD", "EC2"}:
            raise Refused("InvalidRequestException", "not allowed for this type of entry")
        policies = self.policies.setdefault((given["clusterName"], given["principalArn"]), {})
        policies[given["policyArn"]] = {"policyArn": given["policyArn"], "accessScope": given["accessScope"]}
        return {}

    def disassociate_access_policy(self, given: Body) -> Body:
        del self.policies[given["clusterName"], given["principalArn"]][given["policyArn"]]
        return {}

    def list_associated_access_policies(self, given: Body) -> Body:
        self.thing("entry", given["clusterName"], given["principalArn"])
        policies = self.policies.get((given["clusterName"], given["principalArn"]), {})
        return self._listed("associatedAccessPolicies", policies.values(), given)

    def create_pod_identity_association(self, given: Body) -> Body:
        self._ready_cluster(given["clusterName"])
        for thing in self._associations(given["clusterName"]):
            if all(thing.body[word] == given[word] for word in ("namespace", "serviceAccount")):
                raise Refused("ResourceInUseException", "Association already exists", 409)
        return {"association": self._associate(given["clusterName"], given)}

    def _associate(self, cluster: str, given: Body) -> Body:
        id_ = f"a-{self._number()}"
        words = ("namespace", "serviceAccount", "roleArn", "ownerArn")
        body = {
            "clusterName": cluster,
            "associationId": id_,
            "associationArn": self._arn(f"podidentityassociation/{cluster}/{id_}"),
            "tags": given.get("tags", {}),
            **{word: given[word] for word in words if word in given},
        }
        self.things["association", cluster, id_] = Thing(body)
        return body

    def _associations(self, cluster: str) -> list[Thing]:
        return [self.thing("association", cluster, name) for name in self._in("association", cluster)]

    def list_pod_identity_associations(self, given: Body) -> Body:
        kept = ("clusterName", "namespace", "serviceAccount", "associationArn", "associationId", "ownerArn")
        summaries = [
            {word: thing.body[word] for word in kept if word in thing.body}
            for thing in self._associations(given["clusterName"])
            if all(thing.body[word] == given.get(word, thing.body[word]) for word in ("namespace", "serviceAccount"))
        ]
        return self._listed("associations", summaries, given)

    def describe_pod_identity_association(self, given: Body) -> Body:
        return {"association": self.thing("association", given["clusterName"], given["associationId"]).body}

    def update_pod_identity_association(self, given: Body) -> Body:
        found = self.thing("association", given["clusterName"], given["associationId"])
        found.body["roleArn"] = given["roleArn"]
        return {"association": found.body}

    def delete_pod_identity_association(self, given: Body) -> Body:
        found = self.thing("association", given["clusterName"], given["associationId"])
        del self.things["association", given["clusterName"], given["associationId"]]
        return {"association": found.body}

    def _tagged(self, arn: str) -> Thing:
        words = ("arn", "nodegroupArn", "fargateProfileArn", "addonArn", "accessEntryArn", "associationArn")
        return next(t for t in self.things.values() if arn in {t.body.get(word) for word in words})

    def tag_resource(self, given: Body) -> Body:
        self._tagged(given["resourceArn"]).body["tags"].update(given["tags"])
        return {}

    def untag_resource(self, given: Body) -> Body:
        tags = self._tagged(given["resourceArn"]).body["tags"]
        for key in given["tagKeys"]:
            tags.pop(key, None)
        return {}


def _shown(update: Body) -> Body:
    return {name: value for name, value in update.items() if name != "token"}


def _logging(types: list[str]) -> Body:
    rest = [name for name in LOG_TYPES if name not in types]
    return {"clusterLogging": [{"types": types, "enabled": True}, {"types": rest, "enabled": False}]}


def _check_sizes(scaling: Mapping[str, int]) -> None:
    if not scaling["minSize"] <= scaling["desiredSize"] <= scaling["maxSize"]:
        message = (
            f"desired capacity {scaling['desiredSize']} must be between {scaling['minSize']}, {scaling['maxSize']}"
        )
        raise Refused("InvalidParameterException", message)


class Nowhere:
    """Replaces an emulator where the process answers every call."""

    name = "nowhere"

    def session(self, **changes: Any) -> Session:
        given = {"region": REGION, "access_key": "AKIATESTTESTTEST", "secret_key": "secret"}
        return Session(Connection(**{**given, "endpoint_url": "http://127.0.0.1:9", **changes}))


def make_lab(service: Eks) -> Lab:
    """Return a laboratory whose EKS is `service`, without any other service."""
    return Lab(cast(Emulator, Nowhere()), wire=Wire(service))


def the_service(lab: Lab) -> Eks:
    """Return the EKS of a laboratory that `make_lab` created."""
    service = lab.wire.behaviour
    assert isinstance(service, Eks)
    return service


def edit_tags_of(kind: str) -> Callable[[Lab, str, dict[str, str], list[str]], None]:
    """Return a function that edits the tags of objects of a kind manually."""

    def edit(lab: Lab, id_: str, tags: dict[str, str], removed: list[str]) -> None:
        cluster, _slash, name = id_.partition("/")
        has = the_service(lab).thing(kind, cluster, name).body["tags"]
        has.update(tags)
        for key in removed:
            del has[key]

    return edit


def vanish_as(kind: str) -> Callable[[Lab, str], None]:
    """Return a function that deletes an object of a kind outside of the stack."""

    def vanish(lab: Lab, id_: str) -> None:
        cluster, _slash, name = id_.partition("/")
        del the_service(lab).things[kind, cluster, name]

    return vanish


def assert_survives_every_crash(
    described: Mapping[str, Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Kill a run after each of its calls in turn. The next run reaches the same state as an undisturbed one."""
    undisturbed = _world(described, before, None)
    calls = 0
    while True:
        calls += 1
        killed = Eks(slowness=1)
        assert _world(described, before, calls, killed) == undisturbed, f"killed after call {calls}"
        if killed.survived:
            return


def _world(
    described: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Mapping[str, Any]] | None,
    calls: int | None,
    service: Eks | None = None,
) -> dict[tuple[str, str, str], Body]:
    service = service or Eks(slowness=1)
    if before is not None:
        make_lab(service).apply(before)
    service.calls_left = calls
    with contextlib.suppress(ReadError):
        service.survived = make_lab(service).run(described).report.complete
    service.calls_left = None
    second = make_lab(service).run(described)
    assert second.report.complete, failures(second.report)
    make_lab(service).assert_unchanged(described)
    return service.picture()
