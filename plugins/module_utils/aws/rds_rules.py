# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that RDS would reject, and values that it changes itself: versions, storage, windows, passwords. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..engine.schema import ValidationError
from ..engine.value import Secret, Unknown, is_known

_IDENTIFIER = re.compile(r"[a-z](?:-?[a-z0-9])*")
_GROUP = re.compile(r"[a-z][a-z0-9._ -]{0,254}")
_DAILY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(rf"({'|'.join(_DAYS)}):(\d\d:\d\d)-({'|'.join(_DAYS)}):(\d\d:\d\d)")
_MOMENT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_DAY_MIN = 24 * 60
_WEEK_MIN = 7 * _DAY_MIN
_SHORTEST_WINDOW_MIN = 30
_FORBIDDEN_IN_PASSWORDS = frozenset('/"@ ')
_MOST_BACKUP_DAYS = 35
# Minimum and maximum GiB of a disk, by its type.
_DISKS_GIB = {"gp2": (20, 65_536), "gp3": (20, 65_536), "io1": (100, 65_536), "io2": (100, 65_536)}
_PROVISIONED = frozenset({"io1", "io2"})
# From this size on, RDS stripes over four volumes with configurable throughput and IOPS.
_GP3_CHOOSES_GIB = 400


def identifier_fault(value: str) -> str | None:
    if len(value) <= 63 and _IDENTIFIER.fullmatch(value.lower()):
        return None
    return f"{value!r} is not 1 to 63 letters, digits and single hyphens, a letter first and no hyphen last"


def group_fault(value: str) -> str | None:
    if _GROUP.fullmatch(value.lower()) and value.lower() != "default":
        return None
    return f"{value!r} is not 1 to 255 letters, digits, '.', '_', '-' and blanks, a letter first, or is `default`"


