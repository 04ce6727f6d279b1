# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines for people about sets, verifications and restores. Pure; no other code reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from crypto_lakehouse.backup.model import Manifest
from crypto_lakehouse.backup.sets import SetInfo
from crypto_lakehouse.backup.verify import Verification

LISTED: Final = 50
"""Changes, faults and reasons that are listed one by one; the number of the others follows."""

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(size: float) -> str:
    """Return a number of bytes with a binary unit."""
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.0f} {_UNITS[unit]}" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def set_lines(sets: Sequence[SetInfo]) -> list[str]:
    """Return a table of sets, the newest first, and below it what each lacks."""
    if not sets:
        return ["There is no backup set."]
    rows = [("set", "taken (UTC)", "state", "proof", "size", "shared", "protected until", "holds"), *map(_row, sets)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, *(f"{each.id}: {text}" for each in sets for text in _remarks(each))]


def _row(info: SetInfo) -> tuple[str, ...]:
    taken = info.started_at[:16].replace("T", " ") or "-"
    proof = f"level {info.proof.level} at {info.proof.at}" if info.proof else "none"
    held = ", ".join(info.components)
    return (
        info.id,
        taken,
        info.state,
        proof,
        size_text(info.size),
        size_text(info.shared_size),
        info.protected_until or "-",
        held or "-",
    )


def _remarks(info: SetInfo) -> Iterable[str]:
    yield from info.problems
    if info.safety:
        yield "a restore took it of what it was about to replace; `latest` does not name it"
    yield from cut([f"without {name}: {why}" for name, why in sorted(info.omitted.items())], "omissions")


def manifest_lines(manifest: Manifest, destination: str) -> list[str]:
    """Return what a run reports about the set that it took."""
    rows = {table.full_name: table.rows for table in manifest.tables}
    lines = [f"Backup set {manifest.id} is stored in {destination}"]
    lines += [f"  table {name}: {count} rows" for name, count in sorted(rows.items())]
    if manifest.raw:
        lines.append(f"  raw objects: {manifest.raw.objects}, {size_text(manifest.raw.size)}")
    if manifest.database:
        lines.append(f"  database: up to {manifest.database.lsn} on base backup {manifest.database.base_id}")
    lines.append(f"  {size_text(manifest.size)} in all, {size_text(manifest.own_size)} stored by this run")
    lines.append(f"  protected until {manifest.protected_until or 'nothing protects it'}")
    lines += cut([f"  without {name}: {why}" for name, why in sorted(manifest.omitted.items())], "omissions")
    return [*lines, *manifest.warnings]


def verification_lines(found: Verification) -> list[str]:
    """Return what a verification found."""
    compared = f"{found.objects} objects, {size_text(found.size)}"
    what = "every hash" if found.level == 2 else "manifest and sizes"
    if found.is_good:
        return [f"Set {found.set_id} is good: {what} verified, {compared}"]
    faults = cut([f"  {fault}" for fault in found.faults], "faults")
    return [f"Set {found.set_id} has {len(found.faults)} faults ({what}, {compared}):", *faults]


def restore_lines(phase: str, found: Mapping[str, Any]) -> list[str]:
    """Return what a phase of a restore reports."""
    return list(_PHASES[phase](found))


def _plan_lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield f"Restore of set {found['set']}: {size_text(found['bytes'])} would be written"
    changes = [f"  {each['action']} {each['kind']} {each['name']}: {each['reason']}" for each in found["changes"]]
    yield from cut(changes, "changes")
    yield f"  left alone: {found['left']} objects and tables"
    database = found["database"]
    if database:
        act = "replace" if database["replaces"] else "write"
        yield f"  {act} database: up to {database['lsn']} ({database['restore_point']}), {size_text(database['bytes'])}"
    yield from found["warnings"]


def _lake_lines(found: Mapping[str, Any]) -> Iterable[str]:
    for table in found["tables"]:
        proof = table["proof"] or {}
        yield f"  {table['name']}: {proof.get('rows', 'unknown')} rows equal to the set, UUID {table['uuid']}"


def _database_lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield f"The database is restored up to {found['lsn']}"
    if found["former"]:
        yield f"The former one is in {found['former']}; remove it when it is no longer needed"


def _runs_lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield f"{found['crashed']} flow runs set to Crashed, {found['cancelled']} late runs cancelled"


def _configuration_lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield f"{found['files']} files of secrets and configuration are in {found['folder']}; remove them after use"
    if found["inventory"]:
        yield f"The variables of the inventory are in {found['inventory']}; lakehouse_secrets are in secrets/store.json"


_PHASES: Final = {
    "plan": _plan_lines,
    "lake": _lake_lines,
    "database": _database_lines,
    "runs": _runs_lines,
    "configuration": _configuration_lines,
}


def cut(lines: Sequence[str], what: str) -> list[str]:
    """Return the first lines, and the number of the others."""
    left = len(lines) - LISTED
    return [*lines[:LISTED], *([f"  and {left} further {what}"] if left > 0 else [])]
