"""The three compared ways to call KFP, each as a client would write it."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from benchmarks.multipart import Multipart

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HTTP = "plain HTTP"
"""Python's own http.client, one connection kept per thread, the response's JSON parsed."""
SDK = "kfp.Client"
"""The kfp SDK."""
ADAPTER = "adapter"
"""This project, through its stubs on one channel; uploads through its client library."""
PAGE = 200
"""KFP's largest page."""
CHUNK_BYTES = 256 * 1024
"""What the client library sends in one message."""
CALL_SECONDS = 300.0
"""How long one call may take: KFP needs about a second per MB of an upload."""
_TRUSTED_SECONDS = 2.0  # a server may close an idle connection; uvicorn does so after 5 s
_V2 = "/apis/v2beta1"


class Side(Protocol):
    """One way to call KFP. Safe to use from many threads."""

    def get(self, name: str) -> object:
        """Finds a pipeline by name."""

    def upload(self, path: Path, prefix: str) -> object:
        """Uploads a file as a new pipeline, under a unique name with the prefix."""

    def list_versions(self, pipeline_id: str) -> object:
        """Lists all versions of a pipeline; returns their number."""

    def download(self, pipeline_id: str, version_id: str) -> object:
        """Reads a version's pipeline; returns its size in bytes, if known."""


def unique(prefix: str) -> str:
    """Returns a unique name."""
    return f"{prefix}{uuid.uuid4().hex[:12]}"


class HttpSide:
    """KFP's REST API, called directly."""

    def __init__(self, url: str) -> None:
        """Calls the KFP at `url`."""
        parts = urlsplit(url)
        self._address = parts.netloc
        self._tls = parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")
        self._own = threading.local()

    def get(self, name: str) -> Any:  # noqa: ANN401 - JSON
        """One request."""
        return self.json("GET", f"/pipelines/names/{quote(name, safe='')}")

    def upload(self, path: Path, prefix: str) -> object:
        """One multipart request, streamed from the file."""
        return self.upload_file(path, "/pipelines/upload?" + urlencode({"name": unique(prefix)}))

    def upload_file(self, path: Path, target: str) -> Any:  # noqa: ANN401 - JSON
        """The same for any route that accepts files."""
        with path.open("rb") as stream:
            body = Multipart(stream, path.stat().st_size)
            return self.json("POST", target, body, body.headers)

    def list_versions(self, pipeline_id: str) -> object:
        """Pages of 200, which include all specs."""
        count, token = 0, ""
        while True:
            query = urlencode({"page_size": PAGE, "page_token": token})
            page = self.json("GET", f"/pipelines/{pipeline_id}/versions?{query}")
            count += len(page.get("pipeline_versions", ()))
            token = page.get("next_page_token", "")
            if not token:
                return count

    def download(self, pipeline_id: str, version_id: str) -> object:
        """One request; the bytes are counted, not parsed."""
        return len(self.send("GET", f"/pipelines/{pipeline_id}/versions/{version_id}"))

    def json(self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Sends a request and parses the response."""
        return json.loads(self.send(method, target, body, headers))

    def send(self, method: str, target: str, body: object = None, headers: dict[str, str] | None = None) -> bytes:
        """Sends a request and reads the response.

        Raises:
            RuntimeError: KFP rejected it.
        """
        line = self._connection()
        try:
            line.request(method, self._prefix + _V2 + target, body, headers or {})  # type: ignore[arg-type]
            response = line.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException):
            line.close()  # the connection may have half an exchange
            raise
        self._own.used = time.monotonic()
        if response.status != http.client.OK:
            message = f"{method} {target}: {response.status} {data[:300].decode(errors='replace')}"
            raise RuntimeError(message)
        return data

    def _connection(self) -> http.client.HTTPConnection:
        line: http.client.HTTPConnection | None = getattr(self._own, "line", None)
        if line is None:
            kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
            line = self._own.line = kind(self._address, timeout=CALL_SECONDS)
        elif time.monotonic() - getattr(self._own, "used", 0.0) > _TRUSTED_SECONDS:
            line.close()  # http.client reconnects
        return line


class SdkSide:
    """The kfp SDK's client."""

    def __init__(self, url: str) -> None:
        """Calls the KFP at `url`; with a namespace the constructor makes no call."""
        from kfp import Client  # noqa: PLC0415  a second and 77 MiB, for this side's process only

        self._client = Client(host=url, namespace="benchmark")

    def get(self, name: str) -> object:
        """Its own way to find a pipeline by name, which returns only the id: a list with a filter."""
        return self._client.get_pipeline_id(name)

    def get_whole(self, name: str) -> object:
        """The calls needed for the contents of the adapter's response."""
        return self._client.get_pipeline(self._client.get_pipeline_id(name))

    def upload(self, path: Path, prefix: str) -> object:
        """Its upload, which reads the whole file into memory."""
        return self._client.upload_pipeline(str(path), pipeline_name=unique(prefix))

    def list_versions(self, pipeline_id: str) -> object:
        """Pages of 200, which include all specs."""
        count, token = 0, ""
        while True:
            page = self._client.list_pipeline_versions(pipeline_id, page_size=PAGE, page_token=token)
            count += len(page.pipeline_versions or ())
            token = page.next_page_token
            if not token:
                return count

    def download(self, pipeline_id: str, version_id: str) -> object:
        """The version with its spec as an object."""
        return self._client.get_pipeline_version(pipeline_id, version_id)


class AdapterSide:
    """This project."""

    def __init__(self, target: str) -> None:
        """Calls the adapter at `target`."""
        import grpc  # noqa: PLC0415  for this side's process only
        from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # noqa: PLC0415

        from kfadapter.v1 import pipeline_pb2, pipeline_pb2_grpc  # noqa: PLC0415
        from kfadapter_grpc.client import Client  # noqa: PLC0415

        channel = grpc.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])
        self._stub = pipeline_pb2_grpc.PipelineServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self._health_request = health_pb2.HealthCheckRequest()
        self._messages = pipeline_pb2
        self._client = Client(target, timeout=CALL_SECONDS)

    def empty(self) -> object:
        """A health check: the cheapest method of the same server."""
        return self._health.Check(self._health_request, timeout=CALL_SECONDS)

    def get(self, name: str) -> object:
        """Get, BASIC."""
        return self._stub.Get(self._messages.GetPipelineRequest(name=name), timeout=CALL_SECONDS)

    def upload(self, path: Path, prefix: str) -> object:
        """The client library's upload: two passes over the file, the first for its checksum."""
        return self._client.pipelines.upload(path, name=unique(prefix))

    def list_versions(self, pipeline_id: str) -> object:
        """Pages of 1000, BASIC."""
        count, token = 0, ""
        while True:
            request = self._messages.ListPipelineVersionsRequest(
                pipeline_id=pipeline_id, page_size=1000, page_token=token
            )
            page = self._stub.ListVersions(request, timeout=CALL_SECONDS)
            count += len(page.versions)
            token = page.next_page_token
            if not token:
                return count

    def download(self, pipeline_id: str, version_id: str) -> object:
        """Download, the chunks counted."""
        request = self._messages.DownloadPipelineRequest(pipeline_id=pipeline_id, pipeline_version_id=version_id)
        return sum(len(message.chunk) for message in self._stub.Download(request, timeout=CALL_SECONDS))


SIDES: dict[str, Callable[[str], Side]] = {HTTP: HttpSide, SDK: SdkSide, ADAPTER: AdapterSide}
"""How to make each side, from the URL of KFP or the adapter's address."""
