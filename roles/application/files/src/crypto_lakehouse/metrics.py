# SPDX-License-Identifier: GPL-3.0-or-later
"""The series that the API publishes, with the names of the specification."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from crypto_lakehouse.clean import REASONS
from crypto_lakehouse.query.results import Result

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"
"""The label value for every unknown path or method: a scan must not create series."""

DURATION_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STAGES: Final = frozenset({"start", "examine", "views", "execute", "collect"})
DISK: Final = "/"
LINE_OUTCOMES: Final = ("read", "accepted", "refused", "duplicated")


@dataclass(frozen=True, slots=True)
class PipelineState:
    """State of the pipeline. `rate_mbps` in megabytes (10^6 bytes) a second, times in seconds since 1970.

    lines: number of lines by outcome (`LINE_OUTCOMES`) in the partitions that `clean` processed within a day.
    refusals: refused and duplicated lines among them, by class of reason.
    """

    rate_mbps: float
    last_success_s: Mapping[str, float]
    lines: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[str, int] = field(default_factory=dict)


class Metrics:
    """A registry with the application's series."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        labels = ("method", "endpoint")
        self.requests = Counter("crypto_lakehouse_requests", "Requests answered", labels, registry=registry)
        self.request_errors = Counter(
            "crypto_lakehouse_request_errors",
            "Requests that failed inside the service; a health check that reports another's failure is none",
            labels,
            registry=registry,
        )
        self.request_duration = Histogram(
            "crypto_lakehouse_request_duration_seconds",
            "Time from a request's arrival to the end of its answer",
            labels,
            registry=registry,
            buckets=DURATION_BUCKETS_S,
        )
        self.active_connections = Gauge(
            "crypto_lakehouse_active_connections", "Open client connections", registry=registry
        )
        self.data_processing_rate = Gauge(
            "crypto_lakehouse_data_processing_rate_mbps",
            "Megabytes a second that the latest finished pipeline run processed",
            registry=registry,
        )
        self.last_success = Gauge(
            "crypto_lakehouse_pipeline_last_success_timestamp_seconds",
            "When a flow last finished",
            ("flow",),
            registry=registry,
        )
        self.lines = Gauge(
            "crypto_lakehouse_pipeline_lines",
            "Lines by outcome, of the partitions that were cleaned within the last 24 hours",
            ("outcome",),
            registry=registry,
        )
        self.refused_lines = Gauge(
            "crypto_lakehouse_pipeline_refused_lines",
            "Lines in quarantine by class of reason, of the partitions that were cleaned within the last 24 hours",
            ("reason",),
            registry=registry,
        )
        self.component_up = Gauge(
            "crypto_lakehouse_component_up",
            "Whether the last health check of a component succeeded",
            ("component",),
            registry=registry,
        )
        self.queries = Counter("crypto_lakehouse_queries", "Queries by outcome", ("outcome",), registry=registry)
        self.query_duration = Histogram(
            "crypto_lakehouse_query_duration_seconds",
            "Time that answered queries took",
            registry=registry,
            buckets=DURATION_BUCKETS_S,
        )
        self.query_sources = Counter(
            "crypto_lakehouse_query_sources",
            "Answered queries by where the answer came from: the cache of results, resident tables, the object store",
            ("source",),
            registry=registry,
        )
        self.query_cpu = Counter(
            "crypto_lakehouse_query_cpu_seconds",
            "Processor time of the processes that answered queries, by stage",
            ("stage",),
            registry=registry,
        )
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(SystemCollector())

    def expect(self, endpoints: Iterable[tuple[str, str]]) -> None:
        """Create the series of each (method, endpoint), so that a first error is an increase from zero."""
        for method, endpoint in endpoints:
            self.requests.labels(method, endpoint)
            self.request_errors.labels(method, endpoint)
            self.request_duration.labels(method, endpoint)

    def observe_request(self, method: str, endpoint: str, duration_s: float, *, failed: bool) -> None:
        """Count one answered request."""
        known = method if method in METHODS else OTHER
        self.requests.labels(known, endpoint).inc()
        self.request_duration.labels(known, endpoint).observe(duration_s)
        if failed:
            self.request_errors.labels(known, endpoint).inc()

    def observe_query(self, result: Result | None) -> None:
        """Count one answered query, with the processor time of its computation."""
        self.queries.labels("answered").inc()
        self.query_sources.labels("cache" if result is None else "resident" if result.resident else "store").inc()
        if result is not None:
            self.query_duration.observe(result.elapsed_ms / 1000)
            for stage, milliseconds in result.cpu_ms.items():
                self.query_cpu.labels(stage if stage in STAGES else OTHER).inc(max(0.0, milliseconds) / 1000)

    def count_connections(self, count: Callable[[], int]) -> None:
        """Read the number of open connections from `count` at each scrape."""
        self.active_connections.set_function(lambda: float(count()))

    def show_pipeline(self, state: PipelineState) -> None:
        """Publish the state of the pipeline."""
        self.data_processing_rate.set(state.rate_mbps)
        for flow, moment_s in state.last_success_s.items():
            self.last_success.labels(flow).set(moment_s)
        for outcome, number in state.lines.items():
            self.lines.labels(outcome).set(number)
        for reason in REASONS if state.lines else ():
            self.refused_lines.labels(reason).set(state.refusals.get(reason, 0))


class SystemCollector(Collector):
    """Use of the machine, read at the moment of the scrape."""

    def describe(self) -> Iterator[Metric]:
        """Return no description: the registration must not read the machine."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Read processor, memory and disk; the processor's use is the mean since the previous scrape."""
        figures = {
            "cpu": ("Processor time in use", psutil.cpu_percent(interval=None)),
            "memory": ("Memory in use", psutil.virtual_memory().percent),
            "disk": (f"Space in use on the file system of {DISK}", psutil.disk_usage(DISK).percent),
        }
        for name, (meaning, percent) in figures.items():
            yield GaugeMetricFamily(f"crypto_lakehouse_system_{name}_usage_percent", meaning, value=percent)
