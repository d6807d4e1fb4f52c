"""Traces: the layer with the span of each call, and the spans of the requests that the adapter sends for it.

Names and attributes follow the semantic conventions (1.44) for RPC and HTTP. The messages of a stream are no events.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from grpc import StatusCode
from opentelemetry import context as contexts
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.trace import SpanKind, Status, format_span_id, format_trace_id, get_current_span, set_span_in_context
from opentelemetry.trace import StatusCode as SpanStatus

from kfadapter_grpc.interceptors.chain import Rpc
from kfadapter_grpc.interceptors.log import call_code
from kfadapter_grpc.telemetry.spans import rpc_attributes

if TYPE_CHECKING:
    import logging

    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, Tracer
    from structlog.typing import EventDict, WrappedLogger

_SERVER_FAULTS = frozenset(
    {
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNIMPLEMENTED,
        StatusCode.INTERNAL,
        StatusCode.UNAVAILABLE,
        StatusCode.DATA_LOSS,
    }
)
"""The codes that make a server's span an error; the others are faults of the client."""


class CallTraces:
    """The layer with the span of a call: continues the caller's trace, or begins one. It is outside the log's."""

    def __init__(self, tracer: Tracer, propagator: TextMapPropagator) -> None:
        """Makes spans with `tracer`; callers' contexts are read, and ours sent, by `propagator`."""
        self._tracer = tracer
        self._propagator = propagator

    @contextmanager
    def __call__(self, rpc: Rpc) -> Iterator[None]:
        """Makes the span. gRPC runs every call in a contextvars.Context of its own: there is nothing to detach."""
        method = rpc.method.path.lstrip("/")
        carrier = {key: value for key, value in rpc.context.invocation_metadata() or () if isinstance(value, str)}
        parent = self._propagator.extract(carrier)
        attributes = {
            **rpc_attributes(method),
            **_peer(rpc.peer),
            "kfadapter.request_id": rpc.call.request_id,
        }
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        context = set_span_in_context(span, parent)
        contexts.attach(context)
        rpc.call.trace = Trace(self._tracer, self._propagator, context)
        rpc.trace_id = format_trace_id(span.get_span_context().trace_id)
        try:
            yield
        finally:
            if span.is_recording():
                _describe(span, rpc)
            span.end()


class Trace:
    """The trace of a call, under whose span the requests that are sent for it begin theirs."""

    def __init__(self, tracer: Tracer, propagator: TextMapPropagator, context: Context) -> None:
        self._tracer = tracer
        self._propagator = propagator
        self._context = context

    def sent(self, name: str, attributes: Mapping[str, str | int]) -> SentSpan:
        span = self._tracer.start_span(name, self._context, SpanKind.CLIENT, dict(attributes))
        headers: dict[str, str] = {}
        self._propagator.inject(headers, set_span_in_context(span, self._context))
        return SentSpan(span, headers)


class SentSpan:
    def __init__(self, span: Span, headers: Mapping[str, str]) -> None:
        self._span = span
        self.headers = headers

    def answered(self, attribute: str, status: str | int, *, is_error: bool) -> None:
        """Records the status of the response as `attribute`."""
        self._span.set_attribute(attribute, status)
        if is_error:
            self.failed(str(status))

    def failed(self, error: str) -> None:
        """Records why there was no response, or that it is an error, in one word."""
        self._span.set_attribute("error.type", error)
        self._span.set_status(Status(SpanStatus.ERROR))

    def end(self) -> None:
        self._span.end()


def _describe(span: Span, rpc: Rpc) -> None:
    code, failure = call_code(rpc), rpc.failure
    span.set_attribute("rpc.response.status_code", code.name)
    if code is not StatusCode.OK:
        span.set_attribute("error.type", code.name)
    if failure is not None:
        span.set_attribute("kfadapter.reason", failure.reason)
    if rpc.call.caller is not None:
        span.set_attribute("enduser.id", rpc.call.caller.name)
    if code in _SERVER_FAULTS:
        span.set_status(Status(SpanStatus.ERROR, failure.reason if failure else None))


def _peer(peer: str) -> dict[str, str | int]:
    """The attributes of the other end of a connection, which gRPC calls `ipv4:10.1.2.3:4567` or `ipv6:[::1]:4567`."""
    host, colon, port = peer.partition(":")[2].rpartition(":")
    address = host.replace("%5B", "").replace("%5D", "").strip("[]")
    return {"network.peer.address": address, "network.peer.port": int(port)} if colon and port.isdigit() else {}


# --- log lines ------------------------------------------------------------------------------------------------------


_SEVERITY = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
_OWN = frozenset({"event", "level", "timestamp", "trace_id", "span_id", "exc_info", "_record", "_from_structlog"})


def add_trace(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """The processor that adds `trace_id` and `span_id` to the lines of a call that is traced."""
    span = get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"] = format_trace_id(span.trace_id)
        event["span_id"] = format_span_id(span.span_id)
    return event


class LogExport:
    """The processor that sends each line over OTLP as well."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def __call__(self, _logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        """Sends a line, except those about OpenTelemetry itself: a failure to send them would make further ones."""
        record = cast("logging.LogRecord | None", event.get("_record"))
        if record is None or not record.name.startswith("opentelemetry"):
            level = str(event.get("level", "info"))
            error = event.get("exc_info")
            self._logger.emit(
                timestamp=time.time_ns(),
                severity_number=_SEVERITY.get(level, SeverityNumber.UNSPECIFIED),
                severity_text=level.upper(),
                body=str(event.get("event", "")),
                attributes={key: _value(value) for key, value in event.items() if key not in _OWN},
                exception=error if isinstance(error, BaseException) else None,
            )
        return event


def _value(value: object) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)
