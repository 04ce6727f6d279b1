# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of policy documents, by what a policy is attached to. Pure.

Source: "Grammar of the IAM JSON policy language" and "IAM JSON policy element reference" in the user guide of IAM.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..engine.schema import ValidationError, shown
from ..engine.value import Unknown, join, mapped
from ..shared.nearest import suggestion
from .kind import document

_VERSIONS = ("2012-10-17", "2008-10-17")
_POLICY_KEYS = ("Version", "Id", "Statement")
_STATEMENT_KEYS = (
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
)
_PRINCIPAL_KEYS = ("AWS", "CanonicalUser", "Federated", "Service")
_COMPARED = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
_OPERATORS = frozenset(
    {
        *(
            f"String{word}"
            for word in ("Equals", "NotEquals", "EqualsIgnoreCase", "NotEqualsIgnoreCase", "Like", "NotLike")
        ),
        *(f"Arn{word}" for word in ("Equals", "NotEquals", "Like", "NotLike")),
        *(f"{type_}{word}" for type_ in ("Numeric", "Date") for word in _COMPARED),
        *("BinaryEquals", "Bool", "IpAddress", "NotIpAddress", "Null"),
    }
)
_OPERATOR = re.compile(r"(?:ForAllValues:|ForAnyValue:)?([A-Za-z]+?)(?:IfExists)?")
_ACTION = re.compile(r"\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+")
_RESOURCE = re.compile(r"\*|(?:arn|\$\{[^}]*\}|\*)[^\s]*:[^\s]*:[^\s]*:.*|\$\{.*", re.DOTALL)
_AWS_PRINCIPAL = re.compile(r"\*|\d{12}|arn:[a-z-]+:(?:iam|sts)::(?:\d{12}|\*):.+|AIDA\w+|AROA\w+")
_SERVICE = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_SID = re.compile(r"[A-Za-z0-9]*")


@dataclass(frozen=True)
class Sort:
    """Type of a policy, by the resource that it is attached to.

    principal, resource: whether its statements contain them. most: maximum length; counts_spaces: whether white space
    counts. source: AWS documentation.
    """

    name: str
    principal: Literal["required", "forbidden"]
    resource: Literal["required", "optional", "forbidden"]
    most: int | None
    counts_spaces: bool
    source: str


_IAM = "IAM and AWS STS quotas, in the user guide of IAM"
IDENTITY = Sort("a managed policy", "forbidden", "required", 6144, False, _IAM)
INLINE = Sort("an inline policy of a role", "forbidden", "required", 10_240, False, _IAM)
# The default is 2,048 characters; AWS can raise the quota up to this number.
TRUST = Sort("a trust policy", "required", "forbidden", 4096, False, _IAM)
BUCKET = Sort("a bucket policy", "required", "required", 20_480, True, "Bucket policies, in the user guide of S3")
KEY = Sort("a key policy", "required", "required", 32_768, True, "Resource quotas, in the developer guide of KMS")
SECRET = Sort("a policy of a secret", "required", "required", 20_480, True, "PutResourcePolicy of Secrets Manager")
ENDPOINT = Sort("an endpoint policy", "required", "required", 20_480, True, "Quotas of AWS PrivateLink")
REPOSITORY = Sort("a repository policy", "required", "optional", 10_240, True, "SetRepositoryPolicy of ECR")
TOPIC = Sort("a topic policy", "required", "required", None, True, "")
VAULT = Sort("a vault policy", "required", "required", None, True, "")
# By kind and property.
SORTS: Mapping[tuple[str, str], Sort] = {
    ("iam_policy", "policy"): IDENTITY,
    ("iam_role", "assume_role_policy"): TRUST,
    ("iam_role", "inline_policies"): INLINE,
    ("s3_bucket", "policy"): BUCKET,
    ("kms_key", "policy"): KEY,
    ("secretsmanager_secret", "policy"): SECRET,
    ("vpc_endpoint", "policy"): ENDPOINT,
    ("ecr_repository", "policy"): REPOSITORY,
    ("sns_topic", "policy"): TOPIC,
    ("backup_vault", "policy"): VAULT,
}


def policy_validation_errors(value: Any, sort: Sort, path: str) -> Iterator[ValidationError]:
    """Yield every error of a policy. Unknown parts are considered valid."""
    if not isinstance(value, Mapping):
        return
    yield from _size(value, sort, path)
    yield from _unknown_keys(value, _POLICY_KEYS, path)
    version = value.get("Version")
    if version is not None and not isinstance(version, Unknown) and version not in _VERSIONS:
        yield (
            join(path, "Version"),
            f"{shown(version)} is not a version of the policy language",
            f"write {_VERSIONS[0]}",
        )
    if "Id" in value and sort.principal == "forbidden":
        yield join(path, "Id"), f"{sort.name} has no Id", "remove it"
    statements = value.get("Statement")
    listed = statements if isinstance(statements, list) else [statements]
    for index, statement in enumerate(listed):
        place = join(join(path, "Statement"), index) if isinstance(statements, list) else join(path, "Statement")
        if isinstance(statement, Mapping):
            yield from _statement(statement, sort, place)
    sids = Counter(item["Sid"] for item in listed if isinstance(item, Mapping) and isinstance(item.get("Sid"), str))
    for sid in sorted(sid for sid, count in sids.items() if sid and count > 1):
        yield join(path, "Statement"), f"{sid!r} is the Sid of two statements", "set a different Sid for each statement"


