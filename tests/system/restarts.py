"""Adapters that are restarted under load, and adapters and KFPs that are killed during calls."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB
from tests.system.between import Moment, Step, Tripwire
from tests.system.load import Crowd, Repeated
from tests.system.records import CONTAINER, HELLO, SLEEPS, stored_versions
from tests.system.scenario import Finding, Stage, at_least, at_most, exactly, none, scenario, shown

from kfadapter_grpc.client import AdapterError, Client, HealthStatus, InvalidPipelineFileError, RunFilter, RunState

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.processes import Adapter

    from kfadapter_embedded.process import EmbeddedKfp

CALLERS, CALLS_A_SECOND = 10, 100
UPLOADERS, WATCHERS = 20, 50
UPLOAD_BYTES = 600 * KIB
"""How large an upload is; it is sent in three pieces, slowly."""
DRAIN_SECONDS, GRACE_SECONDS = 0.5, 10.0
SETTLE_SECONDS = 2.5
"""How long an adapter serves before the other one is stopped, as minReadySeconds says: callers find it within 2 s."""


def _call(crowd: Crowd, _: random.Random) -> None:
    crowd.client.pipelines.get("instant")
    crowd.stopped.wait(CALLERS / CALLS_A_SECOND)


def _watch(crowd: Crowd, _: random.Random) -> None:
    """Watches until the client is closed; the client resumes it when an adapter drains."""
    for _event in crowd.client.runs.watch(where=RunFilter()):
        pass


@scenario(not_covered="callers with stubs of their own and without its service config: they see DRAINING, and repeat.")
def drain(stage: Stage) -> Iterator[Finding]:
    """Adapters behind one name can be stopped and restarted, and no call of the client library fails."""
    times, url, file = stage.scaled(50, 4), stage.stand_in(), stage.file(UPLOAD_BYTES)
    running, codes, seconds, watches = [_serving(stage, url), _serving(stage, url)], list[int](), list[float](), 0

    def upload(crowd: Crowd, _: random.Random) -> None:
        def slowly(*_: object) -> None:
            crowd.stopped.wait(0.3)

        crowd.client.pipelines.upload(file, name="new-upload", progress=slowly)

    target = "ipv4:" + ",".join(adapter.target for adapter in running)
    with Crowd(stage, target, (_call, CALLERS), (upload, UPLOADERS), (_watch, WATCHERS)) as crowd:
        for number in range(times):
            time.sleep(SETTLE_SECONDS)
            leaving, began = running[number % 2], time.monotonic()
            leaving.send_signal(signal.SIGTERM)
            codes.append(leaving.ended(DRAIN_SECONDS + GRACE_SECONDS + 4))
            seconds.append(time.monotonic() - began)
            watches += sum("RunService/Watch" in line and "DRAINING" in line for line in leaving.written().splitlines())
            running[number % 2] = _serving(stage, url, leaving)
        time.sleep(SETTLE_SECONDS)
        ended, failures = crowd.ended.copy(), dict(crowd.failures)
    yield exactly("adapters that ended with exit code 0", codes.count(0), times)
    yield at_most("longest end", max(seconds), DRAIN_SECONDS + GRACE_SECONDS, "s")
    yield shown("calls that succeeded", ended["_call"])
    yield shown("uploads that succeeded", ended["upload"])
    yield at_least("watches that were ended with DRAINING and came back", watches, times)
    yield none("calls, uploads and watches that failed", failures)


READERS, WRITERS, FOLLOWERS = 8, 2, 8
"""How many callers read, write, and watch one run, while an adapter is killed."""


@scenario(not_covered="callers with stubs of their own: their writes end with UNAVAILABLE, and are theirs to repeat.")
def replicas(stage: Stage) -> Iterator[Finding]:
    """If one of two adapters is killed under load, no call fails, writes are done once, watches end with the run."""
    times, url = stage.scaled(20, 1), stage.embedded(stage.folder / "kfp").url
    running, written, last = [_serving(stage, url), _serving(stage, url)], dict[str, str](), list[RunState]()
    target = "ipv4:" + ",".join(adapter.target for adapter in running)
    with Client(target) as client:
        client.pipelines.upload(HELLO, name="instant")
        client.pipelines.upload(SLEEPS, name="sleeps")
        followed = client.runs.create("sleeps", parameters={"seconds": 3600}).run_id

    def write(crowd: Crowd, chance: random.Random) -> None:
        name = f"written-{chance.getrandbits(64):x}"
        written[name] = crowd.client.pipelines.upload(HELLO, name=name).version.pipeline_version_id

    def follow(crowd: Crowd, _: random.Random) -> None:
        last.append(crowd.client.runs.wait(followed).state)
        crowd.stopped.wait()

    with Crowd(stage, target, (_call, READERS), (write, WRITERS), (follow, FOLLOWERS)) as crowd:
        for number in range(times):
            time.sleep(SETTLE_SECONDS)
            os.kill(running[number % 2].pid, signal.SIGKILL)
            time.sleep(stage.chance("restart", number).uniform(0, 1))
            running[number % 2] = _serving(stage, url, running[number % 2])
        crowd.client.runs.terminate(followed)
        end = time.monotonic() + 10 * stage.slack
        while len(last) < FOLLOWERS and time.monotonic() < end:
            time.sleep(0.05)
        ended, failures = crowd.ended.copy(), dict(crowd.failures)
    with Client(target) as client:  # writes that the crowd's end cancelled are undone meanwhile
        made = {name: [one.pipeline_version_id for one in client.pipelines.list_versions(name)] for name in written}
    yield shown("adapters that were killed", times)
    yield at_least("calls that succeeded", ended["_call"], 100 * times)
    yield at_least("writes that were acknowledged", len(written), times)
    yield none("calls, writes and watches that failed", failures)
    wrong = [name for name, one in written.items() if made[name] != [one]]
    yield none("writes that are lost or doubled", wrong)
    yield exactly("watches that ended in the last state", last.count(RunState.CANCELED), FOLLOWERS)


def _serving(stage: Stage, url: str, after: Adapter | None = None) -> Adapter:
    """Starts an adapter, and waits until it reports SERVING."""
    options = ("--drain-seconds", str(DRAIN_SECONDS), "--grace-seconds", str(GRACE_SECONDS), "--max-uploads", "64")
    adapter = stage.adapter(url, *options, after=after)
    with Client(adapter.target, timeout=60) as client:
        while client.health() is not HealthStatus.SERVING:
            time.sleep(0.01)
    return adapter


LANES = 2
"""How many pairs of an adapter and a KFP are killed beside each other, one for each core."""
MOST_ATTEMPTS = 100
"""How often a caller repeats a call, each time with the library's own repetitions."""
SPOOLED_BYTES, SENT_BYTES = 900 * KIB, 700 * KIB
"""The size of a file that the adapter keeps on disk while it arrives; what was read of it when some must be there."""
LONGEST_SECONDS = 0.25
"""Until when after its beginning a call is killed at random."""


