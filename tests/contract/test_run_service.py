"""RunService on a real server, in front of a KFP that keeps runs: responses and errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from tests.connecting import connect
from tests.contract.running import failure
from tests.runs_kfp import AT, EXPERIMENT, NAME, NOBODY, OLDER, PIPELINE, VERSION, Fault, RunsKfp
from tests.scripted_kfp import resets

from kfadapter.v1 import run_pb2 as pb
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_grpc.client import Client, RequestIdReusedError, RunState, View
from kfadapter_grpc.contract.runs import run_id_for
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.contract.conftest import Serve
    from tests.contract.running import Running

FAILED_TASK = {"name": "train", "task_id": "t", "state": "FAILED", "status_metadata": {"message": "boom"}}


@pytest.fixture
def kfp() -> Iterator[RunsKfp]:
    """A KFP that keeps runs."""
    kfp = RunsKfp()
    with kfp.server:
        yield kfp


@pytest.fixture
def adapter(serve: Serve, kfp: RunsKfp) -> Iterator[Running]:
    """An adapter in front of it."""
    backend = connect(kfp.url)
    yield serve(RunServicer(backend.runs, watches=WatchPoller(backend.runs), logs=backend.run_logs), backend.is_alive)
    backend.close()


@pytest.fixture
def stub(adapter: Running) -> RunServiceStub:
    """A stub of the adapter."""
    return RunServiceStub(adapter.channel)


@pytest.fixture
def client(adapter: Running) -> Iterator[Client]:
    """A client of the adapter."""
    with Client(adapter.server.address) as client:
        yield client


def create(**fields: object) -> pb.CreateRunRequest:
    """A request to run the pipeline."""
    return ParseDict({"pipeline_name": NAME, "parameters": {"s": "값"}, **fields}, pb.CreateRunRequest())


def test_the_life_of_a_run(stub: RunServiceStub, kfp: RunsKfp) -> None:
    """Create, Get, List, Terminate, Retry, Archive, Unarchive and Delete return what KFP keeps."""
    made = stub.Create(create(experiment_name="실험", display_name="이름", labels={"team": "비전"}))
    run_id = made.run_id
    assert MessageToDict(made, preserving_proto_field_name=True) == {
        "run_id": run_id,
        "display_name": "이름",
        "state": "RUN_STATE_PENDING",
        "pipeline_id": PIPELINE,
        "pipeline_version_id": VERSION,
        "experiment_id": EXPERIMENT,
        "parameters": {"s": "값"},
        "labels": {"team": "비전"},
        "created_at": AT,
        "scheduled_at": AT,
        "state_history": [{"state": "RUN_STATE_PENDING", "at": AT}],
        "service_account": "pipeline-runner",
        "storage_state": "STORAGE_STATE_AVAILABLE",
        "etag": made.etag,
    }
    assert stub.Get(pb.GetRunRequest(run_id=run_id)) == made
    listed = stub.List(pb.ListRunsRequest())
    assert (list(listed.runs), listed.total_size, listed.next_page_token) == ([made], 1, "")
    assert stub.Terminate(pb.TerminateRunRequest(run_id=run_id)).state == pb.RUN_STATE_CANCELING
    kfp.runs[run_id].update(state="FAILED", finished_at=AT)
    assert stub.Retry(pb.RetryRunRequest(run_id=run_id)).state == pb.RUN_STATE_RUNNING
    assert stub.Archive(pb.ArchiveRunRequest(run_id=run_id)).storage_state == 2
    assert stub.Unarchive(pb.UnarchiveRunRequest(run_id=run_id)).storage_state == 1
    assert stub.Delete(pb.DeleteRunRequest(run_id=run_id)).run_id == run_id
    assert stub.Delete(pb.DeleteRunRequest(run_id=run_id, allow_missing=True)).run_id == ""


def test_the_etag_changes_with_every_change(stub: RunServiceStub) -> None:
    """Terminating and archiving change the etag, reading does not."""
    run_id = stub.Create(create()).run_id
    look = pb.GetRunRequest(run_id=run_id)
    etags = [stub.Get(look).etag, stub.Get(look).etag]
    etags += [stub.Terminate(pb.TerminateRunRequest(run_id=run_id)).etag, stub.Get(look).etag]
    etags += [stub.Archive(pb.ArchiveRunRequest(run_id=run_id)).etag, stub.List(pb.ListRunsRequest()).runs[0].etag]
    assert etags[0::2] == etags[1::2]
    assert len(set(etags)) == 3


FAILURES: dict[str, tuple[Callable[[RunServiceStub], object], grpc.StatusCode, str]] = {
    "no such pipeline": (
        lambda stub: stub.Create(create(pipeline_name="없음")),
        grpc.StatusCode.NOT_FOUND,
        "PIPELINE_NOT_FOUND",
    ),
    "no such version": (
        lambda stub: stub.Create(create(version_name="9")),
        grpc.StatusCode.NOT_FOUND,
        "VERSION_NOT_FOUND",
    ),
    "no such experiment": (
        lambda stub: stub.Create(create(experiment_id=NOBODY)),
        grpc.StatusCode.NOT_FOUND,
        "EXPERIMENT_NOT_FOUND",
    ),
    "no such run": (lambda stub: stub.Get(pb.GetRunRequest(run_id=NOBODY)), grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND"),
    "no id": (lambda stub: stub.Get(pb.GetRunRequest()), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    "a parameter too few": (
        lambda stub: stub.Create(pb.CreateRunRequest(pipeline_name=NAME)),
        grpc.StatusCode.INVALID_ARGUMENT,
        "PARAMETER_MISSING",
    ),
    "an ill-typed one": (
        lambda stub: stub.Create(create(parameters={"s": 7})),
        grpc.StatusCode.INVALID_ARGUMENT,
        "PARAMETER_TYPE",
    ),
    "an unknown view": (
        lambda stub: stub.Get(pb.GetRunRequest(run_id=NOBODY, view=9)),  # type: ignore[arg-type]
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    ),
    "an unknown order": (
        lambda stub: stub.List(pb.ListRunsRequest(order_by="state")),
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
    ),
    "a token of nothing": (
        lambda stub: stub.List(pb.ListRunsRequest(page_token="x")),  # noqa: S106 - not a password
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_PAGE_TOKEN",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_what_fails(stub: RunServiceStub, case: str) -> None:
    """Code and reason are exact."""
    call, code, reason = FAILURES[case]
    it = failure(lambda: call(stub))
    assert (it.code, it.reason) == (code, reason)


def test_a_run_that_did_not_fail_is_not_retried(stub: RunServiceStub) -> None:
    """FAILED_PRECONDITION / RUN_NOT_RETRYABLE, with the state."""
    run_id = stub.Create(create()).run_id
    it = failure(lambda: stub.Retry(pb.RetryRunRequest(run_id=run_id)))
    assert (it.code, it.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_RETRYABLE")
    assert it.metadata["state"] == "PENDING"
    assert it.resource == ("run", run_id)


def test_wrong_parameters_are_reported_at_once(stub: RunServiceStub, kfp: RunsKfp) -> None:
    """INVALID_ARGUMENT / PARAMETER_UNKNOWN, with a violation for each wrong parameter; no run is created in KFP."""
    it = failure(lambda: stub.Create(create(parameters={"ss": "x", "i": 1.5, "b": "yes", "xs": {}, "d": []})))
    assert (it.code, it.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "PARAMETER_UNKNOWN")
    assert {name for name, _ in it.violations} == {f"parameters.{name}" for name in ("ss", "i", "b", "xs", "d", "s")}
    assert kfp.posts() == []


def test_tokens_belong_to_their_filter(stub: RunServiceStub, kfp: RunsKfp) -> None:
    """A page token of another filter is INVALID_PAGE_TOKEN; with its own filter it returns the next page."""
    for number in range(3):
        kfp.add(display_name=f"r{number}")
    token = stub.List(pb.ListRunsRequest(page_size=2)).next_page_token
    assert len(stub.List(pb.ListRunsRequest(page_size=2, page_token=token)).runs) == 1
    other = pb.RunFilter(display_name_contains="r")
    it = failure(lambda: stub.List(pb.ListRunsRequest(page_size=2, page_token=token, filter=other)))
    assert it.reason == "INVALID_PAGE_TOKEN"


def test_the_client_library(client: Client, kfp: RunsKfp) -> None:
    """The client library does the same with typed results; the id of a run is known before it is started."""
    beforehand = client.runs.id_for("nightly")
    checked = client.runs.create(NAME, parameters={"s": "x", "i": 3}, request_id="nightly", validate_only=True)
    assert (checked.run_id, checked.state, kfp.runs) == (beforehand, RunState.UNKNOWN, {})
    run = client.runs.create(NAME, parameters={"s": "x", "i": 3}, request_id="nightly", labels={"a": "b"})
    assert (run.run_id, run.parameters) == (beforehand, {"s": "x", "i": 3})
    assert client.runs.get(run.run_id).pipeline_name == NAME
    assert client.runs.get(run.run_id, view=View.BASIC) == run
    assert [one.run_id for one in client.runs.list(labels={"a": "b"}, page_size=1)] == [run.run_id]
    assert [one.run_id for one in client.runs.list(label_keys=["a"])] == [run.run_id]
    assert list(client.runs.list(label_keys=["b"])) == []
    with pytest.raises(RequestIdReusedError):
        client.runs.create(NAME, parameters={"s": "y"}, request_id="nightly")
    assert client.runs.terminate(run.run_id, wait=0.1).state is RunState.CANCELING
    kfp.runs[run.run_id].update(state="FAILED", task_count=1)
    kfp.tasks = {run.run_id: [FAILED_TASK]}
    failed = client.runs.get(run.run_id)
    assert failed.error == "task 'train' failed: boom"
    assert [(task.name, task.error) for task in failed.tasks if task.error] == [("train", "boom")]
    assert client.runs.retry(run.run_id).state is RunState.RUNNING
    assert client.runs.archive(run.run_id).storage_state.value == "ARCHIVED"
    assert client.runs.unarchive(run.run_id).storage_state.value == "AVAILABLE"
    assert client.runs.delete(run.run_id)
    assert not client.runs.delete(run.run_id, allow_missing=True)


def test_a_version_without_caching(client: Client, kfp: RunsKfp) -> None:
    """The run is still found by its version."""
    run = client.runs.create(NAME, version_name="1", parameters={"s": "x"}, caching=False)
    kfp.add()
    assert [one.run_id for one in client.runs.list(pipeline_version_id=OLDER)] == [run.run_id]


@pytest.mark.slow
def test_ten_clients_at_once_and_a_broken_line(client: Client, kfp: RunsKfp) -> None:
    """One run, whatever happens to the first responses."""
    kfp.faults = [Fault(stored=False, behaviour=resets()), Fault(stored=True, behaviour=resets())]
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(client.runs.create, NAME, parameters={"s": "x"}, request_id="r") for _ in range(10)]
        assert {one.result().run_id for one in calls} == {run_id_for("r")}
    assert list(kfp.runs) == [run_id_for("r")]
