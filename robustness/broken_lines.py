"""Uploads over lines that break."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import write_pipeline
from benchmarks.processes import Adapter

from kfadapter_embedded.process import start
from kfadapter_grpc.client import CannotConnectError, Client, KfpUnavailableError
from robustness.cutting_proxy import CuttingProxy
from robustness.scenario import Finding, Scenario, Stage, at_least, exactly, told

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UPLOADERS = 4
"""How many uploads are under way at any time."""
UPLOAD_BYTES = 200 * 1024
"""How large each is."""
LEAST_BYTES, MOST_BYTES = 1_000, 600_000
"""After how many bytes a line to KFP is cut, in either direction; what is between is left to chance."""
MOST_SHARED_BYTES = UPLOADERS * MOST_BYTES
"""The same for a line to the adapter, which all uploads share."""
MOST_ATTEMPTS = 30
"""How often a caller repeats an upload, each time with the library's own repetitions."""


class Uploads:
    """Uploads that are repeated until they are acknowledged.

    Attributes:
        repeated: How often a caller had to repeat one, beyond the library's own repetitions.
        versions: The version that each request id was acknowledged with.
    """

    def __init__(self, target: str, file: Path) -> None:
        self.repeated = 0
        self.versions: dict[str, str] = {}
        self._target, self._file = target, file
        self._lock = threading.Lock()

    def upload(self, number: int) -> None:
        """Uploads a pipeline of its own, under one request id however often that takes.

        Raises:
            CannotConnectError: It was in vain.
        """
        request_id = f"broken-lines-{number}"
        with Client(self._target) as client:
            for attempt in range(MOST_ATTEMPTS):
                try:
                    receipt = client.pipelines.upload(self._file, name=request_id, request_id=request_id)
                except (CannotConnectError, KfpUnavailableError):
                    if attempt == MOST_ATTEMPTS - 1:
                        raise
                    with self._lock:
                        self.repeated += 1
                else:
                    with self._lock:
                        self.versions[request_id] = receipt.version.pipeline_version_id
                    return


def run(stage: Stage) -> Iterator[Finding]:
    """Uploads through proxies on both sides of the adapter that cut each line after some bytes."""
    count, chance = stage.scaled(500, 40), stage.chance("bytes")
    with ExitStack() as stack:
        kfp = stack.enter_context(start(stage.folder / "kfp"))
        behind = stack.enter_context(CuttingProxy(kfp.url, lambda: chance.randint(LEAST_BYTES, MOST_BYTES)))
        adapter = stack.enter_context(Adapter(behind.url, stage.home))
        adapter.wait()
        before = CuttingProxy(f"http://{adapter.target}", lambda: chance.randint(LEAST_BYTES, MOST_SHARED_BYTES))
        stack.enter_context(before)
        uploads = Uploads(before.target, write_pipeline(stage.folder, UPLOAD_BYTES))
        with ThreadPoolExecutor(UPLOADERS) as threads:
            list(threads.map(uploads.upload, range(count)))
        stored = _stored(kfp.url, stage, stack)
    yield exactly("uploads acknowledged", len(uploads.versions), count)
    yield exactly("versions stored", stored.total(), count)
    yield exactly("pipelines with more than one version", sum(number > 1 for number in stored.values()), 0)
    yield at_least("lines cut between caller and adapter", before.cuts, count / 8)
    yield at_least("lines cut between adapter and KFP", behind.cuts, count / 4)
    yield told("times a caller repeated what the library gave up", uploads.repeated)


def _stored(kfp_url: str, stage: Stage, stack: ExitStack) -> Counter[str]:
    """How many versions each pipeline has, seen over a line that is whole."""
    adapter = stack.enter_context(Adapter(kfp_url, stage.home))
    adapter.wait()
    found: Counter[str] = Counter()
    with Client(adapter.target) as client:
        for pipeline in client.pipelines.list():
            found[pipeline.name] = sum(1 for _ in client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id))
    return found


SCENARIO = Scenario(
    name="broken-lines",
    proves="Uploads arrive, each exactly once, though the lines on both sides of the adapter break again and again.",
    not_covered="bytes that are changed on the way: TCP and TLS see to that, and the checksum is compared.",
    run=run,
)
