"""What changes while it is looked at: server-sent events whose data are rendered fragments of the page.

Each top-level element of a fragment has an id; console.js replaces the element of that id.
"""

import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from http import HTTPStatus
from typing import TypeAlias, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from kfadapter_grpc.contract.errors import AdapterError

Fragments: TypeAlias = Generator[str | None, None, None]
S = TypeVar("S")
T = TypeVar("T")

MAX_STREAMS = 32
"""How many streams are open at once. Each holds a thread of its own; further ones get 503, and the browser retries."""
RETRY_MILLISECONDS = 3000
"""How long a browser waits before it connects again."""
BEAT_SECONDS = 2.0
"""How often a stream without changes looks whether the browser is still there."""
RESTS, SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS = 4, 0.3, 5.0
_MEDIA_TYPE = "text/event-stream"
_END = "\0"
_streams = threading.BoundedSemaphore(MAX_STREAMS)


def stream(fragments: Fragments) -> Response:
    """Sends fragments as they come. The browser stops when they end, and connects again if they fail.

    One that is as the last one is left out. None shows that the stream is alive. It is closed when the browser has
    left, at its next item at the latest: so let none take longer than some seconds.
    """
    if not _streams.acquire(blocking=False):
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "Too many live pages are open.", {"retry-after": "5"})
    return _Live(fragments)


class _Live(StreamingResponse):
    def __init__(self, fragments: Fragments) -> None:
        super().__init__((), media_type=_MEDIA_TYPE)
        self._fragments = fragments
        self._thread = CapacityLimiter(1)  # beside the pool of the other pages, which streams would exhaust

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "HEAD":
                await Response(media_type=_MEDIA_TYPE)(scope, receive, send)
            else:
                first = await self._next()  # an error has a status, such as 404, as long as nothing has been sent
                self.body_iterator = self._events(first)
                await super().__call__(scope, receive, send)
        finally:
            self._fragments.close()
            _streams.release()

    async def _next(self) -> str | None:
        return await to_thread.run_sync(next, self._fragments, _END, limiter=self._thread)

    async def _events(self, fragment: str | None) -> AsyncIterator[str]:
        last = ""
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        try:
            while fragment != _END:
                yield ": alive\n\n" if fragment in {None, last} else _event("fragment", fragment or "")
                last = fragment or last
                fragment = await self._next()
        except AdapterError:
            return  # the status line is sent already; the browser learns more when it connects again
        yield _event("end", "the stream has ended")


def _event(name: str, data: str) -> str:
    lines = "".join(f"data: {line}\n" for line in data.splitlines())
    return f"event: {name}\n{lines}\n"


def latest(
    items: Iterator[T], state: S, keep: Callable[[S, T], S], stop: Callable[[], None]
) -> Generator[S | None, None, None]:
    """Yields what a stream has come to, whenever that has changed, and None after `BEAT_SECONDS` without a change.

    A thread of its own reads the stream, and `keep` adds each item to the state, so that a browser that has left is
    noticed although nothing comes; `stop` then ends the stream. After each state it rests `RESTS` times as long as
    showing it took; what comes meanwhile is one change.
    """
    changed, failures, ended = threading.Event(), list[Exception](), False

    def read() -> None:
        nonlocal state, ended
        try:
            for item in items:
                state = keep(state, item)
                changed.set()
        except Exception as error:  # noqa: BLE001  raised where the stream is used
            failures.append(error)
        ended = True
        changed.set()

    threading.Thread(target=read, name="live", daemon=True).start()
    try:
        is_over = False
        while not is_over:
            is_new = changed.wait(BEAT_SECONDS)
            changed.clear()
            is_over = ended
            if is_over and failures:
                raise failures[0]
            began = time.monotonic()
            yield state if is_new else None
            if is_new and not is_over:
                time.sleep(min(max(RESTS * (time.monotonic() - began), SHORTEST_REST_SECONDS), LONGEST_REST_SECONDS))
    finally:
        stop()
