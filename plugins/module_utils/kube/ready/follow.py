# Copyright: (c) 2026, The crypto_lakehouse.platform authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Follow objects of one resource in one namespace: list them, then watch, and resume an interrupted watch."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ..client.errors import ApiError, ExpiredError, KubeError, UnreachableError
from .verdict import Object, text

if TYPE_CHECKING:
    from ..client.client import Client
    from ..client.discovery import Resource

# The server ends a watch after this time. Intermediate proxies may drop connections that last longer.
_WATCH_S = 240.0
# After a watch that ended sooner than this and without events, the next one starts with a delay.
_WORTHWHILE_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0
# Interval of lists without permission to watch.
_POLL_S = 5.0


class Follower:
    """Reports changes of the named objects until the caller has all results.

    note: receives a name, the object (None if it does not exist) and whether it was just deleted. give_up: receives the
    reason why the state is unknown, and whether that is final. is_open: returns whether results are missing. left_s:
    returns the remaining time.
    """

    def __init__(
        self,
        client: Client,
        resource: Resource,
        namespace: str,
        names: Sequence[str],
        *,
        note: Callable[[str, Object | None, bool], None],
        give_up: Callable[[str, bool], None],
        is_open: Callable[[], bool],
        left_s: Callable[[], float],
    ) -> None:
        self._client = client
        self._path = resource.path(namespace or None)
        self._names = frozenset(names)
        self._query = {"fieldSelector": f"metadata.name={names[0]}"} if len(names) == 1 else {}
        self._may_watch = not resource.verbs or "watch" in resource.verbs
        self._note, self._give_up, self._is_open, self._left_s = note, give_up, is_open, left_s
        self._version = ""
        self._failures = 0

    def run(self) -> None:
        """Follow the objects. Raises nothing: `give_up` receives the errors."""
        while self._is_open() and self._left_s() > 0:
            try:
                self._step()
            except ExpiredError:
                self._version = ""
                self._pause()
            except UnreachableError as error:
                self._give_up(str(error), False)
                self._pause()
            except ApiError as error:
                if not self._go_on(error):
                    return
                self._pause()
            except KubeError as error:
                self._give_up(str(error), True)
                return

    def _step(self) -> None:
        if not self._version:
            self._list()
            if self._may_watch:
                return
        if self._may_watch:
            self._watch()
        else:
            self._version = ""
            self._sleep(_POLL_S)

    def _go_on(self, error: ApiError) -> bool:
        """Return whether to retry; otherwise report the error."""
        if self._version and self._may_watch and (error.is_forbidden or error.status == 405):
            # Listing is allowed. Without permission to watch, lists are repeated at a long interval.
            self._may_watch, self._version = False, ""
            return True
        if error.is_not_found:
            # The kind was deleted with its objects.
            for name in self._names:
                self._note(name, None, False)
        elif not error.is_passing:
            self._give_up(str(error), True)
            return False
        self._version = ""
        return self._is_open()

    def _list(self) -> None:
        listed = self._client.collect(self._path, query=self._query)
        found = {name: obj for obj in listed.items if (name := text(obj, "metadata", "name")) in self._names}
        for name in self._names:
            self._note(name, found.get(name), False)
        self._version = listed.resource_version

    def _watch(self) -> None:
        began_s, is_idle, watching_s = time.monotonic(), True, min(self._left_s(), _WATCH_S)
        events = self._client.watch(self._path, query=self._query, resource_version=self._version, timeout_s=watching_s)
        with closing(events):
            for event, obj in events:
                is_idle, self._failures = False, 0
                self._version = text(obj, "metadata", "resourceVersion") or self._version
                if (name := text(obj, "metadata", "name")) in self._names:
                    self._note(name, obj, event == "DELETED")
                if not self._is_open() or self._left_s() <= 0:
                    return
        if is_idle and time.monotonic() - began_s < min(_WORTHWHILE_S, watching_s):
            self._pause()

    def _pause(self) -> None:
        """Wait, longer after each consecutive failure.

        A random part distributes the retries of many threads.
        """
        longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        self._sleep(random.uniform(longest_s / 2, longest_s))  # noqa: S311  nothing secret: it spreads requests

    def _sleep(self, pause_s: float) -> None:
        threading.Event().wait(max(0.0, min(pause_s, self._left_s())))
