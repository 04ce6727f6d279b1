# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Release of a cluster's AWS resources before its deletion: its controllers delete the resources that they created.

Without the cluster, its load balancers, security groups and volumes have no controller. They block the deletion of
subnets and the VPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from ..engine.errors import EngineError
from .eks import ABSENT
from .eks_token import TokenSource, make_token
from .errors import WaitError
from .kind import STACK_TAG, tag_map
from .release_objects import Contents, Object, Objects, UnreachableError, reached_by_kubeconfig, reached_by_token
from .session import Session
from .waiters import wait_until

# absent: EKS does not have the cluster. inactive: it was never active, or is being deleted. unreachable: it is active,
# but rejects this caller, and it has no resources in AWS. reached: its API answered.
Word = Literal["absent", "inactive", "unreachable", "reached"]
# Actions of a check, in addition to calls of the cluster's API.
ACTIONS = (
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeVolumes",
    "eks:DescribeCluster",
    "elasticloadbalancing:DescribeLoadBalancers",
    "elasticloadbalancing:DescribeTags",
    "elasticloadbalancing:DescribeTargetGroups",
)
_INTERVAL_S = 15.0
_TAGS_AT_ONCE = 20
# EKS deletes its own security group with the cluster.
_OF_EKS = "aws:eks:cluster-name"
_MADE_FOR_CLAIM = ("ebs.csi.aws.com/cluster", "kubernetes.io/created-for/pvc/name")


@dataclass(frozen=True)
class Wish:
    """Request for a release. kubeconfig, context: connection to the cluster, instead of its endpoint and a token."""

    cluster: str
    volumes: bool = False
    kubeconfig: str = ""
    context: str = ""
    timeout_s: float = 900.0
    only_look: bool = False


@dataclass(frozen=True, order=True)
class Left:
    """AWS resource with the cluster's tags."""

    type: str
    id: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.type} {self.id}" + (f" ({self.name})" if self.name and self.name != self.id else "")

    def to_data(self) -> dict[str, str]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Released:
    """Result of a release.

    removed: objects of the cluster. released: AWS resources that had the cluster's tags before. With `only_look`, both
    are predictions. kept: volumes that remain, because their deletion was not requested or they outlive their claims.
    """

    cluster: Word
    removed: tuple[Object, ...] = ()
    released: tuple[Left, ...] = ()
    kept: tuple[Left, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.removed)


class LeftError(EngineError):
    """AWS resources remain that are not deleted automatically."""

    def __init__(self, message: str, left: Sequence[Left], objects: Sequence[Object] = ()) -> None:
        super().__init__(message)
        self.left, self.objects = tuple(left), tuple(objects)


def release(session: Session, wish: Wish) -> Released:
    """Remove AWS resources that Kubernetes created, and wait until they are deleted.

    Raises LeftError with the remaining resources, ClusterError where the cluster rejects a request, and CallError.
    """
    answer = session.look("eks", "describe_cluster", ABSENT, name=wish.cluster)
    cluster = answer["cluster"] if answer else {}
    traces = Traces(session, wish.cluster)
    if cluster.get("status") not in {"ACTIVE", "UPDATING"} or not cluster.get("endpoint"):
        return _without_cluster(traces, wish, "inactive" if cluster else "absent")
    try:
        with _reached(session, wish, cluster) as objects:
            return _Releasing(objects, traces, wish).run()
    except UnreachableError as error:
        return _unreachable(traces, wish, cluster, error)


def _reached(session: Session, wish: Wish, cluster: Mapping[str, Any]) -> AbstractContextManager[Objects]:
    authority = cluster["certificateAuthority"]["data"]
    if wish.kubeconfig:
        return reached_by_kubeconfig(wish.kubeconfig, wish.context, authority)

    def token() -> str:
        made = make_token(session.client("sts"), wish.cluster)
        session.hide(made)
        return made

    return reached_by_token(cluster["endpoint"], authority, TokenSource(token))


