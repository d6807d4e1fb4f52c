"""An embedded KFP inside the test's own process, with an executor of the test's choice."""

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
from kfadapter_embedded.no_executor import NoExecutor
from kfadapter_embedded.run_control import RunControl
from kfadapter_embedded.run_folders import RunFolders
from kfadapter_embedded.run_progress import RunProgress
from kfadapter_embedded.server import bind
from kfadapter_embedded.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kfadapter_embedded.execution import Executor, Observer

GIB = 1 << 30


@dataclass(frozen=True)
class Serving:
    """A server that runs, and what it is made of."""

    caller: Caller
    store: Store
    control: RunControl
    progress: RunProgress

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.caller.url


def nothing(_observer: Observer) -> Executor:
    """Makes an executor that executes nothing."""
    return NoExecutor()


@contextlib.contextmanager
def serving(
    folder: Path,
    make_executor: Callable[[Observer], Executor] = nothing,
    *,
    most_file_bytes: int = GIB,
    clock: Callable[[], float] = time.time,
) -> Iterator[Serving]:
    """Serves for as long as the block runs."""
    store = Store(folder / "kfp.sqlite", clock=clock)
    folders = RunFolders(folder / "runs")
    progress = RunProgress(store, folders)
    executor = make_executor(progress)
    control = RunControl(store, folders, executor, most_file_bytes=most_file_bytes)
    with contextlib.closing(store), contextlib.closing(executor):
        control.resume()
        with _listening(store, folder, control) as url:
            yield Serving(Caller(url), store, control, progress)
        progress.close()


@contextlib.contextmanager
def _listening(store: Store, folder: Path, control: RunControl) -> Iterator[str]:
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(application(store, folder, control), http="h11", ws="none", lifespan="off", log_config=None)
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


@dataclass(frozen=True)
class Told(Serving):
    """A server whose executor does as it is told."""

    executor: FakeExecutor


@contextlib.contextmanager
def told(folder: Path, *, most_file_bytes: int = GIB, clock: Callable[[], float] = time.time) -> Iterator[Told]:
    """Serves with an executor that does as it is told."""
    made: list[FakeExecutor] = []

    def make(observer: Observer) -> Executor:
        made.append(FakeExecutor(observer))
        return made[0]

    with serving(folder, make, most_file_bytes=most_file_bytes, clock=clock) as running:
        yield Told(running.caller, running.store, running.control, running.progress, made[0])
