# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lifecycle rules and intelligent tiering of S3 buckets: schemas, and conversion to and from S3's form. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

from ..engine.schema import Property, ValidationError
from ..engine.value import is_known

# Objects in these classes must be restored for hours before a read: GLACIER_IR and the other classes answer at once.
ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_CLASSES = ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE")
_INFREQUENT = frozenset({"STANDARD_IA", "ONEZONE_IA"})
_INFREQUENT_AFTER_DAYS = 30
_RULES_PER_BUCKET = 1000
_ACTIONS = (
    "transitions",
    "expiration",
    "noncurrent_version_transitions",
    "noncurrent_version_expiration",
    "abort_incomplete_multipart_upload",
)
_MIDNIGHT = re.compile(r"(\d{4}-\d{2}-\d{2})(T00:00:00(\.0+)?(Z|\+00:00))?")


def _day(value: str) -> str | None:
    match = _MIDNIGHT.fullmatch(value)
    try:
        valid = match is not None and date.fromisoformat(match[1])
    except ValueError:
        valid = False
    return None if valid else f"{value!r} is not a day like 2027-01-31"


_DAYS = Property("integer", purpose="Days after the creation of the object.")
_DATE = Property(check=_day, canonical=lambda value: value[:10], purpose="Date, at midnight UTC.")
_NONCURRENT_DAYS = Property("integer", required=True, purpose="Days after the version became noncurrent.")
_NEWER = Property("integer", purpose="Number of newer noncurrent versions to keep in any case.")
_TAGS = Property("map", elements=Property(), purpose="Tags that the object must have.")
_CLASS = Property(required=True, choices=_CLASSES, purpose="Storage class of the transition.")
_STATUS = Property(default="Enabled", choices=("Enabled", "Disabled"), purpose="Whether the rule is enabled.")
_PREFIX = Property(when_unset="", purpose="Prefix of the key. Empty matches all keys.")

LIFECYCLE_RULES = Property(
    "set",
    purpose="Lifecycle rules of objects.",
    elements=Property(
        "map",
        fields={
            "id": Property(required=True, purpose="Name, unique in the bucket."),
            "status": _STATUS,
            "filter": Property(
                "map",
                default={},
                purpose="Filter of objects. All conditions must match.",
                fields={
                    "prefix": _PREFIX,
                    "tags": _TAGS,
                    # S3 returns 0 for unset values beside other conditions.
                    "object_size_greater_than": Property(
                        "integer", when_unset=0, purpose="Minimum size in bytes, exclusive."
                    ),
                    "object_size_less_than": Property("integer", purpose="Maximum size in bytes, exclusive."),
                },
            ),
            "transitions": Property(
                "set",
                purpose="Transitions to other storage classes, each after `days` or on `date`.",
                elements=Property("map", fields={"days": _DAYS, "date": _DATE, "storage_class": _CLASS}),
            ),
            "expiration": Property(
                "map",
                purpose="Expiration after `days`, on `date`, or of delete markers without noncurrent versions.",
                fields={
                    "days": _DAYS,
                    "date": _DATE,
                    "expired_object_delete_marker": Property("boolean", when_unset=False),
                },
            ),
            "noncurrent_version_transitions": Property(
                "set",
                purpose="Transitions of noncurrent versions.",
                elements=Property(
                    "map",
                    fields={
                        "noncurrent_days": _NONCURRENT_DAYS,
                        "storage_class": _CLASS,
                        "newer_noncurrent_versions": _NEWER,
                    },
                ),
            ),
            "noncurrent_version_expiration": Property(
                "map",
                purpose="Expiration of noncurrent versions.",
                fields={"noncurrent_days": _NONCURRENT_DAYS, "newer_noncurrent_versions": _NEWER},
            ),
            "abort_incomplete_multipart_upload": Property(
                "map",
                purpose="Removal of incomplete multipart uploads.",
                fields={
                    "days_after_initiation": Property(
                        "integer", required=True, purpose="Days after the start of the upload."
                    )
                },
            ),
        },
    ),
)
INTELLIGENT_TIERING = Property(
    "set",
    purpose="Transitions of objects in the class INTELLIGENT_TIERING to archive tiers.",
    elements=Property(
        "map",
        fields={
            "id": Property(required=True, purpose="Name, unique in the bucket."),
            "status": _STATUS,
            "filter": Property(
                "map", default={}, purpose="Filter of objects.", fields={"prefix": _PREFIX, "tags": _TAGS}
            ),
            "tierings": Property(
                "set",
                required=True,
                purpose="Archive tiers, each with a number of days without access.",
                elements=Property(
                    "map",
                    fields={
                        "days": Property("integer", required=True, purpose="Days without access."),
                        "access_tier": Property(required=True, choices=("ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS")),
                    },
                ),
            ),
        },
    ),
)
# Plain renames; other conversions are below.
_NAMES = {
    "days": "Days",
    "storage_class": "StorageClass",
    "expired_object_delete_marker": "ExpiredObjectDeleteMarker",
    "noncurrent_days": "NoncurrentDays",
    "newer_noncurrent_versions": "NewerNoncurrentVersions",
    "days_after_initiation": "DaysAfterInitiation",
    "access_tier": "AccessTier",
    "object_size_greater_than": "ObjectSizeGreaterThan",
    "object_size_less_than": "ObjectSizeLessThan",
}
_FIELDS = {name: field for field, name in _NAMES.items()}
_RULE_PARTS = {
    "transitions": "Transitions",
    "expiration": "Expiration",
    "noncurrent_version_transitions": "NoncurrentVersionTransitions",
    "noncurrent_version_expiration": "NoncurrentVersionExpiration",
    "abort_incomplete_multipart_upload": "AbortIncompleteMultipartUpload",
}


