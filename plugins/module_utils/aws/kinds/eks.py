# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS: clusters."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import Fault, RefusedError, UsedTokenError
from ...engine.resource import Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import is_known
from .. import eks
from ..kind import TAGS, Actions, AwsKind, all_tags, given, owner_of, property_tags
from ..naming import cluster_name_fault

LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
# Each can be changed only to the next one.
_MODES = ("CONFIG_MAP", "API_AND_CONFIG_MAP", "API")
_NETWORK = ("subnet_ids", "security_group_ids")
_UNTOLD = ("authentication_mode", "support_type", "deletion_protection")
_ENDPOINT = ("endpoint_private_access", "endpoint_public_access", "public_access_cidrs")


def _cidr_check(value: str) -> str | None:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        return f"{value!r} is not a network: {error}"
    return None


def _rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    yield from _shape_rules(desired)
    if actual is not None:
        yield from _version_rules(desired.get("version"), actual.get("version"))
        yield from _mode_rules(desired.get("authentication_mode"), actual.get("authentication_mode"))
        yield from _encryption_rules(desired.get("encryption_key_arn"), actual.get("encryption_key_arn"))


def _shape_rules(desired: Mapping[str, Any]) -> Iterator[ValidationError]:
    public, cidrs = desired.get("endpoint_public_access"), desired.get("public_access_cidrs")
    if public is False and desired.get("endpoint_private_access") is False:
        yield "endpoint_private_access", "without it and without public access nothing reaches the cluster", "set one"
    if public is True and not cidrs:
        remedy = "name the networks that may reach it, or leave endpoint_public_access false"
        yield "public_access_cidrs", "without them EKS opens the endpoint to 0.0.0.0/0", remedy
    if public is False and cidrs:
        remedy = "set endpoint_public_access: true, or leave them out"
        yield "public_access_cidrs", "has no effect while the endpoint is private", remedy
    subnets = desired.get("subnet_ids")
    if isinstance(subnets, list) and is_known(subnets) and len(subnets) < 2:
        yield "subnet_ids", "a cluster needs at least two subnets", "name subnets in two availability zones"


def _version_rules(wanted: Any, has: Any) -> Iterator[ValidationError]:
    """Yield an error for downgrades, and for upgrades by several minor versions: nodes and addons must follow each."""
    if not all(isinstance(version, str) and eks.KUBERNETES_VERSION.fullmatch(version) for version in (wanted, has)):
        return
    step = _minor(wanted) - _minor(has)
    if step < 0:
        yield "version", f"the cluster has {has}, and EKS does not go back to {wanted}", f'set version: "{has}"'
    elif step > 1:
        following = f"1.{_minor(has) + 1}"
        remedy = f'set version: "{following}" and deploy, so that nodes and addons follow; then the next one'
        yield "version", f"the cluster has {has}, and EKS upgrades one minor version at a time", remedy


def _minor(version: str) -> int:
    return int(version.partition(".")[2])


def _mode_rules(wanted: Any, has: Any) -> Iterator[ValidationError]:
    if wanted in _MODES and has in _MODES and _MODES.index(wanted) < _MODES.index(has):
        message = f"the cluster has {has}, and EKS does not go back to {wanted}"
        yield "authentication_mode", message, f"set authentication_mode: {has}"


def _encryption_rules(wanted: Any, has: Any) -> Iterator[ValidationError]:
    if has is not None and is_known(wanted) and wanted != has:
        message = f"the cluster's secrets are encrypted with {has}, which EKS can neither change nor remove"
        yield "encryption_key_arn", message, "name that key"


