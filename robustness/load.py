"""Calls at a fixed rate, whatever becomes of them, from a process of its own.

Run as `python -m robustness.load TARGET CHANNELS RATE SECONDS`; prints `ready`, begins with the first line of its
stdin, and prints what it saw as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from benchmarks.processes import START_SECONDS, Child
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CALL_SECONDS = 10.0
"""The deadline of every call."""
_CHANNEL_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


@dataclass
class Seen:
    """What became of the calls.

    Attributes:
        seconds: How long the calls lasted that succeeded.
        refused: How long those lasted that were refused with OVERLOADED and a RetryInfo.
        others: Whatever else they ended with, and how often.
        lasted: Seconds from the first call to the end of the last one's turn.
    """

    seconds: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    lasted: float = 0.0

    @property
    def offered(self) -> float:
        """Calls per second that were made."""
        return (len(self.seconds) + len(self.refused) + self.others.total()) / self.lasted

    @property
    def goodput(self) -> float:
        """Calls per second that succeeded."""
        return len(self.seconds) / self.lasted


class Load(Child):
    """A process that calls `target` over so many channels, `rate` calls a second in all, for `seconds`."""

    def __init__(self, home: Path, target: str, channels: int, rate: float, seconds: float) -> None:
        """Starts it, and waits until it could begin."""
        arguments = [target, str(channels), str(rate), str(seconds)]
        super().__init__([sys.executable, "-m", "robustness.load", *arguments], home)
        self._limit = seconds + 3 * CALL_SECONDS
        self.read(START_SECONDS)

    def begin(self) -> None:
        """Has it begin."""
        self.write("begin")

    def seen(self) -> Seen:
        """Waits for its end; tells what it saw."""
        found = json.loads(self.read(self._limit))
        return Seen(**{**found, "others": Counter(found["others"])})


def _call(stubs: Sequence[PipelineServiceStub], rate: float, seconds: float) -> Seen:
    seen, lock, open_calls = Seen(), threading.Lock(), threading.Semaphore(0)
    begun = time.perf_counter()
    count = round(rate * seconds)
    for number in range(count):
        pause = begun + number / rate - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        started = time.perf_counter()
        call = stubs[number % len(stubs)].Get.future(pb.GetPipelineRequest(name="instant"), timeout=CALL_SECONDS)

        def note(ended: grpc.Future[pb.Pipeline], started: float = started) -> None:
            with lock:
                _note(seen, ended, time.perf_counter() - started)
            open_calls.release()

        call.add_done_callback(note)
    seen.lasted = time.perf_counter() - begun
    for _ in range(count):
        open_calls.acquire()
    return seen


def _note(seen: Seen, ended: grpc.Future[pb.Pipeline], seconds: float) -> None:
    code = ended.code()  # type: ignore[attr-defined]
    if code is grpc.StatusCode.OK:
        seen.seconds.append(seconds)
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and _says_when(ended):
        seen.refused.append(seconds)
    else:
        seen.others[f"{code.name}: {ended.details()}"] += 1  # type: ignore[attr-defined]


def _says_when(ended: grpc.Future[pb.Pipeline]) -> bool:
    trailers = dict(ended.trailing_metadata() or ())  # type: ignore[attr-defined]
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    names = {detail.TypeName() for detail in status.details}
    info = error_details_pb2.ErrorInfo()
    reasons = {info.reason for detail in status.details if detail.Unpack(info)}
    return reasons == {"OVERLOADED"} and error_details_pb2.RetryInfo.DESCRIPTOR.full_name in names


def main(target: str, channels: int, rate: float, seconds: float) -> None:
    """Calls, and prints what came of it."""
    opened = [grpc.insecure_channel(target, _CHANNEL_OPTIONS) for _ in range(channels)]
    for channel in opened:
        grpc.channel_ready_future(channel).result(START_SECONDS)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    seen = _call([PipelineServiceStub(channel) for channel in opened], rate, seconds)
    sys.stdout.write(json.dumps(vars(seen)) + "\n")
    sys.stdout.flush()
    for channel in opened:
        channel.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
