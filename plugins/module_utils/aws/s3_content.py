# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The content of a bucket, from the answers of S3. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

SHOWN = 3
_YEAR_DAYS = 365


def content_of(page: Mapping[str, Any]) -> str:
    """Return the counts and first keys of a page of versions, delete markers and uploads; empty for an empty page."""
    versions, markers, uploads = (page.get(name) or [] for name in ("Versions", "DeleteMarkers", "Uploads"))
    objects = [version for version in versions if version.get("IsLatest")]
    old = [version for version in versions if not version.get("IsLatest")]
    counts = {"objects": objects, "old versions": old, "delete markers": markers, "unfinished uploads": uploads}
    content = ", ".join(f"{len(items)} {words}" for words, items in counts.items() if items)
    if not content:
        return ""
    keys = sorted({item["Key"] for item in (*versions, *markers, *uploads)})
    is_truncated = bool(page.get("IsTruncated"))
    shown = ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN or is_truncated else "")
    return f"{'at least ' if is_truncated else ''}{content} ({shown})"


def latest_end(pages: Iterable[Mapping[str, Any]], lock: Mapping[str, Any]) -> dt.datetime | None:
    """Return when the default retention of a bucket ends for its newest version, or None when it has ended for all.

    lock: `days` or `years`. One page is held at a time.
    """
    period = dt.timedelta(days=(lock.get("days") or 0) + _YEAR_DAYS * (lock.get("years") or 0))
    moments = [
        max(version["LastModified"] for version in page["Versions"]) + period for page in pages if page.get("Versions")
    ]
    latest = max(moments, default=None)
    return latest if latest is not None and latest > dt.datetime.now(dt.UTC) else None
