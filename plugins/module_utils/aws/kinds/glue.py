# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Glue: databases of the data catalog and the crawlers that fill them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...engine.resource import READY, Actual, Owner, Request
from ...engine.schema import Output, Property, Schema, ValidationError
from ..errors import CallError
from ..kind import TAGS, Actions, AwsKind, all_tags, document, given, owner_of, property_tags, tag_changes
from ..naming import crawler_name_fault
from ..session import Session
from ..spelling import role_name
from ..waiters import wait_until

_ABSENT = ("EntityNotFoundException",)
_BUSY = ("ConcurrentModificationException", "OperationTimeoutException")
# A new role, and a schedule that just changed, take effect later.
_NEW = (*_BUSY, "InvalidInputException:unable to assume", "SchedulerTransitioningException")
_CRON = re.compile(r"cron\((\S+ +){5}\S+\)")
# Values of GetDatabase that UpdateDatabase would remove if omitted.
_DATABASE_INPUT = (
    "Name",
    "Description",
    "LocationUri",
    "Parameters",
    "CreateTableDefaultPermissions",
    "TargetDatabase",
    "FederatedDatabase",
)


def _lower_case(value: str) -> str | None:
    return None if value == value.lower() else f"{value!r} has capitals, which Glue does not keep"


def _schedule(value: str) -> str | None:
    return None if _CRON.fullmatch(value) else f"{value!r} is not a schedule like cron(0 2 * * ? *), in UTC"


class _Tagged:
    """Tags of Glue resources, by ARN."""

    def __init__(self, session: Session, resource: str) -> None:
        self.session, self.resource = session, resource

    def arn(self, name: str) -> str:
        identity = self.session.identity()
        return f"arn:{identity.partition}:glue:{self.session.region}:{identity.account_id}:{self.resource}/{name}"

    def read(self, name: str) -> dict[str, str]:
        answer = self.session.look("glue", "get_tags", _ABSENT, ResourceArn=self.arn(name))
        return dict((answer or {}).get("Tags") or {})

    def write(self, request: Request) -> None:
        changed, removed = tag_changes(request)
        if changed:
            self.session.call("glue", "tag_resource", ResourceArn=self.arn(request.existing.id), TagsToAdd=changed)
        if removed:
            self.session.call("glue", "untag_resource", ResourceArn=self.arn(request.existing.id), TagsToRemove=removed)


