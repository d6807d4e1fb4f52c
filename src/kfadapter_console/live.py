"""What changes while it is looked at: server-sent events whose data are rendered fragments of the page.

Each top-level element of a fragment has an id; console.js replaces the element of that id.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

MAX_STREAMS = 32
"""How many streams are open at once. Each holds one thread; others are told to come again."""
RETRY_MILLISECONDS = 3000
"""How long a browser waits before it connects again."""
BEAT = ""
"""A fragment that only shows that the stream is alive."""
_streams = threading.BoundedSemaphore(MAX_STREAMS)


def stream(fragments: Generator[str, None, None]) -> StreamingResponse:
    """Sends fragments as they come; the browser stops when they end.

    Args:
        fragments: Rendered fragments, or `BEAT`. It is closed when the browser has left, at its next fragment at the
            latest: so let none take longer than some seconds.

    Raises:
        HTTPException: Too many streams are open; the browser tries again.
    """
    if not _streams.acquire(blocking=False):
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "Too many live pages are open.", {"retry-after": "5"})
    return StreamingResponse(_events(fragments), media_type="text/event-stream")


def _events(fragments: Generator[str, None, None]) -> Iterator[str]:
    try:
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        for fragment in fragments:
            yield event("fragment", fragment) if fragment else ": alive\n\n"
        yield event("end", "the stream has ended")
    finally:
        fragments.close()
        _streams.release()


def event(name: str, data: str) -> str:
    """Formats one event."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines())
    return f"event: {name}\n{lines}\n"
