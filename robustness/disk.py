"""Disks that are full."""

from __future__ import annotations

import os
import resource
import signal
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB, write_pipeline
from benchmarks.processes import Adapter

from kfadapter_grpc.client import AdapterError, Client, KfpUnavailableError
from kfadapter_grpc.embedded.process import EmbeddedKfp, start
from robustness.records import HELLO
from robustness.scenario import Finding, Scenario, Stage, at_least, exactly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPOOLED_BYTES = 640 * KIB
"""The size of a file that the adapter keeps on disk while it passes."""
FRAME_BYTES = 4096 + 24
"""What SQLite writes at a time: a page and its head."""
MOST_FRAMES = 40
"""How many of them are let through at most before there is no more room."""
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

    def upload(self, name: str, file: Path, room: int, pid: int) -> None:
        """Uploads while a process has only so much room; if that fails, again under the same request id with room."""
        try:
            with no_room_beyond(room, pid):
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
            self.versions[name] = client.upload(file, name=name, request_id=name).version.pipeline_version_id


def run(stage: Stage) -> Iterator[Finding]:
    """Takes away the room at one write after the other, of the adapter and of the KFP; kills the KFP at the end."""
    count, data = stage.scaled(120, 24), stage.folder / "kfp"
    with ExitStack() as stack:
        kfp = stack.enter_context(start(data))
        adapter = stack.enter_context(Adapter(kfp.url, stage.home))
        adapter.wait()
        through_adapter, into_file, into_sqlite = (Uploads(adapter.target) for _ in range(3))
        # First, as SQLite's log begins anew once it is large, and then has room.
        for number in range(count):
            room = _log_bytes(data) + number % MOST_FRAMES * FRAME_BYTES
            into_sqlite.upload(f"sqlite-{number}", HELLO, room, kfp.pid)
        large = write_pipeline(stage.folder, SPOOLED_BYTES)
        for number in range(count):
            through_adapter.upload(f"adapter-{number}", large, number * SPOOLED_BYTES // count, adapter.pid)
        for number in range(count):
            into_file.upload(f"file-{number}", HELLO, number * HELLO.stat().st_size // count, kfp.pid)
        alive = adapter.alive() and _lives(kfp)
        os.kill(kfp.pid, signal.SIGKILL)
        kfp.stop()
        stack.enter_context(start(data, urlsplit(kfp.url).port or 0))
        stored = _stored(adapter.target)
    acknowledged = through_adapter.versions | into_file.versions | into_sqlite.versions
    yield at_least("uploads refused because the adapter had no room", through_adapter.refused.total(), count // 3)
    yield exactly("their reasons", ", ".join(through_adapter.refused), "INTERNAL")
    yield at_least("uploads refused because KFP had no room for the file", into_file.refused.total(), count // 3)
    yield exactly("their reasons", ", ".join(into_file.refused), "KFP_ERROR")
    yield at_least("uploads refused because KFP's SQLite had no room", into_sqlite.refused.total(), count // 8)
    yield exactly("their reasons", ", ".join(into_sqlite.refused), "KFP_ERROR")
    yield exactly("both processes go on", alive, wanted=True)
    yield exactly("uploads acknowledged in the end", len(acknowledged), 3 * count)
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
            pipeline.name: [one.pipeline_version_id for one in client.list_versions(pipeline_id=pipeline.pipeline_id)]
            for pipeline in client.list()
        }


SCENARIO = Scenario(
    name="disk",
    proves="Without room on the disk nothing is acknowledged that is not kept, and with room all goes on.",
    not_covered="a disk that loses what it has confirmed; errors while reading; the files of runs. The room is taken "
    "away by a limit on the size of files (RLIMIT_FSIZE), so the error is EFBIG in place of ENOSPC.",
    run=run,
)
