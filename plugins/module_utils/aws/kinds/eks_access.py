# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS: access of identities to a cluster, and of its pods to AWS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.resource import LATER, READY, Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import is_known
from .. import eks
from ..kind import TAGS, Actions, AwsKind, all_tags, given, owner_of, property_tags
from ..naming import account_name_fault, arn_fault, namespace_fault

_STANDARD = "STANDARD"
_TYPES = (_STANDARD, "EC2_LINUX", "EC2_WINDOWS", "EC2", "FARGATE_LINUX", "HYBRID_LINUX", "HYPERPOD_LINUX")


def _rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:  # noqa: ARG001
    policies = desired.get("access_policies")
    policies = policies if isinstance(policies, list) and is_known(policies) else []
    for policy in policies:
        if (policy["scope"] == "namespace") != bool(policy.get("namespaces")):
            remedy = "name namespaces with scope namespace, and none with scope cluster"
            yield "access_policies", f"{policy['policy_arn']} has scope {policy['scope']}", remedy
    names = [policy["policy_arn"] for policy in policies]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield "access_policies", f"{name} is there twice", "give each policy once, with all its namespaces"
    if desired.get("type") not in {None, _STANDARD, "EC2"} and (policies or desired.get("kubernetes_groups")):
        message = f"{desired['type']} is for nodes, whose permissions EKS decides about"
        yield "type", message, "leave out kubernetes_groups and access_policies, or take type STANDARD"


