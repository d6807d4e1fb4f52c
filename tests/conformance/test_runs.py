"""RunService: runs are started, executed, listed, watched, terminated and deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from tests.conformance.calling import CALL_SECONDS, RUN_SECONDS, is_over, is_running, metrics, outputs
from tests.contract.running import failure

from kfadapter.v1 import common_pb2, run_pb2

if TYPE_CHECKING:
    from tests.conformance.calling import Api

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


def test_typed_parameters_reach_the_task(api: Api, name: str) -> None:
    """Values are returned unchanged, with their type, and the task has used them."""
    api.upload(f"{PIPELINES}/all_parameter_types.yaml", name)
    started = api.start(name, EVERYTHING)
    assert json_format.MessageToDict(started.parameters) == EVERYTHING
    run = api.follow(started.run_id)
    assert (run.state, run.error) == (run_pb2.RUN_STATE_SUCCEEDED, ""), run
    assert json_format.MessageToDict(run.parameters) == EVERYTHING
    assert outputs(run, "all-types") == {"Output": 41.5}


def test_everything_that_is_reported_of_a_run(api: Api, name: str) -> None:
    """Names, texts and labels in Korean are kept, times are in order, all states are reported."""
    pipeline = api.upload(f"{PIPELINES}/hello_world.yaml", name).pipeline
    run_id = api.start(
        name,
        {"recipient": "여러분", "times": 2},
        display_name="첫 실행",
        description="무엇을 위한 것인지",
        labels={"팀": "모델", "owner": "kim"},
        experiment_name=name,
        create_experiment=True,
    ).run_id
    run = api.follow(run_id)
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


def test_metrics_and_files(api: Api, name: str) -> None:
    """A metric is reported with its value, an artifact with its URI."""
    api.upload(f"{PIPELINES}/train_and_report.yaml", name)
    run = api.follow(api.start(name, {"rows": 10, "epochs": 5, "threshold": 0}).run_id)
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED, run
    loss = metrics(run, "train")["loss"]
    assert loss == outputs(run, "train")["Output"]
    (made,) = [one for one in run.tasks if one.name == "make-data"]
    (data,) = [one.artifact for one in made.outputs if one.name == "data"]
    assert (data.type, bool(data.uri)) == ("system.Dataset", True)
    assert json_format.MessageToDict(data.metadata)["rows"] == 10
    skipped = {task.name for task in run.tasks if task.state == run_pb2.RUN_STATE_SKIPPED}
    assert skipped, "the condition on the loss does not hold"


def test_wrong_parameters_are_refused_at_once_and_all_together(api: Api, name: str) -> None:
    """Nothing is started, and each invalid parameter is named."""
    api.upload(f"{PIPELINES}/all_parameter_types.yaml", name)
    reported = failure(lambda: api.start(name, {"i": "일곱", "b": 1, "없는 것": 1}))
    assert reported.code is grpc.StatusCode.INVALID_ARGUMENT
    assert {field for field, _ in reported.violations} == {
        "parameters.s",
        "parameters.i",
        "parameters.b",
        "parameters.없는 것",
    }
    assert api.listed(display_name_contains=name) == set()


def test_only_checked(api: Api, name: str) -> None:
    """With validate_only the run is returned as it would be started, and none is created."""
    api.upload(f"{PIPELINES}/hello_world.yaml", name)
    would_be = api.start(name, {"times": 3}, validate_only=True)
    assert json_format.MessageToDict(would_be.parameters)["times"] == 3
    assert api.listed(display_name_contains=name) == set()


def test_why_a_run_failed_stands_in_one_field(api: Api, name: str) -> None:
    """The error of the run is the program's own message, also in a list."""
    api.upload(f"{PIPELINES}/fails_with_exit_handler.yaml", name)
    run = api.follow(api.start(name, {"message": "데이터가 없다"}).run_id)
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert "RuntimeError: 데이터가 없다" in run.error
    listed = api.runs.List(
        run_pb2.ListRunsRequest(filter=run_pb2.RunFilter(pipeline_id=run.pipeline_id)), timeout=CALL_SECONDS
    )
    assert [one.error for one in listed.runs] == [run.error]


