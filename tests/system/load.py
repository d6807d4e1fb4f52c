"""The load generator: calls of any RPC from a separate process, and clients of the client library in this one."""

from __future__ import annotations

import multiprocessing
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from kfadapter.v1.pipeline_pb2 import GetPipelineRequest
from kfadapter_grpc.client import AdapterError, Client
from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from google.protobuf.message import Message
    from tests.system.scenario import Stage
    from typing_extensions import Self

GET = "/kfadapter.v1.PipelineService/Get"
HEALTH = "/grpc.health.v1.Health/Check"
OK = "OK"
"""The reason of a call that succeeded."""
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
"""Options of a channel that shares its connection with no other one."""
START_SECONDS = 60
T = TypeVar("T")
_SERVING = b"\x08\x01"
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: its status code and message, and its stable reason, which is empty if the status has none."""

    code: str
    reason: str
    message: str
    seconds: float
    retry_info: bool = False
    answer: bytes = b""


def begin(
    channel: grpc.Channel, path: str, sent: Sequence[Message | bytes], seconds: float, request_id: str = ""
) -> Any:  # noqa: ANN401 - one of gRPC's calls
    """Begins a call; several messages are only sent for client streaming."""
    method = METHODS.get(path)  # health checks are not part of the contract
    uploads, streams = (method.client_streaming, method.server_streaming) if method is not None else (False, False)
    shape = f"{'stream' if uploads else 'unary'}_{'stream' if streams else 'unary'}"
    made = getattr(channel, shape)(path, request_serializer=_serialized)
    metadata = [("x-request-id", request_id)] if request_id else []
    return (made if streams else made.future)(iter(sent) if uploads else sent[0], timeout=seconds, metadata=metadata)


def _serialized(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def call(
    channel: grpc.Channel, path: str, sent: Sequence[Message | bytes], seconds: float, request_id: str = ""
) -> Outcome:
    """Makes a call and reads all its responses, for at most `seconds`."""
    began = time.monotonic()
    begun = begin(channel, path, sent, seconds, request_id)
    answer = b""
    with suppress(grpc.RpcError):
        if path in METHODS and METHODS[path].server_streaming:
            for _ in begun:
                pass
        else:
            answer = begun.result()
    return outcome(begun, time.monotonic() - began, answer)


def outcome(ended: Any, seconds: float, answer: bytes = b"") -> Outcome:  # noqa: ANN401 - one of gRPC's calls
    """Returns how a call ended."""
    if ended.code() is grpc.StatusCode.OK:
        return Outcome(OK, OK, "", seconds, answer=answer)
    trailers = dict(ended.trailing_metadata() or ())
    details = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b"")).details
    info = error_details_pb2.ErrorInfo()
    reason = "".join(info.reason for detail in details if detail.Unpack(info))
    retry_info = any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
    return Outcome(ended.code().name, reason, ended.details() or "", seconds, retry_info)


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls to make, and how often.

    Attributes:
        target: The adapter's address.
        path: The RPC.
        sent: The messages of a call.
        connections: The number of separate connections.
        rate: Calls a second in all, whatever their outcome; 0: each connection makes one call after the other.
        seconds: The duration; 0: until it is stopped.
        pause: Seconds before each call of a connection, without a rate.
        within: Seconds within which the connections begin, without a rate.
        timeout: Each call's deadline.
    """

    target: str
    path: str = GET
    sent: tuple[bytes, ...] = (GetPipelineRequest(name="instant").SerializeToString(),)
    connections: int = 1
    rate: float = 0
    seconds: float = 0
    pause: float = 0
    within: float = 0
    timeout: float = 10


@dataclass
class Seen:
    """The outcomes of the calls.

    Attributes:
        served: Seconds of each call that succeeded; an endless call succeeds if it lasts until its deadline.
        refused: Seconds of each call that was refused with OVERLOADED and a RetryInfo.
        others: All other outcomes, and how often.
        lasted: Seconds from the first call to the end of the last one's turn.
    """

    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    lasted: float = 0

    @property
    def count(self) -> int:
        """The number of calls."""
        return len(self.served) + len(self.refused) + self.others.total()

    @property
    def failed(self) -> int:
        """The number of calls that were not served."""
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


