# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the flow runs of a restored orchestrator, before workers start.

The database contains runs in progress that ended with the server that was backed up. Until they are ended, a file in
its data folder marks the restore as incomplete.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from crypto_lakehouse.backup.errors import BackupError
from crypto_lakehouse.backup.incomplete import Record
from crypto_lakehouse.flows.deployments import PrefectApi, PrefectError
from crypto_lakehouse.settings import Settings

RECOVERED: Final = "lakehouse.recovered"
"""File of a recovered and tested data folder with the id of its set, until the restore is complete."""

IN_PROGRESS: Final = ("RUNNING", "PENDING", "CANCELLING")
MESSAGE: Final = "The lakehouse was restored from a backup"
GRACE: Final = timedelta(seconds=1)
"""A run that is due in this time is late when the workers start."""


@dataclass(frozen=True, slots=True)
class EndedRuns:
    """Numbers of flow runs: those that were in progress and crashed, and those that were late and are cancelled."""

    crashed: int
    cancelled: int


def complete(settings: Settings, folder: Path, patience_s: float = 0.0) -> EndedRuns | None:
    """End the flow runs of a recovered database, the last step of its restore; return None where it is complete.

    folder: the data folder of the database. Of several callers one ends the runs, and the others wait for it.

    Raises:
        BackupError: as `end_runs`, and where the folder cannot be used. The restore is not complete then.
    """
    marker = folder / RECOVERED
    try:
        with marker.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not marker.exists():
                return None
            ended = end_runs(settings, patience_s=patience_s)
            # Recovered and in place: the restore of the database is complete.
            Record.beside(folder).end_database(marker.read_text(encoding="utf-8"))
            marker.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BackupError(
            f"cannot use {marker}: {error.strerror}", "Check the owner of the database's files."
        ) from None
    return ended


def end_runs(settings: Settings, now: datetime | None = None, *, patience_s: float = 0.0) -> EndedRuns:
    """Set flow runs in progress to Crashed and late scheduled runs to Cancelled; return their numbers.

    It can be called again: ended runs stay as they are. patience_s: seconds for which a request is repeated that gets
    no answer.

    Raises:
        SettingsError: where the API's address was not given.
        BackupError: where the API does not answer or refuses.
    """
    import httpx

    due = ((now or datetime.now(UTC)) + GRACE).isoformat()
    in_progress = {"state": {"type": {"any_": list(IN_PROGRESS)}}}
    late = {"state": {"type": {"any_": ["SCHEDULED"]}}, "next_scheduled_start_time": {"before_": due}}
    try:
        with closing(PrefectApi(settings, patience_s=patience_s)) as api:
            return EndedRuns(_end(api, in_progress, "CRASHED"), _end(api, late, "CANCELLED"))
    except (PrefectError, httpx.HTTPError, OSError) as error:
        raise BackupError(
            f"cannot end the flow runs of the restored orchestrator: {' '.join(str(error).split())}",
            "Start the orchestrator and restore again.",
        ) from None


def _end(api: PrefectApi, runs: Mapping[str, Any], state: str) -> int:
    """Set the state of every flow run that a filter selects, past Prefect's rules, which would refuse some."""
    found = api.every("flow_runs/filter", flow_runs=runs, sort="ID_DESC")
    for run in found:
        wanted = {"type": state, "name": state.title(), "message": MESSAGE}
        api.post(f"flow_runs/{run['id']}/set_state", {"state": wanted, "force": True})
    return len(found)
