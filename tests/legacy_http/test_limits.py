"""The limits of HTTP requests, and the responses beyond them, under load and while draining."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from starlette.exceptions import HTTPException
from tests.contract.running import eventually
from tests.legacy_http.calling import BOUNDARY, FORM, JSON, WAIT_SECONDS, Caller, adapter, form
from tests.legacy_http.test_faults import Waiting
from tests.legacy_http.test_routes import NOBODY
from tests.scripted_kfp import ScriptedKfp, answers

from kfadapter_oran.legacy_http import limits
from kfadapter_oran.legacy_http.body import UploadForm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.legacy_http.calling import Gateway
    from tests.scripted_kfp import Received

HEAD = "POST /pipelineIds/x HTTP/1.1\r\nHost: x\r\n"
FORM_HEAD = f"{HEAD}Content-Type: {FORM}\r\nContent-Length: 9999\r\n\r\n"
JOB = f"POST /trainingjobs/1/execution HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n"
FILE = b"pipelineInfo: {name: x}\n"


@contextmanager
def kfp_with_an_experiment() -> Iterator[ScriptedKfp]:
    """Runs a KFP with one experiment."""
    with ScriptedKfp() as server:
        server.on(
            "GET", "/experiments", answers(200, {"experiments": [{"experiment_id": NOBODY, "display_name": "x"}]})
        )
        server.on("GET", "/pipelines", answers(200, {"pipelines": []}))
        yield server


@pytest.fixture
def kfp() -> Iterator[ScriptedKfp]:
    """A KFP that a test may extend."""
    with kfp_with_an_experiment() as server:
        yield server


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[ScriptedKfp, Gateway]]:
    """A KFP and a gateway, for tests that change neither."""
    with kfp_with_an_experiment() as kfp, adapter(kfp.url) as server:
        yield kfp, server


@pytest.fixture
def server(shared: tuple[ScriptedKfp, Gateway]) -> Gateway:
    """The shared gateway; its KFP has no recorded requests yet."""
    kfp, server = shared
    kfp.requests.clear()
    return server


@pytest.fixture
def asked(shared: tuple[ScriptedKfp, Gateway]) -> list[Received]:
    """The requests received by the shared KFP."""
    return shared[0].requests


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets all timeouts to 0.2 seconds."""
    for name in ("HEAD_SECONDS", "IDLE_SECONDS", "BODY_SECONDS", "LINGER_SECONDS"):
        monkeypatch.setattr(limits, name, 0.2)


def test_overload(kfp: ScriptedKfp) -> None:
    """Beyond the concurrency limit a request gets 429 with Retry-After; a later one succeeds."""
    busy = Waiting()
    kfp.on("GET", "/runs/", busy)
    with adapter(kfp.url, max_unary_calls=1) as server, ThreadPoolExecutor() as threads:
        caller = server.caller
        first = threads.submit(caller.get, f"/runs/{NOBODY}")
        assert busy.entered.wait(WAIT_SECONDS)
        reply = caller.get("/experiments")
        reply.refusal(429, "OVERLOADED")
        assert reply.headers["retry-after"] == "1"
        busy.opened.set()
        assert first.result(WAIT_SECONDS).status == 200
        eventually(lambda: caller.get("/experiments").status == 200)