class EksCluster(AwsKind):
    """A Kubernetes control plane."""

    name = "eks_cluster"
    service = "eks"
    timeout_s = 3600.0
    interval_s = 15.0
    failed_states = frozenset({"FAILED"})
    schema = Schema(
        {
            "name": Property(
                required=True, replace=True, check=cluster_name_fault, purpose="Name, unique in the account and region."
            ),
            "version": Property(
                computed=True,
                check=eks.kubernetes_version,
                purpose="Minor version of Kubernetes, in quotes. Upgrades go one version at a time. EKS's "
                "default at creation.",
            ),
            "role_arn": Property(required=True, replace=True, purpose="ARN of the control plane's role."),
            "subnet_ids": Property(
                "set",
                required=True,
                elements=Property("string"),
                purpose="IDs of subnets for the control plane's interfaces, in at least two zones of one VPC.",
            ),
            "security_group_ids": Property(
                "set",
                elements=Property("string"),
                purpose="IDs of additional security groups, besides the group that EKS creates.",
            ),
            "endpoint_private_access": Property(
                "boolean", default=True, purpose="Whether to serve the API at private addresses in the VPC."
            ),
            "endpoint_public_access": Property(
                "boolean", default=False, purpose="Whether to serve the API at a public address."
            ),
            "public_access_cidrs": Property(
                "set",
                elements=Property("string", check=_cidr_check),
                purpose="Networks with access to the public address.",
            ),
            "encryption_key_arn": Property(
                purpose="ARN of the key that encrypts Kubernetes Secrets. It can be added later, but not changed."
            ),
            "logging": Property(
                "set",
                elements=Property("string", choices=LOG_TYPES),
                purpose="Logs of the control plane to send to CloudWatch.",
            ),
            "authentication_mode": Property(
                default="API",
                choices=_MODES,
                purpose="Source of permissions: access entries, the ConfigMap, or both. It can only change "
                "towards API.",
            ),
            "bootstrap_cluster_creator_admin_permissions": Property(
                "boolean",
                owned_by="EKS",
                purpose="Whether the creator becomes an administrator of the cluster. Creation only.",
            ),
            "bootstrap_self_managed_addons": Property(
                "boolean",
                owned_by="EKS",
                purpose="Whether to install unmanaged network addons. Creation only.",
            ),
            "service_ipv4_cidr": Property(
                computed=True, replace=True, check=_cidr_check, purpose="Network of Kubernetes Services."
            ),
            "support_type": Property(
                default="EXTENDED",
                choices=("STANDARD", "EXTENDED"),
                purpose="At the end of standard support: an upgrade by EKS, or extended support at a higher price.",
            ),
            "deletion_protection": Property("boolean", default=False, purpose="Whether EKS refuses every deletion."),
            "tags": TAGS,
        },
        {
            "id": Output("Name."),
            "arn": Output("ARN."),
            "endpoint": Output("URL of the API server."),
            "certificate_authority_data": Output("Certificate authority of the API server, in base64."),
            "oidc_issuer": Output("Issuer URL of service account tokens."),
            "cluster_security_group_id": Output(
                "ID of the security group that EKS created for control plane and nodes."
            ),
        },
        # The deletion removes all data of Kubernetes: workloads, secrets, volume claims.
        protected=True,
        locked_by="deletion_protection",
        unique_by=("name",),
        check=_rules,
    )
    actions = Actions(
        read=("eks:DescribeCluster",),
        create=(
            "eks:CreateCluster",
            "eks:TagResource",
            "iam:PassRole",
            "iam:CreateServiceLinkedRole",
            "kms:CreateGrant",
            "kms:DescribeKey",
        ),
        update=(
            "eks:UpdateClusterVersion",
            "eks:UpdateClusterConfig",
            "eks:AssociateEncryptionConfig",
            "eks:DescribeUpdate",
            "eks:TagResource",
            "eks:UntagResource",
            "kms:CreateGrant",
            "kms:DescribeKey",
        ),
        delete=("eks:DeleteCluster",),
        list=("eks:ListClusters",),
    )

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("eks", "describe_cluster", eks.ABSENT, name=id_)
        return _actual(answer["cluster"]) if answer else None

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        return eks.judged(super().read_all(subjects), subjects, self.failed_states, _UNTOLD)

    def wait(self, request: Request) -> Actual:
        return eks.as_mentioned(super().wait(request), request.desired, _UNTOLD)

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        actuals = self.session.each(self.read, eks.cluster_names(self.session))
        return [actual for actual in actuals if actual and actual.owner and actual.owner.shares_stack_with(owner)]

    def create(self, request: Request) -> Actual:
        name = request.desired["name"]

        def made() -> dict[str, Any] | None:
            actual = self.read(name)
            return {"cluster": {"status": "CREATING"}} if actual and actual.owner == request.owner else None

        answer = self.session.call_once(
            "eks",
            "create_cluster",
            made,
            retry_on=eks.NEW_ROLE,
            clientRequestToken=request.token,
            tags=all_tags(request),
            **_creation(request.desired),
        )
        if answer["cluster"]["status"] == "DELETING":
            raise UsedTokenError(request.token)
        return Actual(name, request.desired, {"id": name}, request.owner, answer["cluster"]["status"])

    def update(self, request: Request) -> Actual:
        """Apply updates one after the other: EKS runs one at a time, and each changes one aspect."""
        wanted = request.desired
        self._check(request)
        # The version comes first: a version at the end of its support restricts other values.
        if request.changed("version"):
            self._run(request, "update_cluster_version", name=wanted["name"], version=wanted["version"])
        if request.changed("encryption_key_arn"):
            encryption = _encryption(wanted["encryption_key_arn"])
            self._run(request, "associate_encryption_config", clusterName=wanted["name"], encryptionConfig=encryption)
        for configuration in _configurations(request):
            self._run(request, "update_cluster_config", name=wanted["name"], **configuration)
        eks.write_tags(self.session, request)
        return request.existing

    def _check(self, request: Request) -> None:
        """Raise RefusedError for invalid values that were unknown at plan time."""
        faults = [
            Fault(request.address, *validation_error)
            for validation_error in _rules(request.desired, request.existing.properties)
        ]
        if faults:
            raise RefusedError(faults)

    def _run(self, request: Request, operation: str, **parameters: Any) -> None:
        what = f"{request.address} ({request.existing.id})"
        eks.run_update(self.session, operation, what, self.timeout_s, {"name": request.existing.id}, **parameters)

    def delete(self, request: Request) -> None:
        eks.delete(self.session, request, "delete_cluster", self.timeout_s, name=request.existing.id)

    def wait_deleted(self, request: Request) -> None:
        eks.wait_gone(self, request)


