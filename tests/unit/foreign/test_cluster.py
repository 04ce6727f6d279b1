# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of a cluster: foreign ones, their classes, and the effect of their removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.expected import (
    CLUSTER_ROLE_BINDING,
    KINDS,
    NETWORK_POLICY,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    Described,
    Foreign,
    GroupKind,
    Lists,
    foreign_objects,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.applyset import PART_OF_LABEL, Parent
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.foreign_kinds import KINDS as HOST_KINDS

Fields = dict[str, Any]
PARENT = Parent("lakehouse-services", "lake")
DESCRIBED = Described.of(
    {"namespaces": ["lake", "monitoring"], "sets": ["lake/lakehouse-services"], "releases": ["monitoring/monitoring"]}
)
ARN = "eks.amazonaws.com/role-arn"
CLUSTER = {"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "name": "database", "uid": "1"}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api", "uid": "2"}
API = {"kind": "ServiceAccount", "name": "api", "namespace": "lake"}


def managed(manager: str, fields: Mapping[str, Any] | None = None, operation: str = "Apply") -> Fields:
    return {"manager": manager, "operation": operation, "fieldsV1": dict(fields or {})}


def obj(name: str, namespace: str = "lake", content: Mapping[str, Any] | None = None, **metadata: Any) -> Fields:
    return {"metadata": {"name": name, "namespace": namespace, **metadata}, **(content or {})}


def member(manager: str = "crypto-lakehouse", spec: Fields | None = None, annotations: Fields | None = None) -> Fields:
    """Return an object of the set, if `manager` applied it. spec, annotations: fields that it applied."""
    metadata = {"f:labels": {f"f:{PART_OF_LABEL}": {}}, "f:annotations": annotations or {}}
    entry = managed(manager, {"f:metadata": metadata, "f:spec": spec or {}})
    return obj("api", labels={PART_OF_LABEL: PARENT.id}, managedFields=[entry])


def of_release(manager: str = "helm", release: str = "monitoring") -> Fields:
    notes = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "monitoring"}
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    return obj("x", "monitoring", annotations=notes, labels=labels, managedFields=[managed(manager)])


def parent(*kinds: GroupKind) -> Fields:
    secret = PARENT.manifest(PARENT.extent((group, kind, "lake") for group, kind in kinds))
    return {**secret, "metadata": {**secret["metadata"], "managedFields": [managed("crypto-lakehouse")]}}


def foreign(lists: Mapping[GroupKind, Sequence[Fields]]) -> list[Foreign]:
    return foreign_objects(Lists(lists), DESCRIBED)


def names(lists: Mapping[GroupKind, Sequence[Fields]]) -> list[str]:
    return [one.finding.address for one in foreign(lists)]


def test_no_kind_has_the_name_of_one_of_the_services() -> None:
    assert not KINDS.keys() & HOST_KINDS.keys()


@pytest.mark.parametrize(
    ("role", "is_foreign"),
    [
        (obj("evil"), True),
        (member(), False),
        (member(manager="kubectl-create"), True),
        (obj("api", labels={PART_OF_LABEL: PARENT.id}), True),
        (of_release(), False),
        (of_release(manager="kubectl-create"), True),
        (of_release(release="other"), True),
        (obj("database", ownerReferences=[CLUSTER]), False),
        # No built-in controller creates a Role.
        (obj("evil", ownerReferences=[DEPLOYMENT]), True),
    ],
)
def test_a_role_is_described_by_who_applied_it(role: Fields, is_foreign: bool) -> None:
    assert bool(names({ROLE: [role], SECRET: [parent(ROLE)]})) is is_foreign


def test_a_member_of_a_kind_that_its_set_does_not_look_for_is_foreign() -> None:
    assert names({ROLE: [member()], SECRET: [parent(NETWORK_POLICY)]}) == ["rbac-role/lake/api"]
    # Without its parent, which the next deployment creates, the kinds are unknown.
    assert names({ROLE: [member()]}) == []


@pytest.mark.parametrize(
    ("subjects", "reached"),
    [
        ([API], "ServiceAccount lake/api"),
        ([{**API, "namespace": "other"}], ""),
        ([{"kind": "User", "name": "alice"}, {"kind": "Group", "name": "system:masters"}], ""),
        ([{"kind": "Group", "name": "system:serviceaccounts:monitoring"}], "Group system:serviceaccounts:monitoring"),
        ([{"kind": "Group", "name": "system:serviceaccounts:other"}], ""),
        ([{"kind": "User", "name": "system:serviceaccount:lake:api"}], "User system:serviceaccount:lake:api"),
        ([{"kind": "Group", "name": "system:unauthenticated"}], "Group system:unauthenticated"),
        ([{"kind": "User", "name": "system:anonymous"}], "User system:anonymous"),
    ],
)
def test_a_binding_of_the_cluster_is_foreign_for_accounts_of_the_platform_and_anybody(
    subjects: list[Fields], reached: str
) -> None:
    binding = obj("evil", "", {"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": subjects})
    found = foreign({CLUSTER_ROLE_BINDING: [binding]})
    assert [one.finding.detail for one in found] == ([f"ClusterRole admin for {reached}"] if reached else [])


