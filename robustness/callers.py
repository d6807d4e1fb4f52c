"""Callers in this process: for what is measured gently beside the load."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceStub

CALL_SECONDS = 10.0
"""The deadline of every call."""
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
