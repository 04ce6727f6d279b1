# SPDX-License-Identifier: GPL-3.0-or-later
"""Small tables in memory, and the processes that contain them.

Each version of a table is fetched once, by a separate process, into a file in memory that is then sealed. A generation
is a forkserver that has loaded such files: it has neither key nor network, and is never modified. When a table has a
new version, a new generation replaces the old one, which ends with its last query.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from crypto_lakehouse.query.errors import QueryError
from crypto_lakehouse.query.frames import FrameError
from crypto_lakehouse.query.limits import Grant, Limits
from crypto_lakehouse.query.locate import TableVersion
from crypto_lakehouse.query.processes import Channel, Child, QueryForkserver, connected, fork
from crypto_lakehouse.query.query_forkserver import FETCH, GENERATION, RESIDENT

SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
MAX_TABLES: Final = 64
START_ATTEMPTS: Final = 2
RETRY_S: Final = 30.0
"""Time before a retry for a table that could not be made resident."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Generation:
    """A forkserver with tables: its handle, its control socket, and the versions of its tables."""

    handle: int
    control: socket.socket
    versions: Mapping[str, TableVersion]

    def retire(self) -> None:
        """Let the forkserver end with its last query."""
        os.close(self.handle)
        self.control.close()


class ResidentTables:
    """Keeps small tables of queries in memory, up to `max_bytes` of their files and as much once loaded."""

    def __init__(
        self, forkserver: QueryForkserver, grant: Callable[[], Awaitable[Grant]], limits: Limits, max_bytes: int
    ) -> None:
        self._forkserver = forkserver
        self._grant = grant
        self._limits = limits
        self._max_bytes = max_bytes
        self._files: OrderedDict[TableVersion, tuple[int, int]] = OrderedDict()
        self._left_alone: dict[TableVersion, float] = {}
        self._generation: Generation | None = None
        self._changing = asyncio.Lock()
        self._refresh: asyncio.Task[None] | None = None
        self._wanted: dict[str, TableVersion] = {}
        self._closed = False

    async def child(self) -> tuple[Child, Mapping[str, TableVersion]]:
        """Return a new query process, and the versions of its tables.

        Raises:
            QueryError: when it does not start.
        """
        for _attempt in range(START_ATTEMPTS):
            generation = None
            try:
                generation = await self._current()
                handle, channel = await fork(generation.control, RESIDENT)
                return await connected(handle, channel), generation.versions
            except (TimeoutError, FrameError, OSError) as error:
                log.warning("a query process did not start: %s", type(error).__name__)
                if generation is not None:
                    await self._discard(generation)
        raise QueryError("internal", "the query engine does not start")

    def want(self, versions: Iterable[TableVersion]) -> None:
        """Make these versions resident, in the background, where they are small enough."""
        now = time.monotonic()
        self._left_alone = {version: until for version, until in self._left_alone.items() if until > now}
        for version in versions:
            small = version.data_bytes is not None and version.data_bytes <= self._max_bytes
            if small and version not in self._left_alone:
                self._wanted[version.name] = version
        if self._wanted and self._refresh is None and not self._closed:
            self._refresh = asyncio.create_task(self._run_refresh())

    async def close(self) -> None:
        """Clear the state; the processes end with the forkserver."""
        self._closed = True
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.gather(self._refresh, return_exceptions=True)
        if self._generation is not None:
            self._generation.retire()
            self._generation = None
        for descriptor, _size in self._files.values():
            os.close(descriptor)
        self._files.clear()

    async def _current(self) -> Generation:
        async with self._changing:
            if self._generation is None:
                self._generation = await self._started()
            return self._generation

    async def _discard(self, generation: Generation) -> None:
        async with self._changing:
            if self._generation is generation:
                self._generation = None
                generation.retire()

    async def _run_refresh(self) -> None:
        try:
            while self._wanted and not self._closed:
                wanted, self._wanted = self._wanted, {}
                await self._replace(wanted.values())
        except (QueryError, FrameError, TimeoutError, OSError) as error:
            log.warning("the resident tables were not replaced: %s", type(error).__name__)
        finally:
            self._refresh = None

    async def _replace(self, wanted: Iterable[TableVersion]) -> None:
        fetched = False
        for version in wanted:
            if version not in self._files:
                fetched = await self._fetch(version) or fetched
        if not fetched:
            return
        generation = await self._started()
        async with self._changing:
            old, self._generation = self._generation, generation
        if old is not None:
            old.retire()

    async def _fetch(self, version: TableVersion) -> bool:
        """Write the table into a file in memory; return whether it is small enough and was read."""
        descriptor = os.memfd_create(version.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            grant = await self._grant()
            child = await self._forkserver.child(FETCH, [descriptor])
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    await child.send(
                        {
                            "grant": asdict(grant),
                            "limits": asdict(self._limits),
                            "location": version.location,
                            "max_bytes": self._max_bytes,
                        }
                    )
                    await child.message()
            finally:
                child.end()
            size = os.fstat(descriptor).st_size
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        except BaseException as error:
            os.close(descriptor)
            self._left_alone[version] = time.monotonic() + RETRY_S
            if not isinstance(error, QueryError | FrameError | TimeoutError | OSError):
                raise
            log.info("gold.%s is not made resident: %s", version.name, type(error).__name__)
            return False
        self._keep(version, descriptor, size)
        return True

    def _keep(self, version: TableVersion, descriptor: int, size: int) -> None:
        for other in [other for other in self._files if other.name == version.name]:
            self._drop(other)
        self._files[version] = (descriptor, size)
        while len(self._files) > MAX_TABLES or sum(held for _fd, held in self._files.values()) > self._max_bytes:
            self._drop(next(iter(self._files)))

    def _drop(self, version: TableVersion) -> None:
        os.close(self._files.pop(version)[0])

    async def _started(self) -> Generation:
        versions = list(self._files)
        files = [self._files[version][0] for version in versions]
        handle, control = await self._forkserver.fork(GENERATION, files)
        try:
            loaded = await self._load(control, [version.name for version in versions])
        except BaseException:
            os.close(handle)
            control.close()
            raise
        for version in versions:
            if version.name not in loaded:
                self._left_alone[version] = time.monotonic() + RETRY_S
                if version in self._files:
                    self._drop(version)
        return Generation(handle, control, {each.name: each for each in versions if each.name in loaded})

    async def _load(self, control: socket.socket, names: list[str]) -> frozenset[str]:
        # The streams use a second descriptor: the socket itself continues to transfer descriptors.
        channel = Channel(*await asyncio.open_connection(sock=control.dup()))
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                megabytes = max(1, self._max_bytes // 1_000_000)
                await channel.send({"tables": names, "resident_mb": megabytes, "limits": asdict(self._limits)})
                answer = await channel.message()
        finally:
            channel.writer.close()
        return frozenset(str(name) for name in answer["loaded"])
