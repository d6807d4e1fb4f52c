from __future__ import annotations

import re
from contextlib import ExitStack
from io import StringIO
from typing import TYPE_CHECKING

import grpc
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.contract.running import WAIT_SECONDS, Gate, Scripted, eventually, failure

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from kfadapter_grpc.contract.errors import InternalError, PipelineNotFoundError, all_error_classes
from kfadapter_grpc.daemon.log import LogWriter
from kfadapter_grpc.interceptors.calls import current_call
from kfadapter_grpc.kfp.exchange import KfpRequest
from kfadapter_grpc.methods import METHODS
from kfadapter_grpc.metrics.catalog import CATALOG
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.server.metrics import Metrics, ServerState
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.kfp.runs import Runs

GET = pb.GetPipelineRequest(name="hello")
UNARY = {"grpc_type": "unary", "grpc_service": "kfadapter.v1.PipelineService", "grpc_method": "Get"}
UPLOAD = {"grpc_service": "kfadapter.v1.PipelineService", "grpc_method": "Upload"}


class Measured:
    """A server whose calls are counted, and a client.

    Attributes:
        server: The server.
        metrics: Its metrics.
        stub: The client.
    """

    def __init__(self, stack: ExitStack, servicer: Scripted, stream: StringIO, **settings: object) -> None:
        loaded = Settings.load(config=None, **{"listen": "127.0.0.1:0", **settings})
        self.metrics = Metrics()
        self.server = AdapterServer(loaded, [servicer], lambda: True, observers=[self.metrics.calls])
        looks: Runs = NotAsked()  # type: ignore[assignment]
        state = ServerState(self.server, WatchPoller(looks, threaded=False), LogWriter(stream))
        self.metrics.registry.register(state)
        stack.enter_context(self.server)
        self.stub = PipelineServiceStub(stack.enter_context(grpc.insecure_channel(self.server.address)))

    def text(self) -> str:
        """All metrics, as text."""
        return generate_latest(self.metrics.registry).decode()

    def value(self, name: str, **labels: str) -> float:
        """The value of one series; 0 if it does not exist yet."""
        samples = (one for family in text_string_to_metric_families(self.text()) for one in family.samples)
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())

    def await_value(self, value: float, name: str, **labels: str) -> None:
        """Waits for a value: a call may be counted only after its caller has seen it finish."""
        eventually(lambda: self.value(name, **labels) == value)


class NotAsked:
    """Reads no runs: none are watched."""


@pytest.fixture
def measured() -> Iterator[Callable[..., Measured]]:
    """Starts servers whose calls are counted."""
    with ExitStack() as stack:
        yield lambda servicer=None, **settings: Measured(stack, servicer or Scripted(), StringIO(), **settings)


def raising(error: Exception) -> Scripted:
    """Fails every call."""

    def get(_: grpc.ServicerContext) -> pb.Pipeline:
        raise error

    return Scripted(get=get)


def test_a_call_is_counted(measured: Callable[..., Measured]) -> None:
    """A call counts as started, as handled with its code, and by its duration."""
    it = measured()
    it.stub.Get(GET)
    it.await_value(1, "grpc_server_handled_total", grpc_code="OK", **UNARY)
    assert it.value("grpc_server_started_total", **UNARY) == 1
    assert it.value("grpc_server_handling_seconds_count", **UNARY) == 1
    assert 0 < it.value("grpc_server_handling_seconds_sum", **UNARY) < WAIT_SECONDS
    assert it.value("kfadapter_call_failures_total") == 0


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (PipelineNotFoundError("x"), "NotFound", "PIPELINE_NOT_FOUND"),
        (InternalError("x"), "Internal", "INTERNAL"),
        (RuntimeError("x"), "Internal", "INTERNAL"),
    ],
)
def test_a_failure_is_counted(measured: Callable[..., Measured], error: Exception, code: str, reason: str) -> None:
    """A failure counts by its code, spelled as grpc-go does, and by its reason."""
    it = measured(raising(error))
    failure(lambda: it.stub.Get(GET))
    it.await_value(1, "grpc_server_handled_total", grpc_code=code, **UNARY)
    assert it.value("kfadapter_call_failures_total", kind="unary", reason=reason) == 1


def test_a_call_that_is_given_up(measured: Callable[..., Measured]) -> None:
    """A call whose client disconnects counts as Canceled."""
    gate = Gate()
    it = measured(Scripted(get=lambda context: gate.hold(context) or pb.Pipeline()))  # type: ignore[func-returns-value]
    call = it.stub.Get.future(GET)
    gate.await_call()
    call.cancel()
    it.await_value(1, "grpc_server_handled_total", grpc_code="Canceled", **UNARY)


