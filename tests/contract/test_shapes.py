from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import grpc
import pytest
from structlog.testing import capture_logs
from tests.contract.running import WAIT_SECONDS, eventually, failure, reported

from kfadapter_grpc.auth.access import Access
from kfadapter_grpc.contract.errors import NameContestedError
from kfadapter_grpc.interceptors.admission import Admission
from kfadapter_grpc.interceptors.authentication import Authentication
from kfadapter_grpc.interceptors.calls import REQUEST_ID_KEY
from kfadapter_grpc.interceptors.chain import CallInterceptor, Layer, Rpc, layers
from kfadapter_grpc.methods import METHODS, CallKind, RpcMethod

SERVICE = "kfadapter.test.Shapes"
Answer: TypeAlias = Callable[[object, grpc.ServicerContext], object]

SHAPES = {
    "Once": (grpc.unary_unary_rpc_method_handler, False, False),
    "Down": (grpc.unary_stream_rpc_method_handler, False, True),
    "Up": (grpc.stream_unary_rpc_method_handler, True, False),
    "Both": (grpc.stream_stream_rpc_method_handler, True, True),
}
TESTED = {
    f"/{SERVICE}/{name}": RpcMethod(SERVICE, name, read_only=True, client_streaming=up, server_streaming=down)
    for name, (_, up, down) in SHAPES.items()
}
STREAMED = [name for name, (_, _, down) in SHAPES.items() if down]


class Shapes:
    """A server with one method of each shape, all with the same responses, and its client."""

    def __init__(self, answer: Answer, around: tuple[Layer, ...] | None = None) -> None:
        self.admission = Admission(dict.fromkeys(CallKind, 2))
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: make(answer) for name, (make, _, _) in SHAPES.items()
        }
        self._server = grpc.server(
            ThreadPoolExecutor(8),
            handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)],
            interceptors=[
                CallInterceptor(around or layers(Authentication(Access(None, None)), self.admission), TESTED)
            ],
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._server.start()

    def call(self, name: str) -> list[bytes]:
        """Calls a method with one message; returns all responses."""
        if name in STREAMED:
            return list(self.stream(name))
        return [self.once(name)[0]]

    def once(self, name: str) -> tuple[bytes, grpc.Call]:
        """Calls a method with one response; returns it, and the call for its trailers."""
        path = f"/{SERVICE}/{name}"
        if name == "Once":
            unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(path)
            return unary.with_call(b"1", timeout=WAIT_SECONDS)
        upward: grpc.StreamUnaryMultiCallable[bytes, bytes] = self.channel.stream_unary(path)
        return upward.with_call(iter([b"1"]), timeout=WAIT_SECONDS)

    def stream(self, name: str) -> grpc._CallIterator[bytes]:
        """Calls a method that responds with a stream."""
        path = f"/{SERVICE}/{name}"
        if name == "Down":
            downward: grpc.UnaryStreamMultiCallable[bytes, bytes] = self.channel.unary_stream(path)
            return downward(b"1", timeout=WAIT_SECONDS)
        both: grpc.StreamStreamMultiCallable[bytes, bytes] = self.channel.stream_stream(path)
        return both(iter([b"1"]), timeout=WAIT_SECONDS)

    def close(self) -> None:
        """Closes server and client."""
        self.channel.close()
        self._server.stop(None)


@pytest.fixture
def shapes() -> Iterator[Callable[..., Shapes]]:
    """Starts servers with one method of each shape."""
    started: list[Shapes] = []

    def start(answer: Answer, around: tuple[Layer, ...] | None = None) -> Shapes:
        started.append(Shapes(answer, around))
        return started[-1]

    yield start
    for server in started:
        server.close()


def contested(request: object, _: grpc.ServicerContext) -> bytes:
    """Fails after reading the whole request."""
    if isinstance(request, Iterator):
        list(request)
    raise NameContestedError("contested")


def one_then_contested(_: object, __: grpc.ServicerContext) -> Iterator[bytes]:
    """Fails between two responses."""
    yield b"first"
    raise NameContestedError("contested")


