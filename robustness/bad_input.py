"""Requests that no program would send, and files that are made to hurt."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
import hypothesis
from benchmarks.processes import Adapter
from hypothesis import HealthCheck, Phase, given
from tests.hostile_files import HOSTILE

from kfadapter.v1 import pipeline_pb2
from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client, HealthStatus
from kfadapter_grpc.methods import METHODS, CallKind
from robustness.generated import Requests, mutated
from robustness.process_use import settled, use_of
from robustness.raw_calls import Outcome, call
from robustness.records import ids_and_names
from robustness.scenario import Finding, Scenario, Stage, at_least, at_most, exactly, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kfadapter_grpc.methods import RpcMethod

MUTATIONS = 4
"""How many requests are made of each generated one by changing its bytes."""
CALLS_AT_ONCE = 8
CALL_SECONDS = 15.0
"""By when every call must have ended."""
STREAM_SECONDS = 0.1
"""How long streams, which need not end, are read."""
CHUNK_BYTES = 1024 * 1024
GROWTH_MIB = 96
"""By how much the adapter may grow: what the allocator keeps of the largest files."""
_UPLOAD = METHODS["/kfadapter.v1.PipelineService/Upload"]
_NEVER = frozenset({"UNKNOWN", "INTERNAL", "UNAVAILABLE", "CANCELLED"})
_SHOWN_BYTES = 60


class Senders:
    """Sends requests, some at a time, and notes how they end.

    Attributes:
        ends: How often each code came.
        wrong: The ends that must not be, each with the RPC and the request's first bytes.
        slowest: The longest time to an end, in seconds.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self.ends: Counter[str] = Counter()
        self.wrong: dict[str, str] = {}
        self.slowest = 0.0
        self._channel = channel
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(CALLS_AT_ONCE * 2)
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE)

    def close(self) -> None:
        """Waits for all that was sent."""
        self._threads.shutdown()

    def send(self, method: RpcMethod, *sent: bytes, what: str = "") -> None:
        """Sends a request as soon as there is a thread for it."""
        self._slots.acquire()
        self._threads.submit(self._send, method, sent, what or sent[0][:_SHOWN_BYTES].hex())

    def _send(self, method: RpcMethod, sent: tuple[bytes, ...], what: str) -> None:
        try:
            seconds = STREAM_SECONDS if method.kind is CallKind.STREAM else CALL_SECONDS
            self._note(method, call(self._channel, method, sent, seconds), what)
        finally:
            self._slots.release()

    def _note(self, method: RpcMethod, outcome: Outcome, what: str) -> None:
        late = outcome.code == "DEADLINE_EXCEEDED" and method.kind is not CallKind.STREAM
        with self._lock:
            self.ends[outcome.code] += 1
            self.slowest = max(self.slowest, outcome.seconds)
            if late or outcome.code in _NEVER:
                self.wrong[f"{method.path} {outcome.code} {outcome.reason} {outcome.message[:160]}"] = what


def run(stage: Stage) -> Iterator[Finding]:
    """Sends generated requests of every RPC, and hostile files."""
    count = stage.scaled(100_000, 5_000)
    with ExitStack() as stack:
        kfp = stack.enter_context(start(stage.folder / "kfp"))
        adapter = stack.enter_context(Adapter(kfp.url, stage.home))
        adapter.wait()
        made = Requests(ids_and_names(adapter.target))
        channel = stack.enter_context(grpc.insecure_channel(adapter.target))
        _send(channel, lambda senders: _generated(senders, made, count // 10, stage))  # what grows at first
        before = use_of(adapter.pid)
        generated = _send(channel, lambda senders: _generated(senders, made, count, stage))
        files = _send(channel, _hostile)
        at_end = settled(adapter.pid, before)
        serves = _serves(adapter)
    yield at_least("generated requests", generated.ends.total(), count)
    yield told("of these that were answered with what was asked for", generated.ends["OK"])
    yield exactly("generated requests that ended as none may", generated.wrong or 0, 0)
    yield at_most("slowest of them", generated.slowest, CALL_SECONDS, "s")
    yield at_least("hostile files", files.ends.total(), 40)
    yield exactly("hostile files that ended as none may", files.wrong or 0, 0)
    yield at_most("slowest of them", files.slowest, CALL_SECONDS, "s")
    yield exactly("adapter serves afterwards", serves, wanted=True)
    yield at_most("memory grows by", at_end.memory - before.memory, GROWTH_MIB, "MiB")
    yield at_most("threads grow by", at_end.threads - before.threads, 16)
    yield at_most("open descriptors grow by", at_end.files - before.files, 16)


def _send(channel: grpc.Channel, work: Callable[[Senders], None]) -> Senders:
    senders = Senders(channel)
    try:
        work(senders)
    finally:
        senders.close()
    return senders


def _generated(senders: Senders, made: Requests, count: int, stage: Stage) -> None:
    examples = -(-count // (len(METHODS) * (1 + MUTATIONS)))
    for method in METHODS.values():
        _generated_of(method, made, senders, examples, stage)


def _generated_of(method: RpcMethod, made: Requests, senders: Senders, examples: int, stage: Stage) -> None:
    chance = stage.chance("bytes", method.path)

    @hypothesis.seed(stage.seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(made.of(method.path))
    def send(request: bytes) -> None:
        senders.send(method, request)
        for _ in range(MUTATIONS):
            senders.send(method, mutated(request, chance))

    send()


def _hostile(senders: Senders) -> None:
    for number, (what, make) in enumerate(HOSTILE.items()):
        data = make()
        metadata = pipeline_pb2.UploadPipelineMetadata(name=f"hostile-{number}")
        messages = [pipeline_pb2.UploadPipelineRequest(metadata=metadata)]
        pieces = (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))
        messages += (pipeline_pb2.UploadPipelineRequest(chunk=piece) for piece in pieces)
        senders.send(_UPLOAD, *(message.SerializeToString() for message in messages), what=what)


def _serves(adapter: Adapter) -> bool:
    with Client(adapter.target) as client:
        return (
            adapter.alive()
            and client.health() is HealthStatus.SERVING
            and next(client.pipelines.list(), None) is not None
        )


SCENARIO = Scenario(
    name="bad-input",
    proves="No request and no file, however made, crashes or holds the adapter, or gets an answer without a reason.",
    not_covered="broken HTTP/2 frames: they are gRPC's own; what Kubeflow Pipelines itself makes of hostile files, the "
    "embedded one excepted.",
    run=run,
)