def test_no_more_places_than_threads(kfp: ScriptedKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is not queued when no thread is free, but gets 429."""
    with adapter(kfp.url) as server:
        monkeypatch.setattr(limits, "MAX_REQUESTS", 0)
        caller = server.caller
        caller.get("/experiments").refusal(429, "OVERLOADED")
        assert caller.get("/liveness").status == 200


def test_one_address_does_not_shut_out_others(kfp: ScriptedKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the slots is reserved for other clients if one holds the rest; over HTTP a client is an address."""
    busy = Waiting()
    kfp.on("GET", "/runs/", busy)
    with adapter(kfp.url) as server, ThreadPoolExecutor() as threads:
        monkeypatch.setattr(limits, "MAX_REQUESTS", 4)
        caller = server.caller
        held = [threads.submit(caller.get, f"/runs/{NOBODY}") for _ in range(3)]
        eventually(lambda: server.adapter.admission.count() == 3)
        assert "reserved for other callers" in caller.get("/experiments").refusal(429, "OVERLOADED")["message"]
        assert Caller(server.address, source="127.0.0.2").get("/experiments").status == 200
        busy.opened.set()
        assert {one.result(WAIT_SECONDS).status for one in held} == {200}


def test_drain(kfp: ScriptedKfp) -> None:
    """While the gateway drains, new requests get 503, liveness answers, and a request in flight completes."""
    busy = Waiting()
    kfp.on("GET", "/runs[?]", busy)
    with adapter(kfp.url) as server, ThreadPoolExecutor() as threads:
        caller = server.caller
        running = threads.submit(caller.get, "/runs")
        assert busy.entered.wait(WAIT_SECONDS)
        draining = threads.submit(server.app.drain, WAIT_SECONDS)
        eventually(lambda: caller.get("/experiments").status == 503)
        reply = caller.get("/experiments")
        reply.refusal(503, "DRAINING")
        assert reply.headers["retry-after"] == "1"
        assert caller.get("/liveness").status == 200
        assert not draining.done()
        busy.opened.set()
        assert running.result(WAIT_SECONDS).status == 200
        assert draining.result(WAIT_SECONDS) is True


def test_drain_waits_for_requests_that_call_nothing_yet(kfp: ScriptedKfp) -> None:
    """A request that is still being read when the drain starts gets a response, too."""
    with adapter(kfp.url) as server, ThreadPoolExecutor() as threads:
        host, _, port = server.address.rpartition(":")
        with socket.create_connection((host, int(port)), WAIT_SECONDS) as connection:
            connection.sendall(f"{JOB}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n".encode())
            assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
            draining = threads.submit(server.app.drain, WAIT_SECONDS)
            eventually(lambda: server.caller.get("/runs").status == 503)
            assert not draining.done()
            connection.sendall(b"{}")
            assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert draining.result(WAIT_SECONDS) is True


def test_the_end_of_the_grace(kfp: ScriptedKfp) -> None:
    """A request that does not finish within the grace period is cancelled."""
    busy = Waiting()
    kfp.on("GET", "/runs/", busy)
    with ThreadPoolExecutor() as threads:
        with adapter(kfp.url) as server:
            running = threads.submit(server.caller.get, f"/runs/{NOBODY}")
            assert busy.entered.wait(WAIT_SECONDS)
            assert server.app.drain(0.1) is False
        assert running.result(WAIT_SECONDS).status == 499
        busy.opened.set()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"GET /runs HTTP/1.1\r\nHost:", b"408"),
        (f"{JOB}Content-Length: 9\r\n\r\n{{".encode(), b"408"),
        (f"{HEAD}Content-Type: {FORM}\r\nContent-Length: 999\r\n\r\n--{BOUNDARY}\r\n".encode(), b"408"),
        (
            f"{HEAD}Content-Type: {FORM}\r\nContent-Length: 999\r\n\r\n".encode() + form(("file", FILE))[:-20],
            b"408",
        ),
    ],
    ids=["nothing", "half a head", "half a job", "half a form", "half a file"],
)  # fmt: skip
def test_who_is_too_slow(server: Gateway, asked: list[Received], sent: bytes, status: bytes) -> None:
    """A request that does not arrive in time gets 408, or is closed if nothing was sent, and KFP is not called."""
    answer = server.caller.raw(sent)
    assert answer.split(b" ")[1:2] == ([status] if status else [])
    assert not asked


@pytest.mark.parametrize(
    "head",
    [
        f"{JOB}Content-Length: 9999\r\n\r\n",
        f"{JOB}X: ",
        f"{FORM_HEAD}--{BOUNDARY}\r\nContent-Disposition: form-data; name=description\r\n\r\n",
    ],
    ids=["a job", "a head", "a form"],
)
def test_who_drips(server: Gateway, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request sent byte by byte is subject to the timeout of the whole."""
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    assert dripped(server, head).startswith(b"HTTP/1.1 408 ")


def test_who_drips_a_file(kfp: ScriptedKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file sent byte by byte is subject to the upload timeout, as over gRPC."""
    monkeypatch.setattr("kfadapter_grpc.methods.UPLOAD_SECONDS", 0.5)
    with adapter(kfp.url, max_upload_bytes=9000) as server:
        head = f"{FORM_HEAD}--{BOUNDARY}\r\nContent-Disposition: form-data; name=file\r\n\r\n"
        answer = dripped(server, head)
        assert answer.startswith(b"HTTP/1.1 504 ")
        assert not kfp.requests


def dripped(server: Gateway, head: str) -> bytes:
    """Sends a head, then single bytes until there is a response."""
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), WAIT_SECONDS) as connection:
        connection.sendall(head.encode())
        connection.settimeout(0.02)
        for _ in range(500):
            connection.sendall(b" ")
            with suppress(TimeoutError):
                return connection.recv(65536)
    pytest.fail("nothing ended it")


