"""Calls that the client cancels in the middle."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
from tests.system.between import SlowKfp
from tests.system.calls import begin, serialized
from tests.system.records import HELLO, request
from tests.system.scenario import Finding, Scenario, Stage, Use, at_least, at_most, grown, none

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS_AT_ONCE = 8
STOP_SECONDS = 0.25
"""Within how many seconds after a cancellation the line to KFP must be closed."""
WAIT_SECONDS = 20
_ID = "00000000-0000-4000-8000-000000000000"
_FILE = base64.b64encode(HELLO.read_bytes()).decode()
CALLS: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = (
    ("PipelineService/Get", ({"name": "slow"},)),
    ("PipelineService/List", ({},)),
    ("PipelineService/Delete", ({"pipeline_id": _ID, "force": True},)),
    ("PipelineService/Upload", ({"metadata": {"name": "new"}}, {"chunk": _FILE})),
    ("PipelineService/Download", ({"name": "slow"},)),
    ("RunService/Get", ({"run_id": _ID},)),
    ("RunService/Create", ({"pipeline_name": "slow", "request_id": "slow"},)),
    ("RunService/ReadLogs", ({"run_id": _ID, "task": "slow"},)),
)
"""Calls of each kind."""


class Cancels:
    """Begins calls and cancels them while KFP is at work."""

    def __init__(self, channel: grpc.Channel, kfp: SlowKfp, stage: Stage) -> None:
        self.stopped: list[float] = []
        self.endless = 0
        self.others: list[str] = []
        self._channel, self._kfp = channel, kfp
        self._chance = stage.chance("pauses")

    def cancel(self, number: int) -> None:
        """Begins a call, waits until KFP works for it, waits a little, and cancels it."""
        (rpc, sent), request_id = CALLS[number % len(CALLS)], f"cancels-{number}"
        path = f"/kfadapter.v1.{rpc}"
        came = self._kfp.expect(request_id)
        messages = serialized(*(request(path, **fields) for fields in sent))
        call = begin(self._channel, path, messages, WAIT_SECONDS, request_id)
        if came.wait(WAIT_SECONDS):
            time.sleep(self._chance.uniform(0, 0.02))
            began = time.monotonic()
            if call.cancel():
                closed = self._kfp.closed_at(request_id, WAIT_SECONDS)
                self.endless += closed is None
                self.stopped += [] if closed is None else [closed - began]
                return
        self.others.append(f"{rpc}: {call.code()} {call.details()}")


def run(stage: Stage) -> Iterator[Finding]:
    """Cancels calls of every kind while KFP does not answer."""
    count, first = stage.scaled(2_000, 200), CALLS_AT_ONCE * 4
    with ExitStack() as stack:
        kfp = stack.enter_context(SlowKfp())
        adapter = stage.adapter(stack, kfp.url)
        cancels = Cancels(stack.enter_context(grpc.insecure_channel(adapter.target)), kfp, stage)
        with ThreadPoolExecutor(CALLS_AT_ONCE) as threads:
            list(threads.map(cancels.cancel, range(first)))  # what grows at first
            before = Use.of(adapter.pid)
            list(threads.map(cancels.cancel, range(first, count)))
        growth = list(grown(adapter.pid, before, memory=16, threads=4, files=4))
    yield at_least("calls cancelled while KFP was at work", len(cancels.stopped), count - len(cancels.others))
    yield none("calls that KFP was not asked for, or that had ended", cancels.others)
    yield none("calls whose work went on in KFP", cancels.endless)
    longest, bound = max(cancels.stopped, default=0), STOP_SECONDS * stage.slack
    yield at_most("longest time until KFP's work was let go", longest, bound, "s")
    yield from growth


SCENARIO = Scenario(
    "cancels",
    "When a client cancels a call, the adapter lets go of KFP's work at once, and nothing of the call is left.",
    "what KFP itself goes on doing for a request whose line is closed; the looks after a change that was broken off, "
    "which have a budget of their own.",
    run,
)