class Kind(Enum):
    """The purpose of a call."""

    NEW = "upload"
    SPOOLED = "upload of a file that is kept on disk"
    NEXT = "upload of a second version"
    REFUSED = "upload of a file that KFP refuses"
    CREATE = "run"


_MAKE, _FILL, _RUN = r"/v2beta1/pipelines$", r"/pipelines/upload_version\?", r"/v2beta1/runs$"
_NAMED, _VERSIONS = r"/pipelines/names/", r"/versions\?"
ARRIVING = Moment("upload: while the file arrives at the adapter", "", "")
"""The one moment that no request to KFP marks."""
MOMENTS: dict[Kind, tuple[Moment, ...]] = {
    Kind.SPOOLED: (ARRIVING,),
    Kind.NEW: (
        Moment("upload: before the pipeline is made", "POST", _MAKE),
        Moment("upload: after the pipeline was made", "POST", _MAKE, Step.ANSWERED),
        Moment("upload: when the pipeline is looked for again", "GET", _NAMED, lost=_MAKE),
        Moment("upload: before the version is made", "POST", _FILL),
        Moment("upload: while the file arrives at KFP", "POST", _FILL, Step.HALFWAY),
        Moment("upload: after the version was made", "POST", _FILL, Step.ANSWERED),
        Moment("upload: when the version is looked for again", "GET", _VERSIONS, lost=_FILL),
    ),
    Kind.NEXT: (
        Moment("second version: before its pipeline is looked for", "GET", _NAMED),
        Moment("second version: before its number is looked for", "GET", r"/v1beta1/pipeline_versions\?.*=200"),
        Moment("second version: before an earlier upload is looked for", "GET", _VERSIONS),
        Moment("second version: before it is made", "POST", _FILL),
        Moment("second version: after it was made", "POST", _FILL, Step.ANSWERED),
    ),
    Kind.REFUSED: (
        Moment("refused file: before the pipeline is deleted again", "DELETE", r"/pipelines/"),
        Moment("refused file: after the pipeline was deleted again", "DELETE", r"/pipelines/", Step.ANSWERED),
    ),
    Kind.CREATE: (
        Moment("run: before it is looked for", "GET", r"/v2beta1/runs/"),
        Moment("run: before its pipeline is looked for", "GET", _NAMED),
        Moment("run: before it is made", "POST", _RUN),
        Moment("run: while the request arrives at KFP", "POST", _RUN, Step.HALFWAY),
        Moment("run: after it was made", "POST", _RUN, Step.ANSWERED),
        Moment("run: when it is looked for again", "GET", r"/v2beta1/runs/", lost=_RUN),
    ),
}
"""The named moments of each kind of call."""
AT_RANDOM = (Kind.NEW, Kind.NEXT, Kind.CREATE)
"""The calls that are under way when one is killed at random."""
_REFUSED_FILE = HELLO.read_bytes().replace(b"schemaVersion: 2.1.0", b"schemaVersion: 9.9.9")
"""What KFP does not take, and only KFP knows."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Which of the two is killed, and when: at a moment of a call, or `seconds` after the calls began."""

    number: int
    victim: str
    calls: tuple[Kind, ...]
    moment: Moment | None = None
    seconds: float = 0

    @property
    def name(self) -> str:
        """The name under which it is counted."""
        return f"{self.moment.what}, {self.victim}" if self.moment is not None else "at random"


