"""The gateway with an adapter, and a client that calls it as the training manager does."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kfadapter_grpc.client import Client
from kfadapter_grpc.server import AdapterServer
from kfadapter_grpc.server.kfp import connect_kfp
from kfadapter_grpc.server.process import servicers
from kfadapter_grpc.settings import Settings
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.watch.poller import WatchPoller
from kfadapter_oran.legacy_http import process as legacy_http_process
from kfadapter_oran.legacy_http.app import LegacyHttp
from kfadapter_oran.legacy_http.connections import Connections

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

WAIT_SECONDS = 30.0
"""How long a test waits for what must come about."""
JSON = "application/json"
BOUNDARY = "b0undary"


@dataclass(frozen=True)
class Reply:
    """A response; its header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Returns the JSON body; asserts exactly the content type that the training manager expects."""
        assert self.headers["content-type"] == JSON
        return json.loads(self.body)

    def refusal(self, status: int, reason: str) -> Any:  # noqa: ANN401 - JSON
        """Returns the body; asserts that it is this error."""
        reported = self.json()
        assert (self.status, reported["status"], reported["reason"]) == (status, status, reason), reported
        assert reported["message"]
        assert reported["request_id"] == self.headers["x-request-id"]
        return reported


class Caller:
    """Sends requests, each over its own connection."""

    def __init__(
        self, address: str, context: ssl.SSLContext | None = None, token: str = "", source: str = "127.0.0.1"
    ) -> None:
        """Calls HOST:PORT from `source`, over TLS if a context is given."""
        self._source = source, 0
        self.address = address
        self._context = context
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def say(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Sends a request; `_` stands for `-` in header names."""
        connection = self._connection()
        spelled = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(connection):
            connection.request(method, quote(path, safe="/%?=&"), body, {**self._headers, **spelled})
            answer = connection.getresponse()
            reported = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, reported, answer.read())

    def get(self, path: str) -> Reply:
        """Sends a GET request."""
        return self.say("GET", path)

    def delete(self, path: str) -> Reply:
        """Sends a DELETE request."""
        return self.say("DELETE", path)

    def upload(self, name: str, file: bytes, description: str = "", **headers: str) -> Reply:
        """Uploads a file as the training manager does: the field first, the file under its field's name."""
        body = form(("description", description.encode()), ("file", file))
        return self.say("POST", f"/pipelineIds/{name}", body, content_type=FORM, **headers)

    def execute(self, job: str, details: Mapping[str, object], **headers: str) -> Reply:
        """Starts the run of a training job."""
        body = json.dumps(details).encode()
        return self.say("POST", f"/trainingjobs/{job}/execution", body, content_type=JSON, **headers)

    def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Sends bytes, and reads until the connection is closed."""
        host, _, port = self.address.rpartition(":")
        with socket.create_connection((host, int(port)), WAIT_SECONDS) as connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def _connection(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self.address, timeout=WAIT_SECONDS, source_address=self._source)
        return http.client.HTTPSConnection(self.address, timeout=WAIT_SECONDS, context=self._context)


FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, bytes], file_name: str | None = "file") -> bytes:
    """Returns a form; the part `file` has a file name unless that is None."""
    body = bytearray()
    for name, data in parts:
        more = f'; filename="{file_name}"' if name == "file" and file_name is not None else ""
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        body += data + b"\r\n"
    return bytes(body) + f"--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True)
class Gateway:
    """The gateway and its adapter."""

    adapter: AdapterServer
    app: LegacyHttp
    address: str
    connections: Connections

    @property
    def caller(self) -> Caller:
        """A client of the HTTP server."""
        return Caller(self.address)


@contextmanager
def serving(kfp_url: str, **settings: object) -> Iterator[AdapterServer]:
    """Runs an adapter, assembled as its process does."""
    with ExitStack() as stack:
        loaded = Settings.load(config=None, **{"listen": "127.0.0.1:0", "kfp_url": kfp_url, **settings})
        limits = UploadLimits(max_bytes=loaded.max_upload_bytes, directory=loaded.upload_dir)
        backend = stack.enter_context(closing(connect_kfp(loaded, limits.place)))
        watches = stack.enter_context(closing(WatchPoller(backend.runs)))
        served = servicers(backend, watches, limits, loaded.namespace)
        yield stack.enter_context(AdapterServer(loaded, served, lambda: True, watches.drain))


@contextmanager
def gateway(
    adapter: AdapterServer,
    *,
    max_upload_bytes: int = 32 * 2**20,
    tls: Callable[[], ssl.SSLContext] | None = None,
    token: str | None = None,
) -> Iterator[Gateway]:
    """Runs the gateway for an adapter, on a free port."""
    app = LegacyHttp(Client(adapter.address, token=token), max_upload_bytes=max_upload_bytes)
    connections = Connections()
    with legacy_http_process.serving("127.0.0.1:0", app, tls, connections) as address:
        yield Gateway(adapter, app, address, connections)


@contextmanager
def adapter(kfp_url: str, **settings: Any) -> Iterator[Gateway]:  # noqa: ANN401 - values of any setting
    """Runs both; `max_upload_bytes` applies to both."""
    limit = {"max_upload_bytes": settings["max_upload_bytes"]} if "max_upload_bytes" in settings else {}
    with serving(kfp_url, **settings) as server, gateway(server, **limit) as made:
        yield made


@contextmanager
def process(target: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Runs `kfadapter legacy-http`; yields the process, its HTTP address and its metrics address."""
    program = str(Path(sys.executable).parent / "kfadapter")
    free = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--log-format", "json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KFADAPTER_")}
    command = [program, "legacy-http", "--target", target, *free, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as running:
        try:
            assert running.stderr is not None
            serving = next(line for line in map(json.loads, running.stderr) if line["event"] == "serving")
            yield running, serving["address"], serving["metrics"]
        finally:
            running.kill()
