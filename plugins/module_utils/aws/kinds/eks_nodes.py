# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS: managed node groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import UsedTokenError
from ...engine.resource import Actual, Later, Owner, Request, Subject
from ...engine.schema import Output, Property, Schema, ValidationError
from ...engine.value import is_known
from .. import eks
from ..kind import TAGS, Actions, AwsKind, all_tags, given, owner_of, property_tags
from ..naming import nodegroup_name_fault
from ..node_images import PUBLISHED, is_older, newest_release, version_of

_EFFECTS = ("NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE")
_CUSTOM = "CUSTOM"
_ANOTHER = "give the group another name, and prune the old one once the new one is there"


def _rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    yield from _scaling_rules(desired.get("scaling_config"))
    update = desired.get("update_config")
    if isinstance(update, Mapping) and is_known(update):
        count = sum(value is not None for value in update.values())
        if count != 1:
            yield "update_config", "takes either max_unavailable or max_unavailable_percentage", "give one of them"
    template = desired.get("launch_template")
    if template is not None and desired.get("disk_size") is not None:
        yield "disk_size", "cannot be given beside a launch template", "say it in block_device_mappings of the template"
    if template is None and desired.get("ami_type") == _CUSTOM:
        yield "ami_type", "CUSTOM takes its image from a launch template", "give launch_template, or another ami_type"
    if desired.get("ami_type") == _CUSTOM and desired.get("version") is not None:
        yield "version", "the image of a launch template decides about it", "remove it"
    yield from _image_rules(desired, actual)
    if actual is not None and (template is None) != (actual.get("launch_template") is None):
        verb = "does without" if template is None else "uses"
        yield "launch_template", f"a group of nodes that {verb} a template was always one that does", _ANOTHER


def _image_rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    image, release = desired.get("ami_type"), desired.get("release_version")
    if desired.get("latest_release") is True and image not in PUBLISHED:
        message = f"AWS publishes no newest image of type {image}"
        yield "latest_release", message, f"set release_version, or use one of: {', '.join(PUBLISHED)}"
    if not isinstance(release, str) or not is_known(release):
        return
    if image == _CUSTOM:
        yield "release_version", "the image of a launch template decides about it", "remove it"
    version, own = desired.get("version"), version_of(release)
    if own is not None and isinstance(version, str) and is_known(version) and own != version:
        yield "release_version", f"{release} is not for version {version}", f"choose a release of {version}"
    if actual is not None and is_older(release, str(actual.get("release_version") or "")):
        message = f"{release} is older than {actual['release_version']}, and EKS does not go back"
        yield "release_version", message, "choose a newer release, or remove it"


def _scaling_rules(scaling: Any) -> Iterator[ValidationError]:
    if not isinstance(scaling, Mapping) or not is_known(scaling):
        return
    low, high, desired = (scaling.get(name) for name in ("min_size", "max_size", "desired_size"))
    if low is None or high is None:
        return
    if low > high:
        yield "scaling_config.min_size", f"{low} is more than max_size, {high}", "swap them, or correct one"
    elif desired is not None and not low <= desired <= high:
        message = f"{desired} is not between min_size, {low}, and max_size, {high}"
        yield "scaling_config.desired_size", message, "choose a size in between"


