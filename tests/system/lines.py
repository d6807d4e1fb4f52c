"""Lines that break: uploads over lines that are cut, and minutes of mixed load while all lines to KFP are cut."""

from __future__ import annotations

import contextlib
import socket
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB, write_pipeline
from tests.system.load import Crowd, Repeated
from tests.system.records import stored_versions
from tests.system.scenario import Finding, Scenario, Stage, Use, at_least, at_most, exactly, none, shown

from kfadapter_embedded.process import start
from kfadapter_grpc.client import CannotConnectError, Client, KfpUnavailableError, RunFilter, View

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Self

BROKEN_UPLOADERS = 4
LEAST_BYTES, MOST_BYTES = 1_000, 600_000
"""After how many bytes a line to KFP is cut, in either direction; uploads share the line to the adapter."""
MOST_ATTEMPTS = 30
"""How often a caller repeats an upload, each time with the library's own repetitions."""
READERS, UPLOADERS, WATCHERS = 6, 2, 8
PIPELINES = 20
"""Among how many names the uploads of the soak are spread."""
CUT_SECONDS = 5
"""How often all lines between the adapter and KFP are cut."""
_EXPECTED = frozenset({"KFP_UNAVAILABLE", "PIPELINE_NOT_FOUND", "KFP_TIMEOUT", "CANCELLED", "NAME_CONTESTED"})