class Load:
    """A process that runs a plan: it is ready when the `with` block is entered, and killed at its end."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._line, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_carry_out, args=(plan, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        self._receive()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def begin(self) -> Self:
        """Starts the calls."""
        self._line.send("begin")
        return self

    def seen(self) -> Seen:
        """Waits for the end, or stops the calls if they have none; returns their outcomes."""
        if not self._plan.seconds:
            self._line.send("stop")
        found = self._receive(self._plan.seconds + 3 * self._plan.timeout)
        assert isinstance(found, Seen)
        return found

    def _receive(self, seconds: float = 0) -> object:
        if not self._line.poll(seconds + START_SECONDS):
            raise TimeoutError(f"the load on {self._plan.path} does not end")
        return self._line.recv()


def _carry_out(plan: Plan, line: Connection[Any, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the scenario, which then ends this process
    seen = Seen()
    with ExitStack() as stack:
        channels = [
            stack.enter_context(grpc.insecure_channel(plan.target, OWN_CONNECTION)) for _ in range(plan.connections)
        ]
        for channel in [] if plan.within else channels:
            grpc.channel_ready_future(channel).result(START_SECONDS)
        line.send("ready")
        line.recv()
        if plan.rate:
            _at_a_rate(plan, channels, seen)
        else:
            _in_turn(plan, channels, seen, line)
    line.send(seen)


def _at_a_rate(plan: Plan, channels: Sequence[grpc.Channel], seen: Seen) -> None:
    lock, ended, count = threading.Lock(), threading.Semaphore(0), round(plan.rate * plan.seconds)
    begun = time.perf_counter()
    for number in range(count):
        time.sleep(max(0, begun + number / plan.rate - time.perf_counter()))
        started = time.perf_counter()

        def note(one: object, started: float = started) -> None:
            with lock:
                seen.note(plan.path, outcome(one, time.perf_counter() - started))
            ended.release()

        begin(channels[number % len(channels)], plan.path, plan.sent, plan.timeout).add_done_callback(note)
    seen.lasted = time.perf_counter() - begun
    for _ in range(count):
        ended.acquire()


def _in_turn(plan: Plan, channels: Sequence[grpc.Channel], seen: Seen, line: Connection[Any, Any]) -> None:
    stopped, lock, begun = threading.Event(), threading.Lock(), time.perf_counter()

    def calls(channel: grpc.Channel) -> None:
        stopped.wait(random.uniform(0, plan.within))  # noqa: S311 - not all at the same instant
        while not stopped.wait(plan.pause):
            ended = call(channel, plan.path, plan.sent, plan.timeout)
            with lock:
                seen.note(plan.path, ended)

    with ThreadPoolExecutor(len(channels)) as threads:
        callers = [threads.submit(calls, channel) for channel in channels]
        line.poll(plan.seconds or None)
        stopped.set()
        for caller in callers:
            caller.result()
    seen.lasted = time.perf_counter() - begun


def slowest(seconds: Sequence[float], share: float = 1) -> float:
    """The milliseconds within which that share of the calls ended."""
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)] * 1000 if seconds else 0


class Repeated:
    """Retries calls of the client library, which has its own retries too; `count` is the number of retries here."""

    def __init__(self, target: str, attempts: int, *errors: type[AdapterError], pause: float = 0) -> None:
        """Retries a call after these errors, up to a number of attempts."""
        self.count = 0
        self._target, self._attempts, self._errors, self._pause = target, attempts, errors, pause
        self._lock = threading.Lock()

    def __call__(self, call: Callable[[Client], T]) -> T:
        """Makes a call until it succeeds, each time with a new client."""
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


Part: TypeAlias = "Callable[[Crowd, random.Random], None]"
"""What a thread of a crowd does; it uses the crowd's client and pauses with its `stopped`."""


class Crowd:
    """Threads that run their part again and again while a `with` block lasts.

    Attributes:
        client: The shared client; closed at the end of the block, which ends endless calls.
        stopped: Set when the block is left.
        ended: How often each part succeeded.
        failures: How often a part failed, by its name, reason and message.
    """

    def __init__(self, stage: Stage, target: str, *parts: tuple[Part, int]) -> None:
        """Creates the given number of threads for each part."""
        self.client = Client(target)
        self.stopped = threading.Event()
        self.ended: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._repeat, args=(part, stage.chance(part.__name__, number)))
            for part, count in parts
            for number in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.client.close()
        for thread in self._threads:
            thread.join()

    def _repeat(self, part: Part, chance: random.Random) -> None:
        while not self.stopped.is_set():
            failure = None
            try:
                part(self, chance)
            except (AdapterError, RuntimeError, ValueError) as error:  # the latter two: the client is closed
                failure = (part.__name__, getattr(error, "reason", ""), str(error))
            with self._lock:
                if failure is None:
                    self.ended[part.__name__] += 1
                elif not self.stopped.is_set():
                    self.failures[failure] += 1
