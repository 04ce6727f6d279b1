# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker of the work pool: Prefect's process worker, which waits for its running flows before it ends.

Prefect's own worker (3.8.8) does not end after a signal, not even after its last run, until it is killed. This one
then takes no further runs, and ends after the last one: a deployment, a drained node or a restart of the host loses
no flow and waits only for running flows. Its health check serves one path: Prefect's own also publishes interactive
documentation, a page that loads scripts from another host.
"""

from __future__ import annotations

import abc
import argparse
import asyncio
import contextlib
import functools
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastapi import FastAPI
from prefect.client.schemas.objects import FlowRun
from prefect.workers import server
from prefect.workers.process import ProcessWorker

from crypto_lakehouse.backup.database.orchestrator import complete
from crypto_lakehouse.backup.errors import BackupError
from crypto_lakehouse.settings import Settings

POLL_S: Final = 0.5
PATIENCE_S: Final = 60.0
"""Seconds for which a worker waits for a starting orchestrator, before its supervisor restarts it."""

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


# Abstract for Prefect's registry, in which it would otherwise replace its parent.
class DrainingWorker(ProcessWorker, abc.ABC):
    """A process worker that can stop taking runs before it ends."""

    is_draining: bool = False

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Submit the runs that are due; none while the worker drains."""
        return [] if self.is_draining else await super().get_and_submit_flow_runs()

    @property
    def active_runs(self) -> int:
        """The number of accepted runs that have not ended."""
        return 0 if self._limiter is None else int(self._limiter.borrowed_tokens)


def close_documentation() -> None:
    """Let the health check of Prefect's worker serve its path and no documentation."""
    plain = functools.partial(FastAPI, docs_url=None, redoc_url=None, openapi_url=None)
    setattr(server, "FastAPI", plain)  # noqa: B010 - the name is not a part of the module's interface


async def serve(worker: DrainingWorker) -> None:
    """Run the worker until a signal, and then until its last run has ended."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, asked.set)
    working = asyncio.create_task(worker.start(with_healthcheck=True))
    waiting = asyncio.create_task(asked.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not working.done():
        await _drain(worker, working)
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _drain(worker: DrainingWorker, working: asyncio.Task[None]) -> None:
    worker.is_draining = True
    print(f"Worker {worker.name!r} takes no further runs; {worker.active_runs} to end.", flush=True)
    while worker.active_runs and not working.done():
        await asyncio.wait({working}, timeout=POLL_S)
    working.cancel()


def complete_restore(settings: Settings) -> None:
    """Complete an interrupted restore of the database: its flow runs end before this worker takes one.

    Raises:
        BackupError: where it cannot be completed.
    """
    ended = complete(settings, Path(settings.database_folder), PATIENCE_S) if settings.database_folder else None
    if ended:
        print(
            f"An interrupted restore is complete: {ended.crashed} flow runs set to Crashed, "
            f"{ended.cancelled} late runs cancelled.",
            flush=True,
        )


def main(argv: Sequence[str]) -> int:
    """Run `lakehouse worker`. Returns 0 after a requested end, 1 where a restore is incomplete."""
    parser = argparse.ArgumentParser(prog="lakehouse worker", description=__doc__)
    parser.add_argument("--pool", required=True, help="name of the work pool")
    parser.add_argument("--name", required=True, help="name of this worker")
    parser.add_argument("--limit", type=int, required=True, help="number of runs at once, at least 1")
    given = parser.parse_args(argv)
    if given.limit < 1:
        parser.error("--limit must be at least 1")
    try:
        complete_restore(Settings.from_environment())
    except BackupError as error:
        print(f"lakehouse worker: {error}", file=sys.stderr)
        return 1
    close_documentation()
    worker = DrainingWorker(work_pool_name=given.pool, name=given.name, limit=given.limit)
    asyncio.run(serve(worker))
    return 0
