"""Makes what counts from the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client import CollectorRegistry

    from kfadapter_grpc.metrics.catalog import Metric


def counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    """Makes a counter."""
    return Counter(metric.name, metric.text, metric.labels, registry=registry)


def histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    """Makes a histogram."""
    return Histogram(metric.name, metric.text, metric.labels, registry=registry, buckets=metric.buckets)


def reading(metric: Metric, values: Mapping[tuple[str, ...], float]) -> CounterMetricFamily | GaugeMetricFamily:
    """Makes what is told of a metric whose values somebody else keeps, by the values of its labels."""
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(metric.name, metric.text, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family