def test_a_disconnect_in_the_middle_of_a_file(server: Gateway, asked: list[Received]) -> None:
    """An incomplete file is not stored."""
    head = f"{HEAD}Content-Type: {FORM}\r\nContent-Length: 9999\r\n\r\n".encode()
    answer = server.caller.raw(head + form(("file", FILE))[:-20], end=True)
    assert answer.startswith(b"HTTP/1.1 400 ")
    eventually(lambda: not server.adapter.admission.count())
    assert not asked


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /runs HTTP/1.1\r\nHost: x\r\nX: " + b"x" * limits.MAX_HEAD_BYTES + b"\r\n\r\n", b"431"),
        (f"{HEAD}Content-Type: {FORM}\r\nContent-Length: 999999999\r\n\r\n".encode(), b"413"),
        (f"{JOB}Content-Length: 1048577\r\n\r\n".encode(), b"413"),
        (f"{HEAD}Content-Length: 1\r\n\r\nx".encode(), b"415"),
        (JOB.replace(JSON, "text/plain").encode() + b"Content-Length: 2\r\n\r\n{}", b"415"),
        (b"GET /runs HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /runs\r\n\r\n", b"400"),
        (b"GET /runs HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", b"400"),
        (b"GET http://x/runs HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /runs HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    ],
    ids=[
        "long head",
        "large file",
        "large job",
        "no form",
        "no JSON",
        "no host",
        "HTTP/0.9",
        "two lengths",
        "a URL",
        "a proxy's",
        "a long length",
        "HTTP/2",
        "TLS",
    ],
)  # fmt: skip
def test_what_is_no_request_of_this_server(
    server: Gateway, sent: bytes, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invalid request gets an error with the reason, and the server keeps running."""
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.2)
    caller = server.caller
    answer = caller.raw(sent)
    assert answer.split(b" ")[1] == status
    assert b"content-type: application/json\r\n" in answer.lower()
    assert caller.get("/experiments").status == 200


def test_a_file_without_length_that_is_too_large(kfp: ScriptedKfp) -> None:
    """A file without Content-Length is accepted up to the limit, and gets 413 beyond it."""
    with adapter(kfp.url, max_upload_bytes=1000) as server:
        body = form(("file", FILE * 100))
        chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:700], body[700:])) + b"0\r\n\r\n"
        answer = server.caller.raw(
            f"{HEAD}Content-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunked
        )
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"UPLOAD_TOO_LARGE" in answer
        assert not kfp.requests


def test_a_client_that_keeps_sending_reads_the_response(kfp: ScriptedKfp) -> None:
    """A client whose file is rejected during the upload can read the response; the connection is not reset."""
    with adapter(kfp.url, max_upload_bytes=1000) as server:
        caller = server.caller
        caller.upload("x", FILE * 700_000).refusal(413, "UPLOAD_TOO_LARGE")


def test_a_job_without_length_that_is_too_large(server: Gateway) -> None:
    """A body without Content-Length is accepted up to the limit, and gets 413 beyond it."""
    chunk = b"%x\r\n%s\r\n" % (2**20 + 1, b" " * (2**20 + 1))
    answer = server.caller.raw(f"{JOB}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk + b"0\r\n\r\n", end=True)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_who_waits_to_be_asked_for_the_body(server: Gateway) -> None:
    """`Expect: 100-continue` gets 100 if the body is accepted, and the error if it is not."""
    host, _, port = server.address.rpartition(":")
    job = f"{JOB}Expect: 100-continue\r\n"
    with socket.create_connection((host, int(port)), WAIT_SECONDS) as connection:
        connection.sendall(f"{job}Content-Length: 2\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    refused = server.caller.raw(f"{job}Content-Length: 9999999\r\n\r\n".encode())
    assert refused.startswith(b"HTTP/1.1 413 ")


def test_connections_are_bounded(kfp: ScriptedKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the connection limit the connection that was idle for longest is closed in favor of a new one."""
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 8)
    monkeypatch.setattr(limits, "HEAD_SECONDS", 2 * WAIT_SECONDS)
    with adapter(kfp.url) as server:
        host, _, port = server.address.rpartition(":")
        silent = [socket.create_connection((host, int(port)), WAIT_SECONDS) for _ in range(20)]
        assert server.caller.get("/liveness").status == 200
        assert len(server.connections) <= 8
        assert silent[0].recv(1) == b""
        for connection in silent:
            connection.close()


