"""Traces: a span for each request, which continues that of the adapter."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kfadapter_grpc.telemetry.otlp import Telemetry


class RequestSpans:
    """The middleware with the span of a request."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        """Imports OpenTelemetry, as traces are on."""
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415  of the extra `otel`

        assert telemetry.tracer is not None  # noqa: S101
        self._app = app
        self._tracer = telemetry.tracer
        self._propagator = telemetry.propagator
        self._kind = SpanKind.SERVER
        self._error = Status(StatusCode.ERROR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Makes the span of a request in a trace; health checks have none."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if "traceparent" not in headers:
            await self._app(scope, receive, send)
            return
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"], "url.scheme": scope["scheme"]}
        with self._tracer.start_as_current_span(
            scope["method"], self._propagator.extract(headers), self._kind, attributes
        ) as span:

            async def respond(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        span.set_attribute("error.type", str(status))
                        span.set_status(self._error)
                await send(message)

            await self._app(scope, receive, respond)
