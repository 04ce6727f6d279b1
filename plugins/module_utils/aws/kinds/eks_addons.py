# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS: addons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...engine.errors import UsedTokenError
from ...engine.resource import Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema
from ...engine.value import is_known
from .. import eks
from ..errors import CallError
from ..kind import TAGS, Actions, AwsKind, all_tags, document, given, owner_of, property_tags
from ..naming import addon_name_fault

# Addons of AWS; addons of the marketplace are requested by name.
_OWN = {"owners": ["aws"]}
_UNWELL = frozenset({"DEGRADED", "UPDATE_FAILED"})
# The addon is not offered for this Kubernetes version or in this region: EKS reports it again at the creation.
_NOT_OFFERED = ("ResourceNotFoundException", "InvalidParameterException", "InvalidRequestException")


class EksAddon(AwsKind):
    """Software in a cluster that EKS installs and updates."""

    name = "eks_addon"
    service = "eks"
    timeout_s = 1200.0
    failed_states = frozenset({"CREATE_FAILED", "UPDATE_FAILED"})
    schema = Schema(
        {
            "cluster_name": eks.CLUSTER_NAME,
            "name": Property(
                required=True, replace=True, check=addon_name_fault, purpose="Name in EKS's list of addons."
            ),
            "version": Property(
                computed=True,
                purpose="Version. If omitted, EKS's default for the cluster's version, kept while the cluster "
                "supports it.",
            ),
            "kubernetes_version": Property(
                owned_by="its cluster",
                check=eks.kubernetes_version,
                purpose="Kubernetes version for the choice of a version. The cluster's planned version if "
                "omitted. `${eks_cluster.NAME.version}` follows an upgrade in the same run.",
            ),
            "configuration_values": Property(
                "json", when_unset={}, purpose="Configuration, in the addon's schema in EKS."
            ),
            "service_account_role_arn": Property(
                purpose="ARN of the service account's role, by the cluster's OIDC provider."
            ),
            "pod_identity_associations": Property(
                "set",
                elements=Property(
                    "map",
                    fields={
                        "service_account": Property(required=True, purpose="Name of the service account."),
                        "role_arn": Property(required=True, purpose="ARN of its role."),
                    },
                ),
                purpose="Roles of service accounts, by pod identity.",
            ),
            "resolve_conflicts": Property(
                default="OVERWRITE",
                choices=("NONE", "OVERWRITE", "PRESERVE"),
                owned_by="each update",
                purpose="Treatment of fields that other clients changed in the cluster.",
            ),
            "tags": TAGS,
        },
        {"id": Output("`CLUSTER/NAME`."), "arn": Output("ARN.")},
        unique_by=("cluster_name", "name"),
    )
    actions = Actions(
        read=(
            "eks:DescribeAddon",
            "eks:DescribeAddonVersions",
            "eks:DescribeCluster",
            "eks:DescribePodIdentityAssociation",
        ),
        create=(
            "eks:CreateAddon",
            "eks:CreatePodIdentityAssociation",
            "eks:TagResource",
            "iam:GetRole",
            "iam:PassRole",
        ),
        update=(
            "eks:UpdateAddon",
            "eks:DescribeUpdate",
            "eks:CreatePodIdentityAssociation",
            "eks:UpdatePodIdentityAssociation",
            "eks:DeletePodIdentityAssociation",
            "eks:TagResource",
            "eks:UntagResource",
            "iam:GetRole",
            "iam:PassRole",
        ),
        delete=("eks:DeleteAddon", "eks:DeletePodIdentityAssociation"),
        list=("eks:ListClusters", "eks:ListAddons"),
    )

    def identify(self, desired: Mapping[str, Any]) -> str:
        return f"{desired['cluster_name']}/{desired['name']}"

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return eks.are_known(desired, "cluster_name", "name")

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("eks", "describe_addon", eks.ABSENT, **_place(id_))
        return self._actual(answer["addon"]) if answer else None

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        return eks.judged(super().read_all(subjects), subjects, frozenset({"CREATE_FAILED"}))

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return eks.owned_in_clusters(self.session, "list_addons", "addons", self.read, owner)

    def _actual(self, addon: Mapping[str, Any]) -> Actual:
        cluster, name, arn = addon["clusterName"], addon["addonName"], addon["addonArn"]
        tags = addon.get("tags") or {}
        properties = {
            "cluster_name": cluster,
            "name": name,
            "version": addon.get("addonVersion"),
            "configuration_values": addon.get("configurationValues") or {},
            "service_account_role_arn": addon.get("serviceAccountRoleArn") or None,
            "pod_identity_associations": self._associations(cluster, addon.get("podIdentityAssociations") or ()),
            "tags": property_tags(tags),
        }
        status = eks.status_of(addon["status"], addon.get("health"))
        id_ = f"{cluster}/{name}"
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), status, (arn,))

    def _associations(self, cluster: str, arns: Iterable[str]) -> list[dict[str, Any]]:
        """Return the associations of an addon, whose ARNs end with the ids of the associations."""

        def described(arn: str) -> dict[str, Any] | None:
            id_ = arn.rpartition("/")[2]
            answer = self.session.look(
                "eks", "describe_pod_identity_association", eks.ABSENT, clusterName=cluster, associationId=id_
            )
            found = answer["association"] if answer else None
            return found and {"service_account": found["serviceAccount"], "role_arn": found["roleArn"]}

        return [found for found in self.session.each(described, arns) if found]

    def choose(
        self, subjects: Sequence[Subject], found: Mapping[str, Sequence[Actual]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return versions that the description does not set: the installed one while the cluster supports it."""

        def version(subject: Subject) -> str | None:
            kubernetes = self._kubernetes(subject.desired)
            if kubernetes is None:
                return None
            installed = [actual.properties["version"] for actual in found.get(subject.address, ())]
            offered = self._offered(subject.desired["name"], kubernetes)
            return installed[0] if installed and (installed[0] in offered or not offered) else _default(offered)

        open_ = [s for s in subjects if "version" not in s.desired and self.is_identified(s.desired)]
        chosen = zip(open_, self.session.each(version, open_), strict=True)
        return {subject.address: {"version": found_version} for subject, found_version in chosen if found_version}

    def _kubernetes(self, desired: Mapping[str, Any]) -> str | None:
        """Return the Kubernetes version for the choice, or None while it is unknown."""
        told, cluster = desired["kubernetes_version"], desired["cluster_name"]
        if told is not None:
            return str(told) if is_known(told) else None
        version = self.session.once(f"eks version of {cluster}", lambda: (eks.cluster_version(self.session, cluster),))
        return version[0]

    def _offered(self, name: str, kubernetes: str) -> dict[str, bool]:
        """Return the versions of an addon for a Kubernetes version, newest first; true is the default."""

        def listed(**which: Any) -> dict[str, dict[str, bool]] | None:
            try:
                addons = self.session.pages(
                    "eks", "describe_addon_versions", "addons", kubernetesVersion=kubernetes, **which
                )
            except CallError as error:
                if error.is_one_of(_NOT_OFFERED):
                    return None
                raise
            return {addon["addonName"]: _versions(addon, kubernetes) for addon in addons}

        # One listing for all of AWS's addons. Without a listing, requests by name would fail as well.
        own = self.session.once(f"eks addons for {kubernetes}", lambda: listed(**_OWN))
        if own is None:
            return {}
        return own.get(name) or (listed(addonName=name) or {}).get(name, {})

    def create(self, request: Request) -> Actual:
        id_, wanted = self.identify(request.desired), request.desired

        def made() -> dict[str, Any] | None:
            actual = self.read(id_)
            return {"addon": {"status": "CREATING"}} if actual and actual.owner == request.owner else None

        answer = self.session.call_once(
            "eks",
            "create_addon",
            made,
            retry_on=eks.NEW_ROLE,
            clientRequestToken=request.token,
            tags=all_tags(request),
            podIdentityAssociations=_associations(wanted),
            **_place(id_),
            **self._settings(wanted, wanted.get("version") or self._default_version(wanted)),
        )
        if answer["addon"]["status"] == "DELETING":
            raise UsedTokenError(request.token)
        return Actual(id_, wanted, {"id": id_}, request.owner, answer["addon"]["status"])

    def _default_version(self, wanted: Mapping[str, Any]) -> str | None:
        """Return the version for a cluster that did not exist at plan time."""
        told = wanted["kubernetes_version"]
        kubernetes = told or eks.cluster_version(self.session, wanted["cluster_name"])
        return _default(self._offered(wanted["name"], kubernetes)) if kubernetes else None

    def _settings(self, wanted: Mapping[str, Any], version: str | None) -> dict[str, Any]:
        configuration = wanted["configuration_values"]
        return given(
            {
                "addonVersion": version,
                "configurationValues": document(configuration) if configuration else None,
                "serviceAccountRoleArn": wanted["service_account_role_arn"],
                "resolveConflicts": wanted["resolve_conflicts"],
            }
        )

    def wait(self, request: Request) -> Actual:
        """Wait until the addon is healthy. Without nodes it may stay degraded for a while."""
        if eks.is_to_be_changed(self, request, _UNWELL):
            return request.existing
        return super().wait(request)

    def update(self, request: Request) -> Actual:
        """Apply all changes in one update with the complete settings: EKS removes an omitted role."""
        existing, wanted = request.existing, request.desired
        changes = {name for name in _UPDATED if request.changed(name)}
        if changes:
            settings = self._settings(wanted, wanted.get("version") or existing.properties.get("version"))
            if "configuration_values" in changes:
                settings["configurationValues"] = document(wanted["configuration_values"])
            if "pod_identity_associations" in changes:
                settings["podIdentityAssociations"] = _associations(wanted)
            place = _place(existing.id)
            found_by = {"name": place["clusterName"], "addonName": place["addonName"]}
            what = f"{request.address} ({existing.id})"
            eks.run_update(self.session, "update_addon", what, self.timeout_s, found_by, **place, **settings)
        eks.write_tags(self.session, request)
        return existing

    def delete(self, request: Request) -> None:
        eks.delete(self.session, request, "delete_addon", self.timeout_s, **_place(request.existing.id))

    def wait_deleted(self, request: Request) -> None:
        eks.wait_gone(self, request)


_UPDATED = ("version", "configuration_values", "service_account_role_arn", "pod_identity_associations")


def _place(id_: str) -> dict[str, str]:
    cluster, _slash, name = id_.partition("/")
    return {"clusterName": cluster, "addonName": name}


def _associations(wanted: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {"serviceAccount": item["service_account"], "roleArn": item["role_arn"]}
        for item in wanted["pod_identity_associations"] or ()
    ]


def _versions(addon: Mapping[str, Any], kubernetes: str) -> dict[str, bool]:
    return {
        version["addonVersion"]: bool(fit.get("defaultVersion"))
        for version in addon.get("addonVersions") or ()
        for fit in version.get("compatibilities") or ()
        if fit.get("clusterVersion") == kubernetes
    }


def _default(offered: Mapping[str, bool]) -> str | None:
    """Return the default version of EKS, else the newest."""
    return next((version for version, is_default in offered.items() if is_default), next(iter(offered), None))
