"""What a stream of changes sends."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING

import pytest

from kfadapter_console import live
from kfadapter_grpc.client import KfpUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams pause as briefly, and beat as often, as they can."""
    monkeypatch.setattr(live, "MIN_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)


class Stream:
    """A stream whose view shows the number that came with the last change; `sent` has what its browser has got."""

    def __init__(self, changes: live.Changes) -> None:
        self.sent = ""
        self.arrived = threading.Condition()
        self.left = threading.Event()
        self.stopped = threading.Event()
        self._live = live.Live(changes, lambda number=0: f"number {number}", self.stopped.set)
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()

    def wait_for(self, text: str) -> None:
        """Waits until the browser has got a text."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: text in self.sent, timeout=10), self.sent

    def join(self) -> None:
        """Waits until the stream has ended."""
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self.stopped.is_set()

    async def _serve(self) -> None:
        await self._live({"type": "http", "method": "GET"}, self._receive, self._send)

    async def _receive(self) -> Message:
        await asyncio.to_thread(self.left.wait)
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        with self.arrived:
            self.sent += message.get("body", b"").decode()
            if message["type"] == "http.response.body" and not message["more_body"]:
                self.left.set()
            self.arrived.notify_all()


def test_changes_are_sent_and_quiet_streams_beat() -> None:
    """The page is sent at once, then with each change unless it is the same; the end of the changes is the end."""
    items: queue.Queue[int] = queue.Queue()
    stream = Stream({"number": item} for item in iter(items.get, -1))
    stream.wait_for("event: fragment\ndata: number 0\n\n")
    stream.wait_for(": alive\n\n")
    for item in (0, 1, 2):
        items.put(item)
    stream.wait_for("data: number 2\n\n")
    items.put(-1)
    stream.join()
    assert stream.sent.count("number 0") == 1
    assert stream.sent.endswith("event: end\ndata: the stream has ended\n\n")


def test_a_browser_that_left_stops_the_stream() -> None:
    """If the browser disconnects, the changes are stopped, although none comes."""
    items: queue.Queue[int] = queue.Queue()
    stream = Stream({"number": item} for item in iter(items.get, -1))
    stream.wait_for("number 0")
    stream.left.set()
    assert stream.stopped.wait(10)
    items.put(-1)
    stream.join()


def test_failures_end_the_stream_without_a_word() -> None:
    """A stream that fails does not say that it has ended, so that the browser connects again."""

    def failing() -> Iterator[dict[str, int]]:
        yield {"number": 1}
        raise KfpUnavailableError("no answer")

    stream = Stream(failing())
    stream.join()
    assert "number 1" in stream.sent
    assert "event: end" not in stream.sent
