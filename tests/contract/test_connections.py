"""Connection age and keepalive pings: the server's own options, with some of their times shortened."""

from __future__ import annotations

import io
import itertools
import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import grpc
import pytest
from tests.contract.running import WAIT_SECONDS, Gate, Scripted

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter_grpc.client import CannotConnectError, Client, connection
from kfadapter_grpc.server import grpc_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.contract.conftest import Serve

AGE, GRACE = "grpc.max_connection_age_ms", "grpc.max_connection_age_grace_ms"
PING_EVERY, PING_TIMEOUT = "grpc.keepalive_time_ms", "grpc.http2.ping_timeout_ms"
LEAST_BETWEEN_PINGS = "grpc.http2.min_ping_interval_without_data_ms"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY, ACKNOWLEDGED = 4, 6, 7, 1

Frame: TypeAlias = tuple[int, int, bytes]
"""Kind, flags and payload."""
Shorten: TypeAlias = Callable[[dict[str, int]], None]
"""Sets options of servers that start from now on."""


@pytest.fixture
def shorten(monkeypatch: pytest.MonkeyPatch) -> Shorten:
    """Replaces values of the server's options; they must be among its options."""

    def change(values: dict[str, int]) -> None:
        options = dict(grpc_server._OPTIONS)
        assert values.keys() <= options.keys()
        monkeypatch.setattr(grpc_server, "_OPTIONS", tuple({**options, **values}.items()))

    return change


class Line:
    """A connection of which every frame is recorded."""

    def __init__(self, line: socket.socket, stream: BinaryIO, *, speaks_first: bool = True) -> None:
        self._line, self._stream = line, stream
        if speaks_first:
            self._line.sendall(PREFACE)
        self.send(SETTINGS)

    def send(self, kind: int, flags: int = 0, payload: bytes = b"") -> None:
        """Sends a frame of the connection itself."""
        self._line.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + bytes(4) + payload)

    def frames(self) -> Iterator[Frame]:
        """Yields frames until the server closes the connection."""
        while len(head := self._stream.read(9)) == 9:
            yield head[3], head[4], self._stream.read(int.from_bytes(head[:3], "big"))