def test_busy_connections_stay_open(kfp: ScriptedKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy connection is not closed in favor of a new one; the new one is closed."""
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 4)
    busy = Waiting()
    kfp.on("GET", "/runs/", busy)
    with adapter(kfp.url) as server, ThreadPoolExecutor() as threads:
        caller = server.caller
        held = [threads.submit(caller.get, f"/runs/{NOBODY}") for _ in range(3)]
        eventually(lambda: server.adapter.admission.count() == 3)
        with pytest.raises(OSError):  # noqa: PT011 - the connection is reset, or ends
            caller.get("/liveness")
        busy.opened.set()
        assert {one.result(WAIT_SECONDS).status for one in held} == {200}


def test_a_response_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read the response is disconnected, and its request no longer counts."""
    monkeypatch.setattr(limits, "RESPONSE_SECONDS", 0.3)

    def page(number: int) -> dict[str, object]:
        named = [{"experiment_id": NOBODY, "display_name": f"{number}-{one}-{'x' * 3000}"} for one in range(200)]
        return {"experiments": named, "next_page_token": "more" if number < 19 else ""}

    with ScriptedKfp() as kfp:
        kfp.on("GET", "/experiments", *(answers(200, page(number)) for number in range(20)))
        with adapter(kfp.url) as server:
            host, _, port = server.address.rpartition(":")
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect((host, int(port)))
                connection.sendall(b"GET /experiments HTTP/1.1\r\nHost: x\r\n\r\n")
                eventually(lambda: server.app._requests)
                eventually(lambda: not server.connections)
                assert not server.app._requests


def test_lists_are_bounded(server: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is too long for one response gets an error that refers to gRPC, which has pages."""
    monkeypatch.setattr(limits, "MAX_ITEMS", 0)
    reported = server.caller.get("/experiments").refusal(507, "INSUFFICIENT_STORAGE")
    assert "gRPC" in reported["message"]


def test_files_are_never_whole_in_memory() -> None:
    """A file of any size is held in memory only in chunks."""
    size, held = 8 * 2**20, 0
    body = form(("description", "설명".encode()), ("file", b"x" * size))
    pieces = iter([body[at : at + 65536] for at in range(0, len(body), 65536)])

    async def read() -> bytes:
        return next(pieces, b"")

    async def take_all() -> int:
        nonlocal held
        upload = UploadForm(FORM, read)
        await upload.begin()
        assert upload.description == "설명"
        taken = 0
        while data := await upload.read(65536):
            taken += len(data)
            held = max(held, len(data) + len(upload._file))
        return taken

    assert asyncio.run(take_all()) == size
    assert held <= 3 * 65536


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no part named 'file'"),
        (b"nonsense", "cannot be read"),
        (form(("description", b"x")), "no part named 'file'"),
        (form(("file", FILE))[:-4], "ends before its last boundary"),
        (form(("file", FILE), ("file", FILE)), "more than one part named 'file'"),
        (form(("file", FILE), ("description", b"x")), "comes after the file"),
        (form(*[("other", b"")] * 99), "more than 16 parts"),
        (form(("description", b"\xff"), ("file", FILE)), "not UTF-8"),
        (form(("description", b"x" * 99999), ("file", FILE)), "too long"),
        (f"--{BOUNDARY}\r\n{'X' * 20000}: x\r\n\r\n".encode(), "cannot be read"),
    ],
)
def test_forms_that_are_wrong(body: bytes, words: str) -> None:
    """An invalid form is rejected with a message."""
    pieces = iter([body])

    async def read() -> bytes:
        return next(pieces, b"")

    async def receive() -> None:
        upload = UploadForm(FORM, read)
        await upload.begin()
        while await upload.read(65536):
            pass

    with pytest.raises(HTTPException, match=words):
        asyncio.run(receive())


def server_threads() -> set[str]:
    """Returns the names of the HTTP server's threads."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(("http", "legacy-http"))}


def test_nothing_is_left(kfp: ScriptedKfp) -> None:
    """A stopped gateway leaves no threads and no listener."""
    before = server_threads()
    with adapter(kfp.url) as server:
        server.caller.get("/experiments")
    eventually(lambda: server_threads() <= before)
    with pytest.raises(ConnectionRefusedError):
        server.caller.get("/liveness")
