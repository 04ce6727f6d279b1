# SPDX-License-Identifier: GPL-3.0-or-later
"""Access granted manually: the plan names each edit, a deployment reverts it, and the next plan is empty."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.expected import Described
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.foreign import compare
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import EngineError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.render import text
from tests.integration.aws.lab import Lab, Ran
from tests.integration.aws.test_eks import described as cluster_described

EVIL = "arn:aws:iam::999999999999:root"
REMEDY = " [lakehouse_remove_foreign: bindings]"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


def policy(principal: Any, action: str = "*", resource: str = "*", effect: str = "Allow") -> dict[str, Any]:
    named = {} if principal is None else {"Principal": principal}
    statement = {"Effect": effect, **named, "Action": action, "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


def trust(principal: Mapping[str, str]) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


ROLE = {"name": "lake-app", "assume_role_policy": trust({"Service": "ec2.amazonaws.com"})}
BUCKETS = "arn:aws:s3:::lake-drift"
KEY_OWNER = {"AWS": "arn:aws:iam::${stack.account_id}:root"}
STACK: dict[str, dict[str, Any]] = {
    "vpc.main": {"cidr_block": "10.0.0.0/16"},
    "security_group.app": {"name": "app", "description": "Applications", "vpc_id": "${vpc.main.id}"},
    "vpc_endpoint.s3": {"vpc_id": "${vpc.main.id}", "service_name": "com.amazonaws.${stack.region}.s3"},
    "iam_role.inline": {**ROLE, "name": "lake-inline"},
    "iam_role.attached": {**ROLE, "name": "lake-attached", "managed_policy_arns": [READ_ONLY]},
    "iam_role.trust": {**ROLE, "name": "lake-trust"},
    "iam_policy.read": {"name": "lake-read", "policy": policy(None, "s3:GetObject")},
    "s3_bucket.open": {"name": "lake-drift-open"},
    "s3_bucket.policy": {
        "name": "lake-drift-policy",
        "policy": policy({"AWS": KEY_OWNER["AWS"]}, "s3:GetObject", f"{BUCKETS}-policy/*"),
    },
    "s3_bucket.public": {"name": "lake-drift-public"},
    "s3_bucket.acl": {"name": "lake-drift-acl"},
    "s3_bucket.pages": {"name": "lake-drift-pages"},
    "s3_bucket.owners": {"name": "lake-drift-owners"},
    "kms_key.data": {"alias": "alias/lake-drift", "policy": policy(KEY_OWNER, "kms:*")},
    "ecr_repository.images": {"name": "lake-drift"},
    "sns_topic.alerts": {"name": "lake-drift"},
    "secretsmanager_secret.app": {"name": "lake-drift", "generate": {}},
}


@dataclass(frozen=True)
class Edit:
    """A manual change of a resource. path: the property that differs. marker: part of the value that is found."""

    address: str
    path: str
    marker: str
    make: Callable[[Lab, str], object]


def permission(cidr: str) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cidr}]}


def open_acl(lab: Lab, name: str) -> None:
    client = lab.client("s3")
    client.delete_public_access_block(Bucket=name)
    client.put_bucket_ownership_controls(
        Bucket=name, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}
    )
    client.put_bucket_acl(Bucket=name, ACL="public-read")


def put_policy(lab: Lab, name: str, given: Mapping[str, Any]) -> None:
    lab.client("s3").put_bucket_policy(Bucket=name, Policy=json.dumps(given))


def new_version(lab: Lab, id_: str) -> None:
    document = json.dumps(policy(None, "s3:PutObject"))
    lab.client("iam").create_policy_version(PolicyArn=id_, PolicyDocument=document, SetAsDefault=True)


EDITS = (
    Edit(
        "iam_role.inline",
        "inline_policies",
        "iam:*",
        lambda lab, id_: lab.client("iam").put_role_policy(
            RoleName=id_, PolicyName="evil", PolicyDocument=json.dumps(policy(None, "iam:*"))
        ),
    ),
    Edit(
        "iam_role.attached",
        "managed_policy_arns",
        "AdministratorAccess",
        lambda lab, id_: lab.client("iam").attach_role_policy(
            RoleName=id_, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
        ),
    ),
    Edit(
        "iam_role.trust",
        "assume_role_policy",
        "999999999999",
        lambda lab, id_: lab.client("iam").update_assume_role_policy(
            RoleName=id_, PolicyDocument=json.dumps(trust({"AWS": EVIL}))
        ),
    ),
    Edit("iam_policy.read", "policy", "s3:PutObject", new_version),
    Edit(
        "s3_bucket.open",
        "policy",
        "s3:GetObject",
        lambda lab, id_: put_policy(lab, id_, policy("*", "s3:GetObject", f"{BUCKETS}-open/*")),
    ),
    Edit(
        "s3_bucket.policy",
        "policy",
        "999999999999",
        lambda lab, id_: put_policy(lab, id_, policy({"AWS": EVIL}, "s3:GetObject", f"{BUCKETS}-policy/*")),
    ),
    Edit(
        "s3_bucket.public",
        "public_access_block",
        "False",
        lambda lab, id_: lab.client("s3").delete_public_access_block(Bucket=id_),
    ),
    Edit("s3_bucket.acl", "object_ownership", "ObjectWriter", open_acl),
    Edit(
        "s3_bucket.pages",
        "cors_rules",
        "https://evil.example",
        lambda lab, id_: lab.client("s3").put_bucket_cors(
            Bucket=id_,
            CORSConfiguration={"CORSRules": [{"AllowedOrigins": ["https://evil.example"], "AllowedMethods": ["GET"]}]},
        ),
    ),
    Edit(
        "s3_bucket.owners",
        "object_ownership",
        "ObjectWriter",
        lambda lab, id_: lab.client("s3").delete_bucket_ownership_controls(Bucket=id_),
    ),
    Edit(
        "security_group.app",
        "ingress",
        "192.0.2.0/24",
        lambda lab, id_: lab.client("ec2").authorize_security_group_ingress(
            GroupId=id_, IpPermissions=[permission("192.0.2.0/24")]
        ),
    ),
    Edit(
        "security_group.app",
        "egress",
        "198.51.100.0/24",
        lambda lab, id_: lab.client("ec2").authorize_security_group_egress(
            GroupId=id_, IpPermissions=[permission("198.51.100.0/24")]
        ),
    ),
    Edit(
        "kms_key.data",
        "policy",
        "999999999999",
        lambda lab, id_: lab.client("kms").put_key_policy(
            KeyId=id_, PolicyName="default", Policy=json.dumps(policy({"AWS": EVIL}, "kms:*"))
        ),
    ),
    Edit(
        "ecr_repository.images",
        "policy",
        "999999999999",
        lambda lab, id_: lab.client("ecr").set_repository_policy(
            repositoryName=id_, policyText=json.dumps(policy({"AWS": EVIL}, "ecr:BatchGetImage"))
        ),
    ),
    Edit(
        "sns_topic.alerts",
        "policy",
        "999999999999",
        lambda lab, id_: lab.client("sns").set_topic_attributes(
            TopicArn=id_,
            AttributeName="Policy",
            AttributeValue=json.dumps(policy({"AWS": EVIL}, "sns:Subscribe", id_)),
        ),
    ),
    Edit(
        "secretsmanager_secret.app",
        "policy",
        "999999999999",
        lambda lab, id_: lab.client("secretsmanager").put_resource_policy(
            SecretId=id_, ResourcePolicy=json.dumps(policy({"AWS": EVIL}, "secretsmanager:GetSecretValue"))
        ),
    ),
    Edit(
        "vpc_endpoint.s3",
        "policy",
        "s3:DeleteObject",
        lambda lab, id_: lab.client("ec2").modify_vpc_endpoint(
            VpcEndpointId=id_, PolicyDocument=json.dumps(policy("*", "s3:DeleteObject"))
        ),
    ),
)


def assert_found_and_taken_back(lab: Lab, described: Mapping[str, Any], ran: Ran, edits: tuple[Edit, ...]) -> None:
    """Make all edits, and prove that one plan names exactly these and one deployment reverts all."""
    for edit in edits:
        edit.make(lab, ran.id(edit.address))
    plan = lab.plan(described)
    silent = [edit.address for edit in edits if not is_named(plan, edit)]
    assert silent == [], text(plan)
    changed = {node.address for node in plan.nodes if node.action != "none"}
    assert changed == {edit.address for edit in edits}, text(plan)
    lab.apply(described)
    lab.assert_unchanged(described)


def is_named(plan: Any, edit: Edit) -> bool:
    changes = plan.node(edit.address).changes
    return any(change.path.startswith(edit.path) and edit.marker in str(change.before) for change in changes)


@pytest.mark.emulators("moto")  # The other lacks policies of endpoints.
def test_access_granted_by_hand_on_a_resource_is_found_and_taken_back(lab: Lab) -> None:
    ran = lab.apply(STACK)
    assert_found_and_taken_back(lab, STACK, ran, EDITS)

    # ACLs are removed before S3 disables them: it refuses while one grants access to others.
    names = lab.wire.names()
    assert names.index("s3:PutBucketAcl") < len(names) - names[::-1].index("s3:PutBucketOwnershipControls") - 1
    grants = lab.client("s3").get_bucket_acl(Bucket="lake-drift-acl")["Grants"]
    assert [grant["Grantee"]["Type"] for grant in grants] == ["CanonicalUser"]


def give_role(lab: Lab, _id: str) -> None:
    client = lab.client("eks")
    (found,) = client.list_pod_identity_associations(clusterName="lake")["associations"]
    client.update_pod_identity_association(
        clusterName="lake",
        associationId=found["associationId"],
        roleArn="arn:aws:iam::111122223333:role/evil",
    )


def as_outputs(ran: Ran) -> dict[str, Any]:
    return {result.address: result.outputs for result in ran.report.results}


@pytest.mark.emulators("moto")  # One emulator is enough: only the answers are tested.
def test_a_grant_on_a_key_is_foreign_and_revoked_on_request(lab: Lab) -> None:
    ran = lab.apply({"kms_key.data": STACK["kms_key.data"]})
    key, client = ran.id("kms_key.data"), lab.client("kms")
    user = "arn:aws:iam::111122223333:user/evil"
    for grantee in (user, "rds.eu-central-1.amazonaws.com"):
        client.create_grant(KeyId=key, GranteePrincipal=grantee, Operations=["Decrypt", "CreateGrant"])
    described = Described.of(as_outputs(ran))

    told = compare(lab.session(), described, [], [], only_plans=False)
    (line,) = told["grants"]
    assert line.startswith(f"kms-grant/kms_key.data/{user}/")
    assert line.endswith(f"Decrypt, CreateGrant for {user} [lakehouse_remove_foreign: bindings]")
    assert not told["changed"]
    assert compare(lab.session(), described, [f"kms-grant/*/{user}/*"], ["bindings"], only_plans=False)["grants"] == []
    planned = compare(lab.session(), described, [], ["bindings"], only_plans=True)
    assert planned["changed"]
    assert planned["diff"]["before"].startswith(f"kms-grant/kms_key.data/{user}/")
    assert len(client.list_grants(KeyId=key)["Grants"]) == 2

    assert compare(lab.session(), described, [], ["bindings"], only_plans=False)["removed"]
    (left,) = client.list_grants(KeyId=key)["Grants"]
    assert left["GranteePrincipal"] == "rds.eu-central-1.amazonaws.com"
    assert not compare(lab.session(), described, [], ["bindings"], only_plans=False)["changed"]


@pytest.mark.emulators("ministack")  # The other has neither access entries nor policies of file systems to delete.
def test_access_to_a_cluster_is_foreign_and_removed_on_request(lab: Lab) -> None:
    account = "arn:aws:iam::111122223333"
    stack = {
        **cluster_described(),
        "efs_file_system.shared": {"name": "lake", "backup": False},
        "eks_access_entry.admin": {
            "cluster_name": "${eks_cluster.main.name}",
            "principal_arn": f"{account}:role/admin",
        },
        "pod_identity_association.pipeline": {
            "cluster_name": "${eks_cluster.main.name}",
            "namespace": "crypto-lakehouse",
            "service_account": "pipeline",
            "role_arn": "${iam_role.cluster.arn}",
        },
    }
    ran = lab.apply(stack)
    edit = Edit(
        "efs_file_system.shared",
        "policy",
        "ClientRootAccess",
        lambda lab, id_: lab.client("efs").put_file_system_policy(
            FileSystemId=id_, Policy=json.dumps(policy({"AWS": "*"}, "elasticfilesystem:ClientRootAccess"))
        ),
    )
    groups = Edit(
        "eks_access_entry.admin",
        "kubernetes_groups",
        "evil",
        lambda lab, _id: lab.client("eks").update_access_entry(
            clusterName="lake", principalArn=f"{account}:role/admin", kubernetesGroups=["evil"]
        ),
    )
    role_of_pods = Edit("pod_identity_association.pipeline", "role_arn", "role/evil", give_role)
    assert_found_and_taken_back(lab, stack, ran, (edit, groups, role_of_pods))

    client, role = lab.client("eks"), f"{account}:role/evil"
    view = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
    client.create_access_entry(clusterName="lake", principalArn=role, kubernetesGroups=["evil"])
    client.associate_access_policy(
        clusterName="lake", principalArn=role, policyArn=view, accessScope={"type": "cluster"}
    )
    client.create_pod_identity_association(
        clusterName="lake", namespace="default", serviceAccount="evil", roleArn=ran.outputs("iam_role.cluster")["arn"]
    )
    # Entries of other owners in their cluster are kept, except those with a role of the stack.
    cluster = cluster_described()["eks_cluster.main"]
    subnets = [ran.id("subnet.a"), ran.id("subnet.b")]
    ours = ran.outputs("iam_role.cluster")["arn"]
    client.create_cluster(
        name="pond", version=cluster["version"], roleArn=ours, resourcesVpcConfig={"subnetIds": subnets}
    )
    for name, given in (("borrowed", ours), ("theirs", f"{account}:role/theirs")):
        client.create_pod_identity_association(
            clusterName="pond", namespace="default", serviceAccount=name, roleArn=given
        )
    described = Described.of(as_outputs(ran))

    found = compare(lab.session(), described, [], [], only_plans=False)["grants"]
    assert found == [
        f"access-entry/lake/{role}: group evil; AmazonEKSViewPolicy in the cluster{REMEDY}",
        f"pod-identity/lake/default/evil: role {ours}{REMEDY}",
        f"pod-identity/pond/default/borrowed: role {ours}{REMEDY}",
    ]
    told = compare(lab.session(), described, ["pod-identity/pond/*"], ["bindings"], only_plans=False)
    assert told["removed"] == [f"access-entry/lake/{role}", "pod-identity/lake/default/evil"]
    assert [line.partition(":")[0] for line in told["expected"]] == ["pod-identity/pond/default/borrowed"]
    again = compare(lab.session(), described, ["pod-identity/pond/*"], ["bindings"], only_plans=False)
    assert (again["changed"], again["grants"]) == (False, [])
    own = lab.session().identity().arn
    # The creator's entry, which EKS creates, stays.
    assert set(client.list_access_entries(clusterName="lake")["accessEntries"]) == {own, f"{account}:role/admin"}
    lab.assert_unchanged(stack)

    client.update_access_entry(clusterName="lake", principalArn=own, kubernetesGroups=["more"])
    with pytest.raises(EngineError, match="this run reaches the cluster with it; add its principal to"):
        compare(lab.session(), described, [], ["bindings"], only_plans=True)
