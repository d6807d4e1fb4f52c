"""Callers who go away in the middle."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
from benchmarks.processes import Adapter
from tests.scripted_kfp import ScriptedKfp

from kfadapter.v1 import pipeline_pb2, run_pb2
from kfadapter_grpc.methods import METHODS
from robustness.process_use import settled, use_of
from robustness.records import HELLO
from robustness.scenario import Finding, Scenario, Stage, at_least, at_most, exactly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from tests.scripted_kfp import Connection, Received

CALLS_AT_ONCE = 8
STOP_SECONDS = 0.25
"""Within how many seconds after a cancellation the line to KFP must be closed."""
WAIT_SECONDS = 20.0
_ID = "00000000-0000-4000-8000-000000000000"
_PIPELINE = "/kfadapter.v1.PipelineService"
_UPLOAD = (
    pipeline_pb2.UploadPipelineRequest(metadata=pipeline_pb2.UploadPipelineMetadata(name="new")),
    pipeline_pb2.UploadPipelineRequest(chunk=HELLO.read_bytes()),
)
CALLS: tuple[tuple[str, tuple[Message, ...]], ...] = (
    (f"{_PIPELINE}/Get", (pipeline_pb2.GetPipelineRequest(name="slow"),)),
    (f"{_PIPELINE}/List", (pipeline_pb2.ListPipelinesRequest(),)),
    (f"{_PIPELINE}/Delete", (pipeline_pb2.DeletePipelineRequest(pipeline_id=_ID, force=True),)),
    (f"{_PIPELINE}/Upload", _UPLOAD),
    (f"{_PIPELINE}/Download", (pipeline_pb2.DownloadPipelineRequest(name="slow"),)),
    ("/kfadapter.v1.RunService/Get", (run_pb2.GetRunRequest(run_id=_ID),)),
    ("/kfadapter.v1.RunService/Create", (run_pb2.CreateRunRequest(pipeline_name="slow", request_id="slow"),)),
    ("/kfadapter.v1.RunService/ReadLogs", (run_pb2.ReadLogsRequest(run_id=_ID, task="slow"),)),
)
"""Calls of each kind: their RPCs and messages."""


class SlowKfp:
    """A KFP that never answers, and sees when the line is closed.

    Attributes:
        url: Its address.
    """

    def __init__(self) -> None:
        self._server = ScriptedKfp()
        for method in ("GET", "POST", "DELETE"):
            self._server.on(method, "", self._hold)
        self.url = self._server.url
        self._came: dict[str, threading.Event] = {}
        self._closed: dict[str, float] = {}
        self._changed = threading.Condition()

    def __enter__(self) -> SlowKfp:  # noqa: PYI034 - typing.Self is newer than Python 3.10
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)

    def expect(self, request_id: str) -> threading.Event:
        """Tells by an event when the first request of a call has come."""
        with self._changed:
            return self._came.setdefault(request_id, threading.Event())

    def closed_at(self, request_id: str) -> float | None:
        """When the line of a call was closed, waited for; None if that takes too long."""
        with self._changed:
            self._changed.wait_for(lambda: request_id in self._closed, WAIT_SECONDS)
            return self._closed.get(request_id)

    def _hold(self, connection: Connection, received: Received) -> bool:
        request_id = received.headers["x-request-id"]
        self.expect(request_id).set()
        connection.sock.recv(1)  # returns when the line is closed
        with self._changed:
            self._closed.setdefault(request_id, time.monotonic())
            self._changed.notify_all()
        return False


class Cancels:
    """Begins calls and cancels them while KFP is at work.

    Attributes:
        stopped: How many seconds each took from the cancellation until KFP's work was let go.
        endless: Calls whose work went on.
        others: Calls that KFP was not asked for, or that were not cancelled.
    """

    def __init__(self, target: str, kfp: SlowKfp, stage: Stage) -> None:
        self.stopped: list[float] = []
        self.endless = 0
        self.others: list[str] = []
        self._channel = grpc.insecure_channel(target)
        self._kfp = kfp
        self._chance = stage.chance("pauses")

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def cancel(self, number: int) -> None:
        """Begins a call, waits until KFP works for it, waits a little, and goes away."""
        path, messages = CALLS[number % len(CALLS)]
        request_id = f"cancels-{number}"
        came = self._kfp.expect(request_id)
        call = self._begin(path, [message.SerializeToString() for message in messages], request_id)
        if not came.wait(WAIT_SECONDS):
            self.others.append(f"{path}: {call.code()} {call.details()}")
            return
        time.sleep(self._chance.uniform(0, 0.02))
        began = time.monotonic()
        if not call.cancel():
            self.others.append(f"{path}: {call.code()} {call.details()}")
        closed = self._kfp.closed_at(request_id)
        if closed is None:
            self.endless += 1
        else:
            self.stopped.append(closed - began)

    def _begin(self, path: str, sent: list[bytes], request_id: str) -> Any:  # noqa: ANN401 - one of gRPC's calls
        method, metadata = METHODS[path], (("x-request-id", request_id),)
        make: Any
        if method.client_streaming:
            make = self._channel.stream_unary(path)
            return make.future(iter(sent), timeout=WAIT_SECONDS, metadata=metadata)
        if method.server_streaming:
            make = self._channel.unary_stream(path)
            return make(sent[0], timeout=WAIT_SECONDS, metadata=metadata)
        make = self._channel.unary_unary(path)
        return make.future(sent[0], timeout=WAIT_SECONDS, metadata=metadata)


def run(stage: Stage) -> Iterator[Finding]:
    """Cancels calls of every kind while KFP does not answer."""
    count = stage.scaled(2_000, 200)
    with ExitStack() as stack:
        kfp = stack.enter_context(SlowKfp())
        adapter = stack.enter_context(Adapter(kfp.url, stage.home))
        adapter.wait()
        cancels = Cancels(adapter.target, kfp, stage)
        stack.callback(cancels.close)
        with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
            list(threads.map(cancels.cancel, range(CALLS_AT_ONCE * 4)))  # what grows at first
            before = use_of(adapter.pid)
            list(threads.map(cancels.cancel, range(CALLS_AT_ONCE * 4, count)))
        after = settled(adapter.pid, before)
    yield at_least("calls cancelled while KFP was at work", len(cancels.stopped), count - len(cancels.others))
    yield exactly("calls that KFP was not asked for, or that were over", cancels.others or 0, 0)
    yield exactly("calls whose work went on in KFP", cancels.endless, 0)
    yield at_most(
        "longest time until KFP's work was let go", max(cancels.stopped, default=0), STOP_SECONDS * stage.slack, "s"
    )
    yield at_most("memory grows by", after.memory - before.memory, 16, "MiB")
    yield at_most("threads grow by", after.threads - before.threads, 4)
    yield at_most("open descriptors grow by", after.files - before.files, 4)


SCENARIO = Scenario(
    name="cancels",
    proves="When a caller goes away, the adapter lets go of KFP's work at once, and nothing of the call is left.",
    not_covered="what KFP itself goes on doing for a request whose line is closed; the looks after a change that was "
    "broken off, which have a budget of their own.",
    run=run,
)