class GlueDatabase(AwsKind):
    """A database of the data catalog."""

    name = "glue_database"
    service = "glue"
    schema = Schema(
        {
            "name": Property(required=True, replace=True, check=_lower_case, purpose="Name in the catalog."),
            "description": Property(purpose="Description."),
            "location_uri": Property(purpose="Default location of tables, `s3://...`."),
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN.")},
        # With it go the definitions of all its tables.
        protected=True,
        unique_by=("name",),
    )
    actions = Actions(
        read=("glue:GetDatabase", "glue:GetTags"),
        create=("glue:CreateDatabase", "glue:TagResource"),
        update=("glue:UpdateDatabase", "glue:TagResource", "glue:UntagResource"),
        delete=("glue:DeleteDatabase",),
        list=("glue:GetDatabases",),
    )

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._tags = _Tagged(session, "database")

    def read(self, id_: str) -> Actual | None:
        database = self._described(id_)
        return self._actual(database) if database else None

    def _described(self, name: str) -> dict[str, Any] | None:
        answer = self.session.look("glue", "get_database", _ABSENT, Name=name)
        database: dict[str, Any] | None = answer["Database"] if answer else None
        return database

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        actuals = self.session.each(self._actual, self.session.pages("glue", "get_databases", "DatabaseList"))
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def _actual(self, database: Mapping[str, Any]) -> Actual:
        name = database["Name"]
        tags, arn = self._tags.read(name), self._tags.arn(name)
        properties = {
            "name": name,
            "description": database.get("Description") or None,
            "location_uri": database.get("LocationUri") or None,
            "tags": property_tags(tags),
        }
        return Actual(name, properties, {"id": name, "arn": arn}, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        name = str(request.desired["name"])
        self.session.call_once(
            "glue",
            "create_database",
            lambda: {} if self._described(name) else None,
            retry_on=_BUSY,
            DatabaseInput=self._input({"Name": name}, request.desired),
            Tags=all_tags(request),
        )
        return Actual(name, request.desired, {"id": name}, request.owner)

    @staticmethod
    def _input(before: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in before.items() if name in _DATABASE_INPUT}
        return given({**kept, "Description": wanted["description"], "LocationUri": wanted["location_uri"]})

    def update(self, request: Request) -> Actual:
        name = request.existing.id
        if request.changed("description") or request.changed("location_uri"):
            before = self._described(name) or {"Name": name}
            # An empty text states explicitly that the description is removed.
            described = {"Description": "", **self._input(before, request.desired)}
            self.session.call("glue", "update_database", retry_on=_BUSY, Name=name, DatabaseInput=described)
        self._tags.write(request)
        return request.existing

    def delete(self, request: Request) -> None:
        self.session.look("glue", "delete_database", _ABSENT, retry_on=_BUSY, Name=request.existing.id)


def _target(purpose: str, **fields: Property) -> Property:
    return Property("set", purpose=purpose, elements=Property("map", fields=fields))


def _texts(purpose: str, *, required: bool = False) -> Property:
    return Property("set", elements=Property(), required=required, purpose=purpose)


_EXCLUSIONS = _texts("Patterns of excluded objects.")
_CONNECTION = Property(purpose="Name of the Glue connection.")
_QUEUES = {
    "event_queue_arn": Property(purpose="ARN of the queue with the bucket's events."),
    "dlq_event_queue_arn": Property(purpose="ARN of the dead-letter queue for events."),
}
_DEPTH = Property("integer", purpose="Maximum depth of folders to search for tables.")
_TARGETS = {
    "s3_targets": _target(
        "Folders of files in S3.",
        path=Property(required=True, purpose="`s3://BUCKET/PREFIX`."),
        exclusions=_EXCLUSIONS,
        connection_name=_CONNECTION,
        sample_size=Property("integer", purpose="Number of files to read in each folder."),
        **_QUEUES,
    ),
    "iceberg_targets": _target(
        "Iceberg tables, by the location of their metadata.",
        paths=_texts("Locations, `s3://BUCKET/PREFIX`.", required=True),
        exclusions=_EXCLUSIONS,
        connection_name=_CONNECTION,
        maximum_traversal_depth=_DEPTH,
    ),
    "catalog_targets": _target(
        "Existing tables of the catalog.",
        database_name=Property(required=True, purpose="Database of the tables."),
        tables=_texts("Names of the tables.", required=True),
        connection_name=_CONNECTION,
        **_QUEUES,
    ),
}


def _pascal(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _targets_to_api(targets: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _pascal(kind): [{_pascal(name): value for name, value in item.items()} for item in items]
        for kind, items in targets.items()
        if items
    }


def _targets_from_api(targets: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, item in _TARGETS.items():
        fields = item.elements.fields if item.elements else {}
        listed = targets.get(_pascal(kind)) or ()
        found[kind] = [{name: target.get(_pascal(name)) or None for name in fields} for target in listed]
    return found


def _faults(desired: Mapping[str, Any], _existing: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    targets, policy, recrawl = (desired[name] for name in ("targets", "schema_change_policy", "recrawl_policy"))
    if not any(targets.values()):
        yield "targets", "names nothing to crawl", f"set one of {', '.join(_TARGETS)}"
    behaviours = {policy["update_behavior"], policy["delete_behavior"]}
    if recrawl["recrawl_behavior"] == "CRAWL_NEW_FOLDERS_ONLY" and behaviours != {"LOG"}:
        message = "must be LOG, both of it, where only new folders are crawled"
        yield "schema_change_policy", message, "or set recrawl_policy.recrawl_behavior: CRAWL_EVERYTHING"


class GlueCrawler(AwsKind):
    """Crawler, which finds tables in files. A running crawl does not count as pending, so it is not waited for."""

    name = "glue_crawler"
    service = "glue"
    # An update waits for a running crawl.
    timeout_s = 3600.0
    interval_s = 15.0
    schema = Schema(
        {
            "name": Property(
                required=True, replace=True, check=crawler_name_fault, purpose="Name, unique in the account and region."
            ),
            "role": Property(required=True, canonical=role_name, purpose="ARN or name of the crawler's role."),
            "database_name": Property(required=True, purpose="Name of the database for tables."),
            "description": Property(purpose="Description."),
            "targets": Property("map", required=True, fields=_TARGETS, purpose="Data stores to crawl."),
            "schedule": Property(
                check=_schedule, purpose="Schedule, `cron(...)` in UTC. Only started manually if omitted."
            ),
            "schema_change_policy": Property(
                "map",
                default={},
                purpose="Behaviour for changed tables.",
                fields={
                    "update_behavior": Property(
                        default="UPDATE_IN_DATABASE",
                        when_unset="UPDATE_IN_DATABASE",
                        choices=("UPDATE_IN_DATABASE", "LOG"),
                        purpose="Behaviour for tables with changed columns.",
                    ),
                    "delete_behavior": Property(
                        default="DEPRECATE_IN_DATABASE",
                        when_unset="DEPRECATE_IN_DATABASE",
                        choices=("DEPRECATE_IN_DATABASE", "DELETE_FROM_DATABASE", "LOG"),
                        purpose="Behaviour for tables without objects.",
                    ),
                },
            ),
            "recrawl_policy": Property(
                "map",
                default={},
                purpose="Scope of repeated crawls.",
                fields={
                    "recrawl_behavior": Property(
                        default="CRAWL_EVERYTHING",
                        when_unset="CRAWL_EVERYTHING",
                        choices=("CRAWL_EVERYTHING", "CRAWL_NEW_FOLDERS_ONLY", "CRAWL_EVENT_MODE"),
                        purpose="Folders to crawl again.",
                    )
                },
            ),
            "configuration": Property("json", purpose="Further settings, as a JSON document of Glue."),
            "table_prefix": Property(purpose="Prefix of table names."),
            "tags": TAGS,
        },
        {"id": Output("Name."), "arn": Output("ARN.")},
        unique_by=("name",),
        check=_faults,
    )
    actions = Actions(
        read=("glue:GetCrawler", "glue:GetTags"),
        create=("glue:CreateCrawler", "glue:TagResource", "iam:PassRole"),
        update=(
            "glue:UpdateCrawler",
            "glue:StartCrawlerSchedule",
            "glue:TagResource",
            "glue:UntagResource",
            "iam:PassRole",
        ),
        delete=("glue:StopCrawler", "glue:DeleteCrawler"),
        list=("glue:GetCrawlers",),
    )

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._tags = _Tagged(session, "crawler")

    def read(self, id_: str) -> Actual | None:
        crawler = self._described(id_)
        return self._actual(crawler) if crawler else None

    def _described(self, name: str) -> dict[str, Any] | None:
        answer = self.session.look("glue", "get_crawler", _ABSENT, Name=name)
        crawler: dict[str, Any] | None = answer["Crawler"] if answer else None
        return crawler

    def list_owned(self, owner: Owner) -> Sequence[Actual]:
        actuals = self.session.each(self._actual, self.session.pages("glue", "get_crawlers", "Crawlers"))
        return [actual for actual in actuals if actual.owner and actual.owner.shares_stack_with(owner)]

    def _actual(self, crawler: Mapping[str, Any]) -> Actual:
        name = crawler["Name"]
        tags, arn = self._tags.read(name), self._tags.arn(name)
        schedule = crawler.get("Schedule") or {}
        policy = crawler.get("SchemaChangePolicy") or {}
        properties = {
            "name": name,
            "role": crawler.get("Role"),
            "database_name": crawler.get("DatabaseName"),
            "description": crawler.get("Description") or None,
            "targets": _targets_from_api(crawler.get("Targets") or {}),
            # A stopped schedule has no effect.
            "schedule": None
            if schedule.get("State") == "NOT_SCHEDULED"
            else schedule.get("ScheduleExpression") or None,
            "schema_change_policy": {
                "update_behavior": policy.get("UpdateBehavior"),
                "delete_behavior": policy.get("DeleteBehavior"),
            },
            "recrawl_policy": {"recrawl_behavior": (crawler.get("RecrawlPolicy") or {}).get("RecrawlBehavior")},
            "configuration": crawler.get("Configuration") or None,
            "table_prefix": crawler.get("TablePrefix") or None,
            "tags": property_tags(tags),
        }
        return Actual(name, properties, {"id": name, "arn": arn}, owner_of(tags), READY, (arn,))

    def create(self, request: Request) -> Actual:
        name = str(request.desired["name"])
        parameters = {key: value for key, value in _parameters(request.desired).items() if value != ""}
        self.session.call_once(
            "glue",
            "create_crawler",
            lambda: {} if self._described(name) else None,
            retry_on=_NEW,
            Name=name,
            Tags=all_tags(request),
            **parameters,
        )
        # Some implementations ignore tags at creation.
        self.session.call("glue", "tag_resource", ResourceArn=self._tags.arn(name), TagsToAdd=all_tags(request))
        return Actual(name, request.desired, {"id": name}, request.owner)

    def update(self, request: Request) -> Actual:
        name = request.existing.id
        if {change.path.partition(".")[0] for change in request.changes} - {"tags"}:
            self._update_idle(request)
        if request.changed("schedule") and request.desired["schedule"]:
            schedule = (self._described(name) or {}).get("Schedule") or {}
            if schedule.get("State") == "NOT_SCHEDULED":
                running = ("SchedulerRunningException",)
                self.session.look("glue", "start_crawler_schedule", running, retry_on=_NEW, CrawlerName=name)
        self._tags.write(request)
        return request.existing

    def _update_idle(self, request: Request) -> None:
        """Update a crawler as soon as no crawl runs; a crawl may start at any time."""
        parameters = {"Name": request.existing.id, **_parameters(request.desired)}

        def attempt() -> bool | None:
            try:
                self.session.call("glue", "update_crawler", retry_on=_NEW, **parameters)
            except CallError as error:
                if error.is_one_of(("CrawlerRunningException",)):
                    return None
                raise
            return True

        what = f"the crawl of {request.address} ({request.existing.id}) to end, to update it"
        wait_until(attempt, what, timeout_s=self.timeout_s, interval_s=self.interval_s)

    def delete(self, request: Request) -> None:
        """Delete a crawler, and stop its crawl, whose result is not needed."""
        name = request.existing.id

        def attempt() -> bool | None:
            try:
                self.session.look("glue", "delete_crawler", _ABSENT, retry_on=_NEW, Name=name)
            except CallError as error:
                if not error.is_one_of(("CrawlerRunningException",)):
                    raise
                stopped = ("CrawlerNotRunningException", "CrawlerStoppingException", *_ABSENT)
                self.session.look("glue", "stop_crawler", stopped, Name=name)
                return None
            return True

        what = f"the crawl of {request.address} ({name}) to stop, to delete it"
        wait_until(attempt, what, timeout_s=self.timeout_s, interval_s=self.interval_s)


def _parameters(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of CreateCrawler and UpdateCrawler; an empty text removes a value."""
    policy, configuration = wanted["schema_change_policy"], wanted["configuration"]
    return {
        "Role": wanted["role"],
        "DatabaseName": wanted["database_name"],
        "Description": wanted["description"] or "",
        "Targets": _targets_to_api(wanted["targets"]),
        "Schedule": wanted["schedule"] or "",
        "SchemaChangePolicy": {
            "UpdateBehavior": policy["update_behavior"],
            "DeleteBehavior": policy["delete_behavior"],
        },
        "RecrawlPolicy": {"RecrawlBehavior": wanted["recrawl_policy"]["recrawl_behavior"]},
        "Configuration": "" if configuration is None else document(configuration),
        "TablePrefix": wanted["table_prefix"] or "",
    }
