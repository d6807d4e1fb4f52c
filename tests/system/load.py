"""The load generator: calls from a process of its own, and callers of the client library in this one.

Run as `python -m tests.system.load` with a plan as the first line of its stdin; prints `ready`, begins with the next
line, and prints what it saw after the plan's seconds, or with one more line; all as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, TypeVar

import grpc
from benchmarks.processes import START_SECONDS, Child
from tests.system.calls import OK, OWN_CONNECTION, Outcome, begin, call, outcome

from kfadapter.v1.pipeline_pb2 import GetPipelineRequest
from kfadapter_grpc.client import AdapterError, Client
from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from typing_extensions import Self

GET = "/kfadapter.v1.PipelineService/Get"
HEALTH = "/grpc.health.v1.Health/Check"
T = TypeVar("T")
_SERVING = b"\x08\x01"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is called, and how often.

    Attributes:
        target: The adapter's address.
        path: The RPC.
        sent: The messages of a call, in hexadecimal digits.
        connections: How many connections there are, each of its own.
        rate: Calls a second in all, whatever becomes of them; 0: each connection has one call after the other.
        seconds: For how long; 0: until it is stopped.
        pause: Seconds before each call of a connection, where there is no rate.
        within: Seconds within which the connections begin, where there is no rate.
        timeout: Each call's deadline.
    """

    target: str
    path: str = GET
    sent: tuple[str, ...] = (GetPipelineRequest(name="instant").SerializeToString().hex(),)
    connections: int = 1
    rate: float = 0
    seconds: float = 0
    pause: float = 0
    within: float = 0
    timeout: float = 10


@dataclass
class Seen:
    """What became of the calls.

    Attributes:
        served: How many seconds the calls took that succeeded; of an endless call, that lasted until its deadline.
        refused: How many seconds those took that were refused with OVERLOADED and a RetryInfo.
        others: Whatever else they ended with, and how often.
        lasted: Seconds from the first call to the end of the last one's turn.
    """

    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    lasted: float = 0

    @property
    def count(self) -> int:
        """How many calls there were."""
        return len(self.served) + len(self.refused) + self.others.total()

    @property
    def failed(self) -> int:
        """How many were not served."""
        return self.count - len(self.served)

    def note(self, path: str, ended: Outcome) -> None:
        """Adds a call."""
        endless = path in METHODS and METHODS[path].endless and ended.code == "DEADLINE_EXCEEDED"
        if ended.reason == "OVERLOADED" and ended.retry_info:
            self.refused.append(ended.seconds)
        elif endless or (ended.code == OK and (path != HEALTH or ended.answer == _SERVING)):
            self.served.append(ended.seconds)
        else:
            self.others[f"{ended.code} {ended.reason}: {ended.message}"] += 1


class Load(Child):
    """A process that carries out a plan; it is stopped at the latest at the end of a `with` block."""

    def __init__(self, home: Path, plan: Plan) -> None:
        """Starts it, and waits until it could begin."""
        super().__init__([sys.executable, "-m", "tests.system.load"], home)
        self._plan = plan
        self.write(json.dumps(asdict(plan)))
        self.read(START_SECONDS)

    def begin(self) -> Self:
        """Has it begin."""
        self.write("begin")
        return self

    def seen(self) -> Seen:
        """Waits for its end, or stops it where it has none; returns what it saw."""
        if not self._plan.seconds:
            self.write("stop")
        found = json.loads(self.read(self._plan.seconds + 3 * self._plan.timeout + START_SECONDS))
        return Seen(**{**found, "others": Counter(found["others"])})


def slowest(seconds: Sequence[float], share: float = 1) -> float:
    """Within how many milliseconds that share of the calls ended."""
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)] * 1000 if seconds else 0


