# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores the raw objects of a backup set into the bronze bucket.

The version that was valid at the pin returns as a new version where the newest one differs. Its former id, older
versions and delete markers are not recreated. Objects that the set does not hold stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from crypto_lakehouse.backup.errors import IntegrityError
from crypto_lakehouse.backup.lake.pins import RAW_PREFIX, pin_newest
from crypto_lakehouse.backup.lake.plan import Plan, Present, must_read, plan_raw
from crypto_lakehouse.backup.lake.store import Fetch, Objects, leaves_folder
from crypto_lakehouse.backup.model import Artifact, Source
from crypto_lakehouse.settings import Settings

WRITERS: Final = 4


@dataclass(frozen=True, slots=True)
class RestoredRaw:
    """Restored raw objects, and their changes."""

    bucket: str
    plan: Plan


class RawRestorer:
    """Restores raw objects of one set. `fetch` returns the bytes of its artifacts."""

    def __init__(self, settings: Settings, fetch: Fetch) -> None:
        self._bucket = settings.bucket("bronze")
        self._fetch = fetch
        self._objects = Objects(settings)

    def plan(self, artifacts: Iterable[Artifact], prefix: str = RAW_PREFIX) -> Plan:
        """Return what a restore would write, replace and leave alone; nothing is written.

        Raises:
            IntegrityError: where an object of the set does not lie below the prefix.
        """
        wanted = _raw(artifacts, prefix)
        present: dict[str, Present | None] = {
            source.key: Present(source.size, source.etag) for source in pin_newest(self._objects, self._bucket, prefix)
        }
        for source, artifact in wanted:
            state = present.get(source.key)
            if state is not None and must_read(artifact, state):
                present[source.key] = Present(state.size, state.etag, self._objects.sha256(self._uri(source)))
        return plan_raw(self._bucket, [artifact for _source, artifact in wanted], present)

    def restore(
        self, artifacts: Iterable[Artifact], *, overwrite: bool = False, prefix: str = RAW_PREFIX
    ) -> RestoredRaw:
        """Restore the raw objects of a set.

        overwrite: whether objects whose newest version differs may get a new one.

        Raises:
            RefusedError: before any write, where an object would be replaced and must not be.
            IntegrityError: before any write, where an object of the set does not lie below the prefix; naming the
                first damaged artifact, after every other one was restored.
        """
        wanted = _raw(artifacts, prefix)
        plan = self.plan([artifact for _source, artifact in wanted], prefix)
        plan.require(overwrite)
        changed = {change.name for change in plan.of("write", "replace")}
        due = [(source, artifact) for source, artifact in wanted if self._uri(source) in changed]
        with ThreadPoolExecutor(WRITERS) as pool:
            damaged = [error for error in pool.map(lambda pair: self._restore(*pair), due) if error]
        if damaged:
            others = f", like {len(damaged) - 1} others" if len(damaged) > 1 else ""
            raise IntegrityError(f"{damaged[0].message}{others}", damaged[0].remedy)
        return RestoredRaw(self._bucket, plan)

    def _uri(self, source: Source) -> str:
        return f"s3://{self._bucket}/{source.key}"

    def _restore(self, source: Source, artifact: Artifact) -> IntegrityError | None:
        metadata = self._metadata(source) or {"sha256": artifact.sha256}
        try:
            self._objects.restore(artifact, self._fetch, self._uri(source), Metadata=metadata)
        except IntegrityError as error:
            return error
        return None

    def _metadata(self, source: Source) -> dict[str, str]:
        """Return the user metadata of the version that was pinned, none where it no longer exists."""
        from botocore.exceptions import ClientError

        if not source.version_id:
            return {}
        asked = {"Bucket": self._bucket, "Key": source.key, "VersionId": source.version_id}
        try:
            head = self._objects.client.head_object(**asked)
        except ClientError:
            return {}
        return {str(name): str(value) for name, value in head.get("Metadata", {}).items()}


def _raw(artifacts: Iterable[Artifact], prefix: str) -> list[tuple[Source, Artifact]]:
    found = [(each.source, each) for each in artifacts if each.subject.component == "raw" and each.source is not None]
    for source, artifact in found:
        # An inventory is foreign input: with another key a restore would replace objects that no plan compares.
        if not source.key.startswith(prefix) or leaves_folder(source.key):
            raise IntegrityError(
                f"cannot restore {artifact.key} ({artifact.subject}): {source.key!r} does not lie below {prefix}",
                "Restore another set.",
            )
    return found
