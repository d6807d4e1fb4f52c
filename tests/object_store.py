"""A stand-in for an object store: S3 and Google's XML API over HTTP, with objects of any size and injected faults.

Objects given by size only are generated while they are sent, so 5 GiB take no memory. Run as a program, it serves
one bucket with one such object: `python -m tests.object_store BYTES BYTES_PER_SECOND` prints its URL.
"""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

BLOCK = bytes(range(256)) * 4096
"""What generated objects repeat: 1 MiB."""
PAGE = 1000
"""How many objects a page of a listing has, as in S3."""


@dataclass
class Stored:
    """An object: its bytes, or only its size."""

    data: bytes | None = None
    size: int = 0
    content_type: str = "application/octet-stream"
    etag: str = ""

    def __post_init__(self) -> None:
        if self.data is not None:
            self.size = len(self.data)
        self.etag = self.etag or hashlib.md5(self.data or str(self.size).encode()).hexdigest()  # noqa: S324

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """Yields the bytes from `start` to before `end`."""
        if self.data is not None:
            yield self.data[start:end]
            return
        while start < end:
            at = start % len(BLOCK)
            piece = BLOCK[at : at + end - start]
            yield piece
            start += len(piece)


@dataclass
class Request:
    """A received request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class ObjectStore:
    """Serves buckets on its own port. A context manager.

    Attributes:
        objects: By bucket and key (`models/a/b.bin`).
        requests: The requests so far.
        denied: Answers 403 to all.
        denied_listing: Answers 403 to listings.
        unavailable: How many requests get 503.
        cuts: After how many bytes each of the next bodies is cut off.
        stall_after: After how many bytes a body stalls until `resume` is set.
        redirect: The URL that all requests are redirected to.
        speed: The limit of a body in bytes per second; 0 means unlimited.
        changes: Objects that replace others as soon as the first body of those has begun.
        broken: Set when a client disconnected before the end of a body.
    """

    objects: dict[str, Stored] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    denied: bool = False
    denied_listing: bool = False
    unavailable: int = 0
    cuts: list[int] = field(default_factory=list)
    stall_after: int | None = None
    redirect: str = ""
    speed: int = 0
    changes: dict[str, Stored] = field(default_factory=dict)
    resume: threading.Event = field(default_factory=threading.Event)
    broken: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The URL it serves."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def put(self, name: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Stores an object."""
        self.objects[name] = Stored(data, content_type=content_type)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore
    wbufsize = 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Suppresses the log."""

    def do_HEAD(self) -> None:
        """Answers without a body."""
        self._answer()

    def do_GET(self) -> None:
        """Answers with an object, or with the keys of a bucket."""
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        name = unquote(url.path).lstrip("/")
        query = parse_qs(url.query, keep_blank_values=True)
        store = self.store
        store.requests.append(
            Request(self.command, name, query, {key.lower(): value for key, value in self.headers.items()})
        )
        if store.redirect:
            self._send(302, headers={"Location": store.redirect + self.path})
        elif store.unavailable > 0:
            store.unavailable -= 1
            self._send(503, _error("SlowDown"))
        elif store.denied or (store.denied_listing and "list-type" in query):
            self._send(403, _error("AccessDenied"))
        elif "list-type" in query:
            self._list(name.rstrip("/"), query)
        elif (found := store.objects.get(name)) is None:
            self._send(404, _error("NoSuchKey"))
        else:
            self._object(name, found)

    def _object(self, name: str, found: Stored) -> None:
        store = self.store
        if self.headers.get("If-Match", f'"{found.etag}"').strip('"') != found.etag:
            self._send(412, _error("PreconditionFailed"))
            return
        start, end, status = 0, found.size, 200
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end, status = int(first), min(int(last) + 1 if last else found.size, found.size), 206
            if start >= found.size:
                self._send(416, _error("InvalidRange"))
                return
        headers = {
            "Content-Type": found.content_type,
            "ETag": f'"{found.etag}"',
            "Last-Modified": formatdate(1_700_000_000, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
        self._send(status, None, headers=headers, length=end - start)
        if self.command == "GET":
            try:
                self._body(name, found, start, end)
            except ConnectionError:
                store.broken.set()
                self.close_connection = True

    def _body(self, name: str, found: Stored, start: int, end: int) -> None:
        store, sent, begun = self.store, 0, time.monotonic()
        cut = store.cuts.pop(0) if store.cuts else None
        for piece in found.pieces(start, end):
            if changed := store.changes.pop(name, None):
                store.objects[name] = changed
            for limit in (store.stall_after, cut):
                if limit is not None and sent + len(piece) > limit:
                    piece = piece[: max(0, limit - sent)]  # noqa: PLW2901
            self.wfile.write(piece)
            sent += len(piece)
            if store.speed:
                time.sleep(max(0.0, begun + sent / store.speed - time.monotonic()))
            if store.stall_after is not None and sent >= store.stall_after:
                store.resume.wait(60)
                store.stall_after = None
            if cut is not None and sent >= cut:
                self.close_connection = True
                return

    def _list(self, bucket: str, query: dict[str, list[str]]) -> None:
        prefix, token = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        keys = sorted(
            (key for name in self.store.objects if (key := name.removeprefix(f"{bucket}/")) != name),
            key=str.encode,
        )
        found = [key for key in keys if key.startswith(prefix) and key.encode() > token.encode()]
        page, more = found[:PAGE], len(found) > PAGE
        text = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2023-11-14T22:13:20.000Z</LastModified>"
            f'<ETag>"{self.store.objects[f"{bucket}/{key}"].etag}"</ETag>'
            f"<Size>{self.store.objects[f'{bucket}/{key}'].size}</Size></Contents>"
            for key in page
        )
        then = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        truncated = str(more).lower()
        body = f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{then}{text}</ListBucketResult>"
        self._send(200, body.encode(), headers={"Content-Type": "application/xml"})

    def _send(
        self, status: int, body: bytes | None = b"", *, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body or b"") if length is None else length))
        self.end_headers()
        if body and self.command != "HEAD":
            self.wfile.write(body)


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def main() -> None:
    """Serves one object of the given size until stdin ends."""
    with ObjectStore({"models/big.bin": Stored(size=int(sys.argv[1]))}, speed=int(sys.argv[2])) as store:
        sys.stdout.write(f"{store.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
