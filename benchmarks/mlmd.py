"""Time to read the outputs of a large run from ML Metadata, compared with the bare calls."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
from tests.mlmd import FakeStore, large_run
from tests.workflows import Task, Workflow

from benchmarks.results import Figure, Row, absolute, ratio
from benchmarks.sides import ADAPTER
from benchmarks.spec_summary import timed
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.kfp.mlmd import metadata_store_pb2 as pb
from kfadapter_grpc.kfp.mlmd.metadata_store_pb2_grpc import MetadataStoreServiceStub
from kfadapter_grpc.kfp.mlmd.store import PAGE_SIZE, OutputsReader, StoreSettings
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mlmd import Recording

    from benchmarks.stage import Stage

_ITEMS = 300
_ROUNDS = 15
_PLAIN = "plain gRPC"
_MOST_CALLS = {False: 12, True: 22}


def run(_: Stage) -> Iterator[Row]:
    """Measures in this process."""
    for in_loop in (False, True):
        yield from _measured(large_run(_ITEMS, in_loop=in_loop), in_loop=in_loop)


def _measured(recording: Recording, *, in_loop: bool) -> Iterator[Row]:
    train = tuple(Task(f"train-{number}", cached=True) for number in range(_ITEMS))
    tasks = (Task("each", "loop", (Task("train", cached=True),), _ITEMS),) if in_loop else train
    nodes = read_nodes(Workflow(tasks).manifest(), is_over=True)
    what = f"outputs of {len(recording.executions)} executions{' of a loop' if in_loop else ''} from ML Metadata"
    store = FakeStore(recording)
    address = store.start()
    with closing(OutputsReader(StoreSettings(address))) as reader:
        done = reader.complete(recording.run_id, nodes, Call("benchmark", 60))
        calls = len(store.calls)
        assert sum(len(task.outputs) for task in done.tasks if task.name != "each") == 2 * _ITEMS  # noqa: S101
        seconds, _stall = timed(lambda: reader.complete(recording.run_id, nodes, Call("benchmark", 60)), _ROUNDS)
    with grpc.insecure_channel(address) as channel:
        stub = MetadataStoreServiceStub(channel)
        plain, _stall = timed(lambda: plain_calls(stub, recording.run_id), _ROUNDS)
    store.stop()
    figures = (
        Figure(ADAPTER, seconds * 1e3, seconds * 1e3, _ROUNDS),
        Figure(_PLAIN, plain * 1e3, plain * 1e3, _ROUNDS),
    )
    row = Row("mlmd", what, "ms", figures)
    yield replace(row, findings=(ratio(row, ADAPTER, _PLAIN),))
    count = Row("mlmd", f"{what}: calls", "calls", (Figure(ADAPTER, calls, calls, 1),))
    most = _MOST_CALLS[in_loop]
    yield replace(count, findings=(absolute(count, ADAPTER, f"{most} calls at most", at_most=most),))


def plain_calls(stub: MetadataStoreServiceStub, run_id: str) -> None:
    """The calls that KFP's own clients make, in sequence, in pages of 100."""
    name = pb.GetContextByTypeAndNameRequest(type_name="system.PipelineRun", context_name=run_id)
    context = stub.GetContextByTypeAndName(name).context
    executions: list[int] = []
    token: str | None = None
    while token != "":
        options = pb.ListOperationOptions(max_result_size=PAGE_SIZE, next_page_token=token)
        page = stub.GetExecutionsByContext(pb.GetExecutionsByContextRequest(context_id=context.id, options=options))
        executions += [one.id for one in page.executions]
        token = page.next_page_token
    artifacts: list[int] = []
    for begin in range(0, len(executions), PAGE_SIZE):
        ids = executions[begin : begin + PAGE_SIZE]
        events = stub.GetEventsByExecutionIDs(pb.GetEventsByExecutionIDsRequest(execution_ids=ids)).events
        artifacts += [one.artifact_id for one in events]
    for begin in range(0, len(artifacts), PAGE_SIZE):
        stub.GetArtifactsByID(pb.GetArtifactsByIDRequest(artifact_ids=artifacts[begin : begin + PAGE_SIZE]))
