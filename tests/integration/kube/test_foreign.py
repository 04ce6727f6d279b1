# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign objects on a real API server: found, kept where they are expected, removed on request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.expected import Described
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.cluster.foreign import (
    compare,
    read_foreign,
    remove_foreign,
)
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.apply.applyset import PART_OF_LABEL, Parent
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.client import MERGE
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.client.errors import KubeError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.shared.foreign import REMOVABLE
from tests.integration.kube.applying import Fields, Shop, secret

SET = "lakehouse-services"
RBAC = "rbac.authorization.k8s.io/v1"
RULES = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]
RBAC_API, NETWORK_API = "/apis/rbac.authorization.k8s.io/v1", "/apis/networking.k8s.io/v1"


def role(name: str) -> Fields:
    return {"apiVersion": RBAC, "kind": "Role", "metadata": {"name": name}, "rules": RULES}


def binding(name: str, account: Fields, kind: str = "RoleBinding", to: str = "Role") -> Fields:
    reference = {"apiGroup": RBAC.partition("/")[0], "kind": to, "name": "view" if to == "ClusterRole" else name}
    return {"apiVersion": RBAC, "kind": kind, "metadata": {"name": name}, "roleRef": reference, "subjects": [account]}


def account(name: str, **annotations: str) -> Fields:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "annotations": annotations}}


def policy(name: str, **spec: Any) -> Fields:
    whole = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **spec}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": whole}


def workload(name: str) -> Fields:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "example.org/x:1"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


