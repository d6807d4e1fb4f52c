"""Asks for an adapter's health again and again, from a process of its own, as a kubelet does: no load holds that up.

Run as `python -m robustness.health_checks TARGET`; prints `ready`, asks until a line comes on its stdin, and prints
what it saw as JSON.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import TYPE_CHECKING

import grpc
from benchmarks.processes import START_SECONDS, Child
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pathlib import Path

CALL_SECONDS = 10.0
"""The deadline of every check."""
PAUSE_SECONDS = 0.1
"""How far apart checks are."""


class HealthChecks(Child):
    """Asks while a `with` block lasts.

    Attributes:
        slowest: The longest time until an answer, in seconds.
        failed: How many checks were not answered with SERVING.
        count: How many checks there were.
    """

    def __init__(self, home: Path, target: str) -> None:
        """Starts to ask."""
        super().__init__([sys.executable, "-m", "robustness.health_checks", target], home)
        self.slowest, self.failed, self.count = 0.0, 0, 0
        self.read(START_SECONDS)

    def __exit__(self, *_: object) -> None:
        try:
            self.write("stop")
            seen = json.loads(self.read(2 * CALL_SECONDS))
            self.slowest, self.failed, self.count = seen["slowest"], seen["failed"], seen["count"]
        finally:
            super().__exit__()


def main(target: str) -> None:
    """Asks, and prints what came of it."""
    slowest, failed, count = 0.0, 0, 0
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        grpc.channel_ready_future(channel).result(CALL_SECONDS)
        _say("ready")
        while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
            began = time.perf_counter()
            failed += not _is_serving(stub)
            slowest = max(slowest, time.perf_counter() - began)
            count += 1
    _say(json.dumps({"slowest": slowest, "failed": failed, "count": count}))


def _is_serving(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