class EksAccessEntry(AwsKind):
    """Access of an IAM identity to a cluster. The entries that EKS creates for node roles are not managed."""

    name = "eks_access_entry"
    service = "eks"
    schema = Schema(
        {
            "cluster_name": eks.CLUSTER_NAME,
            "principal_arn": Property(
                required=True, replace=True, check=arn_fault, purpose="ARN of the IAM role or user."
            ),
            "type": Property(
                when_unset=_STANDARD,
                choices=_TYPES,
                replace=True,
                purpose="Type of the entry. STANDARD is for users and programs.",
            ),
            "kubernetes_groups": Property(
                "set", elements=Property("string"), purpose="Kubernetes groups, as named in role bindings."
            ),
            "access_policies": Property(
                "set",
                elements=Property(
                    "map",
                    fields={
                        "policy_arn": Property(
                            required=True, check=arn_fault, purpose="ARN of an access policy of EKS."
                        ),
                        "scope": Property(
                            default="cluster", choices=("cluster", "namespace"), purpose="Scope of the policy."
                        ),
                        "namespaces": Property(
                            "set", elements=Property("string"), purpose="Namespaces, for the scope `namespace`."
                        ),
                    },
                ),
                purpose="Access policies of EKS.",
            ),
            "tags": TAGS,
        },
        {"id": Output("`CLUSTER/PRINCIPAL`."), "arn": Output("ARN.")},
        unique_by=("cluster_name", "principal_arn"),
        check=_rules,
    )
    actions = Actions(
        read=("eks:DescribeAccessEntry", "eks:ListAssociatedAccessPolicies"),
        create=("eks:CreateAccessEntry", "eks:AssociateAccessPolicy", "eks:TagResource"),
        update=(
            "eks:UpdateAccessEntry",
            "eks:AssociateAccessPolicy",
            "eks:DisassociateAccessPolicy",
            "eks:TagResource",
            "eks:UntagResource",
        ),
        delete=("eks:DeleteAccessEntry",),
        list=("eks:ListClusters", "eks:ListAccessEntries"),
    )

    def identify(self, desired: Mapping[str, Any]) -> str:
        return f"{desired['cluster_name']}/{desired['principal_arn']}"

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return eks.are_known(desired, "cluster_name", "principal_arn")

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("eks", "describe_access_entry", eks.ABSENT, **_entry(id_))
        return self._actual(answer["accessEntry"]) if answer else None

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return eks.owned_in_clusters(self.session, "list_access_entries", "accessEntries", self.read, owner)

    def _actual(self, entry: Mapping[str, Any]) -> Actual:
        id_ = f"{entry['clusterName']}/{entry['principalArn']}"
        tags = entry.get("tags") or {}
        # Only standard entries and those of Auto Mode can have policies.
        has_policies = entry.get("type", _STANDARD) in {_STANDARD, "EC2"}
        properties = {
            "cluster_name": entry["clusterName"],
            "principal_arn": entry["principalArn"],
            "type": entry.get("type"),
            "kubernetes_groups": entry.get("kubernetesGroups"),
            "access_policies": self._policies(id_) if has_policies else None,
            "tags": property_tags(tags),
        }
        arn = entry["accessEntryArn"]
        return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), READY, (arn,))

    def _policies(self, id_: str) -> list[dict[str, Any]]:
        listed = self.session.pages("eks", "list_associated_access_policies", "associatedAccessPolicies", **_entry(id_))
        return [
            {
                "policy_arn": policy["policyArn"],
                "scope": policy["accessScope"]["type"],
                "namespaces": policy["accessScope"].get("namespaces") or None,
            }
            for policy in listed
        ]

    def create(self, request: Request) -> Actual:
        id_, wanted = self.identify(request.desired), request.desired

        def made() -> dict[str, Any] | None:
            actual = self.read(id_)
            return {} if actual and actual.owner == request.owner else None

        self.session.call_once(
            "eks",
            "create_access_entry",
            made,
            retry_on=eks.NEW_ROLE,
            clientRequestToken=request.token,
            tags=all_tags(request),
            **_entry(id_),
            **given({"type": wanted["type"], "kubernetesGroups": wanted["kubernetes_groups"]}),
        )
        for policy in wanted["access_policies"] or ():
            self._associate(id_, policy)
        return Actual(id_, wanted, {"id": id_}, request.owner)

    def _associate(self, id_: str, policy: Mapping[str, Any]) -> None:
        self.session.call(
            "eks",
            "associate_access_policy",
            # The entry may not be visible yet.
            retry_on=eks.ABSENT,
            policyArn=policy["policy_arn"],
            accessScope=given({"type": policy["scope"], "namespaces": policy.get("namespaces")}),
            **_entry(id_),
        )

    def update(self, request: Request) -> Actual:
        existing, wanted = request.existing, request.desired
        if request.changed("kubernetes_groups"):
            groups = wanted["kubernetes_groups"] or []
            self.session.call("eks", "update_access_entry", kubernetesGroups=groups, **_entry(existing.id))
        if request.changed("access_policies"):
            self._replace_policies(existing, wanted["access_policies"] or ())
        eks.write_tags(self.session, request)
        return existing

    def _replace_policies(self, existing: Actual, wanted: Sequence[Mapping[str, Any]]) -> None:
        """Associate policies before others are removed, so that the caller does not lose access during the change."""
        has = {policy["policy_arn"]: given(policy) for policy in existing.properties.get("access_policies") or ()}
        for policy in wanted:
            if has.get(policy["policy_arn"]) != given(policy):
                self._associate(existing.id, policy)
        for arn in sorted(set(has) - {policy["policy_arn"] for policy in wanted}):
            self.session.look("eks", "disassociate_access_policy", eks.ABSENT, policyArn=arn, **_entry(existing.id))

    def delete(self, request: Request) -> None:
        self.session.look("eks", "delete_access_entry", eks.ABSENT, **_entry(request.existing.id))


def _entry(id_: str) -> dict[str, str]:
    cluster, _slash, principal = id_.partition("/")
    return {"clusterName": cluster, "principalArn": principal}


