# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which objects are applied and deleted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.manifests import Identity
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.kube.manifests.order import (
    group_of,
    is_built_in,
    phases,
    removals,
)

NAMESPACE = Identity("v1", "Namespace", "", "shop")
CRD = Identity("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "lamps.example.org")
LAMP = Identity("example.org/v1", "Lamp", "shop", "desk")
DEPLOYMENT = Identity("apps/v1", "Deployment", "shop", "operator")
SECRET = Identity("v1", "Secret", "shop", "key")
ROLE = Identity("rbac.authorization.k8s.io/v1", "Role", "shop", "reader")
BINDING = Identity("rbac.authorization.k8s.io/v1", "RoleBinding", "shop", "reader")
POD = Identity("v1", "Pod", "shop", "once")
WEBHOOK = Identity("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", "judge")
POLICY = Identity("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "", "judge")
API = Identity("apiregistration.k8s.io/v1", "APIService", "", "v1beta1.metrics.example.org")
ALL = [NAMESPACE, CRD, LAMP, DEPLOYMENT, SECRET, ROLE, BINDING, POD, WEBHOOK, POLICY, API]
SETS = st.lists(st.sampled_from(ALL), unique=True)


def place(found: tuple[tuple[Identity, ...], ...], one: Identity) -> int:
    return next(index for index, phase in enumerate(found) if one in phase)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (NAMESPACE, SECRET),
        (CRD, LAMP),
        (ROLE, BINDING),
        (SECRET, POD),
        (DEPLOYMENT, WEBHOOK),
        (POD, POLICY),
        (DEPLOYMENT, API),
    ],
)
def test_what_others_need_comes_first_and_what_judges_others_last(first: Identity, later: Identity) -> None:
    found = phases([later, first])

    assert place(found, first) < place(found, later)


def test_everything_that_needs_nothing_of_each_other_is_applied_at_once() -> None:
    assert phases([LAMP, DEPLOYMENT, SECRET, ROLE]) == ((LAMP, DEPLOYMENT, SECRET, ROLE),)


def test_a_custom_resource_goes_before_the_operator_that_cleans_up_after_it_and_its_definition_last() -> None:
    found = removals(ALL)

    assert place(found, WEBHOOK) < place(found, LAMP) < place(found, DEPLOYMENT) < place(found, CRD)


@given(SETS)
def test_every_object_is_in_one_phase_of_an_apply_and_of_a_deletion(objects: list[Identity]) -> None:
    for found in (phases(objects), removals(objects)):
        assert all(found)
        assert sorted(one for phase in found for one in phase) == sorted(objects)


@given(SETS)
def test_a_deletion_never_removes_something_before_what_was_applied_after_it(objects: list[Identity]) -> None:
    applied, deleted = phases(objects), removals(objects)
    for one in objects:
        for other in objects:
            if place(applied, one) < place(applied, other):
                assert place(deleted, other) < place(deleted, one)


@given(SETS)
def test_phases_do_not_depend_on_the_order_of_the_manifests(objects: list[Identity]) -> None:
    shuffled = sorted(objects, key=str)

    assert [set(phase) for phase in phases(shuffled)] == [set(phase) for phase in phases(objects)]


def test_a_group_that_ends_like_those_of_the_project_is_not_built_in_for_that() -> None:
    assert is_built_in(ROLE)
    assert not is_built_in(Identity("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "shop", "one"))
    assert group_of("apps/v1") == "apps"
    assert group_of("v1") == ""
