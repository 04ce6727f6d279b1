# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases on emulators, and asynchronous behaviour of databases: states, windows, storage growth, upgrades."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.errors import (
    DescriptionError,
    RefusedError,
)
from tests.integration.aws.lab import Lab, Ran
from tests.integration.aws.wire import Answer, Behaviour, Call, read_timeout

NETWORK: dict[str, Any] = {
    "vpc.main": {"cidr_block": "10.0.0.0/16"},
    **{
        f"subnet.{zone}": {
            "vpc_id": "${vpc.main.id}",
            "cidr_block": f"10.0.{number}.0/24",
            "availability_zone": f"eu-central-1{zone}",
        }
        for number, zone in enumerate("abc")
    },
}
GROUP = {"name": "lake-development", "subnet_ids": ["${subnet.a.id}", "${subnet.b.id}"]}
DATABASE = {
    "identifier": "lake-development",
    "instance_class": "db.t4g.medium",
    "allocated_storage": 20,
    "engine_version": "16.3",
}
PASSWORD, OTHER_PASSWORD = "first-secret-of-a-test", "other-secret-of-a-test"
UNPROTECT = ("db_instance.main",)


def described(**changes: Any) -> dict[str, Any]:
    return {"db_instance.main": {**DATABASE, **changes}}


def instance(lab: Lab) -> dict[str, Any]:
    found: dict[str, Any] = lab.client("rds").describe_db_instances(DBInstanceIdentifier="lake-development")
    result: dict[str, Any] = found["DBInstances"][0]
    return result


def message(ran: Ran) -> str:
    return ran.report.result("db_instance.main").message


def tags(kind: str) -> Any:
    def edit(lab: Lab, id_: str, changed: dict[str, str], removed: list[str]) -> None:
        arn = f"arn:aws:rds:{lab.emulator.region}:{lab.emulator.account_id}:{kind}:{id_}"
        pairs = [{"Key": key, "Value": value} for key, value in changed.items()]
        lab.client("rds").add_tags_to_resource(ResourceName=arn, Tags=pairs)
        lab.client("rds").remove_tags_from_resource(ResourceName=arn, TagKeys=removed)

    return edit


def vanish(lab: Lab, id_: str) -> None:
    lab.client("rds").delete_db_instance(DBInstanceIdentifier=id_, SkipFinalSnapshot=True)


