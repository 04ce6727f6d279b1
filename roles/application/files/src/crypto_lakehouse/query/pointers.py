# SPDX-License-Identifier: GPL-3.0-or-later
"""Newest version of each table: all requests together read the catalog at most once per staleness interval."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from crypto_lakehouse.query.locate import TableLocator, TableVersion

MAX_NAMES: Final = 1_024


@dataclass(slots=True)
class _Known:
    asked_at_s: float
    version: TableVersion | None


@dataclass(frozen=True, slots=True)
class _Asking:
    asked_at_s: float
    task: asyncio.Task[TableVersion | None]


@dataclass(slots=True)
class Pointers:
    """The version of each table, not older than `max_staleness_s`; 0 asks the catalog for every request."""

    locator: TableLocator
    max_staleness_s: float
    _known: OrderedDict[str, _Known] = field(default_factory=OrderedDict, init=False)
    _asking: dict[str, _Asking] = field(default_factory=dict, init=False)

    async def of(self, tables: Iterable[str]) -> dict[str, TableVersion | None]:
        """Return the version of each table, None where the table does not exist.

        Raises:
            CatalogError, CredentialsError, httpx.HTTPError: when the catalog does not answer.
        """
        # Nearly always all are known: no task is created for requests that need not wait.
        known = {name: self._fresh(name) for name in tables}
        missing = [name for name, found in known.items() if found is None]
        asked = dict(zip(missing, await asyncio.gather(*(self._ask(name) for name in missing)), strict=True))
        return {name: found.version if found else asked[name] for name, found in known.items()}

    def forget(self, tables: Iterable[str]) -> None:
        """Read the versions of these tables from the catalog at the next request."""
        for name in tables:
            self._known.pop(name, None)
            self._asking.pop(name, None)

    def _fresh(self, name: str) -> _Known | None:
        found = self._known.get(name)
        if found is None or time.monotonic() - found.asked_at_s >= self.max_staleness_s:
            return None
        self._known.move_to_end(name)
        return found

    async def _ask(self, name: str) -> TableVersion | None:
        if self.max_staleness_s <= 0:
            return await self._located(name)
        asking = self._asking.get(name)
        # The answer to a slow request would be too old for a new caller.
        if asking is None or time.monotonic() - asking.asked_at_s >= self.max_staleness_s:
            asking = _Asking(time.monotonic(), asyncio.create_task(self._located(name)))
            self._asking[name] = asking
            asking.task.add_done_callback(lambda done: self._asked(name, done))
        # A disconnecting client must not cancel the request that others wait for.
        return await asyncio.shield(asking.task)

    def _asked(self, name: str, task: asyncio.Task[TableVersion | None]) -> None:
        if name in self._asking and self._asking[name].task is task:
            del self._asking[name]
        if not task.cancelled():
            task.exception()

    async def _located(self, name: str) -> TableVersion | None:
        asked_at_s = time.monotonic()
        version = await self.locator.locate(name)
        known = self._known.get(name)
        if known is None or known.asked_at_s <= asked_at_s:
            self._known[name] = _Known(asked_at_s, version)
            self._known.move_to_end(name)
        while len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)
        return version
