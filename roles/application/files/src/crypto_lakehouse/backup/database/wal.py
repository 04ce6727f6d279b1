# SPDX-License-Identifier: GPL-3.0-or-later
"""Positions in the WAL, names of its files, and their keys at the destination. Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from crypto_lakehouse.backup.destination import Stored
from crypto_lakehouse.backup.errors import IntegrityError

Lsn = int
"""Position in the WAL, in bytes."""

SEGMENT_BYTES: Final = 1 << 24
PAGE_BYTES: Final = 8192
SEGMENT: Final = re.compile(r"[0-9A-F]{24}")
HISTORY: Final = re.compile(r"[0-9A-F]{8}\.history")
PARTIAL: Final = ".partial"
_KEY: Final = re.compile(r"([0-9A-F]{24})(?:\.([0-9A-F]{16})-([0-9A-F]{16})\.partial)?\.gz")
_PAGE_ADDRESS: Final = struct.Struct("=Q")
_PAGE_ADDRESS_AT: Final = 8


def parse_lsn(text: str) -> Lsn:
    """Return the position that PostgreSQL prints as `0/3000148`.

    Raises:
        IntegrityError: where it is malformed.
    """
    if not re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", text):
        raise IntegrityError(f"cannot read a position in the WAL: {text!r}")
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def format_lsn(lsn: Lsn) -> str:
    """Return the position as PostgreSQL prints it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def segment_name(timeline: int, number: int, segment_bytes: int) -> str:
    """Return the file name of a segment by its number, which counts from the begin of the WAL."""
    high, low = divmod(number, (1 << 32) // segment_bytes)
    return f"{timeline:08X}{high:08X}{low:08X}"


def segment_number(name: str, segment_bytes: int) -> int:
    """Return the number of a segment by its file name."""
    return int(name[8:16], 16) * ((1 << 32) // segment_bytes) + int(name[16:24], 16)


def timeline_folder(system_identifier: str, timeline: int) -> str:
    """Return the prefix of a timeline's keys."""
    return f"wal/{system_identifier}/{timeline:08X}/"


def segment_key(system_identifier: str, name: str) -> str:
    """Return the key of a finished segment, or of a timeline's history."""
    return f"wal/{system_identifier}/{name[:8]}/{name}.gz"


def partial_key(system_identifier: str, name: str, start: Lsn, end: Lsn) -> str:
    """Return the key of a part of an unfinished segment, from `start` to `end`."""
    return f"wal/{system_identifier}/{name[:8]}/{name}.{start:016X}-{end:016X}{PARTIAL}.gz"


def common_prefix(first: str, second: str) -> str:
    """Return the characters that two names begin with."""
    length = next((at for at, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), len(first))
    return first[:length]


def is_written(content: bytes, end: Lsn, segment_bytes: int) -> bool:
    """Return whether the page before `end` was received: it names its own position, where a padded file has zeros.

    Source: XLogPageHeaderData in access/xlog_internal.h. A walsender sends whole pages, or all that is flushed.
    """
    page = (end - 1) // PAGE_BYTES * PAGE_BYTES
    at = page % segment_bytes + _PAGE_ADDRESS_AT
    (address,) = _PAGE_ADDRESS.unpack_from(content, at)
    return bool(address == page)


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A segment at the destination, or a part of one. start, end: positions of a part; None for a finished segment."""

    name: str
    start: Lsn | None
    end: Lsn | None
    stored: Stored


@dataclass(frozen=True, slots=True)
class Coverage:
    """Stored WAL without interruption, from the first byte of a segment on.

    end: first position that is not stored. missing: name of the segment that comes next. has_gap: whether a later one
    is stored, so that the missing one will not arrive.
    """

    segments: tuple[StoredSegment, ...]
    end: Lsn
    missing: str
    has_gap: bool


def stored_segments(found: Iterable[Stored]) -> list[StoredSegment]:
    """Return the segments among the objects of a timeline, and their parts; other objects are left out."""
    matches = ((_KEY.fullmatch(each.key.rpartition("/")[2]), each) for each in found)
    return [StoredSegment(match[1], _position(match[2]), _position(match[3]), each) for match, each in matches if match]


def _position(text: str | None) -> Lsn | None:
    return int(text, 16) if text else None


def coverage(found: Iterable[StoredSegment], start: str, segment_bytes: int, until: Lsn | None = None) -> Coverage:
    """Return the stored WAL from segment `start` on, up to `until` where it is given."""
    timeline, number = int(start[:8], 16), segment_number(start, segment_bytes)
    finished: dict[int, StoredSegment] = {}
    parts: dict[int, list[StoredSegment]] = {}
    for each in found:
        position = segment_number(each.name, segment_bytes)
        if each.end is None:
            finished[position] = each
        else:
            parts.setdefault(position, []).append(each)
    chosen: list[StoredSegment] = []
    last = (until - 1) // segment_bytes if until is not None else None
    while number in finished and (last is None or number <= last):
        chosen.append(finished[number])
        number += 1
    end = number * segment_bytes
    missing = segment_name(timeline, number, segment_bytes)
    has_gap = any(each > number for each in (*finished, *parts))
    if last is None or number <= last:
        chain = _chain(parts.get(number, ()), end, until)
        chosen += chain
        end = (chain[-1].end if chain else None) or end
    return Coverage(tuple(chosen), end, missing, has_gap and (until is None or end < until))


def _chain(parts: Iterable[StoredSegment], start: Lsn, until: Lsn | None) -> list[StoredSegment]:
    """Return the fewest parts of a segment that cover it from `start` on, up to `until` where it is given."""
    chain: list[StoredSegment] = []
    known = [(each.start or 0, each.end or 0, each) for each in parts]
    end = start
    while until is None or end < until:
        following = [(to, since, each) for since, to, each in known if since <= end < to]
        sufficient = [each for each in following if until is not None and each[0] >= until]
        if not following:
            break
        # The shortest one that suffices, or the longest one.
        best = min(sufficient, key=lambda each: (each[0], -each[1]), default=max(following, key=lambda each: each[:2]))
        chain.append(best[2])
        end = best[0]
    return chain