class EksNodegroup(AwsKind):
    """A managed node group of EKS."""

    name = "eks_nodegroup"
    service = "eks"
    # An update drains and replaces one node after the other.
    timeout_s = 7200.0
    interval_s = 15.0
    failed_states = frozenset({"CREATE_FAILED", "DEGRADED"})
    schema = Schema(
        {
            "cluster_name": eks.CLUSTER_NAME,
            "name": Property(
                required=True, replace=True, check=nodegroup_name_fault, purpose="Name, unique in the cluster."
            ),
            "node_role_arn": Property(required=True, replace=True, purpose="ARN of the nodes' role."),
            "subnet_ids": Property(
                "set", required=True, replace=True, elements=Property("string"), purpose="IDs of the nodes' subnets."
            ),
            "instance_types": Property(
                "list",
                computed=True,
                replace=True,
                elements=Property("string"),
                purpose="Instance types: the first available one; for spot, the one least likely to be interrupted.",
            ),
            "ami_type": Property(
                default="AL2023_x86_64_STANDARD",
                replace=True,
                purpose="Image type of the nodes. CUSTOM if the launch template names an image.",
            ),
            "capacity_type": Property(
                when_unset="ON_DEMAND",
                choices=("ON_DEMAND", "SPOT", "CAPACITY_BLOCK"),
                replace=True,
                purpose="Purchasing option of the nodes.",
            ),
            "scaling_config": Property(
                "map",
                computed=True,
                fields={
                    "min_size": Property("integer", required=True, purpose="Minimum number of nodes."),
                    "max_size": Property("integer", required=True, purpose="Maximum number of nodes."),
                    "desired_size": Property(
                        "integer",
                        owned_by="the autoscaler",
                        purpose="Initial number of nodes. Only changed if the current number is outside new bounds.",
                    ),
                },
                purpose="Bounds of the number of nodes.",
            ),
            "update_config": Property(
                "map",
                computed=True,
                fields={
                    "max_unavailable": Property(
                        "integer", purpose="Number of nodes that an update replaces at the same time."
                    ),
                    "max_unavailable_percentage": Property(
                        "integer", purpose="Percentage of nodes that an update replaces at the same time."
                    ),
                },
                purpose="Settings of updates.",
            ),
            "labels": Property("map", elements=Property("string"), purpose="Kubernetes labels of the nodes."),
            "taints": Property(
                "set",
                elements=Property(
                    "map",
                    fields={
                        "key": Property(required=True, purpose="Key of the taint."),
                        "value": Property(purpose="Value of the taint."),
                        "effect": Property(required=True, choices=_EFFECTS, purpose="Effect on pods."),
                    },
                    # EKS returns a taint without a value with an empty value, or without the key.
                    canonical=lambda taint: {key: part for key, part in taint.items() if part},
                ),
                purpose="Taints, which repel pods without a matching toleration.",
            ),
            "launch_template": Property(
                "map",
                fields={
                    "id": Property(required=True, replace=True, purpose="ID of the template."),
                    "version": Property(
                        computed=True, purpose="Version of the template. Its default version at creation if omitted."
                    ),
                },
                purpose="Launch template of the instances.",
            ),
            "disk_size": Property(
                "integer", computed=True, replace=True, purpose="Disk size of a node in GiB, without a launch template."
            ),
            "version": Property(
                computed=True,
                purpose="Kubernetes version of the nodes. `${eks_cluster.NAME.version}` follows the cluster.",
            ),
            "release_version": Property(
                computed=True,
                purpose="Release of the image, such as `1.35.0-20261120`; the newest one at creation. A newer "
                "release replaces nodes as in `update_config`. EKS does not downgrade.",
            ),
            "latest_release": Property(
                "boolean",
                default=False,
                owned_by="each plan",
                purpose="Whether an omitted `release_version` is the newest one for `ami_type` and `version`.",
            ),
            "tags": TAGS,
        },
        {
            "id": Output("`CLUSTER/NAME`."),
            "arn": Output("ARN."),
            "autoscaling_group_name": Output("Name of the autoscaling group that EKS created."),
            "desired_size": Output("Desired number of nodes."),
        },
        unique_by=("cluster_name", "name"),
        check=_rules,
    )
    actions = Actions(
        read=("eks:DescribeNodegroup", "ssm:GetParameter"),
        create=(
            "eks:CreateNodegroup",
            "eks:TagResource",
            "iam:PassRole",
            "iam:GetRole",
            "iam:ListAttachedRolePolicies",
            "iam:CreateServiceLinkedRole",
            "ec2:DescribeSubnets",
            "ec2:DescribeLaunchTemplateVersions",
            "ec2:RunInstances",
            "ec2:CreateTags",
        ),
        update=(
            "eks:UpdateNodegroupConfig",
            "eks:UpdateNodegroupVersion",
            "eks:DescribeUpdate",
            "eks:TagResource",
            "eks:UntagResource",
            "iam:PassRole",
            "ec2:DescribeLaunchTemplateVersions",
            "ec2:RunInstances",
            "ec2:CreateTags",
        ),
        delete=("eks:DeleteNodegroup",),
        list=("eks:ListClusters", "eks:ListNodegroups"),
    )

    def identify(self, desired: Mapping[str, Any]) -> str:
        return f"{desired['cluster_name']}/{desired['name']}"

    def is_identified(self, desired: Mapping[str, Any]) -> bool:
        return eks.are_known(desired, "cluster_name", "name")

    def read(self, id_: str) -> Actual | None:
        answer = self.session.look("eks", "describe_nodegroup", eks.ABSENT, **_place(id_))
        return _actual(answer["nodegroup"]) if answer else None

    def read_all(self, subjects: Sequence[Subject]) -> Mapping[str, Sequence[Actual] | Later]:
        return eks.judged(super().read_all(subjects), subjects, frozenset({"CREATE_FAILED"}), ("update_config",))

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        return eks.owned_in_clusters(self.session, "list_nodegroups", "nodegroups", self.read, owner)

    def choose(
        self, subjects: Sequence[Subject], found: Mapping[str, Sequence[Actual]]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Return the newest releases for groups that follow them. A group with a newer release keeps it."""

        def release(subject: Subject) -> str | None:
            has = next((actual.properties for actual in found.get(subject.address, ())), {})
            version = subject.desired.get("version") or has.get("version")
            if not isinstance(version, str) or not is_known(version):
                return None
            newest = newest_release(self.session, subject.desired["ami_type"], version)
            own = str(has.get("release_version") or "")
            return own if is_older(newest, own) else newest

        following = [subject for subject in subjects if _follows(subject.desired)]
        chosen = zip(following, self.session.each(release, following), strict=True)
        return {subject.address: {"release_version": newest} for subject, newest in chosen if newest}

    def create(self, request: Request) -> Actual:
        id_ = self.identify(request.desired)

        def made() -> dict[str, Any] | None:
            actual = self.read(id_)
            return {"nodegroup": {"status": "CREATING"}} if actual and actual.owner == request.owner else None

        answer = self.session.call_once(
            "eks",
            "create_nodegroup",
            made,
            retry_on=eks.NEW_ROLE,
            clientRequestToken=request.token,
            tags=all_tags(request),
            **_creation(request.desired),
        )
        if answer["nodegroup"]["status"] == "DELETING":
            raise UsedTokenError(request.token)
        return Actual(id_, request.desired, {"id": id_}, request.owner, answer["nodegroup"]["status"])

    def wait(self, request: Request) -> Actual:
        unwell = frozenset({"DEGRADED"})
        ready = request.existing if eks.is_to_be_changed(self, request, unwell) else super().wait(request)
        return eks.as_mentioned(ready, request.desired, ("update_config",))

    def update(self, request: Request) -> Actual:
        version = _version_update(request)
        if version:
            self._run(request, "update_nodegroup_version", **version)
        configuration = _configuration_update(request)
        if configuration:
            self._run(request, "update_nodegroup_config", **configuration)
        eks.write_tags(self.session, request)
        return request.existing

    def _run(self, request: Request, operation: str, **parameters: Any) -> None:
        place = _place(request.existing.id)
        found_by = {"name": place["clusterName"], "nodegroupName": place["nodegroupName"]}
        what = f"{request.address} ({request.existing.id})"
        eks.run_update(self.session, operation, what, self.timeout_s, found_by, **place, **parameters)

    def delete(self, request: Request) -> None:
        eks.delete(self.session, request, "delete_nodegroup", self.timeout_s, **_place(request.existing.id))

    def wait_deleted(self, request: Request) -> None:
        eks.wait_gone(self, request)


def _follows(desired: Mapping[str, Any]) -> bool:
    """Return whether a group follows the newest release of its image. The rules reject images without releases."""
    return (
        desired["latest_release"] is True and "release_version" not in desired and desired.get("ami_type") in PUBLISHED
    )


def _place(id_: str) -> dict[str, str]:
    cluster, _slash, name = id_.partition("/")
    return {"clusterName": cluster, "nodegroupName": name}


def _actual(group: Mapping[str, Any]) -> Actual:
    id_ = f"{group['clusterName']}/{group['nodegroupName']}"
    tags = group.get("tags") or {}
    properties = {
        "cluster_name": group["clusterName"],
        "name": group["nodegroupName"],
        "node_role_arn": group.get("nodeRole"),
        "subnet_ids": group.get("subnets"),
        "instance_types": group.get("instanceTypes"),
        "ami_type": group.get("amiType"),
        "capacity_type": group.get("capacityType"),
        "scaling_config": _snake(group.get("scalingConfig"), _SCALING),
        "update_config": _snake(group.get("updateConfig"), _UPDATE),
        "labels": group.get("labels"),
        "taints": group.get("taints"),
        "launch_template": _snake(group.get("launchTemplate"), _TEMPLATE),
        "disk_size": group.get("diskSize"),
        "version": group.get("version"),
        "release_version": group.get("releaseVersion"),
        "tags": property_tags(tags),
    }
    instances = (group.get("resources") or {}).get("autoScalingGroups") or [{}]
    arn = group["nodegroupArn"]
    size = (group.get("scalingConfig") or {}).get("desiredSize")
    outputs = {
        "id": id_,
        "arn": arn,
        "autoscaling_group_name": instances[0].get("name"),
        "desired_size": size,
    }
    return Actual(id_, properties, outputs, owner_of(tags), eks.status_of(group["status"], group.get("health")), (arn,))


_SCALING = {"min_size": "minSize", "max_size": "maxSize", "desired_size": "desiredSize"}
_UPDATE = {"max_unavailable": "maxUnavailable", "max_unavailable_percentage": "maxUnavailablePercentage"}
_TEMPLATE = {"id": "id", "version": "version"}


def _snake(structure: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, Any] | None:
    return {name: structure.get(theirs) for name, theirs in names.items()} if structure else None


def _camel(values: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, Any] | None:
    return given({names[name]: value for name, value in values.items()}) if values else None


def _creation(wanted: Mapping[str, Any]) -> dict[str, Any]:
    scaling = wanted.get("scaling_config")
    if scaling and scaling.get("desired_size") is None:
        scaling = {**scaling, "desired_size": scaling["min_size"]}
    image = wanted["ami_type"]
    return given(
        {
            "clusterName": wanted["cluster_name"],
            "nodegroupName": wanted["name"],
            "nodeRole": wanted["node_role_arn"],
            "subnets": wanted["subnet_ids"],
            "instanceTypes": wanted.get("instance_types"),
            # EKS rejects the parameter for a custom image, which the template contains.
            "amiType": None if image == _CUSTOM else image,
            "capacityType": wanted["capacity_type"],
            "scalingConfig": _camel(scaling, _SCALING),
            "updateConfig": _camel(wanted.get("update_config"), _UPDATE),
            "labels": wanted["labels"],
            "taints": wanted["taints"],
            "launchTemplate": _camel(wanted["launch_template"], _TEMPLATE),
            "diskSize": wanted.get("disk_size"),
            "version": wanted.get("version"),
            "releaseVersion": wanted.get("release_version"),
        }
    )


def _version_update(request: Request) -> dict[str, Any]:
    """Return the parameters of the update that replaces the nodes; empty without such a change."""
    wanted, has = request.desired, request.existing.properties
    if not any(map(request.changed, ("version", "release_version", "launch_template"))):
        return {}
    custom = wanted["ami_type"] == _CUSTOM
    return given(
        {
            # EKS would upgrade to the cluster's version by default, also for a new template.
            "version": None if custom else wanted.get("version") or has.get("version"),
            "releaseVersion": None if custom else wanted.get("release_version"),
            "launchTemplate": _camel(wanted["launch_template"], _TEMPLATE),
        }
    )


def _configuration_update(request: Request) -> dict[str, Any]:
    """Return the parameters of the update that keeps the nodes; empty without such a change."""
    wanted, has = request.desired, request.existing.properties
    parameters: dict[str, Any] = {}
    if request.changed("scaling_config"):
        parameters["scalingConfig"] = _scaling_update(wanted["scaling_config"], has.get("scaling_config") or {})
    if request.changed("update_config"):
        parameters["updateConfig"] = _camel(wanted["update_config"], _UPDATE)
    if request.changed("labels"):
        parameters["labels"] = _labels_update(wanted["labels"] or {}, has.get("labels") or {})
    if request.changed("taints"):
        parameters["taints"] = _taints_update(wanted["taints"] or [], has.get("taints") or [])
    return given(parameters)


def _scaling_update(wanted: Mapping[str, Any], has: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new bounds; with a size only where the current size would be outside of them."""
    low, high, size = wanted["min_size"], wanted["max_size"], has.get("desired_size")
    bounds = {"minSize": low, "maxSize": high}
    inside = None if size is None else max(low, min(high, size))
    return bounds if inside == size else {**bounds, "desiredSize": inside}


def _labels_update(wanted: Mapping[str, str], has: Mapping[str, str]) -> dict[str, Any]:
    changed = {key: value for key, value in wanted.items() if has.get(key) != value}
    removed = sorted(set(has) - set(wanted))
    return given({"addOrUpdateLabels": changed or None, "removeLabels": removed or None})


def _taints_update(wanted: Sequence[Mapping[str, Any]], has: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the taints to add and to remove. Key and effect identify a taint; a new value updates it."""
    new = {(taint["key"], taint["effect"]): taint for taint in wanted}
    old = {(taint["key"], taint["effect"]): taint for taint in has}
    changed = [dict(taint) for name, taint in new.items() if name not in old or _value(old[name]) != _value(taint)]
    removed = [given(taint) for name, taint in old.items() if name not in new]
    return given({"addOrUpdateTaints": changed or None, "removeTaints": removed or None})


def _value(taint: Mapping[str, Any]) -> str:
    return str(taint.get("value") or "")
