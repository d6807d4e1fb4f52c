"""What a stream of changes has come to."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import pytest

from kfadapter_console import live
from kfadapter_grpc.client import KfpUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_changes_are_joined_and_quiet_streams_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an item there are beats; items become a state; the end of the stream is the end."""
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(live, "MIN_PAUSE_SECONDS", 0)
    items: queue.Queue[int] = queue.Queue()
    stopped = list[bool]()
    states = live.latest(iter(items.get, 0), 0, lambda state, item: state + item, lambda: stopped.append(True))
    assert next(states) is None
    items.put(1)
    items.put(2)
    while (state := next(states)) is None or state < 3:
        assert state in {None, 1}
    items.put(4)
    items.put(0)
    assert [state for state in states if state is not None][-1] == 7
    assert stopped == [True]


def test_a_browser_that_left_stops_the_stream() -> None:
    """Closing the states stops their stream."""
    stopped = list[bool]()
    states = live.latest(iter([1]), 0, lambda _, item: item, lambda: stopped.append(True))
    assert next(states) == 1
    states.close()
    assert stopped == [True]


def test_failures_of_the_stream_are_raised() -> None:
    """What made the stream fail is raised to the page."""

    def failing() -> Iterator[int]:
        yield 1
        raise KfpUnavailableError("no answer")

    with pytest.raises(KfpUnavailableError):
        list(live.latest(failing(), 0, lambda _, item: item, lambda: None))
