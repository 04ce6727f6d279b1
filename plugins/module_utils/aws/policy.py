# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy documents: their validation, and the spelling in which AWS returns them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..engine.schema import Property

_ROOT = re.compile(r"arn:[a-z-]+:iam::(\d{12}):root")
# AWS returns this error for a principal that was created seconds before.
NEW_PRINCIPAL = (
    "MalformedPolicyDocument:nvalid principal",
    "MalformedPolicyDocumentException:nvalid principal",
    "MalformedPolicyDocumentException:unsupported principal",
)


def policy_property(purpose: str, *, required: bool = False, computed: bool = False) -> Property:
    """Return the property for a policy."""
    return Property(
        "policy",
        required=required,
        computed=computed,
        check=policy_fault,
        canonical=as_stored,
        purpose=purpose,
    )


def policy_fault(value: Any) -> str | None:
    """Return the problem of a policy, or None. AWS checks its actions, principals and conditions."""
    statements = value.get("Statement") if isinstance(value, Mapping) else None
    listed = [statements] if isinstance(statements, Mapping) else statements
    if not isinstance(listed, list) or not listed:
        return "is not a policy: it has no `Statement`"
    for number, statement in enumerate(listed, 1):
        if not isinstance(statement, Mapping) or statement.get("Effect") not in ("Allow", "Deny"):
            return f"statement {number} is neither for `Effect: Allow` nor for `Effect: Deny`"
    return None


def as_stored(policy: Any) -> Any:
    """Return a policy with one spelling of each principal: an account by its number, everyone as `{"AWS": "*"}`.

    AWS stores an account's number as the ARN of its root. It stores a deleted principal as its unique id. That id is a
    difference, because the policy does not apply to a new principal with the same ARN.
    Source: "AWS JSON policy elements: Principal" in the user guide of IAM.
    """
    if not isinstance(policy, Mapping):
        return policy
    statements = policy.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    return {**policy, "Statement": [_stored_statement(statement) for statement in listed]}


def _stored_statement(statement: Any) -> Any:
    if not isinstance(statement, Mapping):
        return statement
    named = {key: _stored_principal(statement[key]) for key in ("Principal", "NotPrincipal") if key in statement}
    return {**statement, **named}


def _stored_principal(principal: Any) -> Any:
    if principal == "*":
        return {"AWS": "*"}
    if not isinstance(principal, Mapping) or "AWS" not in principal:
        return principal
    given = principal["AWS"]
    names = given if isinstance(given, list) else [given]
    return {**principal, "AWS": [_ROOT.sub(r"\1", str(name)) for name in names]}
