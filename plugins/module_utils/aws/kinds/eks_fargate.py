# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS: Fargate profiles, which select the pods that run on Fargate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import UsedTokenError
from ...engine.resource import Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from .. import eks
from ..errors import CallError
from ..kind import TAGS, Actions, AwsKind, all_tags, owner_of, property_tags
from ..naming import nodegroup_name_fault
from ..waiters import wait_until

_MOST_SELECTORS = 5
# Another profile of the cluster is in creation or deletion. A name that is in use has the same code.
_QUEUED = ("ResourceInUseException:in status",)


def _rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:  # noqa: ARG001
    selectors = desired.get("selectors")
    if isinstance(selectors, list) and len(selectors) > _MOST_SELECTORS:
        yield "selectors", f"a profile has at most {_MOST_SELECTORS}, not {len(selectors)}", "describe another profile"


class FargateProfile(AwsKind):
    """Selectors of a cluster's pods that run on Fargate. Only its tags can be updated."""

    name = "fargate_profile"
    service = "eks"
    timeout_s = 1800.0
    interval_s = 15.0
    failed_states = frozenset({"CREATE_FAILED"})
    schema = Schema(
        {
            "cluster_name": eks.CLUSTER_NAME,
            "name": Property(
                required=True, replace=True, check=nodegroup_name_fault, purpose="Name, unique in the cluster."
            ),
            "pod_execution_role_arn": Property(
                required=True, replace=True, purpose="ARN of the role that pulls images and writes logs for the pods."
            ),
            "subnet_ids": Property(
                "set",
                required=True,
                replace=True,
                elements=Property("string"),
                purpose="IDs of private subnets for the pods.",
            ),
            "selectors": Property(
                "set",
                required=True,
                replace=True,
                elements=Property(
                    "map",
                    fields={
                        "namespace": Property(
                            required=True, purpose="Namespace of the pods. `*` and `?` are wildcards."
                        ),
                        "labels": Property("map", elements=Property("string"), purpose="Labels that must all match."),
                    },
                ),
                purpose="Selectors of pods. A pod must match at least one of them.",
            ),
            "tags": TAGS,
        },
        {"id": Output("`CLUSTER/NAME`."), "arn": Output("ARN.")},
        unique_by=("cluster_name", "name"),
        check=_rules,
    )
    actions = Actions(
        read=("eks:DescribeFargateProfile",),
        create=("eks:CreateFargateProfile", "eks:TagResource", "iam:PassRole", "iam:CreateServiceLinkedRole"),
        update=("eks:TagResource", "eks:UntagResource"),
        delete=("eks:DeleteFargateProfile",),
        list=("eks:ListClusters", "eks:ListFargateProfiles"),
    )

    def identify(self, desired: Mapping[str, Any]) -> str:
        return f"{desired['cluster_name']}/{desired['name']}"

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return eks.are_known(desired, "cluster_name", "name")

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("eks", "describe_fargate_profile", eks.ABSENT, **_place(id_))
        return _actual(answer["fargateProfile"]) if answer else None

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        return eks.judged(super().read_all(subjects), subjects, self.failed_states)

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return eks.owned_in_clusters(self.session, "list_fargate_profiles", "fargateProfileNames", self.read, owner)

    def create(self, request: Request) -> Actual:
        """Create a profile as soon as EKS accepts it: a cluster creates or deletes one profile at a time."""
        id_ = self.identify(request.desired)
        refusal = ""

        def attempt() -> dict[str, Any] | None:
            nonlocal refusal
            try:
                return self._create(request, id_)
            except CallError as error:
                if not error.is_one_of(_QUEUED):
                    raise
                refusal = error.message
                return None

        answer = wait_until(
            attempt,
            f"its turn to create {request.address} ({id_})",
            timeout_s=self.timeout_s,
            interval_s=self.interval_s,
            last=lambda: f"still refused: {refusal}",
        )
        status = answer["fargateProfile"]["status"]
        if status == "DELETING":
            raise UsedTokenError(request.token)
        return Actual(id_, request.desired, {"id": id_}, request.owner, status)

    def _create(self, request: Request, id_: str) -> dict[str, Any]:
        def made() -> dict[str, Any] | None:
            actual = self.read(id_)
            return {"fargateProfile": {"status": "CREATING"}} if actual and actual.owner == request.owner else None

        wanted = request.desired
        return self.session.call_once(
            "eks",
            "create_fargate_profile",
            made,
            retry_on=eks.NEW_ROLE,
            podExecutionRoleArn=wanted["pod_execution_role_arn"],
            subnets=wanted["subnet_ids"],
            selectors=[{name: value for name, value in selector.items() if value} for selector in wanted["selectors"]],
            clientRequestToken=request.token,
            tags=all_tags(request),
            **_place(id_),
        )

    def update(self, request: Request) -> Actual:
        eks.write_tags(self.session, request)
        return request.existing

    def delete(self, request: Request) -> None:
        eks.delete(self.session, request, "delete_fargate_profile", self.timeout_s, **_place(request.existing.id))

    def wait_deleted(self, request: Request) -> None:
        eks.wait_gone(self, request)


def _place(id_: str) -> dict[str, str]:
    cluster, _slash, name = id_.partition("/")
    return {"clusterName": cluster, "fargateProfileName": name}


def _actual(profile: Mapping[str, Any]) -> Actual:
    id_ = f"{profile['clusterName']}/{profile['fargateProfileName']}"
    tags = profile.get("tags") or {}
    properties = {
        "cluster_name": profile["clusterName"],
        "name": profile["fargateProfileName"],
        "pod_execution_role_arn": profile.get("podExecutionRoleArn"),
        "subnet_ids": profile.get("subnets"),
        "selectors": profile.get("selectors"),
        "tags": property_tags(tags),
    }
    arn = profile["fargateProfileArn"]
    status = eks.status_of(profile["status"], profile.get("health"))
    return Actual(id_, properties, {"id": id_, "arn": arn}, owner_of(tags), status, (arn,))
