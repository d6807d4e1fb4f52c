"""What the variables `OTEL_*` switch on, the metrics over OTLP, and the shutdown without a responding collector."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.telemetry import otlp
from kfadapter_grpc.telemetry.metrics import RegistryExport


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


@pytest.mark.parametrize(
    ("variables", "signals"),
    [
        ({}, ()),
        ({"EXPORTER_OTLP_ENDPOINT": "http://x:1"}, ("traces", "metrics", "logs")),
        ({"EXPORTER_OTLP_ENDPOINT": "http://x:1", "SDK_DISABLED": "true"}, ()),
        ({"EXPORTER_OTLP_ENDPOINT": "http://x:1", "LOGS_EXPORTER": "none"}, ("traces", "metrics")),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "http://x:1"}, ("traces",)),
        ({"METRICS_EXPORTER": "otlp"}, ("metrics",)),
        ({"SERVICE_NAME": "x"}, ()),
    ],
    ids=["nothing", "all", "disabled", "no logs", "an endpoint of traces", "an exporter", "only a name"],
)
def test_what_is_on(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], signals: tuple[str, ...]) -> None:
    """An endpoint or an exporter switches on; `none` and OTEL_SDK_DISABLED switch off."""
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)
    assert otlp.enabled_signals() == signals


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRACES_EXPORTER", "zipkin"), ("EXPORTER_OTLP_PROTOCOL", "http/json"), ("BSP_MAX_QUEUE_SIZE", "-1")],
)
def test_mistakes(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """What cannot be exported as the variables say ends the start."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(f"OTEL_{name}", value)
    with pytest.raises(SettingsError, match="OTEL_"):
        otlp.Telemetry("kfadapter")


def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the server works, and explains how to get it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:1")
    monkeypatch.setattr(otlp, "find_spec", lambda _: None)
    with otlp.Telemetry("kfadapter") as telemetry:
        assert (telemetry.tracer, telemetry.processors, telemetry.layers()) == (None, (), ())
    assert "kfadapter-grpc[otel]" in telemetry.missing


def test_a_dead_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a collector that never responds, spans are made without delay, and the end is bounded."""
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        began = time.monotonic()
        with otlp.Telemetry("kfadapter") as telemetry:
            assert telemetry.tracer is not None
            for _ in range(1000):
                telemetry.tracer.start_span("x").end()
        assert time.monotonic() - began < 2


def test_the_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's name and attributes come from the variables, what they leave open from us."""
    assert otlp._resource("kfadapter").attributes["service.name"] == "kfadapter"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours,team=x")
    found = otlp._resource("kfadapter").attributes
    assert (found["service.name"], found["team"]) == ("ours", "x")
    assert found["service.version"]


class Kept(MetricExporter):
    """Keeps what is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.exported: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: object) -> MetricExportResult:
        """Keeps it."""
        del timeout_millis
        self.exported.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        """No-op."""
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 0, **_: object) -> None:
        """No-op."""
        del timeout_millis


def _registry() -> CollectorRegistry:
    disable_created_metrics()  # type: ignore[no-untyped-call]  # as the catalog does
    registry = CollectorRegistry()
    Counter("calls_total", "Calls.", ["code"], registry=registry).labels("OK").inc(3)
    Gauge("up", "Up.", registry=registry).set(1)
    seconds = Histogram("seconds", "Seconds.", ["kind"], buckets=(1, 2), registry=registry).labels("x")
    for value in (0.5, 0.6, 1.5, 5):
        seconds.observe(value)
    return registry


def test_metrics() -> None:
    """Counters, gauges and histograms are exported under their scraped names, once more at the end."""
    exporter = Kept()
    RegistryExport(_registry(), exporter, Resource({})).close()
    ((data,),) = [one.resource_metrics for one in exporter.exported]
    found = {one.name: one.data for one in data.scope_metrics[0].metrics}
    calls = found["calls_total"].data_points[0]
    assert (calls.value, calls.attributes) == (3, {"code": "OK"})  # type: ignore[union-attr]
    assert found["up"].data_points[0].value == 1  # type: ignore[union-attr]
    seconds: Any = found["seconds"].data_points[0]
    assert (seconds.count, seconds.sum, seconds.attributes) == (4, 7.6, {"kind": "x"})
    assert (list(seconds.bucket_counts), list(seconds.explicit_bounds)) == ([2, 1, 1], [1, 2])
