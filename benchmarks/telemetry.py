"""What traces cost a call in processor time, switched off and on: a span of the call, and of one request to KFP."""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from benchmarks.results import Figure, Row, absolute
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.interceptors.chain import Rpc
from kfadapter_grpc.methods import METHODS
from kfadapter_grpc.telemetry.spans import sent_span
from kfadapter_grpc.telemetry.traces import CallTraces

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc

    from benchmarks.stage import Stage

OFF, ON = "traces off", "traces on"
_ATTRIBUTES: dict[str, str | int] = {"http.request.method": "GET", "url.full": "http://kfp/apis/v2beta1/pipelines"}
_CALLS = 2000


def run(stage: Stage) -> Iterator[Row]:
    """Measures both in this process."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Dropping()))
    layer = CallTraces(provider.get_tracer("benchmark"), TraceContextTextMapPropagator())
    figures = []
    for side, used in ((OFF, None), (ON, layer)):
        found = [_microseconds(used) for _ in range(max(3, stage.scale.rounds))]
        figures.append(Figure(side, statistics.median(found), max(found), len(found)))
    provider.shutdown()
    row = Row("telemetry", "traces, processor time of a call and one request", "µs", tuple(figures))
    goals = (absolute(row, OFF, "under 2 µs", at_most=2), absolute(row, ON, "under 300 µs", at_most=300))
    yield replace(row, findings=goals)


def _microseconds(layer: CallTraces | None) -> float:
    method, context = METHODS["/kfadapter.v1.PipelineService/Get"], cast("grpc.ServicerContext", _Context())
    calls = [Rpc(method, context, context.peer(), Call("request", 10)) for _ in range(_CALLS)]
    began = time.process_time()
    for rpc in calls:
        with layer(rpc) if layer else nullcontext():
            span = sent_span(rpc.call, "GET", _ATTRIBUTES)
            if span is not None:
                span.answered("http.response.status_code", 200, is_error=False)
                span.end()
    return (time.process_time() - began) / _CALLS * 1e6


class _Dropping(InMemorySpanExporter):
    """Keeps no spans."""

    def export(self, spans: object) -> object:  # type: ignore[override]
        """Drops them."""
        del spans
        return None


class _Context:
    """gRPC's context of a call, as far as the layer uses it."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),)

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1234"

    def is_active(self) -> bool:
        return True