def _actual(cluster: Mapping[str, Any]) -> Actual:
    network, tags = cluster.get("resourcesVpcConfig") or {}, cluster.get("tags") or {}
    public = network.get("endpointPublicAccess", True)
    properties = {
        "name": cluster["name"],
        "version": cluster.get("version"),
        "role_arn": cluster.get("roleArn"),
        "subnet_ids": network.get("subnetIds"),
        "security_group_ids": network.get("securityGroupIds"),
        "endpoint_private_access": network.get("endpointPrivateAccess", False),
        "endpoint_public_access": public,
        # EKS returns the list even when it has no effect.
        "public_access_cidrs": network.get("publicAccessCidrs") if public else None,
        "encryption_key_arn": _key_of(cluster),
        "logging": _log_types(cluster),
        "authentication_mode": (cluster.get("accessConfig") or {}).get("authenticationMode"),
        "service_ipv4_cidr": (cluster.get("kubernetesNetworkConfig") or {}).get("serviceIpv4Cidr"),
        "support_type": (cluster.get("upgradePolicy") or {}).get("supportType"),
        "deletion_protection": cluster.get("deletionProtection"),
        "tags": property_tags(tags),
    }
    outputs = {
        "id": cluster["name"],
        "arn": cluster["arn"],
        "endpoint": cluster.get("endpoint"),
        "certificate_authority_data": (cluster.get("certificateAuthority") or {}).get("data"),
        "oidc_issuer": ((cluster.get("identity") or {}).get("oidc") or {}).get("issuer"),
        "cluster_security_group_id": network.get("clusterSecurityGroupId"),
    }
    status = eks.status_of(cluster["status"], cluster.get("health"))
    return Actual(cluster["name"], properties, outputs, owner_of(tags), status, (cluster["arn"],))