def group_rules(desired: Mapping[str, Any], _actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    subnets = desired["subnet_ids"]
    # Subnets that do not exist yet have equal placeholders, which a set contains once.
    if is_known(subnets) and len(subnets or ()) < 2:
        yield "subnet_ids", "needs subnets in two availability zones at least", "name another one"


def key_fault(value: str) -> str | None:
    """Reject an alias: it may point to another key later, and RDS only returns the id of the original key."""
    return "is an alias; name the key by its ARN or id" if "alias/" in value else None


def backup_days_fault(value: int) -> str | None:
    return None if 0 <= value <= _MOST_BACKUP_DAYS else f"{value} is not between 0 and {_MOST_BACKUP_DAYS}"


def daily_window_fault(value: str) -> str | None:
    window = _daily(value)
    if window is None:
        return f"{value!r} is not of the form hh:mm-hh:mm"
    return _length_fault(window[1])


def weekly_window_fault(value: str) -> str | None:
    window = _weekly(value)
    if window is None:
        return f"{value!r} is not of the form ddd:hh:mm-ddd:hh:mm"
    return _length_fault(window[1])


def _length_fault(minutes: int) -> str | None:
    return None if minutes >= _SHORTEST_WINDOW_MIN else f"is shorter than {_SHORTEST_WINDOW_MIN} minutes"


def _minutes(text: str) -> int | None:
    found = _MOMENT.fullmatch(text)
    return int(found[1]) * 60 + int(found[2]) if found else None


def _daily(value: str) -> tuple[int, int] | None:
    """Return a daily window as its start and its length in minutes."""
    if not _DAILY.fullmatch(value):
        return None
    begin, end = (_minutes(part) or 0 for part in value.split("-"))
    return begin, (end - begin) % _DAY_MIN


def _weekly(value: str) -> tuple[int, int] | None:
    found = _WEEKLY.fullmatch(value.lower())
    if not found:
        return None
    begin, end = _minutes(found[2]), _minutes(found[4])
    if begin is None or end is None:
        return None
    first, last = _DAYS.index(found[1]) * _DAY_MIN + begin, _DAYS.index(found[3]) * _DAY_MIN + end
    return first, (last - first) % _WEEK_MIN


def windows_meet(daily: str, weekly: str) -> bool:
    """Return whether the backup window overlaps the maintenance window."""
    day, week = _daily(daily), _weekly(weekly)
    if day is None or week is None:
        return False
    # From the last day of the previous week to the first of the next: both windows may cross midnight.
    starts = (day[0] + index * _DAY_MIN for index in range(-1, 8))
    ends = week[0] + week[1]
    return any(start < ends and start + day[1] > week[0] for start in starts)


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version; the first one is PostgreSQL's major version."""
    return tuple(map(int, re.findall(r"\d+", version)))


def runs_release(wanted: str, running: str, *, upgrades_itself: bool) -> bool:
    """Return whether a running version matches: `16` matches any of its releases, and RDS may upgrade by itself."""
    if running == wanted or running.startswith(f"{wanted}."):
        return True
    want, run = release(wanted), release(running)
    return upgrades_itself and want[:1] == run[:1] and run >= want


def as_described(properties: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """Return the observed properties, with the described values where RDS changed them itself."""
    seen = dict(properties)
    wanted, running = desired.get("engine_version"), properties.get("engine_version")
    itself = desired.get("auto_minor_version_upgrade") is True
    if isinstance(wanted, str) and isinstance(running, str) and runs_release(wanted, running, upgrades_itself=itself):
        seen["engine_version"] = wanted
    wanted_gib, has_gib = desired.get("allocated_storage"), properties.get("allocated_storage")
    grows = desired.get("max_allocated_storage") is not None
    if grows and isinstance(wanted_gib, int) and isinstance(has_gib, int) and wanted_gib < has_gib:
        seen["allocated_storage"] = wanted_gib
    return seen


def instance_rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    yield from _password_rules(desired)
    yield from _storage_rules(desired, actual)
    if actual is not None:
        yield from _version_rules(desired, actual)
    daily, weekly = desired.get("preferred_backup_window"), desired.get("preferred_maintenance_window")
    if isinstance(daily, str) and isinstance(weekly, str) and windows_meet(daily, weekly):
        yield "preferred_backup_window", f"reaches into preferred_maintenance_window ({weekly})", "move one of them"
    if desired.get("multi_az") is True and desired.get("availability_zone") is not None:
        yield "availability_zone", "cannot be chosen where multi_az is true", "remove one of them"
    if (desired.get("monitoring_interval") or 0) != 0 and desired.get("monitoring_role_arn") is None:
        yield "monitoring_role_arn", "is required where monitoring_interval is not 0", "name a role that RDS may assume"


def _password_rules(desired: Mapping[str, Any]) -> Iterator[ValidationError]:
    password, managed = desired.get("master_user_password"), desired.get("manage_master_user_password")
    if password is not None and managed is True:
        yield "master_user_password", "is given, and Secrets Manager is to manage it", "remove one of them"
    if password is None and managed is False:
        remedy = "give it as ${secret.NAME}, or set manage_master_user_password: true"
        yield "master_user_password", "is required where Secrets Manager does not manage it", remedy
    if isinstance(password, Secret) and password.value is not None:
        text = str(password.reveal())
        printable = text.isascii() and text.isprintable() and _FORBIDDEN_IN_PASSWORDS.isdisjoint(text)
        if not 8 <= len(text) <= 128 or not printable:
            yield "master_user_password", 'is not 8 to 128 printable ASCII characters without / " @ and blank', ""


def _storage_rules(desired: Mapping[str, Any], actual: Mapping[str, Any] | None) -> Iterator[ValidationError]:
    wanted, most = desired.get("allocated_storage"), desired.get("max_allocated_storage")
    if isinstance(wanted, int) and isinstance(most, int) and most <= wanted:
        yield "max_allocated_storage", f"is not more than allocated_storage ({wanted} GiB)", "remove it or increase it"
    has = (actual or {}).get("allocated_storage")
    if isinstance(wanted, int) and isinstance(has, int) and wanted < has:
        remedy = f"describe {has}, or give max_allocated_storage where RDS grew it"
        yield "allocated_storage", f"storage cannot shrink from {has} to {wanted} GiB", remedy


def disk_rules(desired: Mapping[str, Any]) -> Iterator[ValidationError]:
    """Yield values that RDS rejects for a disk of PostgreSQL.

    Source: `AllocatedStorage` and `Iops` of CreateDBInstance, and "Amazon RDS DB instance storage" in the user guide.
    """
    type_, size = desired.get("storage_type"), desired.get("allocated_storage")
    iops, throughput = desired.get("iops"), desired.get("storage_throughput")
    if not isinstance(size, int) or type_ not in _DISKS_GIB:
        return
    least, most = _DISKS_GIB[type_]
    if not least <= size <= most:
        yield "allocated_storage", f"{size} GiB is out of range for {type_}", f"RDS accepts {least} to {most} GiB"
    if type_ in _PROVISIONED and iops is None:
        yield "iops", f"is required for {type_} and not given", "give 1000 or more"
    if type_ == "gp2" and iops is not None:
        yield "iops", "cannot be chosen for gp2", "remove it, or set storage_type: gp3"
    if type_ != "gp3" and throughput is not None:
        yield "storage_throughput", f"cannot be chosen for {type_}", "remove it, or set storage_type: gp3"
    if type_ == "gp3" and size < _GP3_CHOOSES_GIB:
        for name, value in (("iops", iops), ("storage_throughput", throughput)):
            if value is not None:
                message = f"cannot be chosen below {_GP3_CHOOSES_GIB} GiB of gp3"
                yield name, message, f"remove it, or set allocated_storage to {_GP3_CHOOSES_GIB} or more"


def class_rules(desired: Mapping[str, Any]) -> Iterator[ValidationError]:
    """Yield an instance class that is not one of RDS. Source: "DB instance classes" in the user guide of RDS."""
    value = desired.get("instance_class")
    if isinstance(value, str) and not re.fullmatch(r"db\.[a-z0-9-]+\.[a-z0-9-]+", value):
        yield "instance_class", f"{value!r} is not an instance class of RDS", "write it like db.t4g.medium"


def _version_rules(desired: Mapping[str, Any], actual: Mapping[str, Any]) -> Iterator[ValidationError]:
    wanted, running = desired.get("engine_version"), actual.get("engine_version")
    if isinstance(wanted, Unknown) or not isinstance(wanted, str) or not isinstance(running, str) or wanted == running:
        return
    want, run = release(wanted), release(running)
    if want < run:
        yield "engine_version", f"{running} runs, and RDS cannot go back to {wanted}", f"describe {running}"
    elif want[:1] != run[:1] and desired.get("allow_major_version_upgrade") is not True:
        remedy = "set allow_major_version_upgrade: true once its users were tested with it"
        yield "engine_version", f"from {running} to {wanted} is a major upgrade, which is not allowed", remedy
