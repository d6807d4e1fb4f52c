"""Spans of calls and of the requests that they cause; what is logged; what is propagated."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.responses import PlainTextResponse
from tests.console.visiting import page
from tests.contract.running import Scripted, eventually
from tests.legacy_http.calling import gateway
from tests.mlmd import FakeStore
from tests.scripted_kfp import ScriptedKfp, answers, resets

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_embedded.traces import RequestSpans
from kfadapter_grpc.client import Client
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import InternalError, PipelineNotFoundError
from kfadapter_grpc.daemon.log import configure_logging
from kfadapter_grpc.interceptors.calls import current_call
from kfadapter_grpc.kfp.mlmd.store import MetadataStore, StoreSettings
from kfadapter_grpc.kfp.transport import Request, Transport, TransportSettings
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.telemetry.otlp import Telemetry
from kfadapter_grpc.telemetry.traces import CallTraces, Trace, add_trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from starlette.types import Message

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
GET = pb.GetPipelineRequest(name="hello")


class Traced:
    """A server whose calls are traced, in front of a scripted KFP."""

    def __init__(self, provider: TracerProvider, kfp: ScriptedKfp) -> None:
        self.spans = InMemorySpanExporter()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.kfp = kfp
        self.transport = Transport(TransportSettings(kfp.url))
        self.fault: Exception | None = None
        layer = CallTraces(provider.get_tracer("test"), TraceContextTextMapPropagator())
        settings = Settings.load(config=None, listen="127.0.0.1:0")
        servicer = Scripted(get=self._get, download=self._download)
        self.server = AdapterServer(settings, [servicer], lambda: True, outer=[layer])

    def _get(self, context: grpc.ServicerContext) -> pb.Pipeline:
        self.transport.send(Request("GET", "/x", [("filter", "secret")]), current_call(context).detached(5), "get x")
        if self.fault:
            raise self.fault
        return pb.Pipeline()

    def _download(self, _: grpc.ServicerContext) -> Iterator[pb.DownloadPipelineResponse]:
        structlog.get_logger().warning("on the way")
        yield from (pb.DownloadPipelineResponse(chunk=b"x") for _ in range(3))

    def ended(self, count: int) -> list[ReadableSpan]:
        """The spans, once there are so many: a call's ends after its response."""
        return eventually(lambda: found if len(found := list(self.spans.get_finished_spans())) >= count else [])


@pytest.fixture
def traced(kfp: ScriptedKfp) -> Iterator[Traced]:
    """A server that samples every call."""
    made = Traced(TracerProvider(shutdown_on_exit=False), kfp)
    with made.server:
        yield made
    made.transport.close()


@pytest.fixture
def stub(traced: Traced) -> Iterator[PipelineServiceStub]:
    """A client of it."""
    with grpc.insecure_channel(traced.server.address) as channel:
        yield PipelineServiceStub(channel)


def test_a_trace_goes_through(traced: Traced, stub: PipelineServiceStub) -> None:
    """The caller's trace continues in the call's span, and in the request to KFP, which carries it on."""
    traced.kfp.on("GET", "/x", resets(), answers(200))
    stub.Get(GET, metadata=(("traceparent", PARENT),))
    first, second, call = traced.ended(3)
    assert call.name == "kfadapter.v1.PipelineService/Get"
    assert (call.kind, call.status.status_code) == (SpanKind.SERVER, StatusCode.UNSET)
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {f"{one.context.trace_id:032x}" for one in (first, second, call)} == {"0af7651916cd43dd8448eb211c80319c"}
    attributes = dict(call.attributes or {})
    assert attributes.pop("network.peer.port")
    assert attributes.pop("kfadapter.request_id")
    assert attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "kfadapter.v1.PipelineService/Get",
        "rpc.response.status_code": "OK",
        "network.peer.address": "127.0.0.1",
    }
    assert second.name == "GET"
    assert second.parent is not None
    assert second.parent.span_id == call.context.span_id
    _, host, port = traced.kfp.url.replace("//", "").split(":")
    assert dict(second.attributes or {}) == {
        "http.request.method": "GET",
        "url.full": f"{traced.kfp.url}/x",
        "server.address": host,
        "server.port": int(port),
        "kfadapter.operation": "get x",
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
    }
    assert (first.attributes or {})["error.type"] == "KFP_UNAVAILABLE"
    assert first.status.status_code is StatusCode.ERROR
    sent = [one.headers["traceparent"] for one in traced.kfp.requests]
    assert sent == [f"00-{one.context.trace_id:032x}-{one.context.span_id:016x}-01" for one in (first, second)]


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        (PipelineNotFoundError("x"), "NOT_FOUND", StatusCode.UNSET),
        (InternalError("x"), "INTERNAL", StatusCode.ERROR),
    ],
    ids=["of the caller", "of the server"],
)
def test_failures(
    traced: Traced,
    stub: PipelineServiceStub,
    fault: PipelineNotFoundError | InternalError,
    code: str,
    status: StatusCode,
) -> None:
    """A failed call has its code and reason; only a fault of the server is an error of its span."""
    traced.kfp.on("GET", "/x", answers(404))
    traced.fault = fault
    with pytest.raises(grpc.RpcError):
        stub.Get(GET)
    request, call = traced.ended(2)
    assert (call.attributes or {})["rpc.response.status_code"] == (call.attributes or {})["error.type"] == code
    assert (call.attributes or {})["kfadapter.reason"] == fault.reason
    assert call.status.status_code is status
    assert ((request.attributes or {})["error.type"], request.status.status_code) == ("404", StatusCode.ERROR)