def all_kills(stage: Stage) -> Iterator[Kill]:
    """Every named moment for both victims, in short for one of them; then random ones, up to the total number."""
    victims = ("adapter", "KFP")
    named = [(kind, moment) for kind, moments in MOMENTS.items() for moment in moments]
    both = [(*one, victim) for one in named for victim in victims if (one[1], victim) != (ARRIVING, "KFP")]
    chosen = [(*one, victims[n % 2]) for n, one in enumerate(named)] if stage.short else both
    for number in range(stage.scaled(200, 32)):
        if number < len(chosen) or (number % 2 and not stage.short):
            kind, moment, victim = chosen[number % len(chosen)]
            yield Kill(number, victim, (kind,), moment)
        else:
            seconds = stage.chance("moment", number).uniform(0, LONGEST_SECONDS)
            yield Kill(number, victims[number // 2 % 2], AT_RANDOM, seconds=seconds)


class _Lane:
    """An adapter and a KFP that are killed during calls, each of which is retried until it is acknowledged.

    Attributes:
        calls: The number of calls.
        killed: The number of kills, by their name.
        versions: The acknowledged versions of each pipeline, by its name.
        runs: The run with which each Create was acknowledged, by its name.
        lost: What was acknowledged, and is missing.
        wrong: What is duplicated or incomplete.
    """

    def __init__(self, stage: Stage, number: int) -> None:
        self._stage, self._data = stage, stage.folder / f"kfp-{number}"
        self._kfp = stage.embedded(self._data)
        self._tripwire = stage.enter(Tripwire(self._kfp.url))
        self._adapter = stage.adapter(self._tripwire.url)
        self._large, self._refused = stage.file(SPOOLED_BYTES), stage.folder / "refused.yaml"
        self._refused.write_bytes(_REFUSED_FILE)
        self.calls = 0
        self.killed: Counter[str] = Counter()
        self.versions: defaultdict[str, list[str]] = defaultdict(list)
        self.runs: dict[str, str] = {}
        self.repeated = Repeated(self._adapter.target, MOST_ATTEMPTS, AdapterError, pause=0.1)
        self._upload("container", CONTAINER)

    def run(self, chosen: Sequence[Kill]) -> None:
        """Performs kills one after the other; at the end compares what was acknowledged with what is stored."""
        for kill in chosen:
            self.killed[kill.name] += self._carry_out(kill)
        stored = stored_versions(self._adapter.target)
        with Client(self._adapter.target) as client:
            runs = {one.run_id: one.display_name for one in client.runs.list()}
        self.lost = [name for name, made in self.versions.items() if not {*made} <= {*stored.get(name, ())}]
        self.lost += [name for name, one in self.runs.items() if runs.get(one) != name]
        both = stored.keys() | self.versions.keys()
        self.wrong = [name for name in both if len(stored.get(name, ())) != len(self.versions.get(name, ()))]
        self.wrong += [name for name, count in Counter(runs.values()).items() if count > 1]

    def _carry_out(self, kill: Kill) -> bool:
        """Begins the calls, kills at the moment, restarts, and waits for the calls; returns whether it killed."""
        killed, names = threading.Event(), [f"kills-{kill.number}-{kind.name}" for kind in kill.calls]
        for kind, name in zip(kill.calls, names, strict=True):
            if kind is Kind.NEXT:
                self._upload(name, HELLO)

        def act() -> None:
            if not killed.is_set():
                process: Adapter | EmbeddedKfp = self._adapter if kill.victim == "adapter" else self._kfp
                os.kill(process.pid, signal.SIGKILL)
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                killed.set()

        def arrive(sent: int, _: int | None) -> None:
            if sent > SENT_BYTES and not killed.is_set():
                self._await_spooled()
                act()

        arriving = kill.moment is ARRIVING
        self._tripwire.arm(None if arriving else kill.moment, act)
        with ThreadPoolExecutor(len(names)) as threads:
            progress = arrive if arriving else None
            under_way = [threads.submit(self._do, *one, progress) for one in zip(kill.calls, names, strict=True)]
            if kill.moment is None:
                time.sleep(kill.seconds)
                act()
            while not killed.wait(0.05) and not all(call.done() for call in under_way):
                pass
            self._tripwire.arm(None)
            self._heal()
            for call in under_way:
                call.result()
        self.calls += len(names)
        return killed.is_set()

    def _await_spooled(self) -> None:
        """Waits until the adapter holds bytes of an upload in an unnamed file."""
        end = time.monotonic() + 20
        while not _spooled_bytes(self._adapter.pid):
            if time.monotonic() > end:
                raise RuntimeError("the adapter keeps nothing of an upload on its disk")
            time.sleep(0.002)

    def _heal(self) -> None:
        """Restarts what was killed, at its address."""
        if not self._adapter.alive():
            self._adapter = self._stage.adapter(self._tripwire.url, after=self._adapter)
        if not alive(self._kfp):
            self._kfp.stop()
            self._kfp = self._stage.embedded(self._data, urlsplit(self._kfp.url).port or 0)

    def _do(self, kind: Kind, name: str, progress: Callable[[int, int | None], None] | None) -> None:
        """Makes a call of a kind until it succeeds."""
        if kind is Kind.CREATE:
            self.runs[name] = self.repeated(
                lambda client: client.runs.create("container", display_name=name, request_id=name).run_id
            )
        elif kind is Kind.REFUSED:
            self.repeated(lambda client: self._refuse(client, name))
            self._upload(name, HELLO)
        else:
            self._upload(name, self._large if kind is Kind.SPOOLED else HELLO, f"{name}-again", progress)

    def _upload(
        self, name: str, file: Path, request_id: str = "", progress: Callable[[int, int | None], None] | None = None
    ) -> None:
        def once(client: Client) -> str:
            receipt = client.pipelines.upload(file, name=name, request_id=request_id or name, progress=progress)
            return receipt.version.pipeline_version_id

        self.versions[name].append(self.repeated(once))

    def _refuse(self, client: Client, name: str) -> None:
        try:
            client.pipelines.upload(self._refused, name=name, request_id=f"{name}-refused")
        except InvalidPipelineFileError:
            return
        raise RuntimeError("a file that KFP does not take was taken")


def alive(kfp: EmbeddedKfp) -> bool:
    """Whether it is still running."""
    return os.waitid(os.P_PID, kfp.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _spooled_bytes(pid: int) -> int:
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if int(link.name) > 2 and str(link.readlink()).endswith(" (deleted)"):
                found += link.stat().st_size
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


@scenario(
    not_covered="a machine that loses its power; a KFP other than the embedded one; callers who do not repeat: of "
    "theirs an empty pipeline may be left, which the next upload adopts."
)
def kills(stage: Stage) -> Iterator[Finding]:
    """If the adapter or KFP is killed, nothing acknowledged is lost or duplicated, and a retried call succeeds."""
    chosen = list(all_kills(stage))
    lanes = [_Lane(stage, number) for number in range(LANES)]
    with ThreadPoolExecutor(LANES) as threads:
        list(threads.map(_Lane.run, lanes, (chosen[number::LANES] for number in range(LANES))))
    killed = sum((lane.killed for lane in lanes), Counter[str]())
    named = {kill.name for kill in chosen if kill.moment is not None}
    calls = sum(lane.calls for lane in lanes)
    acknowledged = sum(len(lane.versions) - 1 + len(lane.runs) for lane in lanes)
    yield shown("kills at random moments, each in three calls", killed["at random"])
    yield at_least("named moments, with who was killed then", len(killed.keys() & named), len(named))
    yield none("kills whose moment did not come", len(chosen) - killed.total())
    yield shown("calls", calls)
    yield shown("calls that were repeated by their caller", sum(lane.repeated.count for lane in lanes))
    yield exactly("calls acknowledged in the end", acknowledged, calls)
    yield none("versions and runs acknowledged, but not there", [one for lane in lanes for one in lane.lost])
    wrong = [one for lane in lanes for one in lane.wrong]
    yield none("pipelines and runs that are there too often or half-made", wrong)
