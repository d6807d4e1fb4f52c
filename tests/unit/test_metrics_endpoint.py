from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from structlog.testing import capture_logs
from tests.contract.running import WAIT_SECONDS, eventually

from kfadapter_grpc.daemon import metrics_endpoint
from kfadapter_grpc.daemon.listening import ServerStartError
from kfadapter_grpc.daemon.metrics_endpoint import MAX_CONNECTIONS, MetricsEndpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric


class Reading(Collector):
    """A reading with a text of a given length."""

    def __init__(self, text: str = "x") -> None:
        self._text = text

    def collect(self) -> Iterator[Metric]:
        """Yields the text."""
        yield GaugeMetricFamily("one", self._text, value=1)


@pytest.fixture
def endpoint() -> Iterator[MetricsEndpoint]:
    """An endpoint on a free port."""
    with MetricsEndpoint("127.0.0.1:0", Reading()) as it:
        yield it


def ask(
    endpoint: MetricsEndpoint, method: str = "GET", path: str = "/metrics", accept: str = "text/plain"
) -> tuple[int, str, bytes]:
    """Makes a request; returns status, content type and body."""
    connection = HTTPConnection(endpoint.address, timeout=WAIT_SECONDS)
    try:
        connection.request(method, path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def raw(endpoint: MetricsEndpoint, data: bytes) -> bytes:
    """Sends bytes; returns everything received until the end of the connection."""
    with connected(endpoint) as line:
        line.sendall(data)
        return read_all(line)


def connected(endpoint: MetricsEndpoint) -> socket.socket:
    """A connection that sends nothing."""
    host, _, port = endpoint.address.rpartition(":")
    return socket.create_connection((host, int(port)), WAIT_SECONDS)


def read_all(line: socket.socket) -> bytes:
    """Everything received until the other side ends the connection."""
    pieces = []
    try:
        while piece := line.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


@pytest.mark.parametrize("path", ["/metrics", "/metrics?x=y"])
def test_metrics_are_read(endpoint: MetricsEndpoint, path: str) -> None:
    """GET /metrics responds in the format that the client accepts."""
    status, content_type, body = ask(endpoint, path=path)
    assert (status, content_type.startswith("text/plain"), b"one 1.0" in body) == (200, True, True)
    assert "openmetrics" in ask(endpoint, path=path, accept="application/openmetrics-text")[1]


def test_head(endpoint: MetricsEndpoint) -> None:
    """HEAD returns the same headers, without a body."""
    assert ask(endpoint, "HEAD") == (200, ask(endpoint)[1], b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/", 404), ("POST", "/metrics", 405), ("DELETE", "/metrics", 405)],
)
def test_nothing_else_is_there(endpoint: MetricsEndpoint, method: str, path: str, status: int) -> None:
    """Only reading is possible, and only at one path."""
    assert ask(endpoint, method, path)[0] == status


@pytest.mark.parametrize("data", [b"PRI * HTTP/2.0\r\n\r\n", b"GET /metrics\r\n\r\n", b"\r\n\r\n", b"\xff\x00\r\n\r\n"])
def test_what_is_not_http(endpoint: MetricsEndpoint, data: bytes) -> None:
    """What is not an HTTP/1 request is rejected."""
    assert raw(endpoint, data).startswith(b"HTTP/1.1 400 ")


def test_a_request_that_never_ends(endpoint: MetricsEndpoint) -> None:
    """A request longer than the limit ends the connection."""
    assert raw(endpoint, b"GET /metrics HTTP/1.1\r\n" + b"x: y\r\n" * 10_000) == b""


def test_silent_connections_are_closed(endpoint: MetricsEndpoint) -> None:
    """Silent connections never prevent a request: only a limited number of them stays open."""
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(endpoint)) for _ in range(10 * MAX_CONNECTIONS)]
        assert ask(endpoint)[0] == 200
        assert read_all(silent[0]) == b""
        assert len(endpoint._server.open) <= MAX_CONNECTIONS


def test_a_slow_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that does not arrive in time ends the connection, even if the client is still waiting."""
    monkeypatch.setattr(metrics_endpoint, "REQUEST_SECONDS", 0.05)
    with MetricsEndpoint("127.0.0.1:0", Reading()) as endpoint:
        assert raw(endpoint, b"GET /metrics HTTP/1.1\r\n") == b""


def test_a_caller_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A response that the client does not read is abandoned, and other requests are served meanwhile."""
    monkeypatch.setattr(metrics_endpoint, "RESPONSE_SECONDS", 0.05)
    large = 50_000_000
    with MetricsEndpoint("127.0.0.1:0", Reading("x" * large)) as endpoint, connected(endpoint) as line:
        line.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert ask(endpoint, path="/")[0] == 404
        eventually(lambda: not endpoint._server.open)
        assert len(read_all(line)) < large


def test_a_fault_is_reported() -> None:
    """If metrics cannot be written, the client gets 500, the log has the cause, and the next request is served."""

    class Failing(Collector):
        def collect(self) -> Iterator[Metric]:
            raise RuntimeError("canary")

    with capture_logs() as lines, MetricsEndpoint("127.0.0.1:0", Failing()) as endpoint:
        for _ in range(2):
            status, _, body = ask(endpoint)
            assert (status, b"canary" in body) == (500, False)
    assert [line["event"] for line in lines] == ["metrics cannot be written"] * 2


def test_many_at_once(endpoint: MetricsEndpoint) -> None:
    """Concurrent requests are all served, one after the other."""
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(endpoint)[0])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert answers == [200] * 20


def test_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """On exit, open connections end, the port is free, and no thread is left."""
    monkeypatch.setattr(metrics_endpoint, "_STOP_SECONDS", WAIT_SECONDS)
    with ExitStack() as stack:
        with MetricsEndpoint("127.0.0.1:0", Reading()) as endpoint:
            line = stack.enter_context(connected(endpoint))
            eventually(lambda: endpoint._server.open)
        assert read_all(line) == b""
    with MetricsEndpoint(endpoint.address, Reading()) as second:
        assert ask(second)[0] == 200
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]


def in_use() -> tuple[str, socket.socket]:
    """An address in use."""
    taken = socket.create_server(("127.0.0.1", 0))
    return f"127.0.0.1:{taken.getsockname()[1]}", taken


def another_machine() -> tuple[str, socket.socket]:
    """An address that this machine does not have."""
    return "192.0.2.1:9090", socket.socket()


@pytest.mark.parametrize(("make", "why"), [(in_use, "is in use"), (another_machine, r"cannot be used \(.+\)")])
def test_an_address_that_cannot_be_had(make: Callable[[], tuple[str, socket.socket]], why: str) -> None:
    """An unusable address is reported, with the option that changes it."""
    address, held = make()
    with held, pytest.raises(ServerStartError, match=rf"^{address} {why}; choose another with --metrics-listen$"):
        MetricsEndpoint(address, Reading()).__enter__()
