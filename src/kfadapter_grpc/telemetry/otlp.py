"""Sets up OpenTelemetry's SDK from the standard variables `OTEL_*`, and ends it within a bound.

On if a variable names an endpoint or the exporter `otlp`. The SDK's queues are bounded and its exporters have threads
of their own, so a collector that is slow or unreachable delays no call: what does not fit is dropped.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.version import installed_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Tracer
    from prometheus_client import CollectorRegistry
    from structlog.typing import Processor
    from typing_extensions import Self

    from kfadapter_grpc.telemetry.traces import CallTraces

SIGNALS = ("traces", "metrics", "logs")
CLOSE_SECONDS = 3.0
"""The maximum time to export what is left when the process ends."""
SCOPE = "kfadapter_grpc"
_MISSING = "OTEL_* variables are set, but nothing is exported: pip install 'kfadapter-grpc[otel]'"
_PROTOCOLS = {"grpc": "grpc", "http/protobuf": "http"}
_CLASSES = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


def enabled_signals() -> tuple[str, ...]:
    """The signals that are on. Raises SettingsError if a variable names an unsupported exporter or protocol."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ()
    return tuple(signal for signal in SIGNALS if _is_enabled(signal.upper()))


def _is_enabled(signal: str) -> bool:
    exporter = os.environ.get(f"OTEL_{signal}_EXPORTER", "").strip().lower()
    if exporter not in ("", "none", "otlp"):
        raise SettingsError(f"OTEL_{signal}_EXPORTER: must be otlp or none, not '{exporter}'")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    return exporter == "otlp" or (exporter != "none" and any(os.environ.get(endpoint) for endpoint in endpoints))


class Telemetry:
    """What a process exports. A context manager: the end sends what is left, for at most `CLOSE_SECONDS`.

    Attributes:
        missing: What to log if the variables switch it on, but the extra `otel` is not installed; otherwise empty.
        tracer: Makes spans; None if traces are off.
        propagator: Reads and writes the headers that continue a trace in another process.
        processors: Of log lines: one adds the trace's ids, one sends the line over OTLP.
    """

    def __init__(self, service: str) -> None:
        """Reads the variables, one of which may rename the service. Raises SettingsError if one is invalid."""
        self.signals = enabled_signals()
        installed = find_spec("opentelemetry") and find_spec("opentelemetry.sdk")
        self.missing = _MISSING if self.signals and not installed else ""
        self.tracer: Tracer | None = None
        self.processors: tuple[Processor, ...] = ()
        self._shutdowns: list[Callable[[], object]] = []
        if not self.signals or self.missing:
            return
        # Otherwise a collector that is unreachable makes a warning for each repetition, besides the error at its end.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        try:
            self._resource = _resource(service)
            if "traces" in self.signals:
                self._set_up_traces()
            if "logs" in self.signals:
                self._set_up_logs()
        except Exception as error:
            raise SettingsError(f"OTEL_*: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ends = [threading.Thread(target=end, name="otel-end", daemon=True) for end in self._shutdowns]
        for thread in ends:
            thread.start()
        until = time.monotonic() + CLOSE_SECONDS
        for thread in ends:
            thread.join(max(0.0, until - time.monotonic()))

    def layers(self) -> tuple[CallTraces, ...]:
        """The layer with the spans of calls, if traces are on."""
        if self.tracer is None:
            return ()
        from kfadapter_grpc.telemetry.traces import CallTraces  # noqa: PLC0415  needs the extra

        return (CallTraces(self.tracer, self.propagator),)

    def export(self, registry: CollectorRegistry) -> None:
        """Sends the metrics of a registry from now on, if metrics are on."""
        if "metrics" not in self.signals or self.missing:
            return
        from kfadapter_grpc.telemetry.metrics import RegistryExport  # noqa: PLC0415  needs the extra

        self._shutdowns.append(RegistryExport(registry, _exporter("metrics"), self._resource).close)

    def _set_up_traces(self) -> None:
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        from kfadapter_grpc.telemetry.traces import add_trace  # noqa: PLC0415

        provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(_exporter("traces")))
        self.tracer, self.propagator = provider.get_tracer(SCOPE, installed_version()), _propagator()
        self.processors += (add_trace,)
        self._shutdowns.append(provider.shutdown)

    def _set_up_logs(self) -> None:
        from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415

        from kfadapter_grpc.telemetry.traces import LogExport  # noqa: PLC0415

        provider = LoggerProvider(resource=self._resource, shutdown_on_exit=False)
        provider.add_log_record_processor(BatchLogRecordProcessor(_exporter("logs")))
        self.processors += (LogExport(provider.get_logger(SCOPE, installed_version())),)
        self._shutdowns.append(provider.shutdown)


def _exporter(signal: str) -> Any:  # noqa: ANN401 - of one of six classes
    variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((value for variable in variables if (value := os.environ.get(variable, "").strip())), "grpc")
    if protocol not in _PROTOCOLS:
        raise ValueError(f"the protocol must be {' or '.join(_PROTOCOLS)}, not '{protocol}'")
    module, name = _CLASSES[signal]
    return getattr(import_module(f"opentelemetry.exporter.otlp.proto.{_PROTOCOLS[protocol]}.{module}"), name)()


def _resource(service: str) -> Resource:
    """OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, and what they leave open."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    detected = Resource.create()
    ours = {"service.version": installed_version(), **detected.attributes}
    if str(ours["service.name"]).startswith("unknown_service"):
        ours["service.name"] = service
    return Resource(ours, detected.schema_url)


def _propagator() -> TextMapPropagator:
    """W3C's trace context alone, unless OTEL_PROPAGATORS is set: a caller's baggage is not for KFP."""
    from opentelemetry.propagate import get_global_textmap  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return get_global_textmap() if os.environ.get("OTEL_PROPAGATORS") else TraceContextTextMapPropagator()
