"""Disks that are full, or fail."""

from __future__ import annotations

import os
import resource
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB, write_pipeline
from benchmarks.processes import Adapter

from kfadapter_embedded.process import EmbeddedKfp, start
from kfadapter_grpc.client import AdapterError, Client, KfpUnavailableError
from robustness.failing_syncs import NoFilterError, Syncs
from robustness.records import HELLO
from robustness.scenario import Finding, Scenario, Stage, at_least, exactly
from robustness.small_disk import PAGE_BYTES, NoSmallDiskError, SmallDisk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPOOLED_BYTES = 400 * KIB
"""The size of a file that the adapter keeps on disk while it passes."""
FRAME_BYTES = 4096 + 24
"""What SQLite writes at a time: a page and its head."""
MOST_FRAMES = 40
"""How many of them are let through at most before there is no more room."""
MOST_SYNCS = 4
"""How many fsyncs are let through at most before they fail; an upload takes fewer."""
DISK_BYTES = 64 * KIB * KIB
"""The size of the disk that is filled."""
_NO_LIMIT = resource.RLIM_INFINITY
_CALL_SECONDS = 20.0
_MOST_ATTEMPTS = 10


@contextmanager
def no_room_beyond(size: int, pid: int) -> Iterator[None]:
    """Lets a process write no file beyond so many bytes, as if there were no room on the disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, _NO_LIMIT))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_NO_LIMIT, _NO_LIMIT))


class Uploads:
    """Uploads of new pipelines, first without room and then with it.

    Attributes:
        versions: The version that each upload was acknowledged with, by its name.
        refused: How often an upload was refused for want of room, by the reason.
    """

    def __init__(self, target: str) -> None:
        self.versions: dict[str, str] = {}
        self.refused: Counter[str] = Counter()
        self._target = target

    def upload(self, name: str, file: Path, shortage: AbstractContextManager[None]) -> None:
        """Uploads while there is too little room; if that fails, again under the same request id with room."""
        try:
            with shortage:
                self._try(name, file)
        except AdapterError as error:
            self.refused[error.reason] += 1
            self._repeat(name, file)

    def _repeat(self, name: str, file: Path) -> None:
        for attempt in range(_MOST_ATTEMPTS):
            try:
                return self._try(name, file)
            except KfpUnavailableError:
                if attempt == _MOST_ATTEMPTS - 1:
                    raise
        return None

    def _try(self, name: str, file: Path) -> None:
        with Client(self._target, timeout=_CALL_SECONDS) as client:
            self.versions[name] = client.pipelines.upload(file, name=name, request_id=name).version.pipeline_version_id


def run(stage: Stage) -> Iterator[Finding]:
    """Takes away the room at one write after the other, by a limit and on a disk that is full; has fsync fail."""
    yield from _limited(stage)
    for part in (_full, _unsynced):
        with ThreadPoolExecutor(1) as thread:  # of its own, as what happens to it is for ever
            yield from thread.submit(part, stage).result()


def _limited(stage: Stage) -> Iterator[Finding]:
    """Has a limit on the size of files take away the room of the adapter, and of the KFP."""
    count, data = stage.scaled(120, 12), stage.folder / "kfp"
    with ExitStack() as stack:
        kfp = stack.enter_context(start(data))
        adapter = stack.enter_context(Adapter(kfp.url, stage.home))
        adapter.wait()
        through_adapter, into_file, into_sqlite = (Uploads(adapter.target) for _ in range(3))
        # First, as SQLite's log begins anew once it is large, and then has room.
        for number in range(count):
            room = _log_bytes(data) + number % MOST_FRAMES * FRAME_BYTES
            into_sqlite.upload(f"sqlite-{number}", HELLO, no_room_beyond(room, kfp.pid))
        large = write_pipeline(stage.folder, SPOOLED_BYTES)
        for number in range(count):
            room = number * SPOOLED_BYTES // count
            through_adapter.upload(f"adapter-{number}", large, no_room_beyond(room, adapter.pid))
        for number in range(count):
            room = number * HELLO.stat().st_size // count
            into_file.upload(f"file-{number}", HELLO, no_room_beyond(room, kfp.pid))
        alive, stored = _killed(stack, kfp, adapter, data)
    yield from _refusals("because the adapter had no room", through_adapter, count // 3, "INTERNAL")
    yield from _refusals("because KFP had no room for the file", into_file, count // 3, "KFP_ERROR")
    yield from _refusals("because KFP's SQLite had no room", into_sqlite, count // 8, "KFP_ERROR")
    yield from _kept(alive, stored, 3 * count, through_adapter, into_file, into_sqlite)


def _full(stage: Stage) -> list[Finding]:
    """Leaves as many pages as there are in all on a disk that both use, from none on."""
    count, folder = stage.scaled(120, 12), stage.folder / "disk"
    folder.mkdir()
    try:
        disk = SmallDisk(folder, DISK_BYTES)
    except NoSmallDiskError as error:
        return [Finding("a disk that is full", f"not tried: {error}")]
    data, spool = folder / "kfp", folder / "spool"
    spool.mkdir()
    with ExitStack() as stack:
        kfp = stack.enter_context(start(data))
        adapter = stack.enter_context(Adapter(kfp.url, stage.home, "--upload-dir", str(spool)))
        adapter.wait()
        into_kfp, through_adapter = (Uploads(adapter.target) for _ in range(2))
        for number in range(count):
            into_kfp.upload(f"kfp-{number}", HELLO, disk.only(number % MOST_FRAMES))
        large = write_pipeline(stage.folder, SPOOLED_BYTES)
        for number in range(count):
            through_adapter.upload(f"adapter-{number}", large, disk.only(number * SPOOLED_BYTES // PAGE_BYTES // count))
        alive, stored = _killed(stack, kfp, adapter, data)
    return [
        *_refusals("because the adapter's disk was full", through_adapter, count // 3, "INTERNAL"),
        *_refusals("because KFP's disk was full", into_kfp, count // 8, "STORAGE_FULL"),
        *_kept(alive, stored, 2 * count, through_adapter, into_kfp),
    ]


def _unsynced(stage: Stage) -> list[Finding]:
    """Has fsync fail in KFP's process, at the first time, the second and so on, and from then on."""
    count, data = stage.scaled(120, 12), stage.folder / "unsynced"
    try:
        syncs = Syncs()
    except NoFilterError as error:
        return [Finding("fsync that fails", f"not tried: {error}")]
    with ExitStack() as stack:
        stack.enter_context(syncs)
        kfp = stack.enter_context(start(data))
        adapter = stack.enter_context(Adapter(kfp.url, stage.home))
        adapter.wait()
        uploads = Uploads(adapter.target)
        for number in range(count):
            uploads.upload(f"unsynced-{number}", HELLO, syncs.failing_after(number % MOST_SYNCS))
        alive, stored = _killed(stack, kfp, adapter, data)
    return [
        at_least("times that fsync failed", syncs.failed, count // 3),
        *_refusals("because KFP's fsync failed", uploads, count // 3, "KFP_ERROR"),
        *_kept(alive, stored, count, uploads),
    ]


def _killed(stack: ExitStack, kfp: EmbeddedKfp, adapter: Adapter, data: Path) -> tuple[bool, dict[str, list[str]]]:
    """Kills the KFP and starts it again; tells whether both went on until then, and what is there afterwards."""
    alive = adapter.alive() and _lives(kfp)
    os.kill(kfp.pid, signal.SIGKILL)
    kfp.stop()
    stack.enter_context(start(data, urlsplit(kfp.url).port or 0))
    return alive, _stored(adapter.target)


def _refusals(why: str, uploads: Uploads, least: int, reason: str) -> Iterator[Finding]:
    yield at_least(f"uploads refused {why}", uploads.refused.total(), least)
    yield exactly("their reasons", ", ".join(uploads.refused), reason)


def _kept(alive: bool, stored: dict[str, list[str]], count: int, *uploads: Uploads) -> Iterator[Finding]:
    acknowledged = {name: version for one in uploads for name, version in one.versions.items()}
    yield exactly("both processes go on", alive, wanted=True)
    yield exactly("uploads acknowledged in the end", len(acknowledged), count)
    lost = sum(version not in stored.get(name, ()) for name, version in acknowledged.items())
    yield exactly("of these not there after the KFP was killed", lost, 0)
    yield exactly("pipelines with more or less than one version", sum(len(one) != 1 for one in stored.values()), 0)


def _log_bytes(data: Path) -> int:
    """How large SQLite's log is."""
    return max((path.stat().st_size for path in data.rglob("*-wal")), default=0)


def _lives(kfp: EmbeddedKfp) -> bool:
    return os.waitid(os.P_PID, kfp.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _stored(target: str) -> dict[str, list[str]]:
    with Client(target) as client:
        return {
            pipeline.name: [
                one.pipeline_version_id for one in client.pipelines.list_versions(pipeline_id=pipeline.pipeline_id)
            ]
            for pipeline in client.pipelines.list()
        }


SCENARIO = Scenario(
    name="disk",
    proves="Where a disk is full, or fails, nothing is acknowledged that is not kept, and afterwards all goes on.",
    not_covered="a disk that loses what it has confirmed; errors while KFP reads its files (for the adapter's, tests "
    "hold it); the files of runs. Where nothing may be mounted, no disk is full: there is but a limit on the size of "
    "files, and EFBIG in place of ENOSPC; where system calls cannot be filtered, no fsync fails.",
    run=run,
)
