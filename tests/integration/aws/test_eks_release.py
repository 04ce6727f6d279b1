# SPDX-License-Identifier: GPL-3.0-or-later
"""Release of the objects that a cluster created: a Kubernetes API over TLS, and load balancers in an emulator.

The emulators' EKS has no reachable API, so the test's process serves EKS, and the emulator all other services. The test
replaces a cluster's controllers: deleting an object also deletes its AWS resource.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.eks_token import PREFIX
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.release import (
    ACTIONS,
    Left,
    LeftError,
    Released,
    Wish,
    release,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.release_objects import ClusterError, Object
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import EngineError
from tests.integration.aws.emulator import Emulator
from tests.integration.aws.wire import Answer, Wire
from tests.unit.aws.eks_service import Eks
from tests.unit.aws.kubernetes_api import Key, KubernetesApi

LAKE = "lake"
BY_CONTROLLER = {"elbv2.k8s.aws/cluster": LAKE, "ingress.k8s.aws/stack": "lake/site"}
BY_CLOUD_PROVIDER = {f"kubernetes.io/cluster/{LAKE}": "owned"}
OF_A_CLAIM = {**BY_CLOUD_PROVIDER, "KubernetesCluster": LAKE, "kubernetes.io/created-for/pvc/name": "data"}
SITE, PUBLIC = Object("Ingress", LAKE, "site"), Object("Service", LAKE, "public")
CLAIM, DATABASE = Object("PersistentVolumeClaim", LAKE, "data"), Object("StatefulSet", LAKE, "database")
PORTS = {"ports": [{"port": 443}]}


class Cluster:
    """A cluster with its API and its objects in AWS."""

    def __init__(self, emulator: Emulator, api: KubernetesApi) -> None:
        self.emulator, self.api = emulator, api
        self.eks = Eks(alone=False, slowness=0)
        self.wire = Wire(self.eks)
        self.made: dict[Key, Callable[[], object]] = {}
        api.on_gone = lambda key: self.made.pop(key, lambda: None)()
        network = emulator.client("ec2")
        self.vpc = network.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        zones = (("10.0.1.0/24", "eu-central-1a"), ("10.0.2.0/24", "eu-central-1b"))
        self.subnets = [
            network.create_subnet(VpcId=self.vpc, CidrBlock=cidr, AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for cidr, zone in zones
        ]

    def start(self, status: str = "ACTIVE") -> None:
        given = {"name": LAKE, "roleArn": "arn:aws:iam::111122223333:role/x", "resourcesVpcConfig": {}}
        self.eks.create_cluster({**given, "clientRequestToken": "x"})
        thing = self.eks.thing("cluster", LAKE)
        thing.status = status
        thing.body |= {"endpoint": self.api.url, "certificateAuthority": {"data": self.api.authority_data}}

    def release(self, **wish: Any) -> Released:
        return release(self.wire.attach(self.emulator.session()), Wish(LAKE, **{"timeout_s": 120.0, **wish}))

    def add_site(self, tags: dict[str, str] | None = None, finalizing: int = 2) -> list[Left]:
        """Add an Ingress with its load balancer, target group and security group."""
        key = self.api.add("ingresses", "site", {})
        self.api.finalizing[key] = finalizing
        balancers, network = self.emulator.client("elbv2"), self.emulator.client("ec2")
        words = tags or BY_CONTROLLER
        group = self.add_group("k8s-site", words)
        balancer = balancers.create_load_balancer(
            Name="k8s-site", Subnets=self.subnets, SecurityGroups=[group.id], Tags=pairs(words)
        )["LoadBalancers"][0]["LoadBalancerArn"]
        targets = balancers.create_target_group(
            Name="k8s-site", Protocol="HTTP", Port=80, VpcId=self.vpc, TargetType="ip", Tags=pairs(words)
        )["TargetGroups"][0]["TargetGroupArn"]

        def go() -> None:
            balancers.delete_load_balancer(LoadBalancerArn=balancer)
            balancers.delete_target_group(TargetGroupArn=targets)
            network.delete_security_group(GroupId=group.id)

        self.made[key] = go
        return [
            Left("load balancer", balancer, "k8s-site"),
            group,
            Left("target group", targets, "k8s-site"),
        ]

    def add_service(self) -> list[Left]:
        """Add a Service with its classic load balancer."""
        key = self.api.add("services", "public", {"type": "LoadBalancer", **PORTS})
        balancers = self.emulator.client("elb")
        listener = {"Protocol": "TCP", "LoadBalancerPort": 443, "InstancePort": 30443}
        balancers.create_load_balancer(
            LoadBalancerName="a1b2c3", Listeners=[listener], Subnets=self.subnets, Tags=pairs(BY_CLOUD_PROVIDER)
        )
        self.made[key] = lambda: balancers.delete_load_balancer(LoadBalancerName="a1b2c3")
        return [Left("classic load balancer", "a1b2c3")]

    def add_group(self, name: str, tags: dict[str, str]) -> Left:
        network = self.emulator.client("ec2")
        id_ = network.create_security_group(GroupName=name, Description=name, VpcId=self.vpc)["GroupId"]
        network.create_tags(Resources=[id_], Tags=pairs(tags))
        return Left("security group", id_, name)

    def add_volume(self, tags: dict[str, str], policy: str = "Delete") -> Left:
        """Add a claim that a StatefulSet uses, with its volume."""
        network = self.emulator.client("ec2")
        made = network.create_volume(
            AvailabilityZone="eu-central-1a",
            Size=1,
            TagSpecifications=[{"ResourceType": "volume", "Tags": pairs(tags)}],
        )["VolumeId"]
        claim = self.api.add("persistentvolumeclaims", "data", {})
        source = {"driver": "ebs.csi.aws.com", "volumeHandle": made}
        self.api.add("persistentvolumes", "pv", {"persistentVolumeReclaimPolicy": policy, "csi": source})
        mount = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
        self.api.add("statefulsets", "database", {})
        self.api.add(
            "pods", "database-0", {"containers": [{"name": "x"}], "volumes": [mount]}, ("StatefulSet", "database")
        )
        if policy == "Delete":
            self.made[claim] = lambda: network.delete_volume(VolumeId=made)
        return Left("volume", made, "data")


def pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[KubernetesApi]:
    with KubernetesApi(tmp_path) as running:
        yield running


@pytest.fixture
def cluster(emulator: Emulator, api: KubernetesApi) -> Cluster:
    return Cluster(emulator, api)


def stopped(api: KubernetesApi) -> str:
    """Return an address without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"https://127.0.0.1:{probe.getsockname()[1]}"


