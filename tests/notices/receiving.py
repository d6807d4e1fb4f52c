"""A receiver of notices that is scripted by the test and records what it receives."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TRAINING_FAILED = b'{"Error": "Training Failed"}'


@dataclass(frozen=True)
class Received:
    """A received request: its path, its headers in lower case, and its body."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def end(self) -> tuple[str, str]:
        """The run and its state."""
        return self.body["run_id"], self.body["run_status"]


@dataclass
class Reply:
    """The response to a request.

    Attributes:
        status: The status.
        body: The body.
        headers: Further headers.
        raw: Bytes to send instead of all that.
        held: If set, the response waits for this event.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    held: threading.Event | None = None


def as_training_manager(received: Received) -> Reply:
    """Answers as the training manager does."""
    return Reply() if received.body["run_status"] == "SUCCEEDED" else Reply(500, TRAINING_FAILED)


class Receiving:
    """The receiver.

    Attributes:
        received: All completely received requests, in order.
        answer: Returns the response to a request.
        url: The URL it serves.
    """

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], Reply] = as_training_manager
        self.url = ""

    @property
    def ends(self) -> list[tuple[str, str]]:
        """The notices received, in order."""
        return [one.end for one in self.received]

    def reported(self, run_id: str) -> list[str]:
        """Returns the states received for a run, in order."""
        return [state for run, state in self.ends if run == run_id]


class _Handler(BaseHTTPRequestHandler):
    """Reads complete requests, and responds as scripted by the test."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        """Receives a notice."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        one = Received(self.path, headers, json.loads(body))
        self.server.made.received.append(one)
        reply = self.server.made.answer(one)
        if reply.held is not None:
            reply.held.wait(60)
        try:
            self._send(reply)
        except OSError:
            self.close_connection = True  # the client disconnected

    def _send(self, reply: Reply) -> None:
        if reply.raw is not None:
            self.wfile.write(reply.raw)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Suppresses the log."""

    def do_GET(self) -> None:
        """Records a followed redirect, which is not allowed."""
        self.server.made.received.append(Received(f"GET {self.path}", {}, {"run_id": "", "run_status": "followed"}))


class _Server(ThreadingHTTPServer):
    """Serves one receiver."""

    daemon_threads = True

    def __init__(self, made: Receiving, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.made = made

    def handle_error(self, *_: object) -> None:
        """Suppresses the log."""


@contextmanager
def receiving(pair: tuple[Path, Path] | None = None, port: int = 0) -> Iterator[Receiving]:
    """Serves a receiver on a loopback port, with TLS if a certificate and key are given."""
    made = Receiving()
    server = _Server(made, port)
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    made.url = f"{'https' if pair else 'http'}://127.0.0.1:{server.server_port}/trainingjob/pipelineNotification"
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Runs `serve` in a thread of its own for each connection to a loopback port; yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_served, args=(connection, serve), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _served(connection: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    with connection:
        try:
            serve(connection)
        except OSError:
            return
