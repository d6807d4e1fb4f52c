"""An embedded KFP inside the test's own process, whose executor follows the test's script."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
from tests.embedded.conftest import Caller
from tests.embedded.fake_executor import FakeExecutor

from kfadapter_embedded.application import application
from kfadapter_embedded.progress import Progress
from kfadapter_embedded.run_folders import RunFolders
from kfadapter_embedded.runs import Runs
from kfadapter_embedded.schedules import Scheduler
from kfadapter_embedded.server import bind
from kfadapter_embedded.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


GIB = 1 << 30


@dataclass(frozen=True)
class Serving:
    """A running server and its parts."""

    caller: Caller
    store: Store
    runs: Runs
    progress: Progress
    executor: FakeExecutor
    scheduler: Scheduler

    @property
    def url(self) -> str:
        """Its URL."""
        return self.caller.url


@contextlib.contextmanager
def serving(folder: Path, *, most_file_bytes: int = GIB, clock: Callable[[], float] = time.time) -> Iterator[Serving]:
    """Serves until the block ends."""
    store = Store(folder / "kfp.sqlite", clock=clock)
    folders = RunFolders(folder / "runs")
    progress = Progress(store, folders)
    executor = FakeExecutor(progress.report)
    runs = Runs(store, folders, progress, executor, most_file_bytes=most_file_bytes)
    with contextlib.closing(store):
        runs.resume()
        with _listening(store, folder, runs) as url:
            yield Serving(Caller(url), store, runs, progress, executor, Scheduler(store, runs))
        progress.close()


@contextlib.contextmanager
def _listening(store: Store, folder: Path, runs: Runs) -> Iterator[str]:
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(application(store, folder, runs), http="h11", ws="none", lifespan="off", log_config=None)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