def test_subjects_of_others_stay_bound() -> None:
    alice = {"kind": "User", "name": "alice"}
    binding = obj("evil", "", {"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [API, alice]})
    assert [one.patch for one in foreign({CLUSTER_ROLE_BINDING: [binding]})] == [{"subjects": [alice]}]


@pytest.mark.parametrize(
    ("name", "role", "manager", "group", "is_foreign"),
    [
        ("system:discovery", "system:discovery", "kube-apiserver", "system:authenticated", False),
        ("system:discovery", "system:discovery", "kubectl-edit", "system:authenticated", False),
        ("system:discovery", "system:discovery", "kubectl-edit", "system:unauthenticated", True),
        ("system:discovery", "cluster-admin", "kubectl-edit", "system:authenticated", True),
        ("system:vendor:info", "system:vendor:info", "kube-apiserver", "system:unauthenticated", False),
        ("system:vendor:info", "system:vendor:info", "kubectl-edit", "system:unauthenticated", True),
        ("cluster-admin", "cluster-admin", "kube-apiserver", "system:authenticated", True),
    ],
)
def test_bindings_of_the_api_server_are_predefined_until_somebody_adds_to_them(
    name: str, role: str, manager: str, group: str, is_foreign: bool
) -> None:
    content = {"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "Group", "name": group}]}
    label = {"kubernetes.io/bootstrapping": "rbac-defaults"}
    entries = [managed(each, operation="Update") for each in sorted({"kube-apiserver", manager})]
    binding = obj(name, "", content, labels=label, managedFields=entries)
    assert bool(names({CLUSTER_ROLE_BINDING: [binding]})) is is_foreign


def test_accounts_grant_access_when_they_are_bound_or_have_an_identity_of_a_cloud() -> None:
    bound = obj("b", content={"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{**API, "name": "bound"}]})
    accounts = [obj("bound"), obj("cloud", annotations={ARN: "arn:x"}), obj("idle"), obj("default")]
    assert names({SERVICE_ACCOUNT: accounts, ROLE_BINDING: [bound]}) == [
        "role-binding/lake/b",
        "service-account/lake/bound",
        "service-account/lake/cloud",
        "service-account-without-access/lake/idle",
    ]


@pytest.mark.parametrize(
    ("account", "is_foreign"),
    [(member(), True), (member(annotations={f"f:{ARN}": {}}), False), (obj("default"), True)],
)
def test_an_identity_that_somebody_adds_is_taken_away_from_the_account(account: Fields, is_foreign: bool) -> None:
    account = {**account, "metadata": {**account["metadata"], "annotations": {ARN: "arn:x"}}}
    found = foreign({SERVICE_ACCOUNT: [account], SECRET: [parent(SERVICE_ACCOUNT)]})
    patch = {"metadata": {"annotations": {ARN: None}}}
    assert [one.patch for one in found] == ([patch] if is_foreign else [])


@pytest.mark.parametrize(
    ("spec", "applied", "opened"),
    [
        ({"policyTypes": ["Ingress"]}, {}, []),
        ({"ingress": [{}]}, {"f:ingress": {}}, []),
        ({"ingress": [{}]}, {}, ["network-policy-rules/lake/api/ingress"]),
        ({"ingress": [{}], "egress": [{}]}, {"f:ingress": {}}, ["network-policy-rules/lake/api/egress"]),
    ],
)
def test_a_direction_that_the_description_leaves_closed_is_foreign_when_it_is_open(
    spec: Fields, applied: Fields, opened: list[str]
) -> None:
    policy = {**member(spec={"f:podSelector": {}, **applied}), "spec": spec}
    found = foreign({NETWORK_POLICY: [policy], SECRET: [parent(NETWORK_POLICY)]})
    assert [one.finding.address for one in found] == opened
    assert all(one.patch == {"spec": {one.finding.address.rpartition("/")[2]: None}} for one in found)


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        ({"ingress": [{}], "podSelector": {}}, "ingress of every pod"),
        ({"egress": [{}], "podSelector": {"matchLabels": {"a": "b"}}}, "egress of selected pods"),
        ({"podSelector": {}}, "denies traffic of every pod"),
    ],
)
def test_a_network_policy_says_what_it_opens(spec: Fields, detail: str) -> None:
    (found,) = foreign({NETWORK_POLICY: [obj("x", content={"spec": spec})]})
    assert (found.finding.detail, found.finding.group) == (detail, "policies")


@pytest.mark.parametrize(
    ("secret", "is_foreign"),
    [
        (obj("notes"), True),
        (parent(ROLE), False),
        (obj("lakehouse-secrets", managedFields=[managed("crypto-lakehouse-secrets", operation="Update")]), False),
        (obj("grafana-admin", managedFields=[managed("crypto-lakehouse")]), False),
        (obj("posted", managedFields=[managed("crypto-lakehouse", operation="Update")]), True),
        (of_release(manager="other"), False),
        (obj("webhook", ownerReferences=[DEPLOYMENT]), False),
        (obj("database-ca", labels={"cnpg.io/cluster": "database"}), False),
        (obj("tls", annotations={"cert-manager.io/certificate-name": "tls"}), False),
    ],
)
def test_a_secret_of_nobody_known_is_listed_and_never_removed(secret: Fields, is_foreign: bool) -> None:
    found = foreign({SECRET: [secret]})
    assert bool(found) is is_foreign
    assert all(one.finding.group == "" for one in found)


@pytest.mark.parametrize("owner", [(), (DEPLOYMENT,)])
def test_a_workload_of_nobody_is_listed(owner: tuple[Fields, ...]) -> None:
    found = names({("apps", "StatefulSet"): [obj("x", ownerReferences=list(owner))]})
    assert found == ([] if owner else ["workload/lake/statefulset/x"])