def _size(value: Mapping[str, Any], sort: Sort, path: str) -> Iterator[ValidationError]:
    if sort.most is None:
        return
    text = document(mapped(value, lambda leaf: str(leaf) if isinstance(leaf, Unknown) else leaf))
    size = len(text.encode()) if sort.counts_spaces else len(re.sub(r"\s", "", text))
    if size > sort.most:
        remedy = f"{sort.name} has at most {sort.most}: shorten it, or split it"
        yield path, f"has {size} {'bytes' if sort.counts_spaces else 'characters without white space'}", remedy


def _unknown_keys(value: Mapping[str, Any], known: tuple[str, ...], path: str) -> Iterator[ValidationError]:
    for key in sorted(map(str, set(value) - set(known))):
        yield join(path, key), "is not an element of a policy", suggestion(key, known)


def _statement(statement: Mapping[str, Any], sort: Sort, path: str) -> Iterator[ValidationError]:
    yield from _unknown_keys(statement, _STATEMENT_KEYS, path)
    sid = statement.get("Sid")
    if sort.principal == "forbidden" and isinstance(sid, str) and not _SID.fullmatch(sid):
        yield join(path, "Sid"), f"{sid!r} is not a Sid of IAM", "use letters and digits alone"
    yield from _one_of(statement, "Action", "required", "", path)
    yield from _one_of(statement, "Principal", sort.principal, sort.name, path)
    yield from _one_of(statement, "Resource", sort.resource, sort.name, path)
    for name in ("Action", "NotAction"):
        yield from _actions(statement.get(name), sort, join(path, name))
    for name in ("Principal", "NotPrincipal"):
        yield from _principal(statement.get(name), join(path, name))
    for name in ("Resource", "NotResource"):
        for place, text in _texts(statement.get(name), join(path, name)):
            if not _RESOURCE.fullmatch(text):
                yield place, f"{shown(text)} is not an ARN", "write * or arn:PARTITION:SERVICE:REGION:ACCOUNT:NAME"
    yield from _condition(statement.get("Condition"), join(path, "Condition"))


def _one_of(statement: Mapping[str, Any], name: str, wanted: str, whose: str, path: str) -> Iterator[ValidationError]:
    """Yield the errors of an element that has an opposite."""
    opposite = f"Not{name}"
    has = [word for word in (name, opposite) if statement.get(word) is not None]
    if len(has) == 2:
        yield join(path, opposite), f"is given beside {name}", "remove one of them"
    elif not has and wanted == "required":
        yield join(path, name), "is required and not given", f"add {name} or {opposite}"
    elif has and wanted == "forbidden":
        yield join(path, has[0]), f"{whose} has no {has[0]}", "remove it"


def _actions(value: Any, sort: Sort, path: str) -> Iterator[ValidationError]:
    for place, text in _texts(value, path):
        if not _ACTION.fullmatch(text):
            yield place, f"{shown(text)} is not an action", "write SERVICE:ACTION, like s3:GetObject"
        elif sort is TRUST and not text.startswith("sts:"):
            yield place, f"{shown(text)} is not an action of STS, as a trust policy has", "write sts:AssumeRole"


def _principal(value: Any, path: str) -> Iterator[ValidationError]:
    if value is None or isinstance(value, Unknown) or value == "*":
        return
    if not isinstance(value, Mapping):
        yield path, f"{shown(value)} is not a principal", f'write "*", or a map of {", ".join(_PRINCIPAL_KEYS)}'
        return
    yield from _unknown_keys(value, _PRINCIPAL_KEYS, path)
    forms = (
        ("AWS", _AWS_PRINCIPAL, "write an account, *, or the ARN of a role or user"),
        ("Service", _SERVICE, "write the principal of a service, like ec2.amazonaws.com"),
    )
    for key, form, remedy in forms:
        for place, text in _texts(value.get(key), join(path, key)):
            if not form.fullmatch(text):
                yield place, f"{shown(text)} is not a principal", remedy


def _condition(value: Any, path: str) -> Iterator[ValidationError]:
    if value is None or isinstance(value, Unknown):
        return
    if not isinstance(value, Mapping):
        yield path, f"{shown(value)} is not a condition", "write a map: OPERATOR: {KEY: VALUE}"
        return
    for name, tests in value.items():
        match = _OPERATOR.fullmatch(str(name))
        if not match or match[1] not in _OPERATORS:
            yield join(path, str(name)), "is not an operator of conditions", suggestion(str(name), _OPERATORS)
        elif not isinstance(tests, Mapping | Unknown):
            yield join(path, str(name)), f"{shown(tests)} is not a map", "write a map: KEY: VALUE"


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the known texts of an element, which is a text or a list of texts, with their paths."""
    for index, item in enumerate(value) if isinstance(value, list) else ((None, value),):
        if isinstance(item, str):
            yield (path if index is None else join(path, index)), item
