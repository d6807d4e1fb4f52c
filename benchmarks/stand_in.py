"""A stand-in for KFP with minimal cost: it responds immediately, and reads uploads as fast as they arrive.

Instead of KFP it makes a benchmark show the adapter's own cost. It stores nothing and responds by path alone:
every pipeline exists, except those whose names begin with `new-`; every upload succeeds.

Run as `python -m benchmarks.stand_in [SECONDS]`, where SECONDS is the response time, or `real`: then it has the
measured response times of KFP 2.17.0, buffers whole uploads, and returns their content as `upload_version` does.
Prints `ready URL`, ends when its stdin is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import cache
from urllib.parse import parse_qs, urlsplit

from benchmarks.pipeline_text import pipeline_json

NEW = "new-"
"""Begins the names of pipelines that are not there yet."""
PIPELINE_ID = "11111111-1111-4111-8111-111111111111"
"""The id of the one pipeline."""
VERSION_ID = "22222222-2222-4222-8222-222222222222"
"""The id of its one version."""
LARGE_VERSION_ID = "33333333-3333-4333-8333-"
"""Begins the ids of versions whose size follows: twelve digits, in bytes."""
REAL = "real"
"""The argument for the times of a real KFP."""
UPLOAD_SECONDS = ((40_000, 0.017), (1 << 20, 0.300), (8 << 20, 2.683))
"""KFP 2.17.0's time for an upload or a version of so many bytes, in the order of sizes."""
REQUEST_SECONDS = 0.003
"""Its time for any other request."""
SPEC_SECONDS = 4.834 / 42_000_000
"""Its time for each byte of a spec that it returns: it lists 1000 versions of 42 kB in 4.834 s."""
_CREATED_AT = "2026-01-01T00:00:00Z"
_HEAD_END = b"\r\n\r\n"


class _Connection(asyncio.Protocol):
    """One keep-alive connection; requests arrive in sequence."""

    def __init__(self, seconds: float = 0, *, real: bool = False) -> None:
        self._seconds = seconds
        self._real = real
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._body = bytearray()
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport for responses; asyncio has set TCP_NODELAY."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Buffers received data, and responds as soon as a request is complete."""
        if self._missing:
            self._take_body(data)
            return
        self._head += data
        if _HEAD_END in self._head:
            self._head, _, rest = self._head.partition(_HEAD_END)
            self._missing = _content_length(self._head)
            self._take_body(rest)

    def _take_body(self, data: bytes) -> None:
        self._missing -= len(data)
        if self._real or _is_json(self._head):  # of anything else only the size matters
            self._body += data
        if not self._missing:
            loop = asyncio.get_running_loop()
            arrived = loop.time()
            body = bytes(self._body)
            answer = _answer(self._head, body)
            seconds = _real_seconds(self._head, body, answer) if self._real else self._seconds
            self._head = b""
            self._body.clear()
            if self._real:  # one request at a time; asyncio's own timers are late by up to a millisecond
                time.sleep(max(0.0, arrived + seconds - loop.time()))
                self._send(answer)
            elif seconds:
                loop.call_at(arrived + seconds, self._send, answer)
            else:
                self._send(answer)

    def _send(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)


def _content_length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


def _real_seconds(head: bytes, body: bytes, answer: bytes) -> float:
    """The response time of a real KFP: for uploads interpolated between the measured sizes."""
    if b"/pipelines/upload" not in head.split(b"\r\n", 1)[0]:
        return max(REQUEST_SECONDS, len(answer) * SPEC_SECONDS)
    size, seconds = UPLOAD_SECONDS[0]
    for larger, longer in UPLOAD_SECONDS[1:]:
        if len(body) <= larger:
            return seconds + max(0, len(body) - size) * (longer - seconds) / (larger - size)
        size, seconds = larger, longer
    return seconds * len(body) / size


def _is_json(head: bytes) -> bool:
    return b"\r\ncontent-type: application/json" in head.lower()


def _response(status: str, body: object) -> bytes:
    data = json.dumps(body, ensure_ascii=False).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _pipeline(name: str, tags: object) -> dict[str, object]:
    """A pipeline as KFP 2.17 shows it."""
    found: dict[str, object] = {"pipeline_id": PIPELINE_ID, "display_name": name, "name": name}
    return found | {"created_at": _CREATED_AT} | ({"tags": tags} if tags else {})


_VERSION = {**_pipeline("v", {}), "pipeline_version_id": VERSION_ID, "pipeline_spec": {}}
_FOUND = _response("200 OK", {**_pipeline("instant", {}), "description": "Responds at once."})
_LISTED = _response("200 OK", {"pipelines": [_pipeline("instant", {})], "total_size": 1})
_NOT_THERE = "Failed to get a pipeline with name: ResourceNotFoundError: Namespace/Pipeline /new not found"
_NOT_FOUND = _response("404 Not Found", {"code": 5, "message": _NOT_THERE, "details": []})
_STORED_VERSION = _response("200 OK", _VERSION)
_EMPTY = _response("200 OK", {})


def _stored(query: str, body: bytes) -> bytes:
    """A stored version with its spec, as KFP 2.17 returns it; the file's text is the spec."""
    sent = {key: values[0] for key, values in parse_qs(query).items()}
    text = body.partition(_HEAD_END)[2].rpartition(b"\r\n--")[0].decode()
    spec = {"pipelineInfo": {"name": "benchmark"}, "root": text, "schemaVersion": "2.1.0"}
    version = {**_VERSION, "name": sent["name"], "display_name": sent.get("display_name", sent["name"])}
    return _response("200 OK", {**version, "pipeline_spec": spec, "tags": json.loads(sent.get("tags", "{}"))})


def _answer(head: bytes, body: bytes) -> bytes:
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
    if method == "GET":
        return _read(target)
    return _store(urlsplit(target).path, urlsplit(target).query, body) if method == "POST" else _EMPTY


def _read(target: str) -> bytes:
    if "/pipelines/names/" in target:
        return _NOT_FOUND if f"/names/{NEW}" in target else _FOUND
    if f"/versions/{LARGE_VERSION_ID}" in target:
        return _large_version(int(target[-12:]))
    if "/versions/" in target:
        return _STORED_VERSION
    if "/pipelines?" in target or target.endswith("/pipelines"):
        return _LISTED
    return _FOUND if "/pipelines/" in target else _EMPTY


@cache
def _large_version(size: int) -> bytes:
    version = json.dumps({**_VERSION, "pipeline_version_id": f"{LARGE_VERSION_ID}{size:012d}", "pipeline_spec": None})
    data = version.encode().replace(b'"pipeline_spec": null', b'"pipeline_spec": ' + pipeline_json(size))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _store(path: str, query: str, body: bytes) -> bytes:
    if path.endswith("/upload_version"):
        return _stored(query, body) if body else _STORED_VERSION
    if path.endswith("/upload"):
        return _response("200 OK", _pipeline(parse_qs(query).get("name", [""])[0], {}))
    sent = json.loads(body)
    return _response("200 OK", _pipeline(sent["name"], sent.get("tags")))


async def _serve(argument: str) -> None:
    loop = asyncio.get_running_loop()
    real = argument == REAL
    seconds = 0 if real else float(argument)
    server = await loop.create_server(lambda: _Connection(seconds, real=real), "127.0.0.1", 0)
    sys.stdout.write(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1] if len(sys.argv) > 1 else "0"))
