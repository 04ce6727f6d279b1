# SPDX-License-Identifier: GPL-3.0-or-later
"""Workgroups on the emulators."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import RefusedError
from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

KEY = "arn:aws:kms:eu-central-1:111122223333:key/11111111-2222-3333-4444-555555555555"
GROUP: dict[str, Any] = {
    "name": "lake-development",
    "description": "Queries",
    "output_location": "s3://lake-athena/results/",
    "encryption": {"encryption_option": "SSE_KMS", "kms_key": KEY},
    "bytes_scanned_cutoff_per_query": 100 * 1024**3,
}
MAIN = {"athena_workgroup.main": GROUP}


def edit_tags(lab: Lab, name: str, tags: dict[str, str], removed: list[str]) -> None:
    client, arn = lab.client("athena"), f"arn:aws:athena:eu-central-1:{lab.emulator.account_id}:workgroup/{name}"
    client.tag_resource(ResourceARN=arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    client.untag_resource(ResourceARN=arn, TagKeys=removed)


# moto cannot update a workgroup.
@pytest.mark.emulators("ministack")
def test_a_workgroup_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "athena_workgroup.main",
        GROUP,
        {"athena_workgroup.other": {"name": "other"}},
        changes={
            "description": "All queries",
            "state": "DISABLED",
            "output_location": "s3://lake-athena/other/",
            "encryption": {"encryption_option": "SSE_S3"},
            "enforce_workgroup_configuration": False,
            "bytes_scanned_cutoff_per_query": 10_000_000,
            "engine_version": "Athena engine version 3",
            "publish_cloudwatch_metrics": False,
        },
        vanish=lambda lab, id_: lab.client("athena").delete_work_group(WorkGroup=id_),
        edit_tags=edit_tags,
    )


def test_a_workgroup_is_made_found_and_removed(lab: Lab) -> None:
    lab.apply(MAIN)
    lab.assert_unchanged(MAIN)
    edit_tags(lab, "lake-development", {"Project": "other"}, [])
    assert [change.path for change in lab.plan(MAIN).node("athena_workgroup.main").changes] == ["tags.Project"]
    lab.apply(MAIN)
    lab.apply({"athena_workgroup.other": {"name": "other"}}, prune=True)
    assert {group["Name"] for group in lab.client("athena").list_work_groups()["WorkGroups"]} == {"primary", "other"}


class _Recorder(Behaviour):
    """Receives the update that the emulator only supports in part."""

    def __init__(self) -> None:
        self.updates: dict[str, Any] = {}

    def before(self, call: Call) -> Answer | None:
        if call.operation == "UpdateWorkGroup":
            self.updates = dict(call.parameters["ConfigurationUpdates"])
            return Answer({})
        return None


def test_what_is_no_longer_described_is_taken_back(lab: Lab) -> None:
    lab.apply(MAIN)
    lab.wire.behaviour = recorder = _Recorder()
    lab.run({"athena_workgroup.main": {"name": GROUP["name"]}})
    assert recorder.updates == {
        "EnforceWorkGroupConfiguration": True,
        "PublishCloudWatchMetricsEnabled": True,
        "EngineVersion": {"SelectedEngineVersion": "AUTO"},
        "RemoveBytesScannedCutoffPerQuery": True,
        "ResultConfigurationUpdates": {"RemoveOutputLocation": True, "RemoveEncryptionConfiguration": True},
    }


class _NotEmpty(Behaviour):
    """A workgroup that ran queries. is_known_before: whether its history is visible when the plan reads it."""

    def __init__(self, *, is_known_before: bool) -> None:
        self.is_known_before = is_known_before

    def before(self, call: Call) -> Answer | None:
        if call.operation == "ListQueryExecutions" and self.is_known_before:
            return Answer({"QueryExecutionIds": ["one"]})
        if call.operation == "DeleteWorkGroup" and not call.parameters["RecursiveDeleteOption"]:
            return Answer.error("InvalidRequestException", "WorkGroup lake-development is not empty")
        return None


def test_a_workgroup_with_a_history_is_deleted_only_when_told(lab: Lab) -> None:
    lab.apply(MAIN)
    lab.wire.behaviour = _NotEmpty(is_known_before=True)
    with pytest.raises(
        RefusedError, match=r"it holds a history of queries; name athena_workgroup.main in delete_contents"
    ):
        lab.run(MAIN, state="absent")
    lab.wire.behaviour = _NotEmpty(is_known_before=False)
    result = lab.run(MAIN, state="absent").report.result("athena_workgroup.main")
    assert result.outcome == "failed"
    assert "is not empty; name athena_workgroup.main in delete_contents" in result.message
    assert "set recursive_delete_option: true" in result.message
    lab.destroy({"athena_workgroup.main": {**GROUP, "recursive_delete_option": True}})
