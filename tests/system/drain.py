"""Two adapters behind one name, stopped and started again under load."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import KIB, write_pipeline
from benchmarks.processes import Adapter, stand_in
from tests.system.load import Crowd
from tests.system.scenario import Finding, Scenario, Stage, at_least, at_most, exactly, none, shown

from kfadapter_grpc.client import Client, HealthStatus, RunFilter

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

CALLERS, CALLS_A_SECOND = 10, 100
UPLOADERS, WATCHERS = 20, 50
UPLOAD_BYTES = 600 * KIB
"""How large an upload is; it is sent in three pieces, slowly."""
DRAIN_SECONDS, GRACE_SECONDS = 0.5, 10.0
SETTLE_SECONDS = 2.5
"""How long an adapter serves before the other one is stopped, as minReadySeconds says: callers find it within 2 s."""
_OPTIONS = ("--drain-seconds", str(DRAIN_SECONDS), "--grace-seconds", str(GRACE_SECONDS), "--max-uploads", "64")


class Callers(Crowd):
    """Callers, uploaders and watchers, until the `with` block is left."""

    def __init__(self, stage: Stage, target: str, file: Path) -> None:
        self._client, self._file = Client(target), file
        parts = ((self._call, CALLERS), (self._upload, UPLOADERS), (self._watch, WATCHERS))
        super().__init__(*parts, chance=stage.chance)

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._client.close()  # which ends the watches
        super().__exit__()

    def _call(self, _: random.Random) -> None:
        self._client.pipelines.get("instant")
        self.stopped.wait(CALLERS / CALLS_A_SECOND)

    def _upload(self, _: random.Random) -> None:
        self._client.pipelines.upload(self._file, name="new-upload", progress=lambda *_: self._pause())

    def _watch(self, _: random.Random) -> None:
        """Watches until the client is closed; it comes back by itself when an adapter leaves."""
        for _event in self._client.runs.watch(where=RunFilter()):
            pass

    def _pause(self) -> None:
        self.stopped.wait(0.3)


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
        """Stops one and starts it again.

        Returns:
            Its exit code, the seconds until it ended, and how many watches it ended with DRAINING.
        """
        leaving, began = self._running[number], time.monotonic()
        leaving.send_signal(signal.SIGTERM)
        code = leaving.ended(DRAIN_SECONDS + GRACE_SECONDS + 4)
        seconds = time.monotonic() - began
        drained = [line for line in leaving.written().splitlines() if "RunService/Watch" in line and "DRAINING" in line]
        leaving.__exit__()
        self._running[number] = Adapter(self._url, self._stage.home, *_OPTIONS, target=leaving.target)
        _await_serving(self._running[number])
        return code, seconds, len(drained)


def _await_serving(adapter: Adapter) -> None:
    adapter.wait()
    with Client(adapter.target, timeout=60) as client:
        while client.health() is not HealthStatus.SERVING:
            time.sleep(0.01)


def run(stage: Stage) -> Iterator[Finding]:
    """Stops one adapter after the other while others call, upload and watch."""
    times, ends = stage.scaled(50, 4), list[tuple[int, float, int]]()
    with ExitStack() as stack:
        replicas = Replicas(stage, stack.enter_context(stand_in(stage.home)))
        stack.callback(replicas.close)
        crowd = stack.enter_context(Callers(stage, replicas.target, write_pipeline(stage.folder, UPLOAD_BYTES)))
        for number in range(times):
            time.sleep(SETTLE_SECONDS)
            ends.append(replicas.restart(number % 2))
        time.sleep(SETTLE_SECONDS)
        ended, failures = crowd.ended.copy(), dict(crowd.failures)
    yield exactly("adapters that ended with exit code 0", sum(code == 0 for code, _, _ in ends), times)
    yield at_most("longest end", max(seconds for _, seconds, _ in ends), DRAIN_SECONDS + GRACE_SECONDS, "s")
    yield shown("calls that succeeded", ended["call"])
    yield shown("uploads that succeeded", ended["upload"])
    yield at_least("watches that were ended with DRAINING and came back", sum(one for _, _, one in ends), times)
    yield none("calls, uploads and watches that failed", failures)


SCENARIO = Scenario(
    "drain",
    "Adapters behind one name can be stopped and started, and no call of the client library fails.",
    "callers with stubs of their own and without its service config: they see DRAINING, and may repeat.",
    run,
)
