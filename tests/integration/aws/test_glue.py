# SPDX-License-Identifier: GPL-3.0-or-later
"""The data catalog and its crawlers, on the emulators, and with a script where these run nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.aws.lab import Lab
from tests.integration.aws.wire import Answer, Behaviour, Call

DATABASE = {"glue_database.main": {"name": "lake_development", "description": "Tables"}}
ROLE = "arn:aws:iam::111122223333:role/service/crawler"
CRAWLER: dict[str, Any] = {
    "name": "bronze",
    "role": ROLE,
    "database_name": "${glue_database.main.name}",
    "targets": {"s3_targets": [{"path": "s3://lake-bronze/raw/", "exclusions": ["**/_temporary/**"]}]},
    "schedule": "cron(0 2 * * ? *)",
    "schema_change_policy": {"update_behavior": "UPDATE_IN_DATABASE", "delete_behavior": "DELETE_FROM_DATABASE"},
}


def tag_editor(resource: str) -> Any:
    def edit(lab: Lab, name: str, tags: dict[str, str], removed: list[str]) -> None:
        arn = f"arn:aws:glue:eu-central-1:{lab.emulator.account_id}:{resource}/{name}"
        lab.client("glue").tag_resource(ResourceArn=arn, TagsToAdd=tags)
        lab.client("glue").untag_resource(ResourceArn=arn, TagsToRemove=removed)

    return edit


def test_a_database_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "glue_database.main",
        DATABASE["glue_database.main"],
        {"glue_database.other": {"name": "other"}},
        changes={
            "description": "All tables",
            "location_uri": "s3://lake-silver/tables/",
            "undescribed": {"description": None},
        },
        vanish=lambda lab, id_: lab.client("glue").delete_database(Name=id_),
        edit_tags=tag_editor("database"),
    )


def test_what_others_set_on_a_database_survives_an_update(lab: Lab) -> None:
    lab.apply(DATABASE)
    given = {"Name": "lake_development", "Description": "by hand", "Parameters": {"owner": "them"}}
    lab.client("glue").update_database(Name="lake_development", DatabaseInput=given)
    lab.apply(DATABASE)
    found = lab.client("glue").get_database(Name="lake_development")["Database"]
    assert (found["Description"], found["Parameters"]) == ("Tables", {"owner": "them"})


# moto cannot update a crawler.
@pytest.mark.emulators("ministack")
def test_a_crawler_goes_through_its_life(lab: Lab) -> None:
    lab.assert_matrix(
        "glue_crawler.bronze",
        CRAWLER,
        {**DATABASE, "glue_database.other": {"name": "other"}},
        changes={
            "role": ROLE.replace("crawler", "other"),
            "the role by its name": {"role": "service/third"},
            "database_name": "${glue_database.other.name}",
            "description": "Finds the raw files",
            "iceberg": {
                "targets": {
                    "iceberg_targets": [{"paths": ["s3://lake-silver/tables/"], "maximum_traversal_depth": 5}],
                    "catalog_targets": [{"database_name": "lake_development", "tables": ["trades"]}],
                }
            },
            "schedule": "cron(0 3 * * ? *)",
            "by hand": {"schedule": None, "description": None},
            "schema_change_policy": {"update_behavior": "LOG", "delete_behavior": "LOG"},
            "recrawl_policy": {"recrawl_behavior": "CRAWL_NEW_FOLDERS_ONLY"},
            "configuration": {"Version": 1.0, "Grouping": {"TableGroupingPolicy": "CombineCompatibleSchemas"}},
            "table_prefix": "raw_",
        },
        vanish=lambda lab, id_: lab.client("glue").delete_crawler(Name=id_),
        edit_tags=tag_editor("crawler"),
    )


def test_a_crawler_is_made_found_and_removed(lab: Lab) -> None:
    described = {**DATABASE, "glue_crawler.bronze": CRAWLER}
    lab.apply(described)
    lab.assert_unchanged(described)
    lab.apply(DATABASE, prune=True)
    assert not lab.client("glue").get_crawlers()["Crawlers"]
    lab.apply(described)
    lab.destroy(described)


class _Running(Behaviour):
    """A crawler that runs for a while, with the answers of AWS."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.stopped = 0

    def before(self, call: Call) -> Answer | None:
        if call.operation in {"UpdateCrawler", "DeleteCrawler"} and self.attempts > 0:
            self.attempts -= 1
            return Answer.error("CrawlerRunningException", "Crawler with name bronze is currently running")
        if call.operation == "StopCrawler":
            self.stopped += 1
            return Answer({}) if self.stopped == 1 else Answer.error("CrawlerStoppingException")
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation == "GetCrawler" and "Crawler" in answer:
            answer["Crawler"]["State"] = "RUNNING" if self.attempts else "READY"
        return None


@pytest.mark.emulators("ministack")
def test_a_crawl_is_waited_for_before_an_update_and_is_no_difference(lab: Lab) -> None:
    described = {**DATABASE, "glue_crawler.bronze": CRAWLER}
    lab.apply(described)
    lab.wire.behaviour = running = _Running(5)
    assert not lab.plan(described).changed
    ran = lab.apply({**described, "glue_crawler.bronze": {**CRAWLER, "description": "Later"}})
    assert ran.mutating.count("glue:UpdateCrawler") == 6
    assert running.stopped == 0


def test_a_crawl_is_stopped_before_a_deletion(lab: Lab) -> None:
    described = {**DATABASE, "glue_crawler.bronze": CRAWLER}
    lab.apply(described)
    lab.wire.behaviour = running = _Running(3)
    lab.destroy(described)
    assert running.stopped == 3


class _Unassumable(Behaviour):
    """The role was created shortly before."""

    def __init__(self) -> None:
        self.attempts = 4

    def before(self, call: Call) -> Answer | None:
        if call.operation == "CreateCrawler" and self.attempts:
            self.attempts -= 1
            message = "Service is unable to assume provided role. Please verify role's TrustPolicy"
            return Answer.error("InvalidInputException", message)
        return None


def test_a_new_role_is_waited_for(lab: Lab) -> None:
    lab.wire.behaviour = _Unassumable()
    described = {**DATABASE, "glue_crawler.bronze": CRAWLER}
    lab.apply(described)
    lab.assert_unchanged(described)


class _Paused(Behaviour):
    """A user stopped the schedule; an update of the crawler does not start it again."""

    def __init__(self) -> None:
        self.state = "NOT_SCHEDULED"

    def before(self, call: Call) -> Answer | None:
        if call.operation == "StartCrawlerSchedule":
            self.state = "SCHEDULED"
            return Answer({})
        return None

    def after(self, call: Call, answer: dict[str, Any]) -> Answer | None:
        if call.operation == "GetCrawler" and "Crawler" in answer:
            answer["Crawler"]["Schedule"]["State"] = self.state
        return None


@pytest.mark.emulators("ministack")
def test_a_schedule_that_was_stopped_by_hand_is_found_and_started(lab: Lab) -> None:
    described = {**DATABASE, "glue_crawler.bronze": CRAWLER}
    lab.apply(described)
    lab.wire.behaviour = _Paused()
    (change,) = lab.plan(described).node("glue_crawler.bronze").changes
    assert (change.path, change.before, change.after) == ("schedule", None, CRAWLER["schedule"])
    lab.apply(described)
    lab.assert_unchanged(described)
