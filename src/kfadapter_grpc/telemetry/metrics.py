"""Metrics over OTLP: the Prometheus registry, read at intervals. The names are those that Prometheus scrapes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import structlog
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family

_CUMULATIVE = AggregationTemporality.CUMULATIVE
_DEFAULT_MS = 60_000.0
_TIMEOUT_MS = 10_000.0
_Labels: TypeAlias = "tuple[tuple[str, str], ...]"


class RegistryExport:
    """Exports a registry every `OTEL_METRIC_EXPORT_INTERVAL` milliseconds (60000), on a thread of its own."""

    def __init__(self, registry: CollectorRegistry, exporter: MetricExporter, resource: Resource) -> None:
        self._registry = registry
        self._exporter = exporter
        self._resource = resource
        self._scope = InstrumentationScope("kfadapter_grpc", installed_version())
        self._started_at = time.time_ns()
        self._seconds = float(os.environ.get("OTEL_METRIC_EXPORT_INTERVAL") or _DEFAULT_MS) / 1000
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Exports a last time, and stops."""
        self._closed.set()
        self._thread.join()
        self._exporter.shutdown()

    def data(self) -> MetricsData:
        now = time.time_ns()
        metrics = [metric for family in self._registry.collect() for metric in self._metrics(family, now)]
        scope = ScopeMetrics(self._scope, metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], self._resource.schema_url)])

    def _run(self) -> None:
        over = False
        while not over:
            over = self._closed.wait(self._seconds)
            try:
                self._exporter.export(self.data(), timeout_millis=_TIMEOUT_MS)
            except Exception:  # noqa: BLE001 - the thread must continue
                structlog.get_logger().warning("metrics could not be exported over OTLP", exc_info=True)

    def _metrics(self, family: Family, now: int) -> Iterator[Metric]:
        if family.type == "histogram":
            points = [self._histogram(labels, values, now) for labels, values in _series(family).items()]
            yield Metric(family.name, family.documentation, "", Histogram(points, _CUMULATIVE))
            return
        start = self._started_at if family.type == "counter" else None
        numbers = [NumberDataPoint(sample.labels, start or 0, now, sample.value) for sample in family.samples]
        data = Sum(numbers, _CUMULATIVE, is_monotonic=True) if family.type == "counter" else Gauge(numbers)
        yield Metric(family.samples[0].name if family.samples else family.name, family.documentation, "", data)

    def _histogram(self, labels: _Labels, values: dict[str, float], now: int) -> HistogramDataPoint:
        """One point: the counts of Prometheus' buckets include those of the smaller ones, OTLP's do not."""
        bounds = sorted(float(key) for key in values if key not in ("_sum", "_count"))
        by_bound = {float(key): value for key, value in values.items() if key not in ("_sum", "_count")}
        up_to = [int(by_bound[bound]) for bound in bounds]
        counts = [more - less for more, less in zip(up_to, [0, *up_to], strict=False)]
        return HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=self._started_at,
            time_unix_nano=now,
            count=up_to[-1],
            sum=values["_sum"],
            bucket_counts=counts,
            explicit_bounds=[bound for bound in bounds if bound != float("inf")],
            min=None,  # type: ignore[arg-type]  # unknown, and optional in OTLP
            max=None,  # type: ignore[arg-type]
        )


def _series(family: Family) -> dict[_Labels, dict[str, float]]:
    """The samples of a histogram by its labels: each bucket's count by its bound, `_sum` and `_count`."""
    series: dict[_Labels, dict[str, float]] = {}
    for sample in family.samples:
        labels = tuple((key, value) for key, value in sample.labels.items() if key != "le")
        key = sample.labels.get("le") or sample.name.removeprefix(family.name)
        series.setdefault(labels, {})[key] = sample.value
    return series
