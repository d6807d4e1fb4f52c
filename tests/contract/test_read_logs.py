"""ReadLogs on a real server, in front of an embedded KFP, and of one that serves no logs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.connecting import connect
from tests.contract.running import WAIT_SECONDS, failure
from tests.embedded.runs import a_run
from tests.embedded.serving import Serving
from tests.embedded.serving import serving as serving_embedded
from tests.scripted_kfp import ScriptedKfp, answers, head, sends

from kfadapter.v1 import common_pb2
from kfadapter.v1 import run_pb2 as pb
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_embedded.execution import State, log_path
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.conftest import Serve

TASK = "학습"
LOG = "/nodes/pod-1/log"


@pytest.fixture
def kfp(tmp_path: Path) -> Iterator[Serving]:
    """An embedded KFP whose runs follow the test's script."""
    with serving_embedded(tmp_path) as running:
        yield running


@pytest.fixture
def stub(serve: Serve, kfp: Serving) -> Iterator[RunServiceStub]:
    """A stub of an adapter in front of it."""
    with contextlib.closing(connect(kfp.url)) as backend:
        yield RunServiceStub(
            serve(RunServicer(backend.runs, watches=WatchPoller(backend.runs), logs=backend.run_logs)).channel
        )


@pytest.fixture
def scripted() -> Iterator[ScriptedKfp]:
    """A KFP with a run whose task ran in `pod-1`; the test scripts its logs."""
    pods = [{"name": "pod-1", "type": "EXECUTOR"}]
    task = {"name": TASK, "task_id": "t-1", "state": "SUCCEEDED", "type": "RUNTIME", "pods": pods}
    with ScriptedKfp() as server:
        server.on("GET", "/v1beta1/runs/r$", answers(404, {"code": 5, "message": "Not Found"}))
        server.on("GET", "/v2beta1/runs/r$", answers(200, {"run_id": "r", "task_count": 1}))
        server.on("GET", "/v2beta1/runs/r/tasks", answers(200, {"tasks": [task]}))
        yield server


@pytest.fixture
def before_scripted(serve: Serve, scripted: ScriptedKfp) -> Iterator[RunServiceStub]:
    """A stub of an adapter in front of that KFP."""
    with contextlib.closing(connect(scripted.url)) as backend:
        yield RunServiceStub(
            serve(RunServicer(backend.runs, watches=WatchPoller(backend.runs), logs=backend.run_logs)).channel
        )


def read(stub: RunServiceStub, run_id: str = "r", task: str = TASK) -> bytes:
    """The whole log."""
    request = pb.ReadLogsRequest(run_id=run_id, task=task)
    return b"".join(message.chunk for message in stub.ReadLogs(request, timeout=WAIT_SECONDS))