def _without_cluster(traces: Traces, wish: Wish, word: Word) -> Released:
    """Return the result for a missing or inactive cluster. Raises LeftError with orphans, which have no controller."""
    left, volumes = traces.look(), traces.volumes()
    orphans = (*left, *volumes) if wish.volumes else left
    if orphans:
        what = "does not exist" if word == "absent" else "is not active"
        message = f"the cluster {wish.cluster} {what}, so delete its remaining resources manually: {_named(orphans)}"
        raise LeftError(message, orphans)
    return Released(word, kept=volumes)


def _unreachable(traces: Traces, wish: Wish, cluster: Mapping[str, Any], error: UnreachableError) -> Released:
    """Return the result for an unreachable cluster. Raises LeftError where it has AWS resources."""
    left, volumes = traces.look(), traces.volumes()
    needed = (*left, *volumes) if wish.volumes else left
    reason = f"the cluster {wish.cluster} cannot be reached at {cluster['endpoint']}: {error}"
    if needed:
        private = not cluster["resourcesVpcConfig"].get("endpointPublicAccess")
        way = "its endpoint is private: run this in its network, " if private else "permit access to it, "
        message = f"{reason}; {way}or set a kubeconfig with access. It created these resources: {_named(needed)}"
        raise LeftError(message, needed)
    return Released("unreachable", kept=volumes, warnings=(f"{reason}; it has no resources to delete in AWS",))


def _named(items: Sequence[Left | Object]) -> str:
    return ", ".join(map(str, items))


class _Releasing:
    """Removal and waiting for one reachable cluster."""

    def __init__(self, objects: Objects, traces: Traces, wish: Wish) -> None:
        self.objects, self.traces, self.wish = objects, traces, wish
        self.removed: set[Object] = set()
        self.last: tuple[tuple[Object, ...], tuple[Left, ...]] = ((), ())

    def run(self) -> Released:
        contents = self.objects.contents(volumes=self.wish.volumes)
        before, volumes = self.traces.look(), self.traces.volumes()
        kept = tuple(v for v in volumes if not self.wish.volumes or v.id in contents.retained)
        going = (*before, *(volume for volume in volumes if volume not in kept))
        if self.wish.only_look:
            return Released("reached", contents.objects, going, kept)
        self._remove(contents)
        stays = frozenset(volume.id for volume in kept)
        try:
            wait_until(
                lambda: self._is_gone(stays),
                f"what {self.wish.cluster} made in AWS to be gone",
                timeout_s=self.wish.timeout_s,
                interval_s=_INTERVAL_S,
            )
        except WaitError as error:
            objects, left = self.last
            message = f"{error}; still there: {_named((*objects, *left))}"
            raise LeftError(message, left, objects) from None
        return Released("reached", tuple(sorted(self.removed)), going, kept)

    def _remove(self, contents: Contents) -> None:
        for found in contents.objects:
            if not found.is_leaving:
                self.objects.remove(found)
                self.removed.add(found)

    def _is_gone(self, stays: frozenset[str]) -> bool | None:
        """Check again, and remove objects that were created again since."""
        contents = self.objects.contents(volumes=self.wish.volumes)
        volumes = self.traces.volumes() if self.wish.volumes else ()
        left = (*self.traces.look(), *(volume for volume in volumes if volume.id not in stays))
        self.last = (contents.objects, left)
        self._remove(contents)
        return None if contents.objects or left else True