def _key_of(cluster: Mapping[str, Any]) -> str | None:
    keys = (item.get("provider", {}).get("keyArn") for item in cluster.get("encryptionConfig") or ())
    return next(filter(None, keys), None)


def _log_types(cluster: Mapping[str, Any]) -> list[str]:
    groups: Iterable[Mapping[str, Any]] = (cluster.get("logging") or {}).get("clusterLogging") or ()
    return [name for group in groups if group.get("enabled") for name in group.get("types") or ()]


def _creation(wanted: Mapping[str, Any]) -> dict[str, Any]:
    access = {
        "authenticationMode": wanted["authentication_mode"],
        "bootstrapClusterCreatorAdminPermissions": wanted["bootstrap_cluster_creator_admin_permissions"],
    }
    service_cidr = wanted.get("service_ipv4_cidr")
    key = wanted["encryption_key_arn"]
    return given(
        {
            "name": wanted["name"],
            "version": wanted.get("version"),
            "roleArn": wanted["role_arn"],
            "resourcesVpcConfig": {**_network(wanted), **_endpoint(wanted)},
            "kubernetesNetworkConfig": {"serviceIpv4Cidr": service_cidr} if service_cidr else None,
            "logging": _logging(wanted["logging"]) if wanted["logging"] else None,
            "encryptionConfig": _encryption(key) if key else None,
            "accessConfig": given(access),
            "bootstrapSelfManagedAddons": wanted["bootstrap_self_managed_addons"],
            "upgradePolicy": {"supportType": wanted["support_type"]},
            "deletionProtection": wanted["deletion_protection"] or None,
        }
    )


def _configurations(request: Request) -> Iterator[dict[str, Any]]:
    """Yield the parameters of the updates, one type of change each: EKS rejects combinations."""
    wanted = request.desired
    if request.changed("deletion_protection"):
        yield {"deletionProtection": wanted["deletion_protection"]}
    if request.changed("authentication_mode"):
        has = request.existing.properties.get("authentication_mode") or _MODES[0]
        for mode in _MODES[_MODES.index(has) + 1 : _MODES.index(wanted["authentication_mode"]) + 1]:
            yield {"accessConfig": {"authenticationMode": mode}}
    if request.changed("support_type"):
        yield {"upgradePolicy": {"supportType": wanted["support_type"]}}
    if request.changed("logging"):
        yield {"logging": _logging(wanted["logging"] or ())}
    if any(map(request.changed, _NETWORK)):
        yield {"resourcesVpcConfig": _network(wanted)}
    if any(map(request.changed, _ENDPOINT)):
        yield {"resourcesVpcConfig": _endpoint(wanted)}


def _network(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {"subnetIds": wanted["subnet_ids"], "securityGroupIds": wanted["security_group_ids"] or []}


def _endpoint(wanted: Mapping[str, Any]) -> dict[str, Any]:
    access = {
        "endpointPrivateAccess": wanted["endpoint_private_access"],
        "endpointPublicAccess": wanted["endpoint_public_access"],
        "publicAccessCidrs": wanted["public_access_cidrs"],
    }
    return given(access)


def _encryption(key_arn: str) -> list[dict[str, Any]]:
    return [{"resources": ["secrets"], "provider": {"keyArn": key_arn}}]


def _logging(types: Iterable[str]) -> dict[str, Any]:
    enabled = sorted(types)
    groups = {True: enabled, False: [name for name in LOG_TYPES if name not in enabled]}
    return {"clusterLogging": [{"types": names, "enabled": on} for on, names in groups.items() if names]}
