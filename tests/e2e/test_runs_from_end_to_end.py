"""Runs through the whole chain: a caller, an adapter in a process of its own, an embedded KFP that executes them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from tests.contract.running import failure
from tests.e2e.following import CALL_SECONDS, RUN_SECONDS, calling, is_over, is_running, metrics, outputs

from kfadapter.v1 import common_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Adapter
    from tests.e2e.following import Caller

PIPELINES = "tests/data/pipelines"
EVERYTHING: dict[str, object] = {
    "s": "가나다 \"따옴표\" \\ 'x' 🙂",
    "i": 41,
    "f": 0.5,
    "b": False,
    "xs": [3, 2],
    "d": {"키": 1},
    "maybe": "있다",
}


@pytest.fixture(scope="module")
def caller(executing: Adapter) -> Iterator[Caller]:
    """Calls an adapter whose KFP executes runs."""
    with calling(executing) as made:
        yield made


@pytest.fixture
def name() -> str:
    """A name that nobody else uses."""
    return f"e2e-실행-{uuid.uuid4().hex[:12]}"


def test_typed_parameters_reach_the_task(caller: Caller, name: str) -> None:
    """What is given comes back as it was, of its type, and the task has worked with it."""
    caller.upload(f"{PIPELINES}/all_parameter_types.yaml", name)
    started = caller.start(name, EVERYTHING)
    assert json_format.MessageToDict(started.parameters) == EVERYTHING
    run = caller.follow(started.run_id)
    assert (run.state, run.error) == (run_pb2.RUN_STATE_SUCCEEDED, ""), run
    assert json_format.MessageToDict(run.parameters) == EVERYTHING
    assert outputs(run, "all-types") == {"Output": 41.5}


def test_everything_that_is_said_of_a_run(caller: Caller, name: str) -> None:
    """Names, texts and labels in Korean are kept, times follow each other, all states are told."""
    pipeline = caller.upload(f"{PIPELINES}/hello_world.yaml", name)
    run_id = caller.start(
        name,
        {"recipient": "여러분", "times": 2},
        display_name="첫 실행",
        description="무엇을 위한 것인지",
        labels={"팀": "모델", "owner": "kim"},
        experiment_name=name,
        create_experiment=True,
    ).run_id
    run = caller.follow(run_id)
    assert outputs(run, "greet") == {"Output": "hello 여러분, hello 여러분"}
    assert (run.display_name, run.description) == ("첫 실행", "무엇을 위한 것인지")
    assert dict(run.labels) == {"팀": "모델", "owner": "kim"}
    assert (run.pipeline_name, run.pipeline_version_name, run.experiment_name) == (name, name, name)
    assert run.pipeline_id == pipeline.pipeline_id
    assert run.created_at.ToDatetime() <= run.finished_at.ToDatetime()
    states = [run_pb2.RunState.Name(change.state) for change in run.state_history]
    assert (states[0], states[-1]) == ("RUN_STATE_PENDING", "RUN_STATE_SUCCEEDED")
    (task,) = [one for one in run.tasks if one.name == "greet"]
    assert task.started_at.ToDatetime() <= task.finished_at.ToDatetime()


def test_metrics_and_files(caller: Caller, name: str) -> None:
    """A metric is told with its value, an artifact with the place where it lies."""
    caller.upload(f"{PIPELINES}/train_and_report.yaml", name)
    run = caller.follow(caller.start(name, {"rows": 10, "epochs": 5, "threshold": 0}).run_id)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    loss = metrics(run, "train")["loss"]
    assert loss == outputs(run, "train")["Output"]
    (made,) = [one for one in run.tasks if one.name == "make-data"]
    (data,) = [one.artifact for one in made.outputs if one.name == "data"]
    assert (data.type, bool(data.uri)) == ("system.Dataset", True)
    assert json_format.MessageToDict(data.metadata)["rows"] == 10
    skipped = {task.name for task in run.tasks if task.state == run_pb2.RUN_STATE_SKIPPED}
    assert skipped, "the condition on the loss does not hold"


def test_wrong_parameters_are_refused_at_once_and_all_together(caller: Caller, name: str) -> None:
    """Nothing is started, and each parameter that is wrong is named."""
    caller.upload(f"{PIPELINES}/all_parameter_types.yaml", name)
    told = failure(lambda: caller.start(name, {"i": "일곱", "b": 1, "없는 것": 1}))
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert {field for field, _ in told.violations} == {
        "parameters.s",
        "parameters.i",
        "parameters.b",
        "parameters.없는 것",
    }
    assert caller.listed(display_name_contains=name) == set()


def test_only_checked(caller: Caller, name: str) -> None:
    """With validate_only the run is told as it would be, and there is none."""
    caller.upload(f"{PIPELINES}/hello_world.yaml", name)
    would_be = caller.start(name, {"times": 3}, validate_only=True)
    assert json_format.MessageToDict(would_be.parameters)["times"] == 3
    assert caller.listed(display_name_contains=name) == set()


def test_why_a_run_failed_stands_in_one_field(caller: Caller, name: str) -> None:
    """The error of the run is what the program itself said, also in a list."""
    caller.upload(f"{PIPELINES}/fails_with_exit_handler.yaml", name)
    run = caller.follow(caller.start(name, {"message": "데이터가 없다"}).run_id)
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert "RuntimeError: 데이터가 없다" in run.error
    listed = caller.runs.List(
        run_pb2.ListRunsRequest(filter=run_pb2.RunFilter(pipeline_id=run.pipeline_id)), timeout=CALL_SECONDS
    )
    assert [one.error for one in listed.runs] == [run.error]


def test_terminate_and_wait(caller: Caller, name: str) -> None:
    """A run that is executed is over when Terminate with `wait` returns; to terminate it again changes nothing."""
    caller.upload(f"{PIPELINES}/sleeps.yaml", name)
    run_id = caller.start(name, {"seconds": 6000}).run_id
    caller.follow(run_id, is_running)
    wait = Duration()
    wait.FromTimedelta(timedelta(seconds=RUN_SECONDS))
    request = run_pb2.TerminateRunRequest(run_id=run_id, wait=wait)
    ended = caller.runs.Terminate(request, timeout=RUN_SECONDS + CALL_SECONDS)
    assert is_over(ended), ended
    assert ended.state != run_pb2.RUN_STATE_SUCCEEDED
    again = caller.runs.Terminate(run_pb2.TerminateRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    assert (again.state, again.error) == (ended.state, ended.error)
    assert not any(task.state == run_pb2.RUN_STATE_RUNNING for task in caller.get(run_id).tasks)


@pytest.mark.slow
def test_retry_of_a_run_whose_cause_is_gone(executing: Adapter, caller: Caller, name: str, tmp_path: Path) -> None:
    """A failed run is run again under its id and succeeds; one that succeeded is not run again."""
    executing.printed(
        "upload", "tests/embedded/runner_pipelines.py", "--function", "imported", "--name", name, "-o", "name"
    )
    file = tmp_path / "자료.txt"
    run_id = caller.start(name, {"uri": str(file)}).run_id
    failed = caller.follow(run_id)
    assert failed.state == run_pb2.RUN_STATE_FAILED, failed
    assert str(file) in failed.error
    file.write_text("이제 있다", encoding="utf-8")
    again = caller.runs.Retry(run_pb2.RetryRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    assert again.run_id == run_id
    run = caller.follow(run_id)
    assert (run.state, run.error) == (run_pb2.RUN_STATE_SUCCEEDED, ""), run
    told = failure(lambda: caller.runs.Retry(run_pb2.RetryRunRequest(run_id=run_id), timeout=CALL_SECONDS))
    assert told.reason == "RUN_NOT_RETRYABLE"


def test_archive_and_delete(caller: Caller, name: str) -> None:
    """An archived run is left out of lists, comes back, and is gone when it is deleted."""
    pipeline_id = caller.upload(f"{PIPELINES}/hello_world.yaml", name).pipeline_id
    run_id = caller.follow(caller.start(name).run_id).run_id
    archived = caller.runs.Archive(run_pb2.ArchiveRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    assert archived.storage_state == common_pb2.STORAGE_STATE_ARCHIVED
    assert caller.listed(pipeline_id=pipeline_id) == set()
    assert caller.listed(pipeline_id=pipeline_id, storage_state="STORAGE_STATE_ARCHIVED") == {run_id}
    back = caller.runs.Unarchive(run_pb2.UnarchiveRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    assert back.storage_state == common_pb2.STORAGE_STATE_AVAILABLE
    assert caller.listed(pipeline_id=pipeline_id) == {run_id}
    delete = run_pb2.DeleteRunRequest(run_id=run_id)
    assert caller.runs.Delete(delete, timeout=CALL_SECONDS).run_id == run_id
    assert failure(lambda: caller.get(run_id)).reason == "RUN_NOT_FOUND"
    assert failure(lambda: caller.runs.Delete(delete, timeout=CALL_SECONDS)).reason == "RUN_NOT_FOUND"
    delete.allow_missing = True
    assert caller.runs.Delete(delete, timeout=CALL_SECONDS).run_id == ""


@pytest.fixture
def three(caller: Caller, name: str) -> dict[str, run_pb2.Run]:
    """Three runs that are over: a good and a bad one in an experiment of their own, and a good one in `Default`."""
    caller.upload(f"{PIPELINES}/hello_world.yaml", name)
    caller.upload(f"{PIPELINES}/fails_with_exit_handler.yaml", f"{name}-bad")

    def ran(pipeline: str, what: str, **fields: object) -> run_pb2.Run:
        made = caller.start(pipeline, display_name=f"{name} {what}", labels={"조": what}, **fields)  # type: ignore[arg-type]
        return caller.follow(made.run_id)

    return {
        "good": ran(name, "하나", experiment_name=name, create_experiment=True),
        "bad": ran(f"{name}-bad", "둘", experiment_name=name),
        "elsewhere": ran(name, "하나"),
    }


def test_lists_are_filtered(caller: Caller, name: str, three: dict[str, run_pb2.Run]) -> None:
    """By experiment, states, moments, text, labels, pipeline and version, and by several of them at once."""
    good, bad, elsewhere = (run.run_id for run in three.values())
    pipeline, version = three["good"].pipeline_id, three["good"].pipeline_version_id
    made = three["elsewhere"].created_at.ToJsonString()
    text = {"display_name_contains": name}
    for where, wanted in (
        ({"experiment_name": name}, {good, bad}),
        ({"experiment_name": name, "states": ["RUN_STATE_FAILED"]}, {bad}),
        ({"experiment_name": name, "states": ["RUN_STATE_FAILED", "RUN_STATE_SUCCEEDED"]}, {good, bad}),
        (text, {good, bad, elsewhere}),
        ({"display_name_contains": f"{name} 둘"}, {bad}),
        ({**text, "labels": {"조": "하나"}}, {good, elsewhere}),
        ({**text, "labels": {"조": "셋"}}, set()),
        ({"pipeline_id": pipeline}, {good, elsewhere}),
        ({"pipeline_version_id": version, "experiment_name": name}, {good}),
        ({**text, "created_after": "2001-01-01T00:00:00Z"}, {good, bad, elsewhere}),
        ({**text, "created_after": made, "states": ["RUN_STATE_SUCCEEDED"]}, set()),
        ({**text, "finished_after": "2999-01-01T00:00:00Z"}, set()),
    ):
        assert caller.listed(**where) == wanted, where


def test_a_list_of_an_experiment_that_is_not_there(caller: Caller, name: str) -> None:
    """It is an error, and no empty list."""
    assert failure(lambda: caller.listed(experiment_name=name)).reason == "EXPERIMENT_NOT_FOUND"
