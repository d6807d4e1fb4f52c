"""An adapter and an embedded KFP that are killed and come back, and callers who go on until they are served."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB, write_pipeline
from benchmarks.processes import Adapter

from kfadapter_embedded.process import EmbeddedKfp, start
from kfadapter_grpc.client import AdapterError, Client, InvalidPipelineFileError
from robustness.records import CONTAINER, HELLO
from robustness.tripwire import Tripwire

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_ATTEMPTS = 100
"""How often a caller repeats a call, each time with the library's own repetitions."""
SPOOLED_BYTES = 900 * KIB
"""The size of a file that the adapter keeps on disk while it arrives."""
_SENT_BYTES = 700 * KIB
"""When so much of it has been read, so much has been sent before that it cannot all be in the adapter's memory."""
_ARRIVE_SECONDS = 20.0
_REFUSED_SCHEMA = b"schemaVersion: 9.9.9"
"""What KFP does not take, and only KFP knows."""
_CONTAINER_NAME = "container"
_PAUSE_SECONDS = 0.1
_CALL_SECONDS = 20.0
_STANDARD_STREAMS = 3


class Servers:
    """The two processes, each of which comes back at its address after it was killed.

    Attributes:
        tripwire: Stands between the two.
        target: The adapter's address.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self._data, self._home = folder / "kfp", home
        self._kfp = start(self._data)
        self._port = urlsplit(self._kfp.url).port or 0
        self.tripwire = Tripwire(self._kfp.url)
        self.tripwire.__enter__()
        self._adapter = Adapter(self.tripwire.url, home)
        self._adapter.wait()
        self.target = self._adapter.target

    def close(self) -> None:
        """Ends both."""
        self._adapter.__exit__()
        self.tripwire.__exit__()
        self._kfp.stop()

    def kill_adapter(self) -> None:
        """Kills the adapter."""
        _kill(self._adapter)

    def kill_kfp(self) -> None:
        """Kills the KFP."""
        _kill(self._kfp)

    def await_spooled(self) -> None:
        """Waits until the adapter holds bytes of an upload on its disk.

        Raises:
            RuntimeError: There are none.
        """
        end = time.monotonic() + _ARRIVE_SECONDS
        while not _spooled_bytes(self._adapter.pid):
            if time.monotonic() > end:
                raise RuntimeError("the adapter keeps nothing of an upload on its disk")
            time.sleep(0.002)

    def heal(self) -> None:
        """Starts again what was killed."""
        if not self._adapter.alive():
            self._adapter.__exit__()
            self._adapter = Adapter(self.tripwire.url, self._home, target=self.target)
            self._adapter.wait()
        if not _lives(self._kfp):
            self._kfp.stop()
            self._kfp = start(self._data, self._port)


def _kill(process: Adapter | EmbeddedKfp) -> None:
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _lives(kfp: EmbeddedKfp) -> bool:
    return os.waitid(os.P_PID, kfp.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _spooled_bytes(pid: int) -> int:
    """How much a process holds in files without a name; what it was started with is left out."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if int(link.name) >= _STANDARD_STREAMS and str(link.readlink()).endswith(" (deleted)"):
                found += link.stat().st_size
        except FileNotFoundError:  # closed since
            continue
    return found


class Kind(Enum):
    """What a call is for."""

    NEW = "upload"
    SPOOLED = "upload of a file that is kept on disk"
    NEXT = "upload of a second version"
    REFUSED = "upload of a file that KFP refuses"
    CREATE = "run"


class Work:
    """Uploads and runs, each repeated under one request id until it is acknowledged.

    Attributes:
        versions: The versions that were acknowledged of each pipeline, by its name.
        runs: The run that each Create was acknowledged with, by its name.
        repeated: How many calls failed and were repeated.
    """

    def __init__(self, target: str, folder: Path) -> None:
        self.versions: defaultdict[str, list[str]] = defaultdict(list)
        self.runs: dict[str, str] = {}
        self.repeated = 0
        self._target = target
        self._lock = threading.Lock()
        self._large = write_pipeline(folder, SPOOLED_BYTES)
        self._refused = folder / "refused.yaml"
        self._refused.write_bytes(HELLO.read_bytes().replace(b"schemaVersion: 2.1.0", _REFUSED_SCHEMA))
        self._upload(_CONTAINER_NAME, CONTAINER)

    def prepare(self, kind: Kind, name: str) -> None:
        """Makes what a call needs."""
        if kind is Kind.NEXT:
            self._upload(name, HELLO)

    def do(self, kind: Kind, name: str, arrived: Callable[[], None] | None = None) -> None:
        """Makes a call of a kind until it is over; `arrived` is called when some of a large file has arrived."""
        if kind is Kind.CREATE:
            self.runs[name] = self._until_done(
                lambda client: client.runs.create(_CONTAINER_NAME, display_name=name, request_id=name).run_id
            )
        elif kind is Kind.REFUSED:
            self._until_refused(name)
            self._upload(name, HELLO)
        else:
            self._upload(name, self._large if kind is Kind.SPOOLED else HELLO, f"{name}-again", arrived)

    def _upload(self, name: str, file: Path, request_id: str = "", arrived: Callable[[], None] | None = None) -> None:
        def once(client: Client) -> str:
            told = None if arrived is None else lambda sent, _: arrived() if sent > _SENT_BYTES else None
            receipt = client.pipelines.upload(file, name=name, request_id=request_id or name, progress=told)
            return receipt.version.pipeline_version_id

        self.versions[name].append(self._until_done(once))

    def _until_refused(self, name: str) -> None:
        def once(client: Client) -> str:
            try:
                client.pipelines.upload(self._refused, name=name, request_id=f"{name}-refused")
            except InvalidPipelineFileError:
                return ""
            raise RuntimeError("a file that KFP does not take was taken")

        self._until_done(once)

    def _until_done(self, call: Callable[[Client], str]) -> str:
        for attempt in range(MOST_ATTEMPTS):
            try:
                with Client(self._target, timeout=_CALL_SECONDS) as client:
                    return call(client)
            except AdapterError:
                if attempt == MOST_ATTEMPTS - 1:
                    raise
                with self._lock:
                    self.repeated += 1
                time.sleep(_PAUSE_SECONDS)
        raise AssertionError

    def stored(self) -> tuple[dict[str, list[str]], dict[str, str]]:
        """The versions of each pipeline by its name, and the names of the runs by their ids, as they are in KFP."""
        with Client(self._target) as client:
            versions = {
                one.name: [v.pipeline_version_id for v in client.pipelines.list_versions(pipeline_id=one.pipeline_id)]
                for one in client.pipelines.list()
            }
            runs = {one.run_id: one.display_name for one in client.runs.list()}
        return versions, runs
