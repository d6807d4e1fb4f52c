"""Log lines and traces: the ids of the trace in each line of a call, and the lines over OTLP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

if TYPE_CHECKING:
    import logging

    from opentelemetry._logs import Logger
    from structlog.typing import EventDict, WrappedLogger

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
