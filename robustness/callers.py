"""Callers in this process: for what is measured gently beside the load."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub
from robustness.crowd import Crowd

CALL_SECONDS = 10.0
"""The deadline of every call."""
HEALTH_PAUSE_SECONDS = 0.1
"""How far apart health checks are."""
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)


def in_turn(target: str, callers: int, seconds: float) -> list[float]:
    """Has callers, each on a connection of its own, call one call after the other; tells how long each call took.

    Raises:
        RpcError: A call failed.
    """
    end = time.perf_counter() + seconds
    with ThreadPoolExecutor(callers) as threads:
        found = [threads.submit(_in_turn, target, end) for _ in range(callers)]
        return [one for each in found for one in each.result()]


def _in_turn(target: str, end: float) -> list[float]:
    taken: list[float] = []
    with grpc.insecure_channel(target, _OWN_CONNECTION) as channel:
        stub = PipelineServiceStub(channel)
        while (began := time.perf_counter()) < end:
            stub.Get(pb.GetPipelineRequest(name="instant"), timeout=CALL_SECONDS)
            taken.append(time.perf_counter() - began)
    return taken


class HealthChecks(Crowd):
    """Asks for an adapter's health again and again while a `with` block lasts.

    Attributes:
        slowest: The longest time until an answer, in seconds.
        failed: How many checks were not answered with SERVING.
        count: How many checks there were.
    """

    def __init__(self, target: str) -> None:
        self.slowest, self.failed, self.count = 0.0, 0, 0
        self._target = target
        super().__init__([self._run])

    def _run(self) -> None:
        with grpc.insecure_channel(self._target, _OWN_CONNECTION) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            grpc.channel_ready_future(channel).result(CALL_SECONDS)
            while not self.stopped.wait(HEALTH_PAUSE_SECONDS):
                self._check(stub)

    def _check(self, stub: health_pb2_grpc.HealthStub) -> None:
        began = time.perf_counter()
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=CALL_SECONDS)
            self.failed += answer.status != health_pb2.HealthCheckResponse.SERVING
        except grpc.RpcError:
            self.failed += 1
        self.slowest = max(self.slowest, time.perf_counter() - began)
        self.count += 1