class Telling(Behaviour):
    """Changes RDS' description of every instance, permanently or for the given number of answers."""

    def __init__(self, *answers: dict[str, Any], **told: Any) -> None:
        self.answers, self.told = list(answers), told

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation != "DescribeDBInstances" or not answer.get("DBInstances"):
            return None
        told = {**self.told, **(self.answers.pop(0) if self.answers else {})}
        body = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
        return Answer({**body, "DBInstances": [self._instance(item, told) for item in body["DBInstances"]]})

    @staticmethod
    def _instance(item: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        pending = {**(item.get("PendingModifiedValues") or {}), **told.get("PendingModifiedValues", {})}
        return {**item, **told, "PendingModifiedValues": pending}


def test_life_of_a_subnet_group(lab: Lab) -> None:
    lab.assert_matrix(
        "db_subnet_group.main",
        GROUP,
        NETWORK,
        changes={},
        vanish=lambda lab, id_: lab.client("rds").delete_db_subnet_group(DBSubnetGroupName=id_),
        edit_tags=tags("subgrp"),
    )


# moto loses a changed group.
@pytest.mark.emulators("ministack")
def test_a_subnet_group_changes_in_place(lab: Lab) -> None:
    lab.apply({**NETWORK, "db_subnet_group.main": GROUP})
    changes: list[dict[str, Any]] = [
        {"description": "Of the lake"},
        {"subnet_ids": ["${subnet.b.id}", "${subnet.c.id}"]},
    ]
    for change in changes:
        described = {**NETWORK, "db_subnet_group.main": {**GROUP, **change}}
        assert lab.apply(described).mutating == ["rds:ModifyDBSubnetGroup"]
        lab.assert_unchanged(described)


def test_names_are_the_same_in_upper_and_lower_case(lab: Lab) -> None:
    group = {**NETWORK, "db_subnet_group.main": {**GROUP, "name": "Lake-Development"}}
    ran = lab.apply(group)
    assert ran.id("db_subnet_group.main") == "lake-development"
    lab.assert_unchanged(group)
    lab.apply(described(identifier="Lake-Development"))
    lab.assert_unchanged(described(identifier="Lake-Development"))
    lab.assert_unchanged(described())


def test_a_subnet_group_needs_two_subnets(lab: Lab) -> None:
    lab.apply(NETWORK)
    for subnets in ([], ["${subnet.a.id}"]):
        with pytest.raises(DescriptionError, match="needs subnets in two availability zones"):
            lab.plan({**NETWORK, "db_subnet_group.main": {**GROUP, "subnet_ids": subnets}})


# ministack stores no windows, logs or performance insights.
@pytest.mark.emulators("moto")
def test_life_of_an_instance(lab: Lab) -> None:
    group = {**NETWORK, "db_subnet_group.main": GROUP, "kms_key.data": {"alias": "alias/data"}}
    lab.assert_matrix(
        "db_instance.main",
        {
            **DATABASE,
            "kms_key_id": "${kms_key.data.arn}",
            "db_name": "lake",
            "db_subnet_group_name": "${db_subnet_group.main.name}",
            "max_allocated_storage": 100,
            "preferred_backup_window": "02:00-03:00",
            "preferred_maintenance_window": "Sun:04:00-Sun:05:00",
            "enabled_cloudwatch_logs_exports": ["postgresql"],
            "multi_az": True,
        },
        group,
        changes={
            "instance_class": "db.m7g.large",
            "allocated_storage": 40,
            "max_allocated_storage": 200,
            "no growing": {"max_allocated_storage": None},
            "multi_az": False,
            "backup_retention_period": 30,
            "preferred_backup_window": "01:00-02:00",
            "preferred_maintenance_window": "Mon:04:00-Mon:05:00",
            "copy_tags_to_snapshot": False,
            "auto_minor_version_upgrade": False,
            "engine_version": "16.4",
            "publicly_accessible": True,
            "enabled_cloudwatch_logs_exports": ["upgrade"],
            "iam_database_authentication_enabled": True,
            "deletion_protection": True,
            "unprotected": {"deletion_protection": False},
            "skip_final_snapshot": True,
            "a snapshot": {"skip_final_snapshot": False},
            "master_username": "lake",
        },
        replaces={"master_username"},
        vanish=vanish,
        edit_tags=tags("db"),
        unprotect=("db_instance.main", "kms_key.data"),
    )


def test_an_instance_on_every_emulator(lab: Lab) -> None:
    first = described(multi_az=True, tags={"Tier": "gold"})
    ran = lab.apply(first)
    outputs = ran.outputs("db_instance.main")
    assert ran.mutating == ["rds:CreateDBInstance"]
    assert outputs["port"] == 5432
    assert outputs["address"] == instance(lab)["Endpoint"]["Address"]
    lab.assert_unchanged(first)
    lab.apply(described(apply_immediately=True, instance_class="db.m7g.large"))
    assert instance(lab)["DBInstanceClass"] == "db.m7g.large"
    vanish(lab, "lake-development")
    assert lab.apply(described()).plan.node("db_instance.main").action == "create"
    lab.destroy(described())


WAITING = {"PendingModifiedValues": {"DBInstanceClass": "db.r7g.large", "EngineVersion": "16.4", "Port": 5433}}


def test_what_waits_for_the_window_is_done(lab: Lab) -> None:
    lab.apply(described())
    # ministack delays this by itself, moto does not.
    wanted = described(instance_class="db.m7g.large", backup_retention_period=9, multi_az=True)
    assert lab.apply(wanted).mutating == ["rds:ModifyDBInstance"]
    assert lab.wire.mutating[-1].parameters["ApplyImmediately"] is False
    lab.assert_unchanged(wanted)
    lab.wire.behaviour = Telling(**WAITING)
    pending = {"instance_class": "db.r7g.large", "engine_version": "16.4", "port": 5433}
    lab.assert_unchanged(described(**{**wanted["db_instance.main"], **pending}))


# ministack never applies pending changes.
@pytest.mark.emulators("moto")
def test_what_is_applied_at_once_is_waited_for(lab: Lab) -> None:
    lab.apply(described())
    modifying = {**WAITING, "DBInstanceStatus": "modifying"}
    lab.wire.behaviour = Telling({}, {}, WAITING, WAITING, modifying, {"DBInstanceStatus": "modifying"})
    ran = lab.apply(described(instance_class="db.r7g.large", apply_immediately=True))
    assert ran.mutating == ["rds:ModifyDBInstance"]
    modified = lab.wire.mutating[-1]
    assert modified.parameters["ApplyImmediately"] is True
    assert [call.operation for call in lab.wire.calls[modified.number :]].count("DescribeDBInstances") == 5
    lab.assert_unchanged(described(instance_class="db.r7g.large"))


def test_an_instance_is_waited_for_until_it_can_be_used(lab: Lab) -> None:
    states: list[dict[str, Any]] = [
        {"DBInstanceStatus": word, "Endpoint": {}} for word in ("creating", "creating", "modifying")
    ]
    lab.wire.behaviour = Telling(*states, DBInstanceStatus="backing-up")
    # Two plans read nothing: a missing instance has no state.
    ran = lab.apply(described())
    assert ran.outputs("db_instance.main")["address"]
    assert not lab.wire.behaviour.answers


def test_an_instance_that_cannot_be_used_is_told_with_its_state(lab: Lab) -> None:
    lab.wire.behaviour = Telling({"DBInstanceStatus": "creating"}, DBInstanceStatus="incompatible-network")
    ran = lab.run(described())
    assert "cannot become ready: incompatible-network" in message(ran)


@pytest.mark.parametrize("state", ["backing-up", "storage-optimization", "storage-full", "stopped"])
def test_a_state_that_is_nobodys_fault_is_no_difference(lab: Lab, state: str) -> None:
    lab.apply(described())
    lab.wire.behaviour = Telling(DBInstanceStatus=state)
    lab.assert_unchanged(described())


class Busy(Telling):
    """Refuses changes while the instance is in another operation."""

    def before(self, call: Call) -> Answer | None:
        if call.operation in {"ModifyDBInstance", "DeleteDBInstance"} and self.answers:
            return Answer.error("InvalidDBInstanceState", "Database instance is not in available state.")
        return None


def test_a_change_waits_until_a_backup_is_through(lab: Lab) -> None:
    lab.apply(described())
    busy = {"DBInstanceStatus": "backing-up"}
    lab.wire.behaviour = Busy(*[busy] * 5)
    ran = lab.run(described(backup_retention_period=30))
    assert ran.report.complete, message(ran)
    assert ran.mutating == ["rds:ModifyDBInstance"] * 2
    lab.wire.behaviour = Busy(*[busy] * 5)
    assert lab.run(described(), state="absent", unprotect=UNPROTECT).report.complete


def test_a_change_of_what_somebody_stopped_is_refused_at_once(lab: Lab) -> None:
    class Stopped(Telling):
        def before(self, call: Call) -> Answer | None:
            refused = call.operation == "ModifyDBInstance"
            return Answer.error("InvalidDBInstanceState", "It is stopped.") if refused else None

    lab.apply(described())
    lab.wire.behaviour = Stopped(DBInstanceStatus="stopped")
    ran = lab.run(described(backup_retention_period=30))
    assert "InvalidDBInstanceState: It is stopped." in message(ran)
    assert ran.mutating == ["rds:ModifyDBInstance"]


def test_deletion_protection_is_taken_off_by_a_deployment_before_the_instance_is_deleted(lab: Lab) -> None:
    lab.apply(described(deletion_protection=True))
    with pytest.raises(RefusedError, match="is protected"):
        lab.plan(described(), state="absent")
    with pytest.raises(RefusedError, match="set `deletion_protection: false` and deploy this change first"):
        lab.plan(described(), state="absent", unprotect=UNPROTECT)
    assert lab.apply(described(deletion_protection=False)).mutating == ["rds:ModifyDBInstance"]
    lab.destroy(described())


def snapshots(lab: Lab) -> list[str]:
    found = lab.client("rds").describe_db_snapshots()["DBSnapshots"]
    return [item["DBSnapshotIdentifier"] for item in found]


def test_a_deletion_leaves_a_snapshot_named_with_the_environment(lab: Lab) -> None:
    behaviour = Telling(DbiResourceId="db-ABC123")
    lab.wire.behaviour = behaviour
    lab.apply({"db_instance.main": {**DATABASE, "identifier": "lake"}})
    stack = lab.stack(described(), state="absent", unprotect=("db_instance",))
    proposal = stack.propose()
    report = stack.apply(proposal)
    deleted = next(call for call in lab.wire.mutating if call.operation == "DeleteDBInstance")
    assert report.complete
    assert deleted.parameters["FinalDBSnapshotIdentifier"] == "lake-development-final-abc123"
    assert deleted.parameters["SkipFinalSnapshot"] is False
    assert snapshots(lab) == ["lake-development-final-abc123"]
    (left,) = stack.left(proposal)
    assert left["address"].partition("#")[0] == "db_instance.main"
    assert (left["id"], left["status"]) == ("lake-development-final-abc123", "final snapshot")


def test_a_snapshot_that_an_interrupted_deletion_left_is_not_in_the_way(lab: Lab) -> None:
    class Taken(Behaviour):
        def before(self, call: Call) -> Answer | None:
            name = str(call.parameters.get("FinalDBSnapshotIdentifier"))
            taken = call.operation == "DeleteDBInstance" and name.endswith("-final-abc123")
            return Answer.error("DBSnapshotAlreadyExists", "It is there.") if taken else None

        after = Telling(DbiResourceId="db-ABC123").after

    lab.apply(described())
    lab.wire.behaviour = Taken()
    assert lab.run(described(), state="absent", unprotect=UNPROTECT).report.complete
    name = str(lab.wire.mutating[-1].parameters["FinalDBSnapshotIdentifier"])
    assert re.fullmatch(r"lake-development-final-abc123-\d{20}", name)


def test_a_deletion_leaves_no_snapshot_where_that_was_applied(lab: Lab) -> None:
    lab.apply(described())
    ran = lab.apply(described(skip_final_snapshot=True))
    assert ran.mutating == ["rds:AddTagsToResource"]
    lab.assert_unchanged(described(skip_final_snapshot=True))
    lab.destroy(described())
    deleted = next(call for call in lab.wire.mutating if call.operation == "DeleteDBInstance")
    assert deleted.parameters == {"DBInstanceIdentifier": "lake-development", "SkipFinalSnapshot": True}
    assert not snapshots(lab)


def test_storage_that_rds_grew_is_left_alone_and_storage_never_shrinks(lab: Lab) -> None:
    lab.apply(described(max_allocated_storage=100))
    lab.wire.behaviour = Telling(AllocatedStorage=35)
    lab.assert_unchanged(described(max_allocated_storage=100))
    with pytest.raises(DescriptionError, match="storage cannot shrink from 35 to 20 GiB"):
        lab.plan(described())
    with pytest.raises(DescriptionError, match="is not more than allocated_storage"):
        lab.plan(described(max_allocated_storage=20))


@pytest.mark.parametrize(("before", "after", "told"), [(500, 600, {"Iops": 12000}), (100, 200, {})])
def test_iops_are_told_again_only_when_large_storage_grows(
    lab: Lab, before: int, after: int, told: dict[str, int]
) -> None:
    lab.apply(described(allocated_storage=before))
    lab.wire.behaviour = Telling(Iops=12000, StorageType="gp3")
    lab.run(described(allocated_storage=after))
    modified = lab.wire.mutating[-1].parameters
    assert {name: modified[name] for name in ("AllocatedStorage", "Iops") if name in modified} == {
        "AllocatedStorage": after,
        **told,
    }


def test_a_release_that_rds_installed_is_left_alone_and_a_major_upgrade_has_to_be_allowed(lab: Lab) -> None:
    lab.apply(described())
    lab.wire.behaviour = Telling(EngineVersion="16.8")
    lab.assert_unchanged(described())
    lab.assert_unchanged(described(engine_version="16"))
    with pytest.raises(DescriptionError, match=r"16.8 runs, and RDS cannot go back to 16.3"):
        lab.plan(described(auto_minor_version_upgrade=False))
    with pytest.raises(DescriptionError, match=r"16.8 runs, and RDS cannot go back to 15"):
        lab.plan(described(engine_version="15"))
    with pytest.raises(DescriptionError, match="is a major upgrade, which is not allowed"):
        lab.plan(described(engine_version="17.2"))
    plan = lab.plan(described(engine_version="17.2", allow_major_version_upgrade=True))
    changes = {change.path: change.after for change in plan.node("db_instance.main").changes}
    assert changes == {"engine_version": "17.2"}
    lab.wire.behaviour = Behaviour()
    ran = lab.run(described(engine_version="17.2", allow_major_version_upgrade=True))
    assert ran.mutating == ["rds:ModifyDBInstance"]
    assert lab.wire.mutating[-1].parameters["AllowMajorVersionUpgrade"] is True


def test_a_given_password_is_told_by_its_version_alone(lab: Lab) -> None:
    lab.secrets = {"database": PASSWORD}
    wanted = described(master_user_password="${secret.database}")
    ran = lab.apply(wanted)
    made = next(call for call in lab.wire.mutating if call.operation == "CreateDBInstance")
    assert made.parameters["MasterUserPassword"] == PASSWORD
    assert "ManageMasterUserPassword" not in made.parameters
    lab.assert_unchanged(wanted)
    assert PASSWORD not in ran.plan.to_json()
    assert PASSWORD not in str(instance(lab)["TagList"])
    lab.secrets = {"database": OTHER_PASSWORD}
    changed = lab.apply(wanted)
    assert [change.path for change in changed.plan.node("db_instance.main").changes] == ["master_user_password"]
    assert changed.mutating == ["rds:ModifyDBInstance", "rds:AddTagsToResource"]
    lab.assert_unchanged(wanted)


# ministack returns no secret.
@pytest.mark.emulators("moto")
def test_the_password_is_secrets_managers_unless_it_is_given_and_can_change_sides(lab: Lab) -> None:
    lab.secrets = {"database": PASSWORD}
    managed = lab.apply(described())
    assert managed.outputs("db_instance.main")["master_user_secret_arn"].startswith("arn:aws:secretsmanager:")
    own = described(master_user_password="${secret.database}", manage_master_user_password=False)
    lab.apply(own)
    modified = lab.wire.mutating[-2].parameters
    assert (modified["MasterUserPassword"], modified["ManageMasterUserPassword"]) == (PASSWORD, False)
    lab.assert_unchanged(own)
    assert lab.apply(described()).mutating == ["rds:ModifyDBInstance", "rds:RemoveTagsFromResource"]
    lab.assert_unchanged(described(manage_master_user_password=True))


def test_a_password_that_is_refused_is_in_no_message(lab: Lab) -> None:
    class Repeating(Behaviour):
        def before(self, call: Call) -> Answer | None:
            if call.operation != "CreateDBInstance":
                return None
            return Answer.error("InvalidParameterValue", f"{call.parameters['MasterUserPassword']} is not allowed")

    lab.secrets = {"database": PASSWORD}
    lab.wire.behaviour = Repeating()
    ran = lab.run(described(master_user_password="${secret.database}"))
    assert "InvalidParameterValue" in message(ran)
    assert PASSWORD not in message(ran)


def test_a_creation_whose_answer_is_lost_makes_no_second_instance(lab: Lab) -> None:
    class Lost(Behaviour):
        lost = False

        def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
            if call.operation == "CreateDBInstance" and not self.lost:
                self.lost = True
                raise read_timeout()
            return None

    lab.wire.behaviour = Lost()
    ran = lab.run(described())
    assert ran.report.complete
    assert ran.mutating == ["rds:CreateDBInstance"]


def test_an_instance_of_another_environment_is_refused_and_one_without_tags_adopted(lab: Lab) -> None:
    lab.other(environment="production").apply(described())
    with pytest.raises(RefusedError, match="belongs to stack 'lake' in 'production'"):
        lab.plan(described())
    vanish(lab, "lake-development")
    given = {"DBInstanceIdentifier": "lake-development", "Engine": "postgres", "EngineVersion": "16.3"}
    given |= {"MasterUsername": "postgres", "StorageType": "gp3", "DBInstanceClass": "db.t4g.medium"}
    lab.client("rds").create_db_instance(
        **given, AllocatedStorage=20, StorageEncrypted=True, MasterUserPassword=PASSWORD, PubliclyAccessible=False
    )
    with pytest.raises(RefusedError, match="adopt: true"):
        lab.plan(described())
    assert lab.apply(described(), adopt=True).plan.node("db_instance.main").action == "adopt"
    lab.assert_unchanged(described())


def test_access_denied_names_the_action(lab: Lab) -> None:
    class Denied(Behaviour):
        def before(self, call: Call) -> Answer | None:
            refused = call.operation == "CreateDBInstance"
            return Answer.error("AccessDenied", "no", 403) if refused else None

    lab.wire.behaviour = Denied()
    assert "allow rds:CreateDBInstance" in message(lab.run(described()))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"identifier": "1lake"}, "a letter first"),
        ({"identifier": "lake--development"}, "single hyphens"),
        ({"engine": "mysql"}, "is not one of its choices"),
        ({"backup_retention_period": 36}, "36 is not between 0 and 35"),
        ({"preferred_backup_window": "2am"}, "is not of the form hh:mm-hh:mm"),
        ({"preferred_backup_window": "02:00-02:20"}, "is shorter than 30 minutes"),
        ({"preferred_maintenance_window": "sunday"}, "is not of the form ddd:hh:mm-ddd:hh:mm"),
        (
            {"preferred_backup_window": "04:30-05:30", "preferred_maintenance_window": "Sun:04:00-Sun:05:00"},
            "reaches into preferred_maintenance_window",
        ),
        ({"kms_key_id": "alias/data"}, "is an alias"),
        ({"manage_master_user_password": False}, "is required where Secrets Manager does not manage it"),
        (
            {"manage_master_user_password": True, "master_user_password": "${secret.database}"},
            "is given, and Secrets Manager is to manage it",
        ),
        ({"master_user_password": "${secret.short}"}, "is not 8 to 128 printable ASCII characters"),
        ({"monitoring_interval": 60}, "monitoring_role_arn: is required"),
        ({"multi_az": True, "availability_zone": "eu-central-1a"}, "cannot be chosen where multi_az is true"),
        ({"instance_class": None}, "instance_class: is required"),
    ],
)
# Rejections before the first read are equal on every emulator.
@pytest.mark.emulators("ministack")
def test_an_instance_that_cannot_be_is_refused_before_any_is_read(lab: Lab, change: dict[str, Any], text: str) -> None:
    lab.secrets = {"database": PASSWORD, "short": "a/b"}
    with pytest.raises(DescriptionError, match=text):
        lab.plan(described(**change))
    # The caller's identity and the availability zones are read before.
    assert {call.service for call in lab.wire.calls} <= {"sts", "ec2"}