class Place:
    """A namespace with a described set, and manual additions to it."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.namespace = shop, shop.namespace
        self.described = Described.of({"namespaces": [self.namespace], "sets": [f"{self.namespace}/{SET}"]})
        self.subject = {"kind": "ServiceAccount", "name": "api", "namespace": self.namespace}
        self.set = [role("api"), binding("api", self.subject), account("api"), policy("closed"), secret("key", a="b")]
        shop.run(*self.set, workload("api"), prune=SET)

    def compare(self, *remove: str, expected: tuple[str, ...] = (), only_plans: bool = False) -> dict[str, Any]:
        return compare(self.shop.client, self.described, expected, remove, only_plans=only_plans)

    def add(self, path: str, content: Fields) -> Fields:
        made: Fields = self.shop.client.request("POST", path, query={"fieldManager": "kubectl-create"}, body=content)
        return made

    def in_namespace(self, api: str, plural: str) -> str:
        return f"{api}/namespaces/{self.namespace}/{plural}"

    def add_everything(self) -> None:
        mallory = {"kind": "ServiceAccount", "name": "mallory", "namespace": self.namespace}
        self.add(self.in_namespace(RBAC_API, "roles"), role("evil"))
        self.add(self.in_namespace(RBAC_API, "rolebindings"), binding("evil", mallory))
        self.add(self.in_namespace("/api/v1", "serviceaccounts"), account("mallory"))
        self.add(self.in_namespace("/api/v1", "serviceaccounts"), account("idle"))
        self.add(self.in_namespace(NETWORK_API, "networkpolicies"), policy("open", ingress=[{}]))
        self.add(self.in_namespace("/api/v1", "secrets"), secret("notes", a="hunter2hunter2"))
        self.add(self.in_namespace("/apis/apps/v1", "deployments"), workload("toy"))

    def finds(self, *lines: str) -> list[str]:
        return [line.replace("NS", self.namespace) for line in lines]


@pytest.fixture
def place(shop: Shop) -> Place:
    return Place(shop)


@pytest.fixture
def cluster_binding(place: Place) -> Iterator[str]:
    """Return a binding for a whole cluster, to the account of the set and to a foreign one."""
    other = {"kind": "ServiceAccount", "name": "other", "namespace": "default"}
    made = binding(f"evil-{place.namespace}", place.subject, "ClusterRoleBinding", "ClusterRole")
    place.add(f"{RBAC_API}/clusterrolebindings", {**made, "subjects": [place.subject, other]})
    path = f"{RBAC_API}/clusterrolebindings/{made['metadata']['name']}"
    yield path
    place.shop.client.request("DELETE", path)


def test_a_described_namespace_has_nothing_foreign(place: Place) -> None:
    found = place.compare(*REMOVABLE)
    assert (found["removed"], found["grants"], found["added"]) == ([], [], [])


def test_what_grants_access_is_found_kept_where_expected_and_removed_on_request(
    place: Place, cluster_binding: str
) -> None:
    place.add_everything()
    found = place.compare()
    assert found["grants"] == place.finds(
        "cluster-role-binding/evil-NS: ClusterRole view for ServiceAccount NS/api [lakehouse_remove_foreign: bindings]",
        "network-policy/NS/open: ingress of every pod [lakehouse_remove_foreign: policies]",
        "rbac-role/NS/evil: get, list secrets [lakehouse_remove_foreign: roles]",
        "role-binding/NS/evil: Role evil for ServiceAccount NS/mallory [lakehouse_remove_foreign: bindings]",
        "service-account/NS/mallory: is bound to a role [lakehouse_remove_foreign: identities]",
    )
    assert found["added"] == place.finds(
        "secret/NS/notes", "service-account-without-access/NS/idle", "workload/NS/deployment/toy"
    )
    planned = place.compare(*REMOVABLE, expected=("rbac-role/*",), only_plans=True)
    assert planned["removed"] == [line.partition(":")[0] for line in found["grants"] if "rbac-role" not in line]
    assert "network-policy/" in planned["diff"]["before"]
    assert place.compare()["grants"] == found["grants"]

    done = place.compare(*REMOVABLE, expected=("rbac-role/*",))
    assert (done["changed"], done["removed"], done["grants"]) == (True, planned["removed"], [])
    after = place.compare(*REMOVABLE)
    assert after["removed"] == place.finds("rbac-role/NS/evil")
    assert place.compare(*REMOVABLE)["changed"] is False
    assert place.compare()["added"] == found["added"]
    # The foreign subject stays bound, and described objects stay.
    left = place.shop.client.request("GET", cluster_binding)["subjects"]
    assert [subject["name"] for subject in left] == ["other"]
    assert place.shop.get("serviceaccounts", "api") is not None
    assert not place.shop.run(*place.set, workload("api"), prune=SET)["changed"]


def test_a_described_policy_that_somebody_opened_is_closed_again(place: Place) -> None:
    opened: Fields = {"spec": {"ingress": [{}], "egress": [{}]}}
    path = place.shop.path("networkpolicies", "closed", NETWORK_API)
    place.shop.client.request("PATCH", path, query={"fieldManager": "kubectl-edit"}, body=opened, content_type=MERGE)
    # Fields that a set does not apply are not differences.
    assert not place.shop.run(*place.set, workload("api"), prune=SET, check=True)["changed"]
    found = place.compare("policies")
    assert found["removed"] == place.finds(
        "network-policy-rules/NS/closed/egress", "network-policy-rules/NS/closed/ingress"
    )
    closed = place.shop.client.request("GET", path)["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert place.compare()["grants"] == []


def test_an_identity_of_a_cloud_that_somebody_gave_to_a_described_account_is_taken_away(place: Place) -> None:
    given = {"metadata": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/admin"}}}
    path = place.shop.path("serviceaccounts", "api")
    place.shop.client.request("PATCH", path, query={"fieldManager": "kubectl-edit"}, body=given, content_type=MERGE)
    assert place.compare("identities")["removed"] == place.finds(
        "service-account-annotation/NS/api/eks.amazonaws.com/role-arn"
    )
    assert not (place.shop.get("serviceaccounts", "api") or {})["metadata"].get("annotations")


def test_labels_of_a_set_make_nothing_described(place: Place) -> None:
    label = {PART_OF_LABEL: Parent(SET, place.namespace).id}
    copied = {**role("evil"), "metadata": {"name": "evil", "labels": label}}
    place.add(place.in_namespace(RBAC_API, "roles"), copied)
    assert place.compare()["grants"][0].startswith(place.finds("rbac-role/NS/evil")[0])


def test_an_object_that_changed_since_it_was_read_stays_and_is_named(place: Place, cluster_binding: str) -> None:
    found = read_foreign(place.shop.client, place.described)
    change = {"metadata": {"labels": {"seen": "no"}}}
    place.shop.client.request("PATCH", cluster_binding, body=change, content_type=MERGE)
    with pytest.raises(KubeError, match=r"cannot remove cluster-role-binding/evil-.*run it again"):
        remove_foreign(place.shop.client, found)
