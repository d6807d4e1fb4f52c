"""Uploads while disks are full, or fail."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB, write_pipeline
from tests.system.kills import alive
from tests.system.load import Repeated
from tests.system.records import HELLO, stored_versions
from tests.system.scenario import Finding, Scenario, Stage, at_least, exactly, none
from tests.system.shortages import PAGE_BYTES, NotHereError, SmallDisk, Syncs, no_room_beyond

from kfadapter_embedded.process import start
from kfadapter_grpc.client import AdapterError, Client, KfpUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SPOOLED_BYTES = 400 * KIB
"""The size of a file that the adapter keeps on disk while it passes."""
FRAME_BYTES, MOST_FRAMES = 4096 + 24, 40
"""What SQLite writes at a time, a page and its head; how many are let through at most before there is no more room."""
MOST_SYNCS = 4
"""How many fsyncs are let through at most before they fail; an upload takes fewer."""
DISK_BYTES = 64 * KIB * KIB
_MOST_ATTEMPTS = 10


class Part:
    """An adapter and a KFP, uploads of new pipelines to them without room and then with it, and what is kept."""

    def __init__(self, stage: Stage, stack: ExitStack, data: Path, *options: str) -> None:
        self._stack, self._data = stack, data
        self.kfp = stack.enter_context(start(data))
        self.adapter = stage.adapter(stack, self.kfp.url, *options)
        self._repeated = Repeated(self.adapter.target, _MOST_ATTEMPTS, KfpUnavailableError)
        self.versions: dict[str, str] = {}
        self.findings: list[Finding] = []
        self._names = 0

    def upload(
        self, why: str, file: Path, shortages: Iterator[AbstractContextManager[None]], share: int, reason: str
    ) -> None:
        """Uploads once in each shortage; if that fails, again under the same request id without it.

        Of the uploads, one of `share` at least must be refused, each with `reason`.
        """
        refused: Counter[str] = Counter()
        before = self._names
        for shortage in shortages:
            self._names += 1
            name = f"disk-{self._names}"

            def upload(client: Client, name: str = name) -> str:
                return client.pipelines.upload(file, name=name, request_id=name).version.pipeline_version_id

            try:
                with shortage, Client(self.adapter.target, timeout=20) as client:
                    self.versions[name] = upload(client)
            except AdapterError as error:
                refused[error.reason] += 1
                self.versions[name] = self._repeated(upload)
        least = (self._names - before) // share
        self.findings.append(at_least(f"uploads refused because {why}", refused.total(), least))
        self.findings.append(exactly("their reasons", ", ".join(refused), reason))

    def end(self) -> list[Finding]:
        """Kills the KFP and starts it again; returns what was found, and whether all that was acknowledged is kept."""
        both_run = self.adapter.alive() and alive(self.kfp)
        os.kill(self.kfp.pid, signal.SIGKILL)
        self.kfp.stop()
        self._stack.enter_context(start(self._data, urlsplit(self.kfp.url).port or 0))
        stored = stored_versions(self.adapter.target)
        lost = sum(version not in stored.get(name, ()) for name, version in self.versions.items())
        return [
            *self.findings,
            exactly("both processes go on", both_run, expected=True),
            exactly("uploads acknowledged in the end", len(self.versions), self._names),
            none("of these not there after the KFP was killed", lost),
            none("pipelines with more or less than one version", sum(len(one) != 1 for one in stored.values())),
        ]


def _limited(stage: Stage) -> list[Finding]:
    """Has a limit on the size of files take away the room of the adapter, and of the KFP."""
    count, data = stage.scaled(120, 12), stage.folder / "kfp"
    with ExitStack() as stack:
        part = Part(stage, stack, data)
        kfp, adapter, small = part.kfp.pid, part.adapter.pid, HELLO.stat().st_size
        large = write_pipeline(stage.folder, SPOOLED_BYTES)

        def frames() -> Iterator[AbstractContextManager[None]]:
            for number in range(count):
                log = max((path.stat().st_size for path in data.rglob("*-wal")), default=0)
                yield no_room_beyond(log + number % MOST_FRAMES * FRAME_BYTES, kfp)

        def bytes_of(size: int, pid: int) -> Iterator[AbstractContextManager[None]]:
            return (no_room_beyond(number * size // count, pid) for number in range(count))

        # SQLite first, as its log begins anew once it is large, and then has room.
        part.upload("KFP's SQLite had no room", HELLO, frames(), 8, "KFP_ERROR")
        part.upload("the adapter had no room", large, bytes_of(SPOOLED_BYTES, adapter), 3, "INTERNAL")
        part.upload("KFP had no room for the file", HELLO, bytes_of(small, kfp), 3, "KFP_ERROR")
        return part.end()


def _full(stage: Stage) -> list[Finding]:
    """Leaves as many pages as there are in all on a disk that both use, from none on."""
    count, folder = stage.scaled(120, 12), stage.folder / "disk"
    folder.mkdir()
    disk = SmallDisk(folder, DISK_BYTES)
    (folder / "spool").mkdir()
    with ExitStack() as stack:
        part = Part(stage, stack, folder / "kfp", "--upload-dir", str(folder / "spool"))
        frames = (disk.only(number % MOST_FRAMES) for number in range(count))
        part.upload("KFP's disk was full", HELLO, frames, 8, "STORAGE_FULL")
        large = write_pipeline(stage.folder, SPOOLED_BYTES)
        pages = (disk.only(number * SPOOLED_BYTES // PAGE_BYTES // count) for number in range(count))
        part.upload("the adapter's disk was full", large, pages, 3, "INTERNAL")
        return part.end()


def _unsynced(stage: Stage) -> list[Finding]:
    """Has fsync fail in KFP's process, at the first time, the second and so on, and from then on."""
    count = stage.scaled(120, 12)
    with ExitStack() as stack:
        syncs = stack.enter_context(Syncs())
        part = Part(stage, stack, stage.folder / "unsynced")
        failing = (syncs.failing_after(number % MOST_SYNCS) for number in range(count))
        part.upload("KFP's fsync failed", HELLO, failing, 3, "KFP_ERROR")
        return [at_least("times that fsync failed", syncs.failed, count // 3), *part.end()]


def run(stage: Stage) -> Iterator[Finding]:
    """Takes away the room at one write after the other, by a limit and on a disk that is full; has fsync fail."""
    parts: dict[str, Callable[[Stage], list[Finding]]] = {
        "a limit on the size of files": _limited,
        "a disk that is full": _full,
        "fsync that fails": _unsynced,
    }
    for what, part in parts.items():
        with ThreadPoolExecutor(1) as thread:  # of its own, as what happens to it is for ever
            try:
                yield from thread.submit(part, stage).result()
            except NotHereError as error:
                yield Finding(what, f"not tried: {error}")


SCENARIO = Scenario(
    "disk",
    "Where a disk is full, or fails, nothing is acknowledged that is not kept, and afterwards all goes on.",
    "a disk that loses what it has confirmed; errors while KFP reads its files (for the adapter's, tests hold it); the "
    "files of runs. Where nothing may be mounted, no disk is full: there is a limit on the size of files, and EFBIG "
    "in place of ENOSPC; where system calls cannot be filtered, no fsync fails.",
    run,
)