def test_terminate_and_wait(api: Api, name: str) -> None:
    """A running run has finished when Terminate with `wait` returns; terminating it again is a no-op."""
    api.upload(f"{PIPELINES}/sleeps.yaml", name)
    run_id = api.start(name, {"seconds": 6000}).run_id
    api.follow(run_id, is_running)
    wait = Duration()
    wait.FromTimedelta(timedelta(seconds=RUN_SECONDS))
    request = run_pb2.TerminateRunRequest(run_id=run_id, wait=wait)
    ended = api.runs.Terminate(request, timeout=RUN_SECONDS + CALL_SECONDS)
    assert is_over(ended), ended
    assert ended.state != run_pb2.RUN_STATE_SUCCEEDED
    again = api.runs.Terminate(run_pb2.TerminateRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    assert (again.state, again.error) == (ended.state, ended.error)
    assert not any(task.state == run_pb2.RUN_STATE_RUNNING for task in api.get(run_id).tasks)


def test_archive_and_delete(api: Api, name: str) -> None:
    """An archived run is omitted from lists, can be unarchived, and is not found after it is deleted."""
    pipeline_id = api.upload(f"{PIPELINES}/hello_world.yaml", name).pipeline.pipeline_id
    run_id = api.follow(api.start(name).run_id).run_id
    archived = api.runs.Archive(run_pb2.ArchiveRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    assert archived.storage_state == common_pb2.STORAGE_STATE_ARCHIVED
    assert api.listed(pipeline_id=pipeline_id) == set()
    assert api.listed(pipeline_id=pipeline_id, storage_state="STORAGE_STATE_ARCHIVED") == {run_id}
    back = api.runs.Unarchive(run_pb2.UnarchiveRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    assert back.storage_state == common_pb2.STORAGE_STATE_AVAILABLE
    assert api.listed(pipeline_id=pipeline_id) == {run_id}
    delete = run_pb2.DeleteRunRequest(run_id=run_id)
    assert api.runs.Delete(delete, timeout=CALL_SECONDS).run_id == run_id
    assert failure(lambda: api.get(run_id)).reason == "RUN_NOT_FOUND"
    assert failure(lambda: api.runs.Delete(delete, timeout=CALL_SECONDS)).reason == "RUN_NOT_FOUND"
    delete.allow_missing = True
    assert api.runs.Delete(delete, timeout=CALL_SECONDS).run_id == ""


@pytest.fixture
def three(api: Api, name: str) -> dict[str, run_pb2.Run]:
    """Three finished runs: a successful and a failed one in a new experiment, a successful one in `Default`."""
    api.upload(f"{PIPELINES}/hello_world.yaml", name)
    api.upload(f"{PIPELINES}/fails_with_exit_handler.yaml", f"{name}-bad")

    def ran(pipeline: str, what: str, **fields: object) -> run_pb2.Run:
        made = api.start(pipeline, display_name=f"{name} {what}", labels={"조": what}, **fields)  # type: ignore[arg-type]
        return api.follow(made.run_id)

    return {
        "good": ran(name, "하나", experiment_name=name, create_experiment=True),
        "bad": ran(f"{name}-bad", "둘", experiment_name=name),
        "elsewhere": ran(name, "하나"),
    }


def test_lists_are_filtered(api: Api, name: str, three: dict[str, run_pb2.Run]) -> None:
    """By experiment, states, times, text, labels, pipeline and version, and by several of them at once."""
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
        assert api.listed(**where) == wanted, where


def test_a_list_of_an_experiment_that_is_not_there(api: Api, name: str) -> None:
    """It is an error, not an empty list."""
    assert failure(lambda: api.listed(experiment_name=name)).reason == "EXPERIMENT_NOT_FOUND"


def test_watch_to_the_end(api: Api, name: str) -> None:
    """A watch returns each change of a run and of its tasks, including the last state, and then ends."""
    api.upload(f"{PIPELINES}/hello_world.yaml", name)
    run_id = api.start(name).run_id
    request = run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=[run_id]), tasks=True)
    *_, last = (
        event.changed.run for event in api.runs.Watch(request, timeout=RUN_SECONDS) if event.HasField("changed")
    )
    assert last.state == run_pb2.RUN_STATE_SUCCEEDED
    assert {task.state for task in last.tasks} == {run_pb2.RUN_STATE_SUCCEEDED}
    assert api.get(run_id).etag == last.etag
    request.known_etags[run_id] = last.etag
    assert not [event for event in api.runs.Watch(request, timeout=RUN_SECONDS) if event.HasField("changed")]


def test_watch_of_a_filter(api: Api, name: str) -> None:
    """A watch of a filter returns runs that are started later, and no others, until it is cancelled."""
    pipeline_id = api.upload(f"{PIPELINES}/hello_world.yaml", name).pipeline.pipeline_id
    where = run_pb2.RunFilter(pipeline_id=pipeline_id)
    events = api.runs.Watch(run_pb2.WatchRunsRequest(filter=where), timeout=RUN_SECONDS)
    run_id = api.start(name).run_id
    runs = (event.changed.run for event in events if event.HasField("changed"))
    while (run := next(runs)).state != run_pb2.RUN_STATE_SUCCEEDED:
        assert run.run_id == run_id
    events.cancel()


def test_watch_of_a_run_that_is_deleted(api: Api, name: str) -> None:
    """It is reported as deleted, and the watch ends."""
    api.upload(f"{PIPELINES}/hello_world.yaml", name)
    run_id = api.follow(api.start(name).run_id).run_id
    api.runs.Delete(run_pb2.DeleteRunRequest(run_id=run_id), timeout=CALL_SECONDS)
    request = run_pb2.WatchRunsRequest(runs=run_pb2.RunIds(run_ids=[run_id]))
    assert [event.gone.run_id for event in api.runs.Watch(request, timeout=RUN_SECONDS)] == [run_id]


def test_logs(api: Api, name: str) -> None:
    """The output of a task is streamed, also while it is followed; an unknown task is TASK_NOT_FOUND."""
    api.upload(f"{PIPELINES}/hello_world.yaml", name)
    run_id = api.start(name, {"recipient": name}).run_id  # not from the cache
    api.follow(run_id)

    def read(task: str, *, follow: bool = False) -> bytes:
        request = run_pb2.ReadLogsRequest(run_id=run_id, task=task, follow=follow)
        return b"".join(message.chunk for message in api.runs.ReadLogs(request, timeout=RUN_SECONDS))

    log = read("greet")
    assert log
    assert read("greet", follow=True) == log
    assert failure(lambda: read("absent")).reason == "TASK_NOT_FOUND"


def test_a_start_is_repeated_under_its_request_id(api: Api, name: str) -> None:
    """The same request id returns the same run; with other parameters it is rejected."""
    api.upload(f"{PIPELINES}/hello_world.yaml", name)
    first = api.start(name, {"times": 1}, request_id=name)
    assert api.start(name, {"times": 1}, request_id=name).run_id == first.run_id
    assert failure(lambda: api.start(name, {"times": 2}, request_id=name)).reason == "REQUEST_ID_REUSED"
    api.follow(first.run_id)


def test_pages(api: Api, name: str, three: dict[str, run_pb2.Run]) -> None:
    """Pages are in the requested order; a token is valid with its filter and order only."""
    where = run_pb2.RunFilter(display_name_contains=name)
    request = run_pb2.ListRunsRequest(filter=where, page_size=2, order_by="created_at")
    first = api.runs.List(request, timeout=CALL_SECONDS)
    request.page_token = first.next_page_token
    second = api.runs.List(request, timeout=CALL_SECONDS)
    runs = [*first.runs, *second.runs]
    assert sorted(run.run_id for run in runs) == sorted(run.run_id for run in three.values())
    made = [run.created_at.ToDatetime() for run in runs]
    assert (made, second.next_page_token) == (sorted(made), "")
    request.order_by = "created_at desc"
    reported = failure(lambda: api.runs.List(request, timeout=CALL_SECONDS))
    assert (reported.code, reported.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


@pytest.mark.parametrize("rpc", ["Get", "Terminate", "Retry", "Archive", "Unarchive", "Delete"])
def test_a_missing_run(api: Api, rpc: str) -> None:
    """NOT_FOUND / RUN_NOT_FOUND names the run."""
    unknown = "00000000-0000-4000-8000-000000000000"
    request = getattr(run_pb2, f"{rpc}RunRequest")(run_id=unknown)
    reported = failure(lambda: getattr(api.runs, rpc)(request, timeout=CALL_SECONDS))
    assert (reported.code, reported.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
    assert reported.resource == ("run", unknown)


def test_retry_of_a_run_that_failed(api: Api, name: str) -> None:
    """It is executed again with its id; a run that succeeded is not."""
    api.upload(f"{PIPELINES}/fails_with_exit_handler.yaml", name)
    run_id = api.follow(api.start(name).run_id).run_id
    assert api.runs.Retry(run_pb2.RetryRunRequest(run_id=run_id), timeout=CALL_SECONDS).run_id == run_id
    assert api.follow(run_id).state == run_pb2.RUN_STATE_FAILED
    api.upload(f"{PIPELINES}/hello_world.yaml", f"{name}-good")
    good = api.follow(api.start(f"{name}-good").run_id).run_id
    reported = failure(lambda: api.runs.Retry(run_pb2.RetryRunRequest(run_id=good), timeout=CALL_SECONDS))
    assert reported.reason == "RUN_NOT_RETRYABLE"
