# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of the last verification: a tag on its flow run in Prefect.

A deployment that changes nothing reads it to tell whether the platform passed the whole contract as it is described
now. The record is where the proof is, so that it is the same on every target and is gone when the runs are.
"""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any, Final

from crypto_lakehouse.flows.deployments import PrefectApi, PrefectError
from crypto_lakehouse.settings import Settings, SettingsError

log = logging.getLogger("lakehouse.verify")

PATIENCE_S: Final = 10.0
"""Seconds for which a request without an answer is made again."""
RUN_TAG: Final = "verification"
"""Tag of every flow run that a verification asks for."""
_VERIFIED: Final = "verified"
_LAST: Final = {
    "flow_runs": {"tags": {"all_": [RUN_TAG]}},
    "sort": "EXPECTED_START_TIME_DESC",
    "limit": 1,
}


def is_recorded(settings: Settings, description: str) -> bool:
    """Return whether the last verification passed the whole contract for this description.

    Where Prefect does not answer it is False: the whole contract then reports the problem.
    """
    try:
        with closing(PrefectApi(settings)) as prefect:
            run = _last_run(prefect)
    except _unanswered():
        return False
    return run is not None and _tag(description) in run["tags"]


def record(settings: Settings, description: str) -> None:
    """Record that the platform passed the whole contract for this description.

    Where Prefect refuses it, that is logged: the next deployment passes the whole contract again.
    """
    try:
        with closing(PrefectApi(settings, patience_s=PATIENCE_S)) as prefect:
            run = _last_run(prefect)
            if run is not None and _tag(description) not in run["tags"]:
                prefect.patch(f"flow_runs/{run['id']}", {"tags": [*run["tags"], _tag(description)]})
    except _unanswered() as error:
        log.warning("cannot record the verification: %s", error)


def _unanswered() -> tuple[type[Exception], ...]:
    import httpx

    return PrefectError, SettingsError, httpx.HTTPError, OSError


def _last_run(prefect: PrefectApi) -> dict[str, Any] | None:
    found: Any = prefect.post("flow_runs/filter", _LAST)
    return found[0] if found else None


def _tag(description: str) -> str:
    return f"{_VERIFIED}:{description}"
