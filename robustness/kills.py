"""The adapter and the embedded KFP are killed, again and again."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.processes import Adapter

from kfadapter_grpc.client import AdapterError, Client
from kfadapter_grpc.embedded.process import EmbeddedKfp, start
from robustness.records import CONTAINER, HELLO
from robustness.scenario import Finding, Scenario, Stage, at_least, exactly, told
from robustness.tripwire import Moment, Tripwire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAKE = r"/v2beta1/pipelines$"
_FILL = r"/pipelines/upload_version\?"
_RUN = r"/v2beta1/runs$"
UPLOADING = (
    Moment("upload: before the pipeline is looked for", "GET", r"/pipelines/names/"),
    Moment("upload: before the pipeline is made", "POST", _MAKE),
    Moment("upload: after the pipeline was made", "POST", _MAKE, answered=True),
    Moment("upload: before the version is made", "POST", _FILL),
    Moment("upload: after the version was made", "POST", _FILL, answered=True),
)
"""The moments of an upload of a new pipeline."""
CREATING = (
    Moment("run: before it is looked for", "GET", r"/v2beta1/runs/"),
    Moment("run: before it is made", "POST", _RUN),
    Moment("run: after it was made", "POST", _RUN, answered=True),
)
"""The moments of a Create with a request id."""
_NAMED = [(moment, victim) for moment in (*UPLOADING, *CREATING) for victim in ("adapter", "KFP")]
LONGEST_SECONDS = 0.25
"""Until when after its beginning a call is killed at random."""
MOST_ATTEMPTS = 100
"""How often a caller repeats a call, each time with the library's own repetitions."""
_PAUSE_SECONDS = 0.2
_CALL_SECONDS = 20.0


