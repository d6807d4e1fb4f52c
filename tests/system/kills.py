"""The adapter and the embedded KFP are killed, again and again, and callers go on until they are served."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB, write_pipeline
from benchmarks.processes import Adapter
from tests.system.between import Moment, Step, Tripwire
from tests.system.load import Repeated
from tests.system.records import CONTAINER, HELLO, stored_versions
from tests.system.scenario import Finding, Scenario, Stage, at_least, exactly, none, shown

from kfadapter_embedded.process import EmbeddedKfp, start
from kfadapter_grpc.client import AdapterError, Client, InvalidPipelineFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LANES = 2
"""How many pairs of an adapter and a KFP are killed beside each other, one for each core."""
MOST_ATTEMPTS = 100
"""How often a caller repeats a call, each time with the library's own repetitions."""
SPOOLED_BYTES, SENT_BYTES = 900 * KIB, 700 * KIB
"""The size of a file that the adapter keeps on disk while it arrives; what was read of it when some must be there."""
LONGEST_SECONDS = 0.25
"""Until when after its beginning a call is killed at random."""


class Kind(Enum):
    """What a call is for."""

    NEW = "upload"
    SPOOLED = "upload of a file that is kept on disk"
    NEXT = "upload of a second version"
    REFUSED = "upload of a file that KFP refuses"
    CREATE = "run"


_MAKE, _FILL, _RUN = r"/v2beta1/pipelines$", r"/pipelines/upload_version\?", r"/v2beta1/runs$"
ARRIVING = Moment("upload: while the file arrives at the adapter", "", "")
"""The one moment that no request to KFP marks."""
MOMENTS: dict[Kind, tuple[Moment, ...]] = {
    Kind.SPOOLED: (ARRIVING,),
    Kind.NEW: (
        Moment("upload: before the pipeline is made", "POST", _MAKE),
        Moment("upload: after the pipeline was made", "POST", _MAKE, Step.ANSWERED),
        Moment("upload: when the pipeline is looked for again", "GET", r"/pipelines/names/", lost=_MAKE),
        Moment("upload: before the version is made", "POST", _FILL),
        Moment("upload: while the file arrives at KFP", "POST", _FILL, Step.HALFWAY),
        Moment("upload: after the version was made", "POST", _FILL, Step.ANSWERED),
        Moment("upload: when the version is looked for again", "GET", r"/versions\?", lost=_FILL),
    ),
    Kind.NEXT: (
        Moment("second version: before its pipeline is looked for", "GET", r"/pipelines/names/"),
        Moment("second version: before its number is looked for", "GET", r"/v1beta1/pipeline_versions\?.*=200"),
        Moment("second version: before an earlier upload is looked for", "GET", r"/versions\?"),
        Moment("second version: before it is made", "POST", _FILL),
        Moment("second version: after it was made", "POST", _FILL, Step.ANSWERED),
    ),
    Kind.REFUSED: (
        Moment("refused file: before the pipeline is deleted again", "DELETE", r"/pipelines/"),
        Moment("refused file: after the pipeline was deleted again", "DELETE", r"/pipelines/", Step.ANSWERED),
    ),
    Kind.CREATE: (
        Moment("run: before it is looked for", "GET", r"/v2beta1/runs/"),
        Moment("run: before its pipeline is looked for", "GET", r"/pipelines/names/"),
        Moment("run: before it is made", "POST", _RUN),
        Moment("run: while the request arrives at KFP", "POST", _RUN, Step.HALFWAY),
        Moment("run: after it was made", "POST", _RUN, Step.ANSWERED),
        Moment("run: when it is looked for again", "GET", r"/v2beta1/runs/", lost=_RUN),
    ),
}
"""The named moments of each kind of call."""
AT_RANDOM = (Kind.NEW, Kind.NEXT, Kind.CREATE)
"""The calls that are under way when one is killed at random."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Who is killed, and when: at a moment of a call, or `seconds` after the beginning of calls."""

    number: int
    victim: str
    calls: tuple[Kind, ...]
    moment: Moment | None
    seconds: float = 0

    @property
    def name(self) -> str:
        """What it is counted as."""
        return f"{self.moment.what}, {self.victim}" if self.moment is not None else "at random"


