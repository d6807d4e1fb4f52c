"""Two adapters behind one name, stopped and started again under load."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import write_pipeline
from benchmarks.processes import Adapter, stand_in

from kfadapter_grpc.client import AdapterError, Client, HealthStatus, RunFilter
from robustness.crowd import Crowd
from robustness.scenario import Finding, Scenario, Stage, at_least, at_most, exactly, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLERS, CALLS_A_SECOND = 10, 100
"""How many threads make how many calls a second in all."""
UPLOADERS = 20
"""How many uploads are under way at any time."""
UPLOAD_BYTES = 600 * 1024
"""How large each is; it is sent in three pieces, slowly."""
WATCHERS = 50
"""How many watches are open at any time."""
DRAIN_SECONDS, GRACE_SECONDS = 0.5, 10.0
_OPTIONS = ("--drain-seconds", str(DRAIN_SECONDS), "--grace-seconds", str(GRACE_SECONDS), "--max-uploads", "64")
_SPARE_SECONDS = 4.0
_PIECE_PAUSE_SECONDS = 0.3
_START_SECONDS = 60.0
SETTLE_SECONDS = 2.5
"""How long an adapter serves before the other one is stopped, as minReadySeconds says: callers find it within 2 s."""


class Callers(Crowd):
    """Callers, uploaders and watchers, until the `with` block is left.

    Attributes:
        ended: How many calls and uploads succeeded.
        failures: What failed, in words.
    """

    def __init__(self, target: str, file: Path) -> None:
        self.ended: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._client = Client(target)
        self._file = file
        parts = ((self._call, CALLERS), (self._upload, UPLOADERS), (self._watch, WATCHERS))
        super().__init__(partial(self._repeat, part) for part, count in parts for _ in range(count))

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._client.close()  # which ends the watches
        super().__exit__()

    def _repeat(self, part: Callable[[], None]) -> None:
        name = part.__name__.removeprefix("_")
        while not self.stopped.is_set():
            try:
                part()
            except (AdapterError, RuntimeError) as error:  # a closed client is a RuntimeError
                self._note(self.failures, f"{name}: {error}")
            else:
                self._note(self.ended, name)

    def _note(self, into: Counter[str], what: str) -> None:
        with self.lock:
            into[what] += not self.stopped.is_set()

    def _call(self) -> None:
        self._client.pipelines.get("instant")
        self.stopped.wait(CALLERS / CALLS_A_SECOND)

    def _upload(self) -> None:
        self._client.pipelines.upload(self._file, name="new-upload", progress=lambda *_: self._pause())

    def _watch(self) -> None:
        """Watches until the client is closed; it comes back by itself when an adapter leaves."""
        for _ in self._client.runs.watch(where=RunFilter()):
            pass

    def _pause(self) -> None:
        self.stopped.wait(_PIECE_PAUSE_SECONDS)


class Replicas:
    """Two adapters, of which one after the other is stopped and started again at its address."""

    def __init__(self, stage: Stage, url: str) -> None:
        self._stage, self._url = stage, url
        self._running = [Adapter(url, stage.home, *_OPTIONS) for _ in range(2)]
        for adapter in self._running:
            _await_serving(adapter)
        self.target = "ipv4:" + ",".join(adapter.target for adapter in self._running)

    def close(self) -> None:
        """Ends both."""
        for adapter in self._running:
            adapter.__exit__()

    def restart(self, number: int) -> tuple[int, float, int]:
        """Sends SIGTERM to one, waits for its end, and starts it again.

        Returns:
            Its exit code, the seconds until it ended, and how many watches it ended with DRAINING.
        """
        leaving = self._running[number]
        began = time.monotonic()
        leaving.send_signal(signal.SIGTERM)
        code = leaving.ended(DRAIN_SECONDS + GRACE_SECONDS + _SPARE_SECONDS)
        seconds = time.monotonic() - began
        drained = [line for line in leaving.written().splitlines() if "RunService/Watch" in line and "DRAINING" in line]
        leaving.__exit__()
        self._running[number] = Adapter(self._url, self._stage.home, *_OPTIONS, target=leaving.target)
        _await_serving(self._running[number])
        return code, seconds, len(drained)


def _await_serving(adapter: Adapter) -> None:
    adapter.wait()
    with Client(adapter.target, timeout=_START_SECONDS) as client:
        while client.health() is not HealthStatus.SERVING:
            time.sleep(0.01)


def run(stage: Stage) -> Iterator[Finding]:
    """Stops one adapter after the other while others call, upload and watch."""
    times = stage.scaled(50, 4)
    with ExitStack() as stack:
        url = stack.enter_context(stand_in(stage.home))
        replicas = Replicas(stage, url)
        stack.callback(replicas.close)
        file = write_pipeline(stage.folder, UPLOAD_BYTES)
        crowd = stack.enter_context(Callers(replicas.target, file))
        ends: list[tuple[int, float, int]] = []
        for number in range(times):
            time.sleep(SETTLE_SECONDS)
            ends.append(replicas.restart(number % 2))
        time.sleep(SETTLE_SECONDS)
        ended, failures = dict(crowd.ended), dict(crowd.failures)
    yield exactly("adapters that ended with exit code 0", sum(code == 0 for code, _, _ in ends), times)
    yield at_most("longest end", max(seconds for _, seconds, _ in ends), DRAIN_SECONDS + GRACE_SECONDS, "s")
    yield told("calls that succeeded", ended["call"])
    yield told("uploads that succeeded", ended["upload"])
    yield at_least("watches that were ended with DRAINING and came back", sum(one for _, _, one in ends), times)
    yield exactly("calls, uploads and watches that failed", failures or 0, 0)


SCENARIO = Scenario(
    name="drain",
    proves="Adapters behind one name can be stopped and started, and no call of the client library fails.",
    not_covered="callers with stubs of their own and without its service config: they see DRAINING, and may repeat.",
    run=run,
)
