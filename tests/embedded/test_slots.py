"""Slots for processes: which run gets one, and when."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kfadapter_embedded import slots
from kfadapter_embedded.slots import Slots

if TYPE_CHECKING:
    import pytest


class Run:
    """A run that counts its granted slots."""

    def __init__(self, room: Slots) -> None:
        self._room = room
        self._granted = threading.Semaphore(0)

    def grant(self) -> None:
        """Takes a slot."""
        self._granted.release()

    def request(self, count: int = 1) -> Run:
        """Requests slots."""
        for _ in range(count):
            self._room.request(self.grant)
        return self

    def got(self, timeout: float = 0) -> bool:
        """Whether another slot was granted."""
        return self._granted.acquire(timeout=timeout)


def test_slots_are_shared() -> None:
    """So many start at once; a freed slot is for the run with the fewest, then for the first."""
    room = Slots(2, 9)
    wide = Run(room).request(5)
    late, later = Run(room).request(), Run(room).request()
    assert [wide.got(), wide.got(), wide.got(), late.got()] == [True, True, False, False]
    room.release(wide.grant)
    assert [late.got(), later.got(), wide.got()] == [True, False, False]
    room.release(late.grant)
    assert [later.got(), wide.got()] == [True, False]
    room.leave(later.grant)
    assert wide.got()


def test_long_tasks_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long tasks do not block others; a wide run stays within the limit, and each run gets its first slot."""
    monkeypatch.setattr(slots, "_YOUNG_SECONDS", 0.02)
    room = Slots(1, 3)
    wide = Run(room).request(5)
    assert all(wide.got(10) for _ in range(3))
    others = [Run(room).request(2) for _ in range(4)]
    assert all(other.got(10) for other in others)
    assert not any(run.got(0.1) for run in (wide, *others))


def test_run_that_ends() -> None:
    """When a run ends, its pending requests are granted, and all its slots are freed."""
    room = Slots(1, 9)
    first, second = Run(room).request(3), Run(room).request()
    assert [first.got(), first.got(), second.got()] == [True, False, False]
    room.leave(first.grant)
    assert [first.got(), first.got(), first.got(), second.got()] == [True, True, False, True]
    room.release(first.grant)
    room.leave(first.grant)