def rule_to_api(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule in the form of PutBucketLifecycleConfiguration."""
    parts = {name: _to_api(rule[field]) for field, name in _RULE_PARTS.items() if rule.get(field)}
    return {"ID": rule["id"], "Status": rule["status"], "Filter": _filter_to_api(rule["filter"], whole=True), **parts}


def rule_from_api(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule in the form of a description."""
    parts = {field: _from_api(rule[name]) for field, name in _RULE_PARTS.items() if rule.get(name)}
    # Rules from before S3 had filters contain the prefix directly.
    conditions = rule.get("Filter") or {"Prefix": rule.get("Prefix", "")}
    return {"id": rule.get("ID"), "status": rule["Status"], "filter": _filter_from_api(conditions), **parts}


def tiering_to_api(tiering: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in the form of PutBucketIntelligentTieringConfiguration."""
    conditions = _filter_to_api(tiering["filter"], whole=False)
    named = {"Id": tiering["id"], "Status": tiering["status"], "Tierings": _to_api(tiering["tierings"])}
    return {**named, "Filter": conditions} if conditions else named


def tiering_from_api(tiering: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration of intelligent tiering in the form of a description."""
    return {
        "id": tiering["Id"],
        "status": tiering["Status"],
        "filter": _filter_from_api(tiering.get("Filter") or {}),
        "tierings": _from_api(tiering.get("Tierings") or []),
    }


def _to_api(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_api(item) for item in value]
    named = {_NAMES[field]: item for field, item in value.items() if field in _NAMES and item not in (None, False)}
    # Without a time zone, midnight would be that of this machine.
    return {**named, "Date": f"{value['date'][:10]}T00:00:00Z"} if value.get("date") else named


def _from_api(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_api(item) for item in value]
    named = {_FIELDS[name]: item for name, item in value.items() if name in _FIELDS}
    return {**named, "date": _read_day(value["Date"])} if value.get("Date") else named


def _read_day(value: datetime | str) -> str:
    return value.astimezone(UTC).date().isoformat() if isinstance(value, datetime) else value[:10]


def _filter_to_api(conditions: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    """Return a filter: a single condition directly, several under `And`; an empty prefix where one is required."""
    given: dict[str, Any] = {"Prefix": conditions["prefix"]} if conditions["prefix"] else {}
    tags = [{"Key": key, "Value": value} for key, value in sorted((conditions.get("tags") or {}).items())]
    sizes = ("object_size_greater_than", "object_size_less_than")
    given |= {_NAMES[size]: conditions[size] for size in sizes if conditions.get(size)}
    if len(given) + len(tags) > 1:
        return {"And": {**given, **({"Tags": tags} if tags else {})}}
    if tags:
        return {"Tag": tags[0]}
    return given or ({"Prefix": ""} if whole else {})


def _filter_from_api(conditions: Mapping[str, Any]) -> dict[str, Any]:
    inner = {**conditions, **(conditions.get("And") or {})}
    tags = [*(inner.get("Tags") or ()), *((inner["Tag"],) if inner.get("Tag") else ())]
    found = {
        "prefix": inner.get("Prefix"),
        "tags": {tag["Key"]: tag["Value"] for tag in tags},
        "object_size_greater_than": inner.get("ObjectSizeGreaterThan"),
        "object_size_less_than": inner.get("ObjectSizeLessThan"),
    }
    return {field: value for field, value in found.items() if value is not None}


def lifecycle_faults(rules: Iterable[Mapping[str, Any]], table_prefixes: Iterable[Any]) -> Iterator[ValidationError]:
    """Yield rules that S3 would reject, and rules that would make table files unavailable for queries."""
    listed, tables = _known(rules), [prefix for prefix in table_prefixes if isinstance(prefix, str)]
    yield from _repeated(listed.values(), "lifecycle_rules")
    if len(listed) > _RULES_PER_BUCKET:
        yield "lifecycle_rules", f"has {len(listed)} rules", f"a bucket accepts {_RULES_PER_BUCKET}"
    for index, rule in listed.items():
        path = f"lifecycle_rules[{index}]"
        yield from _rule_faults(rule, path)
        yield from _table_faults(rule, path, tables)


def order_faults(rules: Iterable[Mapping[str, Any]]) -> Iterator[ValidationError]:
    """Yield rules with steps in the wrong order.

    Source: "Constraints and considerations for transitions" and "Expiring objects" in the user guide of S3.
    """
    for index, rule in _known(rules).items():
        for old in (False, True):
            prefix, days = ("noncurrent_version_", "noncurrent_days") if old else ("", "days")
            transitions = rule.get(f"{prefix}transitions") or ()
            expiration = rule.get(f"{prefix}expiration") or {}
            name = _named(rule)
            path = f"lifecycle_rules[{index}].{prefix}"
            yield from _steps_faults(transitions, expiration, days, name, path)
            if any(step.get("date") for step in (*transitions, expiration)) and any(
                step.get(days) is not None for step in (*transitions, expiration)
            ):
                yield f"{path}transitions", f"{name} mixes days and dates", "use one of them, or split the rule"


def _steps_faults(
    transitions: Iterable[Mapping[str, Any]], expiration: Mapping[str, Any], word: str, name: str, path: str
) -> Iterator[ValidationError]:
    steps = [(_CLASSES.index(step["storage_class"]), step[word]) for step in transitions if step.get(word) is not None]
    for (before, early), (after, late) in pairwise(sorted(steps)):
        classes = f"{_CLASSES[after]} ({late}) follows {_CLASSES[before]} ({early})"
        least = early + 1
        if _CLASSES[before] in _INFREQUENT and _CLASSES[after] in ARCHIVES:
            least = early + _INFREQUENT_AFTER_DAYS
        if before == after or late < least:
            yield f"{path}transitions", f"{name}: {classes}", f"S3 accepts {least} days or more for the later one"
    last = max((days for _class, days in steps), default=None)
    gone = expiration.get(word)
    if last is not None and gone is not None and gone <= last:
        message = f"{name} expires after {gone} days, and moves to another class after {last}"
        yield f"{path}expiration", message, f"S3 accepts {last + 1} days or more"


def tiering_faults(tierings: Iterable[Mapping[str, Any]], table_prefixes: Iterable[Any]) -> Iterator[ValidationError]:
    """Yield configurations that would archive table files. Only the archive tiers need a configuration."""
    listed, tables = _known(tierings), [prefix for prefix in table_prefixes if isinstance(prefix, str)]
    yield from _repeated(listed.values(), "intelligent_tiering")
    for index, tiering in listed.items():
        table = _overlapping(tiering, tables)
        if tiering["status"] == "Enabled" and table is not None:
            message = f"{_named(tiering)} archives objects below {table!r}, where table files are"
            yield f"intelligent_tiering[{index}]", message, _OTHER_PREFIX


_OTHER_PREFIX = "set a filter with a prefix without table files: queries would fail until they are restored"


def _rule_faults(rule: Mapping[str, Any], path: str) -> Iterator[ValidationError]:
    name = _named(rule)
    if not any(rule.get(action) for action in _ACTIONS):
        yield path, f"{name} does nothing", f"set one of {', '.join(_ACTIONS)}"
    for transition in rule.get("transitions") or ():
        days, class_ = transition.get("days"), transition["storage_class"]
        if (days is None) == (transition.get("date") is None):
            yield f"{path}.transitions", f"{name} needs either days or date for {class_}", ""
        if class_ in _INFREQUENT and isinstance(days, int) and days < _INFREQUENT_AFTER_DAYS:
            yield f"{path}.transitions", f"{name} moves to {class_} after {days} days", "S3 requires 30 at least"
    expiration, conditions = rule.get("expiration") or {}, rule["filter"]
    ways = [field for field in ("days", "date", "expired_object_delete_marker") if expiration.get(field)]
    if expiration and len(ways) != 1:
        yield f"{path}.expiration", f"{name} needs one of days, date and expired_object_delete_marker", ""
    if conditions.get("tags") and (
        rule.get("abort_incomplete_multipart_upload") or "expired_object_delete_marker" in ways
    ):
        message = f"{name} filters by tags, which unfinished uploads and delete markers do not have"
        yield f"{path}.filter.tags", message, "split it into two rules"


def _table_faults(rule: Mapping[str, Any], path: str, tables: list[str]) -> Iterator[ValidationError]:
    table = _overlapping(rule, tables)
    if table is None or rule["status"] != "Enabled":
        return
    classes = {transition["storage_class"] for transition in rule.get("transitions") or ()} & ARCHIVES
    if classes:
        message = (
            f"{_named(rule)} archives ({', '.join(sorted(classes))}) objects below {table!r}, where table files are"
        )
        yield f"{path}.transitions", message, _OTHER_PREFIX
    expiration = rule.get("expiration") or {}
    if expiration.get("days") is not None or expiration.get("date") is not None:
        message = f"{_named(rule)} deletes objects below {table!r}, where table files are, by age alone"
        yield f"{path}.expiration", message, "set another prefix, and let the table format expire its own snapshots"


def _overlapping(rule: Mapping[str, Any], tables: list[str]) -> str | None:
    """Return the first table prefix that overlaps a rule. Tags and sizes cannot exclude table files."""
    prefix = rule["filter"]["prefix"]
    return next((table for table in tables if table.startswith(prefix) or prefix.startswith(table)), None)


def _known(rules: Iterable[Any]) -> dict[int, Mapping[str, Any]]:
    """Return the rules with a known form, by their position."""
    return {index: rule for index, rule in enumerate(rules) if is_known(rule)}


def _repeated(rules: Iterable[Mapping[str, Any]], path: str) -> Iterator[ValidationError]:
    ids = [rule["id"] for rule in rules]
    for id_ in sorted({id_ for id_ in ids if ids.count(id_) > 1}):
        yield path, f"has two entries with the id {id_!r}", "set a different id for each"


def _named(rule: Mapping[str, Any]) -> str:
    return f"the entry {rule['id']!r}"