def test_lines_of_a_call(traced: Traced, stub: PipelineServiceStub) -> None:
    """The lines of a call, of a stream, too, have the ids of its span; a stream's messages are no events."""
    stream = io.StringIO()
    configure_logging("json", "info", stream, [add_trace])
    list(stub.Download(pb.DownloadPipelineRequest()))
    (call,) = traced.ended(1)
    ids = [(one["event"], one["trace_id"], one["span_id"]) for one in map(json.loads, stream.getvalue().splitlines())]
    trace_id, span_id = f"{call.context.trace_id:032x}", f"{call.context.span_id:016x}"
    assert ids == [("on the way", trace_id, span_id), ("call", trace_id, span_id)]
    assert not call.events


def test_not_sampled(kfp: ScriptedKfp) -> None:
    """Calls that the sampler leaves out make no span, and KFP is notified."""
    traced = Traced(TracerProvider(ParentBased(ALWAYS_OFF), shutdown_on_exit=False), kfp)
    kfp.on("GET", "/x", answers(200))
    with traced.server, grpc.insecure_channel(traced.server.address) as channel:
        PipelineServiceStub(channel).Get(GET)
    traced.transport.close()
    assert not traced.spans.get_finished_spans()
    flags = int(kfp.requests[0].headers["traceparent"].rpartition("-")[2], 16)
    assert flags & TraceFlags.SAMPLED == 0


def test_the_client_continues_a_trace(traced: Traced) -> None:
    """The client library sends the context of the current span."""
    traced.kfp.on("GET", "/x", answers(200))
    context = trace.set_span_in_context(trace.NonRecordingSpan(_parent()))
    with Client(traced.server.address) as client, trace.use_span(trace.get_current_span(context)):
        client.pipelines.get("hello")
    *_, call = traced.ended(2)
    assert call.parent is not None
    assert f"{call.context.trace_id:032x}" == PARENT.split("-")[1]


def test_gateways_pass_a_trace_on(traced: Traced) -> None:
    """Calls of the legacy HTTP gateway and the web page continue the trace of a request, as far as gRPC can send it."""
    traced.kfp.on("GET", "/x", answers(200))
    with gateway(traced.server) as made, page(traced.server.address) as visitor:
        made.caller.say("GET", "/pipelineIds/hello", traceparent=PARENT, tracestate="caf\xe9=1")
        visitor.get("/pipelines/hello", headers={"traceparent": PARENT})
        calls = [one.parent for one in traced.ended(4) if one.kind is SpanKind.SERVER]
    assert len(calls) > 1
    assert {one and f"{one.span_id:016x}" for one in calls} == {PARENT.split("-")[2]}
    assert not any(one and one.trace_state for one in calls)


def test_ml_metadata() -> None:
    """A request to ML Metadata is a span, and carries the trace on."""
    store, provider = FakeStore(), TracerProvider(shutdown_on_exit=False)
    headers: list[dict[str, str | bytes]] = []
    store.before = lambda _, context: headers.append(dict(context.invocation_metadata() or ()))
    spans = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    parent = TraceContextTextMapPropagator().extract({"traceparent": PARENT})
    call = Call("r", 10, trace=Trace(provider.get_tracer("test"), TraceContextTextMapPropagator(), parent))
    with closing(MetadataStore(StoreSettings(store.start()))) as reading:
        assert reading.run("unknown", call) is None
    store.stop()
    (span,) = spans.get_finished_spans()
    name = "ml_metadata.MetadataStoreService/GetContextByTypeAndName"
    assert (span.name, span.kind) == (name, SpanKind.CLIENT)
    assert dict(span.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": name,
        "rpc.response.status_code": "OK",
    }
    assert headers[0]["traceparent"] == f"00-{PARENT.split('-')[1]}-{span.context.span_id:016x}-01"


def test_the_embedded_kfp_continues_a_trace() -> None:
    """A request with a trace is a span of it; one without, as a health check, is none."""
    spans = InMemorySpanExporter()
    sent: list[Message] = []
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    telemetry = Telemetry("kfp")
    telemetry.tracer, telemetry.propagator = provider.get_tracer("test"), TraceContextTextMapPropagator()

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    app = RequestSpans(PlainTextResponse("no", 500), telemetry)
    scope = {"type": "http", "method": "GET", "path": "/x", "scheme": "http"}
    for headers in ([], [(b"traceparent", PARENT.encode())]):
        asyncio.run(app({**scope, "headers": headers}, receive, send))
    (span,) = spans.get_finished_spans()
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert (span.attributes or {})["http.response.status_code"] == 500
    assert span.status.status_code is StatusCode.ERROR
    assert [one["status"] for one in sent if one["type"] == "http.response.start"] == [500, 500]


def _parent() -> trace.SpanContext:
    found = TraceContextTextMapPropagator().extract({"traceparent": PARENT})
    return trace.get_current_span(found).get_span_context()
