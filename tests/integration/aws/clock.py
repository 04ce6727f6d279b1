# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace waiting time by a fake clock: pauses, timeouts and deadlines keep their meaning, and tests stay short."""

from __future__ import annotations

import threading
import time
import types

import pytest

from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import session as session_module
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.aws import waiters as waiters_module
from ansible_collections.crypto_lakehouse.platform.plugins.module_utils.engine.resource import Activity


class Clock:
    """The time of a thread: it advances while the thread sleeps. Each thread has its own time."""

    def __init__(self) -> None:
        self._slept = threading.local()
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return time.monotonic() + getattr(self._slept, "seconds", 0.0)

    def sleep(self, activity: Activity, seconds: float) -> bool:
        self._slept.seconds = getattr(self._slept, "seconds", 0.0) + seconds
        self.pauses.append(seconds)
        return activity._cancel.wait(0.001)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Install it in all code of the collection that waits for AWS."""
        clock = types.SimpleNamespace(monotonic=self.monotonic)
        monkeypatch.setattr(session_module, "time", clock)
        monkeypatch.setattr(waiters_module, "time", clock)

        # A bound method would not get the activity.
        def sleep(activity: Activity, seconds: float) -> bool:
            return self.sleep(activity, seconds)

        monkeypatch.setattr(Activity, "sleep", sleep)
