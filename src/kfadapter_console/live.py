"""Live pages: server-sent events whose data are the rendered content of a page; console.js replaces what changed."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

from anyio import CapacityLimiter, create_task_group, move_on_after, to_thread
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kfadapter_grpc.contract.errors import AdapterError

T = TypeVar("T")
Changes: TypeAlias = Iterator[Mapping[str, Any]]
"""Comes with each change of what a page shows: what its view shall not read itself, as keywords."""

MAX_STREAMS = 32
"""The concurrency limit, as each stream has threads; further ones get 503, and the browser retries."""
MEDIA_TYPE = "text/event-stream"
RETRY_MILLISECONDS = 3000
"""How long a browser waits before it connects again."""
HEARTBEAT_SECONDS = 15.0
"""How often a stream without changes shows proxies that it is alive."""
PAUSE_FACTOR, MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 4, 0.3, 5.0
"""How long a stream pauses after a change, relative to the time that rendering it took."""
_streams = threading.BoundedSemaphore(MAX_STREAMS)


class Live(StreamingResponse):
    """Sends a page at once, and again whenever it has changed, until the changes end.

    Changes that come while one is rendered and during the pause after it are one. If a call fails, the stream just
    ends: the browser gets the error when it connects again.
    """

    def __init__(self, changes: Changes, render: Callable[..., str], stop: Callable[[], None]) -> None:
        """Calls `render` with the keywords of the last change, and `stop`, which ends the changes, at the end."""
        self._changes, self._render, self._stop = changes, render, stop
        self._last: Mapping[str, Any] = {}
        self._changed, self._is_over, self._end = asyncio.Event(), False, ""
        self._threads = CapacityLimiter(2)  # beside the pool of the other pages, which streams would exhaust
        first = render()  # before the headers, so that an error has a status
        if not _streams.acquire(blocking=False):
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "Too many live pages are open.", {"retry-after": "5"})
        super().__init__(self._events(first), media_type=MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds until the changes end, or the browser disconnects."""
        try:
            async with create_task_group() as group:
                group.start_soon(self._read)
                await super().__call__(scope, receive, send)
                group.cancel_scope.cancel()
        finally:
            self._stop()
            _streams.release()

    async def _read(self) -> None:
        with suppress(AdapterError):
            while (change := await self._in_thread(next, self._changes, None)) is not None:
                self._last = change
                self._changed.set()
            self._end = _event("end", "the stream has ended")
        self._is_over = True
        self._changed.set()

    async def _events(self, fragment: str) -> AsyncIterator[str]:
        yield f"retry: {RETRY_MILLISECONDS}\n\n{_event('fragment', fragment)}"
        pause, is_over = MIN_PAUSE_SECONDS, False
        while not is_over:
            await asyncio.sleep(pause)
            with move_on_after(HEARTBEAT_SECONDS) as quiet:
                await self._changed.wait()
            if quiet.cancelled_caught:
                yield ": alive\n\n"
                continue
            is_over = self._is_over
            self._changed.clear()
            began, shown = time.monotonic(), fragment
            try:
                fragment = await self._in_thread(partial(self._render, **self._last))
            except AdapterError:
                return
            if fragment != shown:
                yield _event("fragment", fragment)
            pause = min(max(PAUSE_FACTOR * (time.monotonic() - began), MIN_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
        yield self._end

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401  those of the call
        return await to_thread.run_sync(call, *arguments, abandon_on_cancel=True, limiter=self._threads)


def _event(name: str, data: str) -> str:
    lines = "".join(f"data: {line}\n" for line in data.splitlines())
    return f"event: {name}\n{lines}\n"
