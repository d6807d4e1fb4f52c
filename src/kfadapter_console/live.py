"""Live pages: server-sent events whose data are the rendered content of a page; console.js replaces what changed."""

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
"""The concurrency limit, as each stream has a thread; further ones get 503, and the browser retries."""
RETRY_MILLISECONDS = 3000
"""How long a browser waits before it connects again."""
HEARTBEAT_SECONDS = 2.0
"""How often a stream without changes checks whether the browser has disconnected."""
PAUSE_FACTOR, MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 4, 0.3, 5.0
"""How long a stream pauses after a change, relative to the time that rendering it took."""
_MEDIA_TYPE = "text/event-stream"
_END = "\0"
_streams = threading.BoundedSemaphore(MAX_STREAMS)


def stream(fragments: Fragments) -> Response:
    """Sends fragments, without repetitions, until they end; if they fail, the browser connects again.

    None keeps the stream alive. It is closed once the browser has disconnected, at the next fragment or None.
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
                self.body_iterator = self._events(await self._next())  # before the headers, so an error has a status
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
            return  # the browser gets the error when it connects again
        yield _event("end", "the stream has ended")


def _event(name: str, data: str) -> str:
    lines = "".join(f"data: {line}\n" for line in data.splitlines())
    return f"event: {name}\n{lines}\n"


def latest(
    items: Iterator[T], state: S, update: Callable[[S, T], S], stop: Callable[[], None]
) -> Generator[S | None, None, None]:
    """Yields the state whenever items have updated it, and None after `HEARTBEAT_SECONDS` without any.

    A thread reads the items, so that a disconnected browser is detected although none comes; `stop` then ends them.
    Items that come during the pause after a change are one change.
    """
    changed, failures, ended = threading.Event(), list[Exception](), False

    def read() -> None:
        nonlocal state, ended
        try:
            for item in items:
                state = update(state, item)
                changed.set()
        except Exception as error:  # noqa: BLE001  raised where the stream is used
            failures.append(error)
        ended = True
        changed.set()

    threading.Thread(target=read, name="live", daemon=True).start()
    try:
        is_over = False
        while not is_over:
            has_changed = changed.wait(HEARTBEAT_SECONDS)
            changed.clear()
            is_over = ended
            if is_over and failures:
                raise failures[0]
            began = time.monotonic()
            yield state if has_changed else None
            if has_changed and not is_over:
                pause = PAUSE_FACTOR * (time.monotonic() - began)
                time.sleep(min(max(pause, MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS))
    finally:
        stop()