def kills(stage: Stage) -> Iterator[Kill]:
    """Every named moment for both victims, in short for one of them; then as many at random, until it is enough."""
    victims = ("adapter", "KFP")
    named = [(kind, moment) for kind, moments in MOMENTS.items() for moment in moments]
    both = [(*one, victim) for one in named for victim in victims if (one[1], victim) != (ARRIVING, "KFP")]
    chosen = [(*one, victims[n % 2]) for n, one in enumerate(named)] if stage.short else both
    for number, (kind, moment, victim) in enumerate(chosen):
        yield Kill(number, victim, (kind,), moment)
    for number in range(len(chosen), stage.scaled(200, 32)):
        if number % 2 and not stage.short:
            kind, moment, victim = both[number % len(both)]
            yield Kill(number, victim, (kind,), moment)
        else:
            seconds = stage.chance("moment", number).uniform(0, LONGEST_SECONDS)
            yield Kill(number, victims[number // 2 % 2], AT_RANDOM, None, seconds)


class Servers:
    """An adapter and a KFP, each of which comes back at its address after it was killed; `tripwire` is between them."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._data, self._home = folder / "kfp", home
        self._kfp = start(self._data)
        self.tripwire = Tripwire(self._kfp.url)
        self.tripwire.__enter__()
        self._adapter = Adapter(self.tripwire.url, home)
        self._adapter.wait()
        self.target = self._adapter.target

    def close(self) -> None:
        """Ends both."""
        self._adapter.__exit__()
        self.tripwire.__exit__(None, None, None)
        self._kfp.stop()

    def kill(self, victim: str) -> None:
        """Kills one of them."""
        process: Adapter | EmbeddedKfp = self._adapter if victim == "adapter" else self._kfp
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    def await_spooled(self) -> None:
        """Waits until the adapter holds bytes of an upload in a file without a name."""
        end = time.monotonic() + 20
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
        if not alive(self._kfp):
            self._kfp.stop()
            self._kfp = start(self._data, urlsplit(self._kfp.url).port or 0)


def alive(kfp: EmbeddedKfp) -> bool:
    """Whether it is still running."""
    return os.waitid(os.P_PID, kfp.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _spooled_bytes(pid: int) -> int:
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if int(link.name) > 2 and str(link.readlink()).endswith(" (deleted)"):
                found += link.stat().st_size
        except FileNotFoundError:  # closed since
            continue
    return found


class Work:
    """Uploads and runs, each repeated under one request id until it is acknowledged.

    Attributes:
        versions: The versions that were acknowledged of each pipeline, by its name.
        runs: The run that each Create was acknowledged with, by its name.
    """

    def __init__(self, target: str, folder: Path) -> None:
        self.versions: defaultdict[str, list[str]] = defaultdict(list)
        self.runs: dict[str, str] = {}
        self._repeated = Repeated(target, MOST_ATTEMPTS, AdapterError, pause=0.1)
        self._large = write_pipeline(folder, SPOOLED_BYTES)
        self._refused = folder / "refused.yaml"  # what KFP does not take, and only KFP knows
        self._refused.write_bytes(HELLO.read_bytes().replace(b"schemaVersion: 2.1.0", b"schemaVersion: 9.9.9"))
        self.upload("container", CONTAINER)

    @property
    def repeated(self) -> int:
        """How many calls failed and were repeated."""
        return self._repeated.count

    def do(self, kind: Kind, name: str, arrived: Callable[[], None] | None = None) -> None:
        """Makes a call of a kind until it succeeds; `arrived` is called when some of a large file has arrived."""
        if kind is Kind.CREATE:
            self.runs[name] = self._repeated(
                lambda client: client.runs.create("container", display_name=name, request_id=name).run_id
            )
        elif kind is Kind.REFUSED:
            self._repeated(lambda client: self._refuse(client, name))
            self.upload(name, HELLO)
        else:
            self.upload(name, self._large if kind is Kind.SPOOLED else HELLO, f"{name}-again", arrived)

    def upload(self, name: str, file: Path, request_id: str = "", arrived: Callable[[], None] | None = None) -> None:
        """Uploads a version."""

        def once(client: Client) -> str:
            progress = None if arrived is None else lambda sent, _: arrived() if sent > SENT_BYTES else None
            receipt = client.pipelines.upload(file, name=name, request_id=request_id or name, progress=progress)
            return receipt.version.pipeline_version_id

        self.versions[name].append(self._repeated(once))

    def _refuse(self, client: Client, name: str) -> str:
        try:
            client.pipelines.upload(self._refused, name=name, request_id=f"{name}-refused")
        except InvalidPipelineFileError:
            return ""
        raise RuntimeError("a file that KFP does not take was taken")


class Lane:
    """An adapter and a KFP, and what becomes of calls while they are killed."""

    def __init__(self, stage: Stage, number: int) -> None:
        folder = stage.folder / f"lane-{number}"
        folder.mkdir()
        self._servers = Servers(folder, stage.home)
        self.close = self._servers.close
        self.work = Work(self._servers.target, folder)
        self.killed: Counter[str] = Counter()
        self.calls = 0
        self.lost: list[str] = []
        self.wrong: list[str] = []

    def run(self, chosen: Sequence[Kill]) -> None:
        """Carries out kills one after the other, and compares in the end what was acknowledged with what is there."""
        for kill in chosen:
            self.killed[kill.name] += self._carry_out(kill)
        versions = stored_versions(self._servers.target)
        with Client(self._servers.target) as client:
            runs = {one.run_id: one.display_name for one in client.runs.list()}
        for name, acknowledged in self.work.versions.items():
            self.lost += [f"version of {name}" for one in acknowledged if one not in versions.get(name, ())]
            self.wrong += [name] if len(versions.get(name, ())) != len(acknowledged) else []
        self.wrong += [name for name in versions if name not in self.work.versions]
        self.lost += [f"run {name}" for name, one in self.work.runs.items() if runs.get(one) != name]
        self.wrong += [name for name, count in Counter(runs.values()).items() if count > 1]

    def _carry_out(self, kill: Kill) -> bool:
        """Begins the calls, kills at the moment, heals, and waits for the calls; returns whether it killed."""
        killed, names = threading.Event(), [f"kills-{kill.number}-{kind.name}" for kind in kill.calls]
        for kind, name in zip(kill.calls, names, strict=True):
            if kind is Kind.NEXT:
                self.work.upload(name, HELLO)

        def act() -> None:
            if not killed.is_set():
                self._servers.kill(kill.victim)
                killed.set()

        def arrive() -> None:
            if not killed.is_set():
                self._servers.await_spooled()
                act()

        arriving = kill.moment is ARRIVING
        self._servers.tripwire.arm(None if arriving else kill.moment, act)
        with ThreadPoolExecutor(len(names)) as threads:
            progress = arrive if arriving else None
            under_way = [threads.submit(self.work.do, *one, progress) for one in zip(kill.calls, names, strict=True)]
            if kill.moment is None:
                time.sleep(kill.seconds)
                act()
            while not killed.wait(0.05) and not all(call.done() for call in under_way):
                pass
            self._servers.tripwire.arm(None)
            self._servers.heal()
            for call in under_way:
                call.result()
        self.calls += len(names)
        return killed.is_set()


def run(stage: Stage) -> Iterator[Finding]:
    """Kills one of the two in the middle of calls, and compares what was acknowledged with what is there."""
    chosen = list(kills(stage))
    with ExitStack() as stack:
        lanes = [Lane(stage, number) for number in range(LANES)]
        for lane in lanes:
            stack.callback(lane.close)
        with ThreadPoolExecutor(LANES) as threads:
            list(threads.map(Lane.run, lanes, (chosen[number::LANES] for number in range(LANES))))
    killed = sum((lane.killed for lane in lanes), Counter[str]())
    named = {kill.name for kill in chosen if kill.moment is not None}
    calls = sum(lane.calls for lane in lanes)
    acknowledged = sum(len(lane.work.versions) - 1 + len(lane.work.runs) for lane in lanes)
    yield shown("kills at random moments, each in three calls", killed["at random"])
    yield at_least("named moments, with who was killed then", len(killed.keys() & named), len(named))
    yield none("kills whose moment did not come", len(chosen) - killed.total())
    yield shown("calls", calls)
    yield shown("calls that were repeated by their caller", sum(lane.work.repeated for lane in lanes))
    yield exactly("calls acknowledged in the end", acknowledged, calls)
    yield none("versions and runs acknowledged, but not there", [one for lane in lanes for one in lane.lost])
    wrong = [one for lane in lanes for one in lane.wrong]
    yield none("pipelines and runs that are there too often or half-made", wrong)


SCENARIO = Scenario(
    "kills",
    "Whenever the adapter or KFP is killed, nothing acknowledged is lost, nothing is doubled, and a repeated call ends "
    "well.",
    "a machine that loses its power; a KFP other than the embedded one; callers who do not repeat: of theirs an empty "
    "pipeline may be left, which the next upload adopts.",
    run,
)