class Repeated:
    """Repeats calls of the client library, each time with its own repetitions; `count` is how often that was needed."""

    def __init__(self, target: str, attempts: int, *errors: type[AdapterError], pause: float = 0) -> None:
        """Repeats a call after these errors, until it was made so many times."""
        self.count = 0
        self._target, self._attempts, self._errors, self._pause = target, attempts, errors, pause
        self._lock = threading.Lock()

    def __call__(self, call: Callable[[Client], T]) -> T:
        """Makes a call until it succeeds, each time with a client of its own."""
        for attempt in range(self._attempts):
            try:
                with Client(self._target, timeout=20) as client:
                    return call(client)
            except self._errors:
                if attempt == self._attempts - 1:
                    raise
                with self._lock:
                    self.count += 1
                time.sleep(self._pause)
        raise AssertionError


class Crowd:
    """Threads that do their part again and again while a `with` block lasts.

    Attributes:
        stopped: Set when the block is left.
        ended: How often each part succeeded.
        failures: How often a part failed with which reason and text.
    """

    def __init__(
        self, *parts: tuple[Callable[[random.Random], None], int], chance: Callable[..., random.Random]
    ) -> None:
        """Will have so many threads do each part."""
        self.stopped = threading.Event()
        self.ended: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str, str]] = Counter()
        self.lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._repeat, args=(part, chance(part.__name__, number)))
            for part, count in parts
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, part: Callable[[random.Random], None], chance: random.Random) -> None:
        name = part.__name__.removeprefix("_")
        while not self.stopped.is_set():
            failure = None
            try:
                part(chance)
            except AdapterError as error:
                failure = (name, error.reason, str(error))
            except RuntimeError as error:  # the client was closed
                failure = (name, "", str(error))
            with self.lock:
                if failure is None:
                    self.ended[name] += 1
                else:
                    self.failures[failure] += not self.stopped.is_set()


def _at_a_rate(plan: Plan, channels: Sequence[grpc.Channel], sent: Sequence[bytes], seen: Seen) -> None:
    lock, open_calls, count = threading.Lock(), threading.Semaphore(0), round(plan.rate * plan.seconds)
    begun = time.perf_counter()
    for number in range(count):
        time.sleep(max(0, begun + number / plan.rate - time.perf_counter()))
        started = time.perf_counter()

        def note(ended: object, started: float = started) -> None:
            with lock:
                seen.note(plan.path, outcome(ended, time.perf_counter() - started))
            open_calls.release()

        begin(channels[number % len(channels)], plan.path, sent, plan.timeout).add_done_callback(note)
    seen.lasted = time.perf_counter() - begun
    for _ in range(count):
        open_calls.acquire()


def _in_turn(plan: Plan, channels: Sequence[grpc.Channel], sent: Sequence[bytes], seen: Seen) -> None:
    stopped, lock, begun = threading.Event(), threading.Lock(), time.perf_counter()

    def callers_turn(channel: grpc.Channel) -> None:
        stopped.wait(random.uniform(0, plan.within))  # noqa: S311 - not all at the same instant
        while not stopped.wait(plan.pause):
            ended = call(channel, plan.path, sent, plan.timeout)
            with lock:
                seen.note(plan.path, ended)

    def await_line() -> None:
        sys.stdin.readline()
        stopped.set()

    with ThreadPoolExecutor(len(channels)) as threads:
        callers = [threads.submit(callers_turn, channel) for channel in channels]
        threading.Thread(target=await_line, daemon=True).start()
        stopped.wait(plan.seconds or None)
        stopped.set()
        for caller in callers:
            caller.result()
    seen.lasted = time.perf_counter() - begun


def main(plan: Plan) -> None:
    """Calls, and prints what came of it."""
    seen, sent = Seen(), [bytes.fromhex(one) for one in plan.sent]
    with ExitStack() as stack:
        channels = [grpc.insecure_channel(plan.target, OWN_CONNECTION) for _ in range(plan.connections)]
        for channel in channels:
            stack.enter_context(channel)
            if not plan.within:
                grpc.channel_ready_future(channel).result(START_SECONDS)
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        (_at_a_rate if plan.rate else _in_turn)(plan, channels, sent, seen)
        print(json.dumps(vars(seen)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Plan(**json.loads(sys.stdin.readline())))
