"""Threads that go on until they are told to stop."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self


class Crowd:
    """Members, each on a thread of its own, who are at work while a `with` block lasts.

    Attributes:
        stopped: Is set when the block is left: then each member has to come to an end.
        lock: For what the members share.
    """

    def __init__(self, members: Iterable[Callable[[], None]]) -> None:
        """Will have every member run once."""
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self._threads = [threading.Thread(target=member) for member in members]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join()