@contextmanager
def connected(address: str) -> Iterator[Line]:
    """Connects to a server."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), WAIT_SECONDS) as line, line.makefile("rb") as stream:
        yield Line(line, stream)


def goaway(line: Line) -> bytes:
    """Waits for the GOAWAY frame; returns its debug data."""
    return next(payload for kind, _, payload in line.frames() if kind == GOAWAY)[8:]


def test_an_old_connection_is_ended(serve: Serve, shorten: Shorten) -> None:
    """A connection that has reached its maximum age gets GOAWAY, even if it is idle."""
    shorten({AGE: 200})
    with connected(serve(Scripted()).server.address) as line:
        assert goaway(line) == b"max_age"


def test_callers_connect_anew_and_no_call_fails(serve: Serve, shorten: Shorten) -> None:
    """The client library opens a new connection when one has reached its maximum age, and no call fails."""
    peers: set[str] = set()

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        peers.add(context.peer())
        return pb.Pipeline(name="x")

    shorten({AGE: 100})
    with Client(serve(Scripted(get=get)).server.address) as client:
        end = time.monotonic() + WAIT_SECONDS
        while len(peers) < 5:
            client.pipelines.get("x")
            assert time.monotonic() < end


def test_a_call_outlives_the_age_of_its_connection(serve: Serve, shorten: Shorten) -> None:
    """A call that is in flight when its connection gets GOAWAY has the grace period to finish."""
    gate = Gate()

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        gate.hold(context)
        return pb.Pipeline(name="kept")

    shorten({AGE: 200})
    address = serve(Scripted(get=get)).server.address
    with Client(address, timeout=WAIT_SECONDS) as client, ThreadPoolExecutor(1) as threads:
        under_way = threads.submit(client.pipelines.get, "x")
        gate.await_call()
        with connected(
            address
        ) as line:  # opened after the connection of the call, which has got GOAWAY by the time this one does
            goaway(line)
        gate.opened.set()
        assert under_way.result(WAIT_SECONDS).name == "kept"


def test_a_call_cannot_keep_its_connection_for_ever(serve: Serve, shorten: Shorten) -> None:
    """After the grace period the connection is closed, with the calls that are still on it."""
    gate = Gate()

    def get(context: grpc.ServicerContext) -> pb.Pipeline:
        gate.hold(context)
        return pb.Pipeline()

    shorten({AGE: 200, GRACE: 100})
    running = serve(Scripted(get=get))
    with pytest.raises(grpc.RpcError) as caught:
        running.stub.Get(pb.GetPipelineRequest(name="x"), timeout=WAIT_SECONDS)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    gate.opened.set()


def ping(line: Line, number: int) -> Frame:
    """Sends a ping, and waits for the acknowledgement or for the end of the connection."""
    line.send(PING, payload=struct.pack(">Q", number))
    return next(frame for frame in line.frames() if frame[0] in {PING, GOAWAY})


def test_a_client_that_pings_too_often_is_disconnected(serve: Serve) -> None:
    """Pings more frequent than the server allows end the connection, and the reason is reported."""
    with connected(serve(Scripted()).server.address) as line:
        kind, _, payload = next(frame for frame in map(ping, itertools.repeat(line), range(8)) if frame[0] == GOAWAY)
    assert (kind, payload[8:]) == (GOAWAY, b"too_many_pings")


def test_a_caller_may_ping_without_calls(serve: Serve, shorten: Shorten) -> None:
    """Pings at the permitted interval are acknowledged, however many, even without calls on the connection."""
    shorten({LEAST_BETWEEN_PINGS: 20})
    with connected(serve(Scripted()).server.address) as line:
        for number in range(8):
            time.sleep(0.1)  # the interval itself
            assert ping(line, number) == (PING, ACKNOWLEDGED, struct.pack(">Q", number))


def test_a_client_that_does_not_answer_pings_is_disconnected(serve: Serve, shorten: Shorten) -> None:
    """The server pings a connection without calls, and closes it without a response: dead ones do not accumulate."""
    shorten({PING_EVERY: 200, PING_TIMEOUT: 100})
    with connected(serve(Scripted()).server.address) as line:
        assert goaway(line) == b"ping_timeout"


def test_a_client_that_answers_pings_stays_connected(serve: Serve, shorten: Shorten) -> None:
    """A client that acknowledges pings keeps the connection, even if it is otherwise idle."""
    shorten({PING_EVERY: 50, PING_TIMEOUT: 20_000})
    with connected(serve(Scripted()).server.address) as line:
        pings = (payload for kind, flags, payload in line.frames() if kind == PING and not flags)
        for payload in itertools.islice(pings, 5):
            line.send(PING, ACKNOWLEDGED, payload)


def test_the_client_gives_up_a_server_that_does_not_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a connection has died silently, a call of the client library fails, even one without a deadline."""
    options = dict(connection.channel_options(""))
    short = {PING_EVERY: 200, PING_TIMEOUT: 200}
    assert short.keys() <= options.keys()
    monkeypatch.setattr(connection, "channel_options", lambda _: list({**options, **short}.items()))

    def serve_in_silence(listener: socket.socket) -> None:
        line, _ = listener.accept()
        with line, line.makefile("rb") as stream:
            stream.read(len(PREFACE))
            peer = Line(line, stream, speaks_first=False)
            for kind, flags, _ in peer.frames():
                if kind == SETTINGS and not flags:
                    peer.send(SETTINGS, ACKNOWLEDGED)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        threads.submit(serve_in_silence, listener)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with Client(address, timeout=WAIT_SECONDS) as client, pytest.raises(CannotConnectError):
            client.pipelines.upload(io.BytesIO(b"x"), name="x")  # which is not retried: a stream cannot be read again


def test_more_headers_than_accepted(serve: Serve) -> None:
    """A call with more than 16 KiB of metadata is refused by gRPC; the next one on the connection is served."""
    stub = serve(Scripted()).stub
    with pytest.raises(grpc.RpcError) as refused:
        stub.Get(pb.GetPipelineRequest(name="hello"), metadata=(("x-large", "a" * 20_000),), timeout=WAIT_SECONDS)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Get(pb.GetPipelineRequest(name="hello"), timeout=WAIT_SECONDS).name == "hello"
