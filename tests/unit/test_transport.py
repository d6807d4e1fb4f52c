from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from tests.scripted_kfp import Behaviour, Connection, Received, ScriptedKfp, answers, drips, head, resets, sends, stalls

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError, CallCancelledError, KfpTimeoutError, KfpUnavailableError
from kfadapter_grpc.kfp import connections as kfp_connections
from kfadapter_grpc.kfp.connections import Connections, NotConnectedError, TlsFiles
from kfadapter_grpc.kfp.exchange import Exchange, TimerThread
from kfadapter_grpc.kfp.transport import NotSentError, Request, ResponseTooLargeError, Transport, TransportSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

OK = answers(200, {"fine": True})
DRIP_HEAD = b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"y" * 60_000
DRIP_BODY = head(200, {"Content-Length": "60000"}) + b"z" * 60_000


@pytest.fixture
def transport(kfp: ScriptedKfp) -> Iterator[Transport]:
    """The transport to it."""
    made = Transport(TransportSettings(kfp.url))
    yield made
    made.close()


def test_a_response_comes_with_status_type_and_body(kfp: ScriptedKfp, transport: Transport) -> None:
    """A response is returned whatever its status, and the request id is sent with the request."""
    kfp.on("GET", "/x", answers(418, b"short", content_type="text/plain"))
    answer = transport.send(Request("GET", "/x", [("q", "한 글")]), Call("id-1", 5))
    assert (answer.status, answer.body, answer.content_type) == (418, b"short", "text/plain")
    assert kfp.requests[0].path == "/x?q=%ED%95%9C+%EA%B8%80"
    assert kfp.requests[0].headers["x-request-id"] == "id-1"


