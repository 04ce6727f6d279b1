# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names from a description never produce a different address or ARN than intended."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import naming
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.errors import CallError
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.registry import KINDS, make_kinds
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.rules import identifier_faults
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws.session import Connection, Session
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Resource

_PARENTS = ("..", ".", "../x", "a/../b", "a/.", "a\x00", "\n")
_LOCAL = Connection(region="eu-central-1", access_key="a", secret_key="b" * 8, endpoint_url="http://127.0.0.1:1")


def _named_properties() -> list[tuple[str, str]]:
    """Return (kind, property) of every property that names a resource."""
    kinds = make_kinds(Session(_LOCAL), KINDS)
    words = {"name", "alias", "identifier", "url", "path", "cluster_name", "principal_arn", "role_arn", "namespace"}
    return [(kind.name, word) for kind in kinds for word in kind.schema.properties if word in words]


@given(place=st.sampled_from(_named_properties()), value=st.sampled_from(_PARENTS))
def test_every_kind_refuses_such_a_name(place: tuple[str, str], value: str) -> None:
    kind, word = place
    (fault,) = identifier_faults([Resource(kind, "main", {word: value})])
    assert (fault.address, fault.path) == (f"{kind}.main", word)
    assert fault.remedy


def test_names_below_lists_and_maps_are_checked() -> None:
    properties = {"access_policies": [{"policy_arn": "arn:aws:eks::aws:cluster-access-policy/.."}], "description": ".."}
    (fault,) = identifier_faults([Resource("eks_access_entry", "main", properties)])
    assert fault.path == "access_policies[0].policy_arn"


@pytest.mark.parametrize("value", [*_PARENTS, "", "//", "team/", "/team", "/a//b/", "/a%2f/", "/ä/", f"/{'x' * 511}/"])
def test_the_path_of_an_iam_resource_is_checked(value: str) -> None:
    assert naming.path_fault(value)


@pytest.mark.parametrize("value", ["/", "/team/", "/team/service-1/"])
def test_a_path_of_iam_is_taken(value: str) -> None:
    assert naming.path_fault(value) is None


@given(value=st.sampled_from([*_PARENTS, "", "a/b", "%2e"]))
def test_what_eks_puts_into_addresses_is_checked(value: str) -> None:
    rules = (
        naming.cluster_name_fault,
        naming.addon_name_fault,
        naming.nodegroup_name_fault,
        naming.namespace_fault,
        naming.account_name_fault,
        naming.arn_fault,
    )
    assert all(rule(value) for rule in rules)


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [
        ("eks", "delete_cluster", {"name": ".."}),
        ("eks", "delete_addon", {"clusterName": "main", "addonName": ".."}),
        ("eks", "delete_access_entry", {"clusterName": "main", "principalArn": "arn:aws:iam::1:role/.."}),
        ("s3", "delete_bucket", {"Bucket": ".."}),
        ("s3", "delete_object", {"Bucket": "main", "Key": "a/../b"}),
        ("backup", "delete_backup_vault", {"BackupVaultName": "."}),
        ("efs", "delete_file_system", {"FileSystemId": ""}),
    ],
)
def test_no_call_is_sent_to_another_address(service: str, operation: str, parameters: dict[str, Any]) -> None:
    session = Session(_LOCAL)
    with pytest.raises(CallError, match=r"cannot send the call: .*; correct the name") as error:
        session.call(service, operation, **parameters)
    assert error.value.code == "InvalidIdentifier"
    assert session.calls == []