class PodIdentityAssociation(AwsKind):
    """The IAM role of a service account, for access of its pods to AWS."""

    name = "pod_identity_association"
    service = "eks"
    schema = Schema(
        {
            "cluster_name": eks.CLUSTER_NAME,
            "namespace": Property(
                required=True, replace=True, check=namespace_fault, purpose="Namespace of the service account."
            ),
            "service_account": Property(
                required=True, replace=True, check=account_name_fault, purpose="Name of the service account."
            ),
            "role_arn": Property(required=True, purpose="ARN of the role for the pods."),
            "tags": TAGS,
        },
        {"id": Output("`CLUSTER/NAMESPACE/SERVICE ACCOUNT`."), "arn": Output("ARN.")},
        unique_by=("cluster_name", "namespace", "service_account"),
    )
    actions = Actions(
        read=("eks:ListPodIdentityAssociations", "eks:DescribePodIdentityAssociation"),
        create=("eks:CreatePodIdentityAssociation", "eks:TagResource", "iam:GetRole", "iam:PassRole"),
        update=(
            "eks:UpdatePodIdentityAssociation",
            "eks:TagResource",
            "eks:UntagResource",
            "iam:GetRole",
            "iam:PassRole",
        ),
        delete=("eks:DeletePodIdentityAssociation",),
        list=("eks:ListClusters",),
    )

    def identify(self, desired: Mapping[str, Any]) -> str:
        return "/".join(desired[name] for name in ("cluster_name", "namespace", "service_account"))

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return eks.are_known(desired, "cluster_name", "namespace", "service_account")

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        """Read all associations of a cluster with one listing."""
        known = [subject for subject in subjects if self.is_identified(subject.desired)]
        clusters = sorted({subject.desired["cluster_name"] for subject in known})
        listed = [item for found in self.session.each(self._listed, clusters) for item in found]
        by_id = {_association_id(item): item for item in listed}

        def described(subject: Subject) -> list[Actual]:
            item = by_id.get(self.identify(subject.desired))
            actual = self._described(item) if item else None
            return [self.managed_tags(actual, subject.desired)] if actual else []

        actuals = {s.address: found for s, found in zip(known, self.session.each(described, known), strict=True)}
        return {subject.address: actuals.get(subject.address, LATER) for subject in subjects}

    def _listed(self, cluster: str, **only: str) -> list[dict[str, Any]]:
        return eks.listed(self.session, "list_pod_identity_associations", "associations", clusterName=cluster, **only)

    def _described(self, item: Mapping[str, Any]) -> Actual | None:
        answer = self.session.look(
            "eks",
            "describe_pod_identity_association",
            eks.ABSENT,
            clusterName=item["clusterName"],
            associationId=item["associationId"],
        )
        return _association(answer["association"]) if answer else None

    def read(self, id_: str) -> Actual | None:
        cluster, namespace, account = id_.split("/")
        found = self._listed(cluster, namespace=namespace, serviceAccount=account)
        return self._described(found[0]) if found else None

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        listed = [item for found in self.session.each(self._listed, eks.cluster_names(self.session)) for item in found]
        actuals = self.session.each(self._described, listed)
        return [actual for actual in actuals if actual and actual.owner and actual.owner.shares_stack_with(owner)]

    def create(self, request: Request) -> Actual:
        id_, wanted = self.identify(request.desired), request.desired

        def made() -> dict[str, Any] | None:
            actual = self.read(id_)
            return {} if actual and actual.owner == request.owner else None

        self.session.call_once(
            "eks",
            "create_pod_identity_association",
            made,
            retry_on=eks.NEW_ROLE,
            clusterName=wanted["cluster_name"],
            namespace=wanted["namespace"],
            serviceAccount=wanted["service_account"],
            roleArn=wanted["role_arn"],
            clientRequestToken=request.token,
            tags=all_tags(request),
        )
        return Actual(id_, wanted, {"id": id_}, request.owner)

    def update(self, request: Request) -> Actual:
        if request.changed("role_arn"):
            self.session.call(
                "eks",
                "update_pod_identity_association",
                retry_on=eks.NEW_ROLE,
                roleArn=request.desired["role_arn"],
                **_place(request.existing),
            )
        eks.write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        self.session.look("eks", "delete_pod_identity_association", eks.ABSENT, **_place(request.existing))


def _association_id(item: Mapping[str, Any]) -> str:
    return f"{item['clusterName']}/{item['namespace']}/{item['serviceAccount']}"


def _place(existing: Actual) -> dict[str, str]:
    return {
        "clusterName": existing.properties["cluster_name"],
        "associationId": existing.outputs["arn"].rpartition("/")[2],
    }


def _association(found: Mapping[str, Any]) -> Actual:
    id_, arn, tags = _association_id(found), found["associationArn"], found.get("tags") or {}
    properties = {
        "cluster_name": found["clusterName"],
        "namespace": found["namespace"],
        "service_account": found["serviceAccount"],
        "role_arn": found["roleArn"],
        "tags": property_tags(tags),
    }
    return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), READY, (arn,))
