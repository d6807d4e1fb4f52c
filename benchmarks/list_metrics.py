"""Time to compare the metrics of 100 runs, compared with the same calls to KFP in sequence."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.connecting import connect
from tests.runs_kfp import RunsKfp
from tests.workflows import Task, Workflow

from benchmarks.results import Figure, Row, ratio
from benchmarks.sides import ADAPTER
from benchmarks.spec_summary import timed
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.listing import PageRequest
from kfadapter_grpc.contract.runs import RunFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.stage import Stage
    from kfadapter_grpc.kfp.backend import KfpBackend

_RUNS = 100
_TASKS = 5
_ROUNDS = 5
_KFP_SECONDS = 0.01
"""KFP's time to look up a run."""
_ONE_BY_ONE = "one by one"


def run(_: Stage) -> Iterator[Row]:
    """Measures in this process."""
    kfp = RunsKfp(before_look=lambda: time.sleep(_KFP_SECONDS))
    manifest = Workflow(tuple(Task(f"train-{number}") for number in range(_TASKS))).manifest()
    for _number in range(_RUNS):
        run_id = kfp.add(state="SUCCEEDED")
        kfp.manifests[run_id] = {"run": {"id": run_id}, "pipeline_runtime": {"workflow_manifest": manifest}}
    with kfp.server, closing(connect(kfp.url)) as backend:
        seconds, _stall = timed(lambda: _at_once(backend), _ROUNDS)
        plain, _stall = timed(lambda: _one_by_one(backend), _ROUNDS)
    figures = (
        Figure(ADAPTER, seconds * 1e3, seconds * 1e3, _ROUNDS),
        Figure(_ONE_BY_ONE, plain * 1e3, plain * 1e3, _ROUNDS),
    )
    row = Row("list_metrics", f"metrics of {_RUNS} runs, KFP takes 10 ms for each", "ms", figures)
    yield replace(row, findings=(ratio(row, ADAPTER, _ONE_BY_ONE, "at most half", at_most=0.5),))


def _at_once(backend: KfpBackend) -> None:
    found = backend.artifacts.list_metrics(RunFilter(), PageRequest(_RUNS), Call("benchmark", 60))
    assert len(found.items) == _RUNS  # noqa: S101


def _one_by_one(backend: KfpBackend) -> None:
    call = Call("benchmark", 60)
    for one in backend.runs.list(RunFilter(), PageRequest(_RUNS), call).items:
        backend.runs.get_complete(one.run_id, call)