@pytest.mark.parametrize("name", SHAPES)
def test_error_before_the_first_response(shapes: Callable[..., Shapes], name: str) -> None:
    """In all four shapes an error arrives with its code and reason."""
    it = failure(lambda: shapes(contested).call(name))
    assert (it.code, it.reason, it.retry_after) == (grpc.StatusCode.ABORTED, "NAME_CONTESTED", 1.0)


@pytest.mark.parametrize("name", STREAMED)
def test_error_between_responses(shapes: Callable[..., Shapes], name: str) -> None:
    """An error raised within a stream of responses arrives after those sent before it."""
    stream = shapes(one_then_contested).stream(name)
    assert next(stream) == b"first"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert reported(caught.value).reason == "NAME_CONTESTED"


@pytest.mark.parametrize("name", SHAPES)
def test_layers_enclose_the_whole_call(shapes: Callable[..., Shapes], name: str) -> None:
    """Layers are entered in order and left in reverse order, after the last response of a stream."""
    seen: list[str] = []

    def layer(label: str) -> Layer:
        @contextmanager
        def around(rpc: Rpc) -> Iterator[None]:
            seen.append(f"enter {label} {rpc.method.name}")
            yield
            seen.append(f"leave {label}")

        return around

    def once(_: object, __: grpc.ServicerContext) -> bytes:
        seen.append("answer")
        return b"1"

    def many(_: object, __: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"1"
        seen.append("answer")

    server = shapes(many if name in STREAMED else once, (layer("outer"), layer("inner")))
    assert server.call(name) == [b"1"]
    assert seen == [f"enter outer {name}", f"enter inner {name}", "answer", "leave inner", "leave outer"]


@pytest.mark.parametrize("name", STREAMED)
def test_abandoned_stream_leaves_its_layers(shapes: Callable[..., Shapes], name: str) -> None:
    """A stream whose client disconnects between two responses releases its slot and is logged as cancelled."""
    gone = threading.Event()

    def endless(_: object, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(gone.set)
        yield b"1"
        assert gone.wait(WAIT_SECONDS)
        while True:
            yield b"2"

    server = shapes(endless)
    with capture_logs() as lines:
        stream = server.stream(name)
        next(stream)
        kind = TESTED[f"/{SERVICE}/{name}"].kind
        assert server.admission.inflight()[kind] == 1
        stream.cancel()
        eventually(lambda: server.admission.count() == 0)
        eventually(lambda: lines)
    assert lines[0]["code"] == "CANCELLED"


@dataclass
class Details:
    """Names the called method."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


def test_other_methods_pass_untouched() -> None:
    """A method that is not in the contract is not wrapped."""
    handler: grpc.RpcMethodHandler[bytes, bytes] = SHAPES["Once"][0](contested)
    details = Details("/grpc.health.v1.Health/Check")
    assert CallInterceptor(()).intercept_service(lambda _: handler, details) is handler


@pytest.mark.parametrize("path", METHODS)
def test_contract_is_what_is_wrapped(path: str) -> None:
    """Every RPC of the contract is wrapped."""
    handler: grpc.RpcMethodHandler[bytes, bytes] = SHAPES["Once"][0](contested)
    assert CallInterceptor(()).intercept_service(lambda _: handler, Details(path)) is not handler


@pytest.mark.parametrize("name", SHAPES)
def test_request_id_comes_back(shapes: Callable[..., Shapes], name: str) -> None:
    """In all four shapes a call that succeeds returns its request id in the trailers."""
    server = shapes(lambda _, __: iter([b"1"]) if name in STREAMED else b"1")
    if name in STREAMED:
        stream = server.stream(name)
        assert list(stream) == [b"1"]
        trailers = stream.trailing_metadata()
    else:
        trailers = server.once(name)[1].trailing_metadata()
    assert REQUEST_ID_KEY in dict(trailers or ())


def test_kinds_of_the_shapes() -> None:
    """The four shapes count against the three limits."""
    kinds = [method.kind for method in TESTED.values()]
    assert kinds == [CallKind.UNARY, CallKind.STREAM, CallKind.UPLOAD, CallKind.UPLOAD]