def write(kfp: Serving, text: bytes) -> None:
    """Writes to the task's log."""
    path = log_path(kfp.executor.jobs[0].folder, TASK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(text)


def test_log_of_a_task(stub: RunServiceStub, kfp: Serving) -> None:
    """A log is read by the task's name or id, in full, however large it is."""
    run_id = a_run(kfp.caller)
    kfp.executor.start(run_id, TASK)
    text = "한 줄\n".encode() * 200_000
    write(kfp, text)
    kfp.executor.end_task(run_id, TASK, State.SUCCEEDED)
    run = stub.Get(pb.GetRunRequest(run_id=run_id, view=common_pb2.VIEW_FULL))
    assert read(stub, run_id) == text
    assert read(stub, run_id, run.tasks[0].task_id) == text


@pytest.mark.parametrize("timeout", [None, WAIT_SECONDS])
def test_following(stub: RunServiceStub, kfp: Serving, timeout: float | None) -> None:
    """A log is followed while the task writes it, until the task has finished."""
    run_id = a_run(kfp.caller)
    kfp.executor.start(run_id, TASK)
    write(kfp, b"first\n")
    pieces = stub.ReadLogs(pb.ReadLogsRequest(run_id=run_id, task=TASK, follow=True), timeout=timeout)
    assert next(pieces).chunk == b"first\n"
    write(kfp, b"second\n")
    assert next(pieces).chunk == b"second\n"
    kfp.executor.end_task(run_id, TASK, State.FAILED)
    assert list(pieces) == []


def test_missing_resources(stub: RunServiceStub, kfp: Serving) -> None:
    """An unknown run and an unknown task are distinguished; the message lists the existing tasks."""
    it = failure(lambda: read(stub, "nobody"))
    assert (it.code, it.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
    run_id = a_run(kfp.caller)
    kfp.executor.start(run_id, TASK)
    it = failure(lambda: read(stub, run_id, "nobody"))
    assert (it.code, it.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    assert TASK in it.message


def test_no_task_named(stub: RunServiceStub) -> None:
    """A request without a run and a task is rejected."""
    it = failure(lambda: read(stub, "", ""))
    assert (it.reason, [field for field, _ in it.violations]) == ("INVALID_FIELD", ["run_id", "task"])


def test_wrong_attempts_and_iterations(stub: RunServiceStub, kfp: Serving) -> None:
    """Attempts are counted from 1 and iterations from 0; an attempt that was never made is an error."""
    request = pb.ReadLogsRequest(run_id="r", task=TASK, attempt=-1, iteration_index=-1)
    it = failure(lambda: list(stub.ReadLogs(request, timeout=WAIT_SECONDS)))
    assert (it.reason, [field for field, _ in it.violations]) == ("INVALID_FIELD", ["attempt", "iteration_index"])
    run_id = a_run(kfp.caller)
    kfp.executor.start(run_id, TASK)
    request = pb.ReadLogsRequest(run_id=run_id, task=TASK, attempt=2)
    it = failure(lambda: list(stub.ReadLogs(request, timeout=WAIT_SECONDS)))
    assert (it.reason, [field for field, _ in it.violations]) == ("INVALID_FIELD", ["attempt"])


def test_note(before_scripted: RunServiceStub, scripted: ScriptedKfp) -> None:
    """The reason why a log is incomplete comes as the last message, without bytes."""
    words = "BadRequestError: Failed to read logs for run r: InternalServerError: token too long"
    error = f'{{"error_message":"{words}","error_details":"{words}"}}'
    scripted.on("GET", LOG, answers(200, f"first\n{error}".encode(), content_type="text/plain"))
    messages = list(before_scripted.ReadLogs(pb.ReadLogsRequest(run_id="r", task=TASK), timeout=WAIT_SECONDS))
    assert b"".join(message.chunk for message in messages) == b"first\n"
    assert [(message.chunk, "token too long" in message.note) for message in messages][-1] == (b"", True)


@pytest.mark.parametrize("status", [404, 405, 500, 501])
def test_kfp_without_logs(before_scripted: RunServiceStub, scripted: ScriptedKfp, status: int) -> None:
    """If KFP serves no log, the error reports it and names the pod."""
    scripted.on("GET", LOG, answers(status, {"error_message": "no such log"}))
    it = failure(lambda: read(before_scripted))
    assert (it.code, it.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNSUPPORTED_BY_KFP")
    assert "kubectl logs -n NAMESPACE pod-1 -c main" in it.message
    assert it.metadata["pod_name"] == "pod-1"


def test_page_instead_of_a_log(before_scripted: RunServiceStub, scripted: ScriptedKfp) -> None:
    """An HTML page is not mistaken for a log."""
    scripted.on("GET", LOG, answers(200, b"<html>", content_type="text/html"))
    assert failure(lambda: read(before_scripted)).reason == "UNSUPPORTED_BY_KFP"


def test_kfp_away(before_scripted: RunServiceStub, scripted: ScriptedKfp) -> None:
    """An outage of KFP is KFP_UNAVAILABLE."""
    scripted.on("GET", LOG, answers(503))
    assert failure(lambda: read(before_scripted)).reason == "KFP_UNAVAILABLE"


def test_log_that_breaks_off(before_scripted: RunServiceStub, scripted: ScriptedKfp) -> None:
    """A connection that breaks in the middle of a log is an error, not the end of the log."""
    scripted.on("GET", LOG, sends(head(200, {"Content-Length": "100"}) + b"half", then_close=True))
    pieces = before_scripted.ReadLogs(pb.ReadLogsRequest(run_id="r", task=TASK), timeout=WAIT_SECONDS)
    assert next(pieces).chunk == b"half"
    assert failure(lambda: list(pieces)).reason == "KFP_UNAVAILABLE"