class CuttingProxy:
    """Passes connections on to a server on loopback, and cuts them after some bytes, or when it is told to."""

    def __init__(self, url: str, cut_after: Callable[[], int | None] = lambda: None) -> None:
        """Stands before the server of `url`; `cut_after` gives each new connection its bytes in both directions."""
        parts = urlsplit(url)
        self._server = (parts.hostname or "", parts.port or 80)
        self._cut_after = cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.target}"
        self.cuts = 0
        self._lock = threading.Lock()
        self._lines: set[_Line] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()

    def cut(self) -> None:
        """Cuts all connections that are open."""
        with self._lock:
            lines = list(self._lines)
        for line in lines:
            line.cut()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server, timeout=5)
            except OSError:
                caller.close()
                continue
            server.settimeout(None)
            line = _Line(self._cut_after(), caller, server)
            with self._lock:
                self._lines.add(line)
            for source, sink in ((caller, server), (server, caller)):
                threading.Thread(target=self._pass, args=(line, source, sink), daemon=True).start()

    def _pass(self, line: _Line, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(64 * KIB):
                sink.sendall(line.allowed(data))
                if line.left == 0:
                    line.cut()
                    break
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            line.ended += 1
            if line.ended == len(line.sides):
                self.cuts += line.was_cut
                self._lines.discard(line)
                for side in line.sides:
                    side.close()


class _Line:
    """A connection on both sides of the proxy, and how many bytes may still pass."""

    def __init__(self, left: int | None, *sides: socket.socket) -> None:
        self.left, self.sides = left, sides
        self.ended, self.was_cut = 0, False
        self._lock = threading.Lock()

    def allowed(self, data: bytes) -> bytes:
        """The part of the bytes that may still pass."""
        with self._lock:
            if self.left is not None:
                data = data[: self.left]
                self.left -= len(data)
            return data

    def cut(self) -> None:
        """Ends it on both sides at once, with what was on its way lost."""
        self.was_cut = True
        for side in self.sides:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def broken_lines(stage: Stage) -> Iterator[Finding]:
    """Uploads through proxies on both sides of the adapter that cut each line after some bytes."""
    count, chance = stage.scaled(500, 40), stage.chance("bytes")
    with ExitStack() as stack:
        kfp = stack.enter_context(start(stage.folder / "kfp"))
        behind = stack.enter_context(CuttingProxy(kfp.url, lambda: chance.randint(LEAST_BYTES, MOST_BYTES)))
        adapter = stage.adapter(stack, behind.url)
        shared = BROKEN_UPLOADERS * MOST_BYTES
        before = CuttingProxy(f"http://{adapter.target}", lambda: chance.randint(LEAST_BYTES, shared))
        stack.enter_context(before)
        repeated = Repeated(before.target, MOST_ATTEMPTS, CannotConnectError, KfpUnavailableError)
        file = write_pipeline(stage.folder, 200 * KIB)

        def upload(number: int) -> str:
            name = f"broken-lines-{number}"
            receipt = repeated(lambda client: client.pipelines.upload(file, name=name, request_id=name))
            return receipt.version.pipeline_version_id

        with ThreadPoolExecutor(BROKEN_UPLOADERS) as threads:
            versions = set(threads.map(upload, range(count)))
        stored = [len(one) for one in stored_versions(stage.adapter(stack, kfp.url).target).values()]
    yield exactly("uploads acknowledged", len(versions), count)
    yield exactly("versions stored", sum(stored), count)
    yield none("pipelines with more than one version", sum(number > 1 for number in stored))
    yield at_least("lines cut between caller and adapter", before.cuts, count / 8)
    yield at_least("lines cut between adapter and KFP", behind.cuts, count / 4)
    yield shown("times a caller repeated what the library gave up", repeated.count)


class MixedLoad(Crowd):
    """Readers, uploaders and watchers, until the `with` block is left."""

    def __init__(self, stage: Stage, target: str, file: Path) -> None:
        self.acknowledged: dict[str, str] = {}
        self._client, self._file = Client(target), file
        parts = ((self._read, READERS), (self._upload, UPLOADERS), (self._watch, WATCHERS))
        super().__init__(*parts, chance=stage.chance)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self._client.close()

    def _read(self, chance: random.Random) -> None:
        pipeline = f"soak-{chance.randrange(PIPELINES)}"
        calls: list[Callable[[], object]] = [
            lambda: self._client.pipelines.get(pipeline),
            lambda: self._client.pipelines.get(pipeline, view=View.BASIC),
            lambda: self._client.pipelines.list(page_size=10).page(),
            lambda: self._client.pipelines.list_versions(pipeline, page_size=10).page(),
            lambda: self._client.runs.list(page_size=10).page(),
            self._client.health,
        ]
        self.stopped.wait(0.02)
        chance.choice(calls)()

    def _upload(self, chance: random.Random) -> None:
        request_id, name = f"soak-{chance.getrandbits(64):016x}", f"soak-{chance.randrange(PIPELINES)}"
        self.stopped.wait(0.3)
        receipt = self._client.pipelines.upload(self._file, name=name, request_id=request_id)
        self.acknowledged[request_id] = receipt.version.pipeline_version_id

    def _watch(self, _: random.Random) -> None:
        """Opens a watch, reads for a second after each event, and disconnects when it is stopped."""
        with closing(self._client.runs.watch(where=RunFilter())) as events:
            for _event in events:
                if self.stopped.wait(1):
                    return


def soak(stage: Stage) -> Iterator[Finding]:
    """Calls of all kinds, while the lines to KFP are cut again and again."""
    seconds, uses = stage.scaled(540, 45), list[Use]()
    with ExitStack() as stack:
        kfp = stack.enter_context(start(stage.folder / "kfp"))
        proxy = stack.enter_context(CuttingProxy(kfp.url))
        adapter = stage.adapter(stack, proxy.url)
        with MixedLoad(stage, adapter.target, write_pipeline(stage.folder, 100 * KIB)) as load:
            for second in range(seconds):
                time.sleep(1)
                uses.append(Use.of(adapter.pid))
                if second % CUT_SECONDS == 0:
                    proxy.cut()
        stored = {version for versions in stored_versions(adapter.target).values() for version in versions}
    acknowledged = load.acknowledged
    yield shown("calls that succeeded", load.ended.total())
    yield shown("lines cut", proxy.cuts)
    yield at_least("uploads acknowledged", len(acknowledged), seconds / 2)
    yield none("of these not there at the end", len(set(acknowledged.values()) - stored))
    yield none("of these stored twice", len(acknowledged) - len(set(acknowledged.values())))
    odd = Counter(reason for _, reason, _ in load.failures if reason not in _EXPECTED)
    yield none("calls that ended in a way that is not KFP's absence", dict(odd))
    yield at_most("memory grows after the warm-up by", _growth([use.memory for use in uses]), 8, "MiB")
    yield at_most("threads grow by", _growth([use.threads for use in uses]), 4)
    yield at_most("open descriptors grow by", _growth([use.files for use in uses]), 8)


def _growth(samples: Sequence[float]) -> float:
    """By how much a figure grows over the samples after a warm-up, along the line that fits them best."""
    steady = samples[int(len(samples) * 0.4) :]
    return statistics.linear_regression(range(len(steady)), steady).slope * len(steady)


BROKEN_LINES = Scenario(
    "broken-lines",
    "Uploads arrive, each exactly once, though the lines on both sides of the adapter break again and again.",
    "bytes that are changed on the way: TCP and TLS see to that, and the checksum is compared.",
    broken_lines,
)
SOAK = Scenario(
    "soak",
    "Under mixed load, with the lines to KFP cut again and again, nothing grows and no acknowledged upload is lost.",
    "days; a KFP other than the embedded one.",
    soak,
)