@pytest.mark.parametrize(
    "behaviour",
    [stalls(), stalls(b"HTTP/1.1 200 OK\r\nContent-Le"), stalls(head(200, {"Content-Length": "9"}) + b"abc"),
     drips(DRIP_HEAD), drips(DRIP_BODY)],
    ids=["silence", "half a head", "half a body", "dripping head", "dripping body"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_outlives_the_deadline(
    kfp: ScriptedKfp, transport: Transport, behaviour: Behaviour, method: str
) -> None:
    """A server that stalls or sends slowly holds a call no longer than its deadline, plus time for the machine."""
    kfp.on(method, "/x", behaviour)
    started = time.monotonic()
    with pytest.raises(KfpTimeoutError):
        transport.send(Request(method, "/x"), Call("r", 0.4))
    assert time.monotonic() - started < 5  # without a deadline it would never end


@pytest.mark.parametrize("behaviour", [stalls(), drips(DRIP_HEAD), drips(DRIP_BODY)], ids=["silence", "head", "body"])
def test_a_cancelled_call_ends_at_once(kfp: ScriptedKfp, transport: Transport, behaviour: Behaviour) -> None:
    """When the client disconnects, the request to KFP is aborted."""
    kfp.on("POST", "/x", behaviour)
    call = Call("r", 30)
    threading.Timer(0.1, call.cancel).start()
    started = time.monotonic()
    with pytest.raises(CallCancelledError):
        transport.send(Request("POST", "/x"), call)
    assert time.monotonic() - started < 10  # its deadline is at 30


def test_a_connection_that_served_one_call_is_safe_from_its_end(kfp: ScriptedKfp, transport: Transport) -> None:
    """A call that is cancelled after its response does not break the connection for the next call."""
    kfp.on("POST", "/x", OK)
    for number in range(50):
        call = Call(f"r{number}", 30)
        assert transport.send(Request("POST", "/x"), call).status == 200
        call.cancel()


@pytest.mark.parametrize(
    "fault",
    [resets(), resets(b"HTTP/1.1 200"), sends(b"", then_close=True), *map(answers, (503, 429, 502, 504))],
    ids=["reset", "reset in the head", "hang-up", "503", "429", "502", "504"],
)  # fmt: skip
def test_reads_are_repeated(kfp: ScriptedKfp, transport: Transport, fault: Behaviour) -> None:
    """A read is retried after transient faults, and the later response is returned."""
    kfp.on("GET", "/x", fault, fault, OK)
    assert transport.send(Request("GET", "/x"), Call("r", 10)).status == 200
    assert len(kfp.requests) == 3


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH"])
def test_writes_are_never_repeated(kfp: ScriptedKfp, transport: Transport, method: str) -> None:
    """A write whose response was interrupted is not sent again."""
    kfp.on(method, "/x", resets(), OK)
    with pytest.raises(KfpUnavailableError) as caught:
        transport.send(Request(method, "/x"), Call("r", 10))
    assert not isinstance(caught.value, NotSentError)
    assert len(kfp.requests) == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_hangs_up_behind_a_response_breaks_no_call(
    kfp: ScriptedKfp, transport: Transport, method: str
) -> None:
    """Reads and writes succeed even if a connection is closed just before the next request."""
    kfp.on(method, "/x", sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", then_close=True))
    for number in range(100):
        assert transport.send(Request(method, "/x"), Call(f"r{number}", 30)).status == 200


def test_only_reads_take_a_connection_that_is_kept(kfp: ScriptedKfp, transport: Transport) -> None:
    """Reads share a connection; a write, which is never retried, gets a new one in place of the oldest."""
    seen: list[object] = []

    def note(connection: Connection, received: Received) -> bool:
        seen.append(connection.sock)
        return OK(connection, received)

    kfp.on("GET", "/x", note).on("POST", "/x", note)
    for method in ("GET", "GET", "POST", "GET", "POST"):
        transport.send(Request(method, "/x"), Call("r", 30))
    first, second, third, fourth, fifth = seen
    assert first is second
    assert second is not third
    assert third is fourth
    assert fourth is not fifth


def test_a_connection_that_waited_long_is_not_used(
    kfp: ScriptedKfp, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was idle for long may be broken in the network, so a new one is opened."""
    seen: list[object] = []

    def note(connection: Connection, received: Received) -> bool:
        seen.append(connection.sock)
        return OK(connection, received)

    kfp.on("GET", "/x", note)
    transport.send(Request("GET", "/x"), Call("r", 30))
    monkeypatch.setattr(kfp_connections, "MAX_IDLE_SECONDS", 0.0)
    transport.send(Request("GET", "/x"), Call("r", 30))
    assert seen[0] is not seen[1]


def test_repeating_is_bounded(kfp: ScriptedKfp, transport: Transport) -> None:
    """After three attempts the last response is returned."""
    kfp.on("GET", "/x", answers(503))
    assert transport.send(Request("GET", "/x"), Call("r", 10)).status == 503
    assert len(kfp.requests) == 3


def test_a_long_retry_after_is_handed_on(kfp: ScriptedKfp, transport: Transport) -> None:
    """A long Retry-After is not waited for, but reported to the caller."""
    kfp.on("GET", "/x", answers(429, headers={"Retry-After": "120"}))
    answer = transport.send(Request("GET", "/x"), Call("r", 10))
    assert (answer.status, answer.retry_after, len(kfp.requests)) == (429, 120.0, 1)


def test_redirects_are_responses(kfp: ScriptedKfp, transport: Transport) -> None:
    """A redirect is not followed, so no credentials are carried elsewhere."""
    kfp.on("GET", "/x", answers(302, headers={"Location": kfp.url + "/login"})).on("GET", "/login", OK)
    answer = transport.send(Request("GET", "/x"), Call("r", 10))
    assert (answer.status, answer.location) == (302, kfp.url + "/login")
    assert kfp.paths("GET") == ["/x"]


def test_no_listener_is_distinguished_from_a_broken_line() -> None:
    """If nothing listens, the request was not sent, so even a write has had no effect."""
    transport = Transport(TransportSettings("http://127.0.0.1:9"))
    with pytest.raises(NotSentError):
        transport.send(Request("POST", "/x"), Call("r", 5))
    transport.close()


@pytest.mark.parametrize("claimed", [5, 2000])
def test_a_lie_about_the_length_is_a_broken_response(kfp: ScriptedKfp, transport: Transport, claimed: int) -> None:
    """A response shorter than announced is an error; of a longer one the announced part is returned."""
    body = b'{"a": "' + b"x" * 1000 + b'"}'
    kfp.on("POST", "/x", sends(head(200, {"Content-Length": str(claimed)}) + body, then_close=True))
    if claimed > len(body):
        with pytest.raises(KfpUnavailableError):
            transport.send(Request("POST", "/x"), Call("r", 5))
    else:
        assert transport.send(Request("POST", "/x"), Call("r", 5)).body == body[:claimed]


def test_a_response_is_read_up_to_a_limit(kfp: ScriptedKfp, transport: Transport) -> None:
    """An endless response is aborted at the limit."""
    kfp.on("GET", "/x", stalls(head(200, {}) + b"x" * 5000))
    with pytest.raises(ResponseTooLargeError):
        transport.send(Request("GET", "/x", limit=4999), Call("r", 5))


def test_a_response_announced_as_too_large_is_not_read(kfp: ScriptedKfp, transport: Transport) -> None:
    """If the announced length exceeds the limit, the bytes are not read."""
    kfp.on("GET", "/x", stalls(head(200, {"Content-Length": "5000"}) + b"x"))
    with pytest.raises(ResponseTooLargeError):
        transport.send(Request("GET", "/x", limit=4999), Call("r", 5))


def test_of_a_long_response_only_the_ends_are_kept(kfp: ScriptedKfp, transport: Transport) -> None:
    """With `keep`, the middle of a long response is dropped while it is read."""
    kfp.on("GET", "/x", answers(200, b"a" * 10 + b"-" * 600_000 + b"b" * 10))
    answer = transport.send(Request("GET", "/x", keep=10), Call("r", 5))
    assert (answer.body, answer.tail) == (b"a" * 10, b"b" * 10)


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02\r\n\r\n", b"HTTP/9.9 banana\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_what_is_not_http_is_an_error_of_ours(kfp: ScriptedKfp, transport: Transport, garbage: bytes) -> None:
    """A server that does not speak HTTP gives an error of ours, not an unknown exception."""
    kfp.on("POST", "/x", sends(garbage, then_close=True))
    with pytest.raises(AdapterError):
        transport.send(Request("POST", "/x"), Call("r", 2))


@pytest.fixture
def connections(kfp: ScriptedKfp) -> Iterator[Connections]:
    """Connections to it."""
    made = Connections(kfp.url, TlsFiles(), 4)
    yield made
    made.close()


@pytest.fixture
def clock() -> Iterator[TimerThread]:
    """The clock that ends exchanges at their deadlines."""
    made = TimerThread()
    yield made
    made.close()


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_connecting_in_no_time_leaves_no_socket(connections: Connections, clock: TimerThread, seconds: float) -> None:
    """A deadline just before the connection is opened leaves no socket to the garbage collector."""
    with warnings.catch_warnings(record=True) as left:
        warnings.simplefilter("always", ResourceWarning)
        with Exchange(Call("r", 30), clock) as exchange, suppress(NotConnectedError):
            connections.open(exchange, seconds, fresh=True).close()
        gc.collect()
    assert not [str(each.message) for each in left if "laddr=('0.0.0.0', 0)" in str(each.message)]


def test_a_kept_connection_that_is_no_longer_needed_is_closed(connections: Connections, clock: TimerThread) -> None:
    """A kept connection is closed if the call ends just when it takes it."""
    with Exchange(Call("r", 30), clock) as exchange:
        kept = connections.open(exchange, 10, fresh=True)
    connections.release(kept, reusable=True)
    over = Call("r", 30)
    over.cancel()
    with Exchange(over, clock) as exchange, pytest.raises(ConnectionAbortedError):
        connections.open(exchange, 10, fresh=False)
    assert kept.fileno() == -1


def test_importing_and_constructing_is_silent() -> None:
    """Importing kfp and connecting uses no network, prints nothing and writes nothing to the home folder."""
    program = """
import sys
def watch(event, args):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess.Popen")):
        raise SystemExit(f"{event} {args}")
    if event == "open" and str(args[0]).startswith("/nowhere"):
        raise SystemExit(f"{event} {args}")
sys.addaudithook(watch)
from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.kfp.transport import TransportSettings
from kfadapter_grpc.spool import SpoolPlace
KfpBackend(TransportSettings("http://127.0.0.1:9"), SpoolPlace()).close()
assert "kfp" not in sys.modules
"""
    env = {"HOME": "/nowhere", "PYTHONWARNINGS": "error::UserWarning"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
