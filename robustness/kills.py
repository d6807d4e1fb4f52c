"""The adapter and the embedded KFP are killed, again and again."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustness.killed import Kind, Servers, Work
from robustness.scenario import Finding, Scenario, Stage, at_least, exactly, told
from robustness.tripwire import Moment, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LANES = 2
"""How many pairs of an adapter and a KFP are killed beside each other, one for each core."""
_MAKE, _FILL, _RUN = r"/v2beta1/pipelines$", r"/pipelines/upload_version\?", r"/v2beta1/runs$"
ARRIVING = Moment("upload: while the file arrives at the adapter", "", "")
"""The one moment that no request to KFP tells."""
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
        Moment("refused file: before the pipeline is taken back", "DELETE", r"/pipelines/"),
        Moment("refused file: after the pipeline was taken back", "DELETE", r"/pipelines/", Step.ANSWERED),
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
_NAMED = [(kind, moment) for kind, moments in MOMENTS.items() for moment in moments]
AT_RANDOM = (Kind.NEW, Kind.NEXT, Kind.CREATE)
"""The calls that are under way when one is killed at random."""
LONGEST_SECONDS = 0.25
"""Until when after its beginning a call is killed at random."""
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Kill:
    """What is killed, and when.

    Attributes:
        number: By which its calls are named.
        victim: Who is killed, `adapter` or `KFP`.
        calls: The calls that are under way.
        moment: When; None: after `seconds`.
        seconds: How long after the call's beginning.
    """

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
    both = [(*one, victim) for one in _NAMED for victim in ("adapter", "KFP") if (one[1], victim) != (ARRIVING, "KFP")]
    named = both if not stage.short else [(*one, ("adapter", "KFP")[n % 2]) for n, one in enumerate(_NAMED)]
    for number, (kind, moment, victim) in enumerate(named):
        yield Kill(number, victim, (kind,), moment)
    for number in range(len(named), stage.scaled(200, 32)):
        if number % 2 and not stage.short:
            kind, moment, victim = both[number % len(both)]
            yield Kill(number, victim, (kind,), moment)
        else:
            seconds = stage.chance("moment", number).uniform(0, LONGEST_SECONDS)
            yield Kill(number, ("adapter", "KFP")[number // 2 % 2], AT_RANDOM, None, seconds)


class Lane:
    """An adapter and a KFP, and what becomes of calls while they are killed.

    Attributes:
        killed: How often one was killed, by what it is counted as.
        calls: How many calls were begun.
        lost: What was acknowledged and is not there, in words.
        wrong: Pipelines and runs that are not there as often as they were acknowledged.
    """

    def __init__(self, stage: Stage, number: int) -> None:
        folder = stage.folder / f"lane-{number}"
        folder.mkdir()
        self._servers = Servers(folder, stage.home)
        self.work = Work(self._servers.target, folder)
        self.killed: Counter[str] = Counter()
        self.calls = 0
        self.lost: list[str] = []
        self.wrong: list[str] = []

    def close(self) -> None:
        """Ends the processes."""
        self._servers.close()

    def run(self, chosen: Sequence[Kill]) -> None:
        """Carries out kills one after the other, and compares in the end what was told with what is there."""
        for kill in chosen:
            self.killed[kill.name] += self._carry_out(kill)
        versions, runs = self.work.stored()
        for name, told_of in self.work.versions.items():
            self.lost += [f"version of {name}" for one in told_of if one not in versions.get(name, ())]
            self.wrong += [name] if len(versions.get(name, ())) != len(told_of) else []
        self.wrong += [name for name in versions if name not in self.work.versions]
        self.lost += [f"run {name}" for name, one in self.work.runs.items() if runs.get(one) != name]
        self.wrong += [name for name, count in Counter(runs.values()).items() if count > 1]

    def _carry_out(self, kill: Kill) -> bool:
        """Begins the calls, kills at the moment, heals, and waits for the calls; tells whether it killed."""
        killed, names = threading.Event(), [f"kills-{kill.number}-{kind.name}" for kind in kill.calls]
        for kind, name in zip(kill.calls, names, strict=True):
            self.work.prepare(kind, name)

        def act() -> None:
            if not killed.is_set():
                (self._servers.kill_adapter if kill.victim == "adapter" else self._servers.kill_kfp)()
                killed.set()

        def arrive() -> None:
            if not killed.is_set():
                self._servers.await_spooled()
                act()

        if kill.moment is not None and kill.moment is not ARRIVING:
            self._servers.tripwire.arm(kill.moment, act)
        with ThreadPoolExecutor(len(names)) as threads:
            progress = arrive if kill.moment is ARRIVING else None
            under_way = [threads.submit(self.work.do, *one, progress) for one in zip(kill.calls, names, strict=True)]
            if kill.moment is None:
                time.sleep(kill.seconds)
                act()
            while not killed.wait(_PAUSE_SECONDS) and not all(call.done() for call in under_way):
                pass
            self._servers.tripwire.disarm()
            self._servers.heal()
            for call in under_way:
                call.result()
        self.calls += len(names)
        return killed.is_set()


def run(stage: Stage) -> Iterator[Finding]:
    """Kills one of the two in the middle of calls, and compares in the end what was told with what is there."""
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
    yield told("kills at random moments, each in three calls", killed["at random"])
    yield at_least("named moments, with who was killed then", len(killed.keys() & named), len(named))
    yield exactly("kills whose moment did not come", len(chosen) - killed.total(), 0)
    yield told("calls", calls)
    yield told("calls that were repeated by their caller", sum(lane.work.repeated for lane in lanes))
    yield exactly("calls acknowledged in the end", acknowledged, calls)
    yield exactly("versions and runs acknowledged, but not there", [one for lane in lanes for one in lane.lost] or 0, 0)
    wrong = [one for lane in lanes for one in lane.wrong]
    yield exactly("pipelines and runs that are there too often or half-made", wrong or 0, 0)


SCENARIO = Scenario(
    name="kills",
    proves="Whenever the adapter or KFP is killed, nothing acknowledged is lost, nothing is doubled, and a repeated "
    "call ends well.",
    not_covered="a machine that loses its power; a KFP other than the embedded one; callers who do not repeat: of "
    "theirs an empty pipeline may be left, which the next upload adopts.",
    run=run,
)