class Servers:
    """The two processes, each of which comes back at its address after it was killed."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._kfp = start(stage.folder / "kfp")
        self.kfp_url = self._kfp.url
        self.tripwire = Tripwire(self.kfp_url)
        self.tripwire.__enter__()
        self._adapter = Adapter(self.tripwire.url, stage.home)
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

    def heal(self) -> None:
        """Starts again what was killed."""
        if not self._adapter.alive():
            self._adapter.__exit__()
            self._adapter = Adapter(self.tripwire.url, self._stage.home, target=self.target)
            self._adapter.wait()
        if not _lives(self._kfp):
            self._kfp.stop()
            self._kfp = start(self._stage.folder / "kfp", urlsplit(self.kfp_url).port or 0)


def _kill(process: Adapter | EmbeddedKfp) -> None:
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def _lives(kfp: EmbeddedKfp) -> bool:
    return os.waitid(os.P_PID, kfp.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


@dataclass(frozen=True, slots=True)
class Kill:
    """What is killed, and when.

    Attributes:
        number: Which call it meets.
        victim: Who is killed, `adapter` or `KFP`.
        moment: When; None: after `seconds`.
        seconds: How long after the call's beginning.
    """

    number: int
    victim: str
    moment: Moment | None
    seconds: float

    @property
    def creates(self) -> bool:
        """Whether the call starts a run, instead of uploading."""
        return self.moment in CREATING if self.moment is not None else bool(self.number % 4)

    @property
    def name(self) -> str:
        """What it is counted as."""
        return f"{self.moment.what}, {self.victim}" if self.moment is not None else "at random"


class Work:
    """Uploads and runs, each repeated under one request id until it is acknowledged.

    Attributes:
        versions: The version that each upload was acknowledged with, by its name.
        runs: The run that each Create was acknowledged with, by its name.
        repeated: How many calls failed and were repeated.
    """

    def __init__(self, target: str) -> None:
        self.versions: dict[str, str] = {}
        self.runs: dict[str, str] = {}
        self.repeated = 0
        self._target = target

    def upload(self, name: str) -> None:
        """Uploads a new pipeline."""
        self.versions[name] = self._until_done(
            lambda client: client.upload(HELLO, name=name, request_id=name).version.pipeline_version_id
        )

    def create(self, name: str) -> None:
        """Starts a run."""
        self.runs[name] = self._until_done(
            lambda client: client.create_run("container", display_name=name, request_id=name).run_id
        )

    def _until_done(self, call: Callable[[Client], str]) -> str:
        for attempt in range(MOST_ATTEMPTS):
            try:
                with Client(self._target, timeout=_CALL_SECONDS) as client:
                    return call(client)
            except AdapterError:
                if attempt == MOST_ATTEMPTS - 1:
                    raise
                self.repeated += 1
                time.sleep(_PAUSE_SECONDS)
        raise AssertionError


def run(stage: Stage) -> Iterator[Finding]:
    """Kills one of the two in the middle of each call, and compares in the end what was told with what is there."""
    count, tripped = stage.scaled(200, 24), Counter[str]()
    with ExitStack() as stack:
        servers = Servers(stage)
        stack.callback(servers.close)
        work = Work(servers.target)
        with Client(servers.target) as client:
            client.upload(CONTAINER, name="container")
        for kill in _kills(count, stage):
            tripped[kill.name] += _carry_out(kill, servers, work)
        stored, runs = _stored(servers.target)
    yield told("kills at random moments", tripped["at random"])
    yield at_least(
        "named moments at which one of the two was killed", len(+tripped - Counter({"at random": count})), len(_NAMED)
    )
    yield exactly("calls that were over before their moment came", count - tripped.total(), 0)
    yield told("calls that were repeated by their caller", work.repeated)
    yield exactly("calls acknowledged in the end", len(work.versions) + len(work.runs), count)
    yield exactly("uploads acknowledged, but not there", sum(v not in stored[n] for n, v in work.versions.items()), 0)
    yield exactly("pipelines with more or less than one version", sum(len(v) != 1 for v in stored.values()), 0)
    yield exactly("runs acknowledged, but not there", len(set(work.runs.values()) - runs.keys()), 0)
    yield exactly("runs that are there twice", len(runs) - len(set(runs.values())), 0)


def _kills(count: int, stage: Stage) -> Iterator[Kill]:
    """First every named moment for both, then some of them again, and every other one at random."""
    for number in range(count):
        moment, victim = _NAMED[number % len(_NAMED)]
        at_random = number >= len(_NAMED) and number % 2 == 0
        victim = ("adapter", "KFP")[number // 2 % 2] if at_random else victim
        seconds = stage.chance("moment", number).uniform(0, LONGEST_SECONDS)
        yield Kill(number, victim, None if at_random else moment, seconds)


def _carry_out(kill: Kill, servers: Servers, work: Work) -> bool:
    """Begins a call, kills at the moment, heals, and waits for the call; tells whether it killed."""
    killed = threading.Event()

    def act() -> None:
        (servers.kill_adapter if kill.victim == "adapter" else servers.kill_kfp)()
        killed.set()

    if kill.moment is not None:
        servers.tripwire.arm(kill.moment, act)
    call = threading.Thread(target=work.create if kill.creates else work.upload, args=(f"kills-{kill.number}",))
    call.start()
    if kill.moment is None:
        time.sleep(kill.seconds)
        act()
    while not killed.wait(_PAUSE_SECONDS) and call.is_alive():
        pass
    servers.tripwire.disarm()
    servers.heal()
    call.join()
    return killed.is_set()


def _stored(target: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The versions of each pipeline by its name, and the names of the runs by their ids."""
    with Client(target) as client:
        versions = {
            pipeline.name: [one.pipeline_version_id for one in client.list_versions(pipeline_id=pipeline.pipeline_id)]
            for pipeline in client.list()
        }
        runs = {one.run_id: one.display_name for one in client.list_runs()}
    return versions, runs


SCENARIO = Scenario(
    name="kills",
    proves="Whenever the adapter or KFP is killed, nothing acknowledged is lost, nothing is doubled, and a repeated "
    "call ends well.",
    not_covered="a machine that loses its power; a KFP other than the embedded one; callers who do not repeat: of "
    "theirs an empty pipeline may be left, which the next upload adopts.",
    run=run,
)
