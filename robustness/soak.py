"""Mixed load with faults, for minutes."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import write_pipeline
from benchmarks.processes import Adapter

from kfadapter_embedded.process import start
from kfadapter_grpc.client import AdapterError, Client, RunFilter, View
from robustness.crowd import Crowd
from robustness.cutting_proxy import CuttingProxy
from robustness.process_use import Use, use_of
from robustness.scenario import Finding, Scenario, Stage, at_least, at_most, exactly, told

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

READERS, UPLOADERS, WATCHERS = 6, 2, 8
"""How many threads read, upload and watch."""
UPLOAD_BYTES = 100 * 1024
"""How large an upload is."""
PIPELINES = 20
"""Among how many names the uploads are spread."""
CUT_SECONDS = 5.0
"""How often all lines between the adapter and KFP are cut."""
_PAUSE_SECONDS = 0.02
_UPLOAD_PAUSE_SECONDS = 0.3
_WATCH_SECONDS = 1.0
_SAMPLE_SECONDS = 1.0
_WARM_UP = 0.4
_EXPECTED = frozenset({"KFP_UNAVAILABLE", "PIPELINE_NOT_FOUND", "KFP_TIMEOUT", "CANCELLED", "NAME_CONTESTED"})


class Load(Crowd):
    """Readers, uploaders and watchers, until the `with` block is left.

    Attributes:
        ended: How many calls of each kind succeeded, and how others ended, by their reason.
        acknowledged: The request ids of uploads that were acknowledged, each with the version's id.
    """

    def __init__(self, stage: Stage, target: str, file: Path) -> None:
        self.ended: Counter[str] = Counter()
        self.acknowledged: dict[str, str] = {}
        self._client = Client(target)
        self._file = file
        parts = ((self._read, READERS), (self._upload, UPLOADERS), (self._watch, WATCHERS))
        super().__init__(
            partial(self._repeat, part, stage.chance(part.__name__, number))
            for part, count in parts
            for number in range(count)
        )

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._client.close()

    def _repeat(self, part: Callable[[random.Random], None], chance: random.Random) -> None:
        name = part.__name__.removeprefix("_")
        while not self.stopped.is_set():
            try:
                part(chance)
            except AdapterError as error:
                name_of_end = error.reason
            else:
                name_of_end = name
            with self.lock:
                self.ended[name_of_end] += 1

    def _read(self, chance: random.Random) -> None:
        pipeline = _pipeline(chance)
        calls: list[Callable[[], object]] = [
            lambda: self._client.pipelines.get(pipeline),
            lambda: self._client.pipelines.get(pipeline, view=View.BASIC),
            lambda: self._client.pipelines.list(page_size=10).page(),
            lambda: self._client.pipelines.list_versions(pipeline, page_size=10).page(),
            lambda: self._client.runs.list(page_size=10).page(),
            self._client.health,
        ]
        self.stopped.wait(_PAUSE_SECONDS)
        chance.choice(calls)()

    def _upload(self, chance: random.Random) -> None:
        request_id = f"soak-{chance.getrandbits(64):016x}"
        self.stopped.wait(_UPLOAD_PAUSE_SECONDS)
        receipt = self._client.pipelines.upload(self._file, name=_pipeline(chance), request_id=request_id)
        with self.lock:
            self.acknowledged[request_id] = receipt.version.pipeline_version_id

    def _watch(self, chance: random.Random) -> None:
        """Opens a watch, waits, and goes away."""
        del chance
        with closing(self._client.runs.watch(where=RunFilter())) as events:
            for _ in events:
                if self.stopped.wait(_WATCH_SECONDS):
                    return


def _pipeline(chance: random.Random) -> str:
    return f"soak-{chance.randrange(PIPELINES)}"


def growth(samples: Sequence[float]) -> float:
    """By how much a figure grows over the samples after a warm-up, along the line that fits them best."""
    steady = samples[int(len(samples) * _WARM_UP) :]
    return statistics.linear_regression(range(len(steady)), steady).slope * len(steady)


def run(stage: Stage) -> Iterator[Finding]:
    """Calls of all kinds, while the lines to KFP are cut again and again."""
    seconds, uses = stage.scaled(540, 45), list[Use]()
    with ExitStack() as stack:
        kfp = stack.enter_context(start(stage.folder / "kfp"))
        proxy = stack.enter_context(CuttingProxy(kfp.url))
        adapter = stack.enter_context(Adapter(proxy.url, stage.home))
        adapter.wait()
        file = write_pipeline(stage.folder, UPLOAD_BYTES)
        with Load(stage, adapter.target, file) as load:
            for second in range(seconds):
                time.sleep(_SAMPLE_SECONDS)
                uses.append(use_of(adapter.pid))
                if second % CUT_SECONDS == 0:
                    proxy.cut()
        with Client(adapter.target) as client:
            stored = {
                version.pipeline_version_id
                for pipeline in client.pipelines.list()
                for version in client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id)
            }
    yield told("calls that succeeded", sum(load.ended[kind] for kind in ("read", "upload", "watch")))
    yield told("lines cut", proxy.cuts)
    yield at_least("uploads acknowledged", len(load.acknowledged), seconds / 2)
    yield exactly("of these not there at the end", len(set(load.acknowledged.values()) - stored), 0)
    yield exactly("of these stored twice", len(load.acknowledged) - len(set(load.acknowledged.values())), 0)
    odd = {reason: n for reason, n in load.ended.items() if reason.isupper() and reason not in _EXPECTED}
    yield exactly("calls that ended in a way that is not KFP's absence", odd or 0, 0)
    yield at_most("memory grows after the warm-up by", growth([use.memory for use in uses]), 8, "MiB")
    yield at_most("threads grow by", growth([use.threads for use in uses]), 4)
    yield at_most("open descriptors grow by", growth([use.files for use in uses]), 8)


SCENARIO = Scenario(
    name="soak",
    proves="Under mixed load, with the lines to KFP cut again and again, nothing grows and no acknowledged upload is "
    "lost.",
    not_covered="days; a KFP other than the embedded one.",
    run=run,
)
