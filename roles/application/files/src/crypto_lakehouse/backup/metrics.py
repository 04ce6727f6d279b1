# SPDX-License-Identifier: GPL-3.0-or-later
"""Series of the service `backup`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge


class Gauges:
    """Gauges that are published with their first value.

    A gauge without a value is not published: rules would take 0 for a time in 1970.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._published: set[Gauge] = set()

    def add(self, name: str, text: str) -> Gauge:
        """Return a new gauge, which is not published yet."""
        return Gauge(f"lakehouse_backup_{name}", text, registry=None)

    def publish(self, gauge: Gauge, value: float | None) -> None:
        """Set a gauge; None leaves it as it is."""
        if value is None:
            return
        if gauge not in self._published:
            self._published.add(gauge)
            self._registry.register(gauge)
        gauge.set(value)
