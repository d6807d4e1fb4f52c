"""Time of Get FULL of a run of 50 tasks, compared with the bare calls to KFP and ML Metadata."""

from __future__ import annotations

import http.client
import json
import sys
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc

from benchmarks.mlmd import plain_calls
from benchmarks.processes import START_SECONDS, Adapter, Child
from benchmarks.results import Row, figure, ratio
from benchmarks.rounds import take_turns
from benchmarks.run_stand_in import RUN_ID, TASKS
from benchmarks.sides import ADAPTER, CALL_SECONDS
from kfadapter.v1 import common_pb2, run_pb2, run_pb2_grpc
from kfadapter_grpc.kfp.mlmd.metadata_store_pb2_grpc import MetadataStoreServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.stage import Stage

_CALLS = 10
_PLAIN = "plain calls"
_V2_RUN, _V1_RUN = f"/apis/v2beta1/runs/{RUN_ID}", f"/apis/v1beta1/runs/{RUN_ID}"


def run(stage: Stage) -> Iterator[Row]:
    """Measures an adapter with each of the two KFPs."""
    with Child([sys.executable, "-m", "benchmarks.run_stand_in"], stage.home) as servers:
        _, following, old, mlmd = servers.read(START_SECONDS).split()
        with closing(_connection(following)) as kfp:
            plainly = partial(_get, kfp, f"{_V2_RUN}?view=FULL")
            yield _compared(stage, "next KFP, beside its own view=FULL", plainly, following)
        with closing(_connection(old)) as kfp, grpc.insecure_channel(mlmd) as channel:
            stub = MetadataStoreServiceStub(channel)

            def one_by_one() -> None:
                _get(kfp, _V2_RUN)
                _get(kfp, _V1_RUN)
                plain_calls(stub, RUN_ID)

            what = "KFP 2.17 with ML Metadata, beside the same calls one after the other"
            yield _compared(stage, what, one_by_one, old, "--mlmd-address", mlmd)


def _compared(stage: Stage, what: str, plainly: Callable[[], object], url: str, *options: str) -> Row:
    with Adapter(url, stage.home, *options) as adapter, grpc.insecure_channel(adapter.target) as channel:
        adapter.wait()
        stub = run_pb2_grpc.RunServiceStub(channel)
        request = run_pb2.GetRunRequest(run_id=RUN_ID, view=common_pb2.VIEW_FULL)

        def get() -> None:
            found = stub.Get(request, timeout=CALL_SECONDS)
            outputs = sum(len(task.outputs) for task in found.tasks)
            assert outputs >= TASKS - 5, f"{len(found.tasks)} tasks, {outputs} outputs"  # noqa: S101

        sides = {ADAPTER: partial(_seconds, get), _PLAIN: partial(_seconds, plainly)}
        found = take_turns(sides, stage.scale.rounds)
    figures = (figure(side, [one for turn in turns for one in turn], scale=1e3) for side, turns in found.items())
    row = Row("run_full", f"Get FULL of {TASKS} tasks, {what}", "ms", tuple(figures))
    return replace(row, findings=(ratio(row, ADAPTER, _PLAIN, "at most 1.5 x", at_most=1.5),))


def _seconds(work: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(_CALLS):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return found


def _connection(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=CALL_SECONDS)


def _get(kfp: http.client.HTTPConnection, target: str) -> object:
    kfp.request("GET", target)
    return json.loads(kfp.getresponse().read())
