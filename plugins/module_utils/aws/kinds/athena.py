# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Athena: workgroups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.errors import EngineError
from ...engine.resource import READY, Actual, Owner, Request
from ...engine.schema import Output, Property, Schema, ValidationError
from ..errors import CallError
from ..kind import (
    TAGS,
    Actions,
    AwsKind,
    all_tags,
    contents_remedy,
    given,
    owner_of,
    property_tags,
    tag_changes,
    tag_list,
    tag_map,
)
from ..spelling import key_id

# Athena has one code for all errors of a request.
_ABSENT = ("InvalidRequestException:not found",)
_NAME = re.compile(r"[a-zA-Z0-9._-]{1,128}")
_LEAST_CUTOFF_BYTES = 10_000_000


def _workgroup_name(value: str) -> str | None:
    return (
        None if _NAME.fullmatch(value) else f"{value!r} is not 1 to 128 letters, digits, dots, hyphens and underscores"
    )


def _cutoff(value: int) -> str | None:
    return None if value >= _LEAST_CUTOFF_BYTES else f"{value} is less than the 10 MB that Athena wants at least"


def _location(value: str) -> str | None:
    return None if value.startswith("s3://") else f"{value!r} is not an address like s3://BUCKET/PREFIX/"


def _faults(desired: Mapping[str, Any], _existing: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    encryption = desired["encryption"]
    if isinstance(encryption, Mapping):
        needs_key = encryption["encryption_option"] != "SSE_S3"
        if needs_key != (encryption["kms_key"] is not None):
            message = f"{'is missing for' if needs_key else 'is not used by'} {encryption['encryption_option']}"
            yield "encryption.kms_key", message, ""


class AthenaWorkgroup(AwsKind):
    """A workgroup: the location and encryption of results, and the limit of bytes that a query reads."""

    name = "athena_workgroup"
    service = "athena"
    schema = Schema(
        {
            "name": Property(required=True, replace=True, check=_workgroup_name, purpose="Name."),
            "description": Property(purpose="Description."),
            "state": Property(
                when_unset="ENABLED", choices=("ENABLED", "DISABLED"), purpose="Whether the workgroup accepts queries."
            ),
            "output_location": Property(check=_location, purpose="Location of query results, `s3://...`."),
            "encryption": Property(
                "map",
                purpose="Encryption of query results.",
                fields={
                    "encryption_option": Property(
                        required=True,
                        choices=("SSE_S3", "SSE_KMS", "CSE_KMS"),
                        purpose="Encryption by S3, KMS or the client.",
                    ),
                    "kms_key": Property(canonical=key_id, purpose="ARN of the key."),
                },
            ),
            "enforce_workgroup_configuration": Property(
                "boolean",
                default=True,
                when_unset=True,
                purpose="Whether these settings override the settings of clients.",
            ),
            "bytes_scanned_cutoff_per_query": Property(
                "integer", check=_cutoff, purpose="Maximum bytes that a query reads before Athena cancels it."
            ),
            "engine_version": Property(
                when_unset="AUTO", purpose="`AUTO`, or a version such as `Athena engine version 3`."
            ),
            "publish_cloudwatch_metrics": Property(
                "boolean",
                default=True,
                when_unset=False,
                purpose="Whether to publish metrics of queries to CloudWatch.",
            ),
            "recursive_delete_option": Property(
                "boolean",
                owned_by="the description",
                purpose="Whether a deletion also deletes history and saved queries. If false, it is refused "
                "while they exist.",
            ),
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN.")},
        unique_by=("name",),
        check=_faults,
    )
    actions = Actions(
        read=(
            "athena:GetWorkGroup",
            "athena:ListNamedQueries",
            "athena:ListQueryExecutions",
            "athena:ListTagsForResource",
        ),
        create=("athena:CreateWorkGroup", "athena:TagResource", "athena:UpdateWorkGroup"),
        update=("athena:UpdateWorkGroup", "athena:TagResource", "athena:UntagResource"),
        delete=("athena:DeleteWorkGroup",),
        list=("athena:ListWorkGroups",),
    )

    def _arn(self, name: str) -> str:
        identity = self.session.identity()
        return f"arn:{identity.partition}:athena:{self.session.region}:{identity.account_id}:workgroup/{name}"

    def read(self, id_: str) -> Actual | None:
        group = self._described(id_)
        return self._actual(group, self._tags(id_)) if group else None

    def _described(self, name: str) -> dict[str, Any] | None:
        answer = self.session.look("athena", "get_work_group", _ABSENT, WorkGroup=name)
        return (answer or {}).get("WorkGroup")

    def _tags(self, name: str) -> dict[str, str]:
        try:
            tags = self.session.pages("athena", "list_tags_for_resource", "Tags", ResourceARN=self._arn(name))
        except CallError as error:
            if error.is_one_of(("ResourceNotFoundException", *_ABSENT)):
                return {}
            raise
        return tag_map(tags)

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        def owned(group: Mapping[str, Any]) -> Actual | None:
            tags = self._tags(group["Name"])
            found = owner_of(tags)
            whole = self._described(group["Name"]) if found and found.shares_stack_with(owner) else None
            return self._actual(whole, tags) if whole else None

        # Every account has this workgroup, which cannot be created or deleted.
        listed = self.session.pages("athena", "list_work_groups", "WorkGroups")
        others = [group for group in listed if group["Name"] != "primary"]
        return [actual for actual in self.session.each(owned, others) if actual is not None]

    def _actual(self, group: Mapping[str, Any], tags: Mapping[str, str]) -> Actual:
        name, arn = group["Name"], self._arn(group["Name"])
        configuration = group.get("Configuration") or {}
        results = configuration.get("ResultConfiguration") or {}
        encryption = results.get("EncryptionConfiguration") or {}
        properties = {
            "name": name,
            "description": group.get("Description") or None,
            "state": group.get("State"),
            "output_location": results.get("OutputLocation") or None,
            "encryption": {
                "encryption_option": encryption["EncryptionOption"],
                "kms_key": encryption.get("KmsKey") or None,
            }
            if encryption
            else None,
            "enforce_workgroup_configuration": configuration.get("EnforceWorkGroupConfiguration"),
            "bytes_scanned_cutoff_per_query": configuration.get("BytesScannedCutoffPerQuery"),
            "engine_version": (configuration.get("EngineVersion") or {}).get("SelectedEngineVersion"),
            "publish_cloudwatch_metrics": configuration.get("PublishCloudWatchMetricsEnabled"),
            "tags": property_tags(tags),
        }
        return Actual(name, properties, {"id": name, "arn": arn}, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        wanted, name = request.desired, str(request.desired["name"])
        results = given({"OutputLocation": wanted["output_location"], "EncryptionConfiguration": _encryption(wanted)})
        configuration = {
            **_settings(wanted),
            "ResultConfiguration": results or None,
            "BytesScannedCutoffPerQuery": wanted["bytes_scanned_cutoff_per_query"],
        }
        self.session.call_once(
            "athena",
            "create_work_group",
            lambda: self._described(name),
            **given({"Description": wanted["description"]}),
            Name=name,
            Configuration=given(configuration),
            Tags=tag_list(all_tags(request)),
        )
        if wanted["state"] == "DISABLED":
            self.session.call("athena", "update_work_group", WorkGroup=name, State="DISABLED")
        return Actual(name, wanted, {"id": name}, request.owner)

    def update(self, request: Request) -> Actual:
        wanted, name = request.desired, request.existing.id
        if {change.path.partition(".")[0] for change in request.changes} - {"tags"}:
            self.session.call(
                "athena",
                "update_work_group",
                WorkGroup=name,
                Description=wanted["description"] or "",
                State=wanted["state"],
                ConfigurationUpdates=_updates(wanted),
            )
        changed, removed = tag_changes(request)
        if changed:
            self.session.call("athena", "tag_resource", ResourceARN=self._arn(name), Tags=tag_list(changed))
        if removed:
            self.session.call("athena", "untag_resource", ResourceARN=self._arn(name), TagKeys=removed)
        return request.existing

    def delete(self, request: Request) -> None:
        name = request.existing.id
        recursive = _may_delete_history(request)
        try:
            self.session.look("athena", "delete_work_group", _ABSENT, WorkGroup=name, RecursiveDeleteOption=recursive)
        except CallError as error:
            if error.is_one_of(("InvalidRequestException:not empty",)):
                raise EngineError(f"the workgroup {name} is not empty; {_remedy(request)}") from error
            raise

    def obstacles(self, request: Request) -> Sequence[ValidationError]:
        """Return the history of a workgroup that may not be deleted with it."""
        name = request.existing.id
        if _may_delete_history(request):
            return []

        def held_in(listing: tuple[str, str, str]) -> list[str]:
            operation, key, words = listing
            answer = self.session.look("athena", operation, _ABSENT, WorkGroup=name, MaxResults=1)
            return [words] if (answer or {}).get(key) else []

        held = [words for found in self.session.each(held_in, _CONTENTS) for words in found]
        message = f"the workgroup {name} is not empty, it holds {' and '.join(held)}"
        return [("", message, _remedy(request))] if held else []


_CONTENTS = (
    ("list_query_executions", "QueryExecutionIds", "a history of queries"),
    ("list_named_queries", "NamedQueryIds", "saved queries"),
)


def _may_delete_history(request: Request) -> bool:
    return request.erases or request.desired.get("recursive_delete_option") is True


def _remedy(request: Request) -> str:
    return contents_remedy(request, "or set recursive_delete_option: true on it")


def _encryption(wanted: Mapping[str, Any]) -> dict[str, str] | None:
    encryption = wanted["encryption"]
    if encryption is None:
        return None
    return given({"EncryptionOption": encryption["encryption_option"], "KmsKey": encryption["kms_key"]})


def _settings(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "EnforceWorkGroupConfiguration": wanted["enforce_workgroup_configuration"],
        "PublishCloudWatchMetricsEnabled": wanted["publish_cloudwatch_metrics"],
        "EngineVersion": {"SelectedEngineVersion": wanted["engine_version"]},
    }


def _updates(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings as an update. Settings to remove have their own parameters."""
    location, encryption, cutoff = (
        wanted["output_location"],
        _encryption(wanted),
        wanted["bytes_scanned_cutoff_per_query"],
    )
    results = {
        **({"OutputLocation": location} if location else {"RemoveOutputLocation": True}),
        **({"EncryptionConfiguration": encryption} if encryption else {"RemoveEncryptionConfiguration": True}),
    }
    limit = {"BytesScannedCutoffPerQuery": cutoff} if cutoff else {"RemoveBytesScannedCutoffPerQuery": True}
    return {**_settings(wanted), **limit, "ResultConfigurationUpdates": results}
