"""Writes down how runs go on, as their executor tells it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from itertools import chain, repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .execution import State, TaskReport
    from .run_folders import RunFolders
    from .store import Store

_log = logging.getLogger(__name__)
_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


class RunProgress:
    """The `Observer` of the executor. What cannot be written, because the disk is full perhaps, is tried again."""

    def __init__(self, store: Store, folders: RunFolders) -> None:
        self._store = store
        self._folders = folders
        self._closing = threading.Event()

    def close(self) -> None:
        """From now on a run that has not begun stays as it is, to be executed after the next start."""
        self._closing.set()

    def run_started(self, run_id: str) -> None:
        """The run has begun."""
        self._durably(lambda: self._store.progress.start(run_id))

    def task_changed(self, run_id: str, report: TaskReport) -> None:
        """A task has begun or ended."""
        self._durably(lambda: self._store.progress.keep(run_id, report))

    def run_ended(self, run_id: str, state: State, error: str) -> None:
        """The run is over."""
        closing, size = self._closing.is_set(), self._folders.size(run_id)

        def end() -> None:
            self._store.runs.keep_file_size(run_id, size)
            self._store.progress.end(run_id, state, error, if_started=closing)

        self._durably(end, for_ever=True)
        if self._store.runs.try_get(run_id) is None:
            self._folders.remove(run_id)

    def _durably(self, write: Callable[[], None], *, for_ever: bool = False) -> None:
        """Writes, again and again if need be; `for_ever` means until the server ends."""
        more = repeat(_RETRY_SECONDS[-1]) if for_ever else ()
        for seconds in chain(_RETRY_SECONDS, more):
            try:
                return write()
            except sqlite3.OperationalError as error:
                _log.warning("cannot write how a run goes on: %s", error)
                if self._closing.wait(seconds):
                    break
        return write()