@dataclass(frozen=True)
class Traces:
    """AWS resources with the tags that the controllers of a cluster write.

    Sources: the cloud provider of AWS (`kubernetes.io/cluster/NAME`), the load balancer controller
    (`elbv2.k8s.aws/cluster`), EKS Auto Mode (`eks:eks-cluster-name`), the EBS CSI driver (`KubernetesCluster`).
    """

    session: Session
    cluster: str
    tags: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        tags = {
            f"kubernetes.io/cluster/{self.cluster}": "owned",
            "elbv2.k8s.aws/cluster": self.cluster,
            "eks:eks-cluster-name": self.cluster,
        }
        object.__setattr__(self, "tags", tags)

    def look(self) -> tuple[Left, ...]:
        """Return load balancers, target groups and security groups."""
        looks = (self._balancers, self._target_groups, self._classic_balancers, self._groups)
        return tuple(sorted(left for found in self.session.each(lambda look: look(), looks) for left in found))

    def volumes(self) -> tuple[Left, ...]:
        """Return the volumes that were created for claims."""
        tags = {**self.tags, "KubernetesCluster": self.cluster}
        found = self._tagged("describe_volumes", "Volumes", tags)
        return tuple(
            sorted(
                Left("volume", id_, words.get("kubernetes.io/created-for/pvc/name", ""))
                for id_, words in ((item["VolumeId"], tag_map(item.get("Tags"))) for item in found)
                if any(word in words for word in _MADE_FOR_CLAIM)
            )
        )

    def _is_mine(self, tags: Mapping[str, str]) -> bool:
        # Resources that a stack describes belong to the stack, whatever tags controllers add.
        return STACK_TAG not in tags and any(tags.get(key) == value for key, value in self.tags.items())

    def _balancers(self) -> list[Left]:
        listed = self.session.pages("elbv2", "describe_load_balancers", "LoadBalancers")
        return self._of_elbv2("load balancer", {b["LoadBalancerArn"]: b["LoadBalancerName"] for b in listed})

    def _target_groups(self) -> list[Left]:
        listed = self.session.pages("elbv2", "describe_target_groups", "TargetGroups")
        return self._of_elbv2("target group", {g["TargetGroupArn"]: g["TargetGroupName"] for g in listed})

    def _of_elbv2(self, type_: str, names: Mapping[str, str]) -> list[Left]:
        answers = self.session.each(
            lambda arns: self.session.call("elbv2", "describe_tags", ResourceArns=arns)["TagDescriptions"],
            _parts(list(names)),
        )
        return [
            Left(type_, found["ResourceArn"], names[found["ResourceArn"]])
            for described in answers
            for found in described
            if self._is_mine(tag_map(found.get("Tags")))
        ]

    def _classic_balancers(self) -> list[Left]:
        listed = self.session.pages("elb", "describe_load_balancers", "LoadBalancerDescriptions")
        answers = self.session.each(
            lambda names: self.session.call("elb", "describe_tags", LoadBalancerNames=names)["TagDescriptions"],
            _parts([item["LoadBalancerName"] for item in listed]),
        )
        return [
            Left("classic load balancer", found["LoadBalancerName"])
            for described in answers
            for found in described
            if self._is_mine(tag_map(found.get("Tags")))
        ]

    def _groups(self) -> list[Left]:
        found = self._tagged("describe_security_groups", "SecurityGroups", self.tags)
        tagged = [(item, tag_map(item.get("Tags"))) for item in found]
        return [
            Left("security group", item["GroupId"], item["GroupName"])
            for item, tags in tagged
            if self._is_mine(tags) and _OF_EKS not in tags
        ]

    def _tagged(self, operation: str, key: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the EC2 resources with any of these tags, without duplicates."""
        answers = self.session.each(
            lambda tag: self.session.pages(
                "ec2", operation, key, Filters=[{"Name": f"tag:{tag}", "Values": [tags[tag]]}]
            ),
            tags,
        )
        id_ = "VolumeId" if key == "Volumes" else "GroupId"
        return list({item[id_]: item for answer in answers for item in answer}.values())


def _parts(items: Sequence[str]) -> list[list[str]]:
    return [list(items[start : start + _TAGS_AT_ONCE]) for start in range(0, len(items), _TAGS_AT_ONCE)]