def test_a_refusal_is_counted(measured: Callable[..., Measured]) -> None:
    """In-flight calls, their limit, and rejected calls are counted by kind."""
    gate = Gate()
    it = measured(Scripted(get=lambda context: gate.hold(context) or pb.Pipeline()), max_unary_calls=1)  # type: ignore[func-returns-value]
    held = it.stub.Get.future(GET)
    gate.await_call()
    failure(lambda: it.stub.Get(GET))
    it.await_value(1, "kfadapter_call_failures_total", kind="unary", reason="OVERLOADED")
    assert it.value("kfadapter_calls_inflight", kind="unary") == 1
    assert it.value("kfadapter_calls_inflight", kind="stream") == 0
    assert it.value("kfadapter_calls_limit", kind="unary") == 1
    gate.opened.set()
    held.result(WAIT_SECONDS)
    it.await_value(0, "kfadapter_calls_inflight", kind="unary")


def test_bytes_are_counted(measured: Callable[..., Measured]) -> None:
    """Uploads are counted by the bytes received, downloads by the bytes sent."""

    def upload(_: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext) -> pb.UploadPipelineResponse:
        current_call(context).usage.add_received(7)
        return pb.UploadPipelineResponse()

    def download(context: grpc.ServicerContext) -> Iterator[pb.DownloadPipelineResponse]:
        current_call(context).usage.add_sent(5)
        yield pb.DownloadPipelineResponse()

    it = measured(Scripted(upload=upload, download=download))
    it.stub.Upload(iter(()))
    list(it.stub.Download(pb.DownloadPipelineRequest(name="x")))
    it.await_value(5, "kfadapter_sent_bytes_sum", grpc_method="Download")
    it.await_value(7, "kfadapter_received_bytes_sum", **UPLOAD)
    assert it.value("kfadapter_received_bytes_count", **UPLOAD) == 1


def test_every_rpc_begins_at_zero(measured: Callable[..., Measured]) -> None:
    """Every RPC and every reason has its series from the start, so that the first one counts as an increase."""
    text = measured().text()
    for method in METHODS.values():
        labels = rf'grpc_method="{method.name}",grpc_service="{method.service}",grpc_type="\w+"'
        assert re.search(rf"^grpc_server_started_total\{{{labels}\}} 0\.0$", text, re.MULTILINE)
        assert re.search(rf'^grpc_server_handled_total\{{grpc_code="OK",{labels}\}} 0\.0$', text, re.MULTILINE)
    for error in all_error_classes():
        assert f'kfadapter_call_failures_total{{kind="upload",reason="{error.reason}"}} 0.0\n' in text


def test_requests_to_kfp() -> None:
    """Requests to KFP are counted by operation and status; one without a response by its reason, too."""
    metrics = Metrics()
    metrics.kfp(KfpRequest("list versions, v1beta1", 200, "", 0.2))
    metrics.kfp(KfpRequest("get run", 0, "KFP_TIMEOUT", 9.0))
    metrics.kfp(KfpRequest("get run", 799, "", 0.1))
    text = generate_latest(metrics.registry).decode()
    assert 'kfadapter_kfp_requests_total{operation="list_versions_v1beta1",status="200"} 1.0\n' in text
    assert 'kfadapter_kfp_requests_total{operation="get_run",status="none"} 1.0\n' in text
    assert 'kfadapter_kfp_requests_total{operation="get_run",status="other"} 1.0\n' in text
    assert 'kfadapter_kfp_errors_total{operation="get_run",reason="KFP_TIMEOUT"} 1.0\n' in text
    assert 'kfadapter_kfp_request_seconds_sum{operation="get_run"} 9.1\n' in text


def test_the_catalog_is_what_is_served(measured: Callable[..., Measured]) -> None:
    """The exported metrics are those of the catalog, with its kinds, texts and labels, and the process's own."""
    it = measured(raising(RuntimeError("x")))
    failure(lambda: it.stub.Get(GET))
    it.await_value(1, "kfadapter_call_failures_total")
    it.metrics.kfp(KfpRequest("get run", 0, "KFP_TIMEOUT", 9.0))
    reported = {
        family.name: (family.type, family.documentation, {frozenset(one.labels) - {"le"} for one in family.samples})
        for family in text_string_to_metric_families(it.text())
        if not family.name.startswith("process_")
    }
    assert reported == {
        one.name.removesuffix("_total"): (one.kind, one.text, {frozenset(one.labels)}) for one in CATALOG
    }


def test_openmetrics(measured: Callable[..., Measured]) -> None:
    """The metrics can be written as OpenMetrics, too."""
    assert openmetrics(measured().metrics.registry).endswith(b"# EOF\n")  # type: ignore[no-untyped-call]