def test_load_balancers_go_through_the_cluster_and_are_waited_for(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.start()
    expected = cluster.add_site()
    api.add("services", "private", {"type": "ClusterIP", **PORTS})

    released = cluster.release()

    assert released.cluster == "reached"
    assert released.removed == (SITE,)
    assert sorted(released.released) == sorted(expected)
    assert released.changed
    assert [key[2] for key in api.objects] == ["private"]
    assert cluster.emulator.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
    assert all(token.startswith(PREFIX) for token in api.tokens)
    assert not cluster.wire.mutating


@pytest.mark.emulators("moto")  # The other has no classic load balancers.
def test_a_classic_load_balancer_goes_with_its_service(cluster: Cluster) -> None:
    cluster.start()
    expected = cluster.add_service()

    released = cluster.release()

    assert released.removed == (PUBLIC,)
    assert list(released.released) == expected
    assert cluster.emulator.client("elb").describe_load_balancers()["LoadBalancerDescriptions"] == []


@pytest.mark.emulators("ministack")  # Both emulators show the same result.
def test_a_second_run_finds_nothing_to_do(cluster: Cluster) -> None:
    cluster.start()
    cluster.add_site()
    cluster.release()

    again = cluster.release()

    assert again == Released("reached")
    assert not again.changed


def test_check_mode_says_what_would_go_and_touches_nothing(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.start()
    expected = cluster.add_site()
    volume = cluster.add_volume(OF_A_CLAIM)

    looked = cluster.release(only_look=True)
    with_volumes = cluster.release(only_look=True, volumes=True)

    assert looked.removed == (SITE,)
    assert sorted(looked.released) == sorted(expected)
    assert looked.kept == (volume,)
    assert with_volumes.removed == (SITE, DATABASE, CLAIM)
    assert volume in with_volumes.released
    assert looked.changed
    assert not api.deleted


def test_looking_takes_the_actions_that_are_declared(cluster: Cluster) -> None:
    cluster.start()
    cluster.add_site()
    cluster.add_volume(OF_A_CLAIM)
    session = cluster.wire.attach(cluster.emulator.session())

    release(session, Wish(LAKE, only_look=True))

    assert set(session.calls) == set(ACTIONS)


def test_volumes_stay_unless_they_are_named(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.start()
    volume = cluster.add_volume(OF_A_CLAIM)

    released = cluster.release()

    assert released.kept == (volume,)
    assert not api.deleted


def test_named_volumes_go_with_the_workloads_that_use_them(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.start()
    volume = cluster.add_volume(OF_A_CLAIM)
    # The pod is deleted with its StatefulSet.
    cluster.made["statefulsets", LAKE, "database"] = lambda: api.objects.pop(("pods", LAKE, "database-0"))

    released = cluster.release(volumes=True)

    assert released.removed == (CLAIM, DATABASE)
    assert released.released == (volume,)
    assert cluster.emulator.client("ec2").describe_volumes()["Volumes"] == []


def test_a_volume_that_outlives_its_claim_is_kept_and_told(cluster: Cluster) -> None:
    cluster.start()
    volume = cluster.add_volume(OF_A_CLAIM, policy="Retain")

    released = cluster.release(volumes=True)

    assert CLAIM in released.removed
    assert released.kept == (volume,)


@pytest.mark.emulators("ministack")  # Both emulators show the same result.
def test_what_is_made_anew_meanwhile_is_removed_again(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.start()
    cluster.add_site()
    go = cluster.made["ingresses", LAKE, "site"]

    def come_back() -> None:
        go()
        api.add("ingresses", "site", {})

    cluster.made["ingresses", LAKE, "site"] = come_back

    cluster.release()

    assert api.deleted == [("ingresses", LAKE, "site")] * 2


def test_what_does_not_go_is_named_on_timeout(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.start()
    left = cluster.add_site(finalizing=10_000)

    with pytest.raises(LeftError) as caught:
        cluster.release(timeout_s=60.0)

    message = str(caught.value)
    assert message.startswith("waited 60 s for what lake made in AWS to be gone; still there: Ingress lake/site, ")
    assert all(item.id in message for item in left)
    assert sorted(caught.value.left) == sorted(left)
    assert caught.value.objects == (SITE,)


def test_what_belongs_to_others_is_not_waited_for(cluster: Cluster) -> None:
    cluster.start()
    cluster.add_group("eks-cluster-sg-lake-1", {**BY_CLOUD_PROVIDER, "aws:eks:cluster-name": LAKE})
    cluster.add_group("nodes", {**BY_CLOUD_PROVIDER, "lakehouse:stack": "lake/development"})
    cluster.add_group("shared", {f"kubernetes.io/cluster/{LAKE}": "shared"})
    cluster.add_group("of-another", {"elbv2.k8s.aws/cluster": "lake-2"})
    root = {**BY_CLOUD_PROVIDER, "eks:nodegroup-name": "workers"}
    cluster.emulator.client("ec2").create_volume(
        AvailabilityZone="eu-central-1a", Size=1, TagSpecifications=[{"ResourceType": "volume", "Tags": pairs(root)}]
    )

    assert cluster.release(volumes=True) == Released("reached")


def test_load_balancers_of_every_controller_are_found_among_many(cluster: Cluster) -> None:
    """AWS returns the tags of twenty load balancers per call."""
    cluster.start()
    balancers = cluster.emulator.client("elbv2")
    for number in range(22):
        tags = {"eks:eks-cluster-name": LAKE} if number == 21 else {"Name": "other"}
        balancers.create_target_group(
            Name=f"t-{number}", Protocol="HTTP", Port=80, VpcId=cluster.vpc, TargetType="ip", Tags=pairs(tags)
        )

    assert [left.name for left in cluster.release(only_look=True).released] == ["t-21"]


def test_a_cluster_that_does_not_exist_is_told_from_one_that_never_worked(cluster: Cluster, api: KubernetesApi) -> None:
    absent = cluster.release()
    cluster.start("FAILED")
    inactive = cluster.release()

    assert (absent, inactive) == (Released("absent"), Released("inactive"))
    assert not api.tokens


@pytest.mark.parametrize("status", ["", "FAILED"])
def test_orphans_of_a_cluster_that_is_gone_are_named(cluster: Cluster, status: str) -> None:
    left = cluster.add_site()
    if status:
        cluster.start(status)

    with pytest.raises(
        LeftError, match=r"cluster .*lake (does not exist|is not active), so delete its remaining resources manually: "
    ) as caught:
        cluster.release()

    assert sorted(caught.value.left) == sorted(left)


@pytest.mark.emulators("ministack")  # Both emulators show the same result.
def test_a_cluster_that_could_never_be_reached_and_made_nothing_is_no_error(
    cluster: Cluster, api: KubernetesApi
) -> None:
    cluster.start()
    cluster.eks.thing("cluster", LAKE).body["endpoint"] = stopped(api)

    released = cluster.release()

    assert released.cluster == "unreachable"
    assert "cannot be reached at https://127.0.0.1:" in released.warnings[0]


@pytest.mark.emulators("ministack")  # Both emulators show the same result.
@pytest.mark.parametrize(("public", "words"), [(False, "its endpoint is private: run this"), (True, "permit access")])
def test_a_cluster_that_cannot_be_reached_but_has_to_be_says_what_to_do(
    cluster: Cluster, api: KubernetesApi, public: bool, words: str
) -> None:
    cluster.start()
    left = cluster.add_site()
    body = cluster.eks.thing("cluster", LAKE).body
    body["endpoint"] = stopped(api)
    body["resourcesVpcConfig"]["endpointPublicAccess"] = public

    with pytest.raises(LeftError, match=rf"cannot be reached at .*; {words}.* or set a kubeconfig") as caught:
        cluster.release()
    assert sorted(caught.value.left) == sorted(left)


@pytest.mark.emulators("ministack")  # Both emulators show the same result.
def test_a_kubeconfig_leads_where_the_endpoint_does_not(cluster: Cluster, api: KubernetesApi, tmp_path: Path) -> None:
    cluster.start()
    cluster.add_site()
    cluster.eks.thing("cluster", LAKE).body["endpoint"] = stopped(api)

    released = cluster.release(kubeconfig=str(api.kubeconfig(tmp_path)), context="tunnel")

    assert released.removed == (SITE,)
    assert set(api.tokens) == {"of-the-kubeconfig"}


@pytest.mark.emulators("ministack")  # Both emulators show the same result.
def test_a_kubeconfig_of_another_cluster_removes_nothing(cluster: Cluster, api: KubernetesApi, tmp_path: Path) -> None:
    cluster.start()
    cluster.add_site()
    other = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nother\n-----END CERTIFICATE-----\n").decode()
    cluster.eks.thing("cluster", LAKE).body["certificateAuthority"] = {"data": other}

    with pytest.raises(ClusterError, match=r"the kubeconfig .* does not identify this cluster"):
        cluster.release(kubeconfig=str(api.kubeconfig(tmp_path)))
    assert not api.deleted


@pytest.mark.emulators("ministack")  # Both emulators show the same result.
def test_a_cluster_that_refuses_is_no_unreachable_one(cluster: Cluster, api: KubernetesApi) -> None:
    cluster.start()
    api.status = 403

    with pytest.raises(ClusterError, match=r"the cluster refuses: 403"):
        cluster.release()


@pytest.mark.emulators("ministack")  # Both emulators show the same result.
def test_a_missing_permission_is_named(cluster: Cluster) -> None:
    cluster.eks.refusing["DescribeCluster"] = [Answer.error("AccessDeniedException", "no", 403)]

    with pytest.raises(EngineError, match=r"allow eks:DescribeCluster to the identity that runs this"):
        cluster.release()
