"""Concurrent callers of two adapters before one KFP, while connections fail and processes are killed."""

from __future__ import annotations

import http.client
import os
import signal
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.scripted_kfp import answers
from tests.system.between import Between
from tests.system.history import EXPECTED, History, check
from tests.system.records import CONTAINER, HELLO
from tests.system.scenario import Finding, Stage, none, scenario, shown

from kfadapter_grpc.client import Client

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from benchmarks.processes import Adapter
    from tests.scripted_kfp import Connection, Received
    from tests.system.load import Outcome

    from kfadapter_embedded.process import EmbeddedKfp

CALLERS, WATCHERS = 8, 2
NAMES, RUNS = 6, 4
"""How many pipeline names and runs are called at the same time."""
CALLS_OF_ONE = 40
"""After how many calls a name or a run is replaced by a new one."""
RUN_SHARE = 0.2
"""The share of calls about runs."""
CONTENTS = 3
PAUSE_SECONDS = 0.3
"""How long a caller pauses after a call that failed."""
UNREACHABLE = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})
"""The status codes of calls that have failed on their way."""
VICTIMS = 3
"""How many processes are killed in turn."""
CUT_SECONDS = 0.4
SLOW_SECONDS = 0.5


class UnreliableKfp(Between):
    """A proxy that loses, refuses and delays some requests, and some responses."""

    def __init__(self, url: str, chance: random.Random) -> None:
        super().__init__(url)
        self._chance = chance
        self.cut = self.calm = False

    def _respond(self, connection: Connection, received: Received) -> bool:
        with self._lock:
            dice, slow = self._chance.random(), self._chance.uniform(0, SLOW_SECONDS)
            self.requests.clear()
        dice = 1 if self.calm else dice
        if self.cut or dice < 0.01:
            return False
        if dice < 0.02:
            return answers(503, b"no healthy upstream", content_type="text/plain")(connection, received)
        if dice < 0.03:
            with self._sent(received, received.body[: len(received.body) // 2]):
                return False
        if dice < 0.05:
            connection.wait(slow)  # it is sent on even if the adapter has given up meanwhile
        try:
            _, answer = self._ask(received)
        except (OSError, http.client.HTTPException):  # KFP was killed
            return False
        if dice < 0.06:
            return False
        if dice < 0.08:
            connection.wait(slow)
        return answer(connection, received)


class _Keys:
    """Names or request ids in use; each is replaced after a number of calls."""

    def __init__(self, kind: str, count: int) -> None:
        self._kind, self._count = kind, count
        self._lock = threading.Lock()
        self.all: list[str] = []
        self._calls: Counter[str] = Counter()

    def pick(self, chance: random.Random) -> str:
        """Picks one for a call."""
        with self._lock:
            while len(self.all) < self._count:
                self._new()
            at = len(self.all) - self._count + chance.randrange(self._count)
            key = self.all[at]
            self._calls[key] += 1
            if self._calls[key] > CALLS_OF_ONE:
                self._new()
            return key

    def _new(self) -> None:
        number = len(self.all)
        self.all.append(f"{self._kind}{number // self._count}-{number}")

    def block(self, key: str) -> tuple[str, list[str]]:
        """What the names around one begin with, and these names."""
        part = key.partition("-")[0] + "-"
        with self._lock:
            return part, [one for one in self.all if one.startswith(part)]


class _Crowd:
    """Callers that make random calls until there are enough."""

    def __init__(self, stage: Stage, history: History) -> None:
        self._history, self._stage = history, stage
        self.names, self.runs = _Keys("name", NAMES), _Keys("run", RUNS)
        self.stopped = threading.Event()

    def calls(self, number: int) -> None:
        """Makes calls, one after the other."""
        chance = self._stage.chance("caller", number)
        while not self.stopped.is_set():
            one = self._about_a_run if chance.random() < RUN_SHARE else self._about_a_name
            ended = one(chance, chance.randrange(2))
            if ended.code in UNREACHABLE:
                self.stopped.wait(chance.uniform(0, PAUSE_SECONDS))

    def watches(self, number: int) -> None:
        """Watches runs, one after the other."""
        chance = self._stage.chance("watcher", number)
        while not self.stopped.is_set():
            self._history.watch(chance.randrange(2), self.runs.pick(chance))
            self.stopped.wait(0.05)

    def _about_a_name(self, chance: random.Random, adapter: int) -> Outcome:
        name, history = self.names.pick(chance), self._history
        match chance.choices(("upload", "get", "versions", "list", "delete"), (30, 20, 25, 10, 8))[0]:
            case "upload":
                return self._upload(chance, adapter, name)
            case "get":
                return history.get(adapter, name)
            case "versions":
                return history.versions(adapter, name)
            case "list":
                part, names = self.names.block(name)
                return history.list(adapter, names, part)
            case _:
                return history.delete(adapter, name, force=chance.random() < 0.7)

    def _upload(self, chance: random.Random, adapter: int, name: str) -> Outcome:
        """Uploads a file; repeats it after an error, and sometimes after none, with the same request id."""
        if_exists = chance.choices(("NEW_VERSION", "FAIL", "SKIP_IF_SAME"), (5, 2, 3))[0]
        request_id, content = f"{chance.getrandbits(48):012x}", chance.randrange(CONTENTS)
        ended = self._history.upload(adapter, name, request_id, content, if_exists)
        for attempt in range(1, 4):
            repeats = ended.code == "UNAVAILABLE" or (attempt == 1 and chance.random() < 0.2)
            if not repeats or self.stopped.wait(chance.uniform(0, 0.2)):
                break
            ended = self._history.upload(adapter + attempt, name, request_id, content, if_exists)
        return ended

    def _about_a_run(self, chance: random.Random, adapter: int) -> Outcome:
        request_id = self.runs.pick(chance)
        rpc = chance.choices(("Create", "Get", "Terminate", "Retry", "Delete"), (25, 40, 8, 12, 3))[0]
        if rpc == "Create":
            return self._history.create(
                adapter, request_id, ("fails", "succeeds")[int(request_id.rpartition("-")[2]) % 2]
            )
        return self._history.run(adapter, rpc, request_id)


class _Processes:
    """Two adapters and their KFP, which are killed and restarted in turn."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._data = stage, stage.folder / "kfp"
        self._kfp = stage.embedded(self._data)
        self.link = stage.enter(UnreliableKfp(self._kfp.url, stage.chance("link")))
        with Client(stage.adapter(self._kfp.url).target) as client:
            client.pipelines.upload(HELLO, name="succeeds")
            client.pipelines.upload(CONTAINER, name="fails")
        self.adapters = [stage.adapter(self.link.url) for _ in range(2)]
        self.kills: Counter[str] = Counter()

    def kill(self, number: int) -> None:
        """Kills one of the three, and restarts it at its address."""
        victim = number % VICTIMS
        self.kills["KFP" if victim == 2 else "adapter"] += 1
        process: Adapter | EmbeddedKfp = self._kfp if victim == 2 else self.adapters[victim]
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if victim == 2:
            self._kfp.stop()
            self._kfp = self._stage.embedded(self._data, urlsplit(self._kfp.url).port or 0)
        else:
            self.adapters[victim] = self._stage.adapter(self.link.url, after=self.adapters[victim])


def _succeeds(read: Callable[[], Outcome]) -> bool:
    """Repeats a read until it reaches KFP; returns whether it does."""
    for _ in range(50):
        if read().code not in UNREACHABLE:
            return True
        time.sleep(0.1)
    return False


@scenario(
    not_covered="a KFP other than the embedded one, whose own writes may not be atomic; deletions of single versions; "
    "the order of versions; what the client library repeats by itself."
)
def histories(stage: Stage) -> Iterator[Finding]:
    """What concurrent callers of two adapters see is explained by one order of their calls, whatever fails and dies."""
    count = stage.scaled(100_000, 600)
    processes = _Processes(stage)
    history = stage.enter(History(*(adapter.target for adapter in processes.adapters)))
    crowd = _Crowd(stage, history)
    stage.stack.callback(crowd.stopped.set)
    threads = stage.enter(ThreadPoolExecutor(CALLERS + WATCHERS))
    callers = [threads.submit(crowd.calls, number) for number in range(CALLERS)]
    callers += [threads.submit(crowd.watches, number) for number in range(WATCHERS)]
    number, began = 0, time.monotonic()
    while (len(history.calls) < count or number < VICTIMS) and not any(caller.done() for caller in callers):
        time.sleep(stage.scaled(10, 2))
        processes.link.cut = number % 2 == 0
        time.sleep(CUT_SECONDS)
        processes.link.cut = False
        processes.kill(number)
        number += 1
    crowd.stopped.set()
    for caller in callers:
        caller.result()
    seconds = time.monotonic() - began
    processes.link.calm = True
    unread = [name for name in crowd.names.all if not _succeeds(partial(history.versions, 0, name))]
    unread += [] if _succeeds(partial(history.list_runs, 1, crowd.runs.all)) else ["runs"]
    checked = time.monotonic()
    kept = Path(tempfile.gettempdir(), f"kfadapter-histories-{stage.seed}.jsonl")
    unexplained = check(history.calls, kept)
    yield shown("recorded calls", len(history.calls))
    yield shown("calls a second", len(history.calls) / seconds)
    yield shown("names and runs", len(crowd.names.all) + len(crowd.runs.all))
    for kind, kills in processes.kills.items():
        yield shown(f"kills of {kind}", kills)
    yield shown("of unknown outcome", sum(one["outcome"] == "unknown" for one in history.calls))
    odd = {" ".join(end): ends for end, ends in history.ends.items() if end[1] not in EXPECTED}
    yield none("ends that neither faults nor kills explain", odd)
    for error, times in history.kfp_errors.items():  # of a KFP that is killed and restarted
        yield shown(error[:200], times)
    yield none("names and runs that could not be read at the end", unread)
    yield none("names and runs whose calls no order explains", [*unexplained, f"see {kept}"] if unexplained else 0)
    yield shown("seconds of the check", time.monotonic() - checked)
