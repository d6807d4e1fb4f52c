"""Runs are listed, terminated, retried, archived and deleted, and KFP's ambiguous errors are reported exactly."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from tests.connecting import connect
from tests.repository.conftest import call
from tests.runs_kfp import AT, DEFAULT, EXPERIMENT, NAME, NOBODY, OLDER, PIPELINE, VERSION, RunsKfp, refused
from tests.scripted_kfp import answers, resets
from tests.transcripts import load

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import Order, PageRequest, StorageState, View
from kfadapter_grpc.contract.runs import RunFilter, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.scripted_kfp import Behaviour, Connection, Received, ScriptedKfp

    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.kfp.runs import Runs

FROM_PIPELINE = {"pipeline_version_reference": {"pipeline_id": PIPELINE, "pipeline_version_id": VERSION}}
RUN = "77777777-7777-4777-8777-777777777777"
ONE = rf"/runs/{RUN}$"
DONE = answers(200, {})
NOT_ARCHIVED = {"operation": "NOT_EQUALS", "key": "storage_state", "string_value": "ARCHIVED"}


@pytest.fixture
def before_scripted(scripted: ScriptedKfp) -> Iterator[Runs]:
    """The repository in front of a KFP that follows the test's script."""
    backend = connect(scripted.url)
    yield backend.runs
    backend.close()


def _served(state: str = "RUNNING", **fields: object) -> Behaviour:
    return answers(200, {"run_id": RUN, "display_name": "r", "state": state, "storage_state": "AVAILABLE", **fields})


def _played(note: str, transcript: str = "runs") -> Behaviour:
    """Answers as KFP did in this step, with ids and times in place of the placeholders of the recording."""
    response = next(step for step in load(transcript).steps if step.note == note).response
    text = json.dumps(response["json"]).replace("{time}", AT)
    text = re.sub(r"\{([A-Za-z0-9]+)\}", lambda match: str(uuid.uuid5(uuid.NAMESPACE_OID, match[1])), text)
    return answers(int(str(response["status"])), text.encode(), content_type=str(response["content_type"]))


# --- one run ----------------------------------------------------------------------------------------------------


def test_a_run_as_kfp_served_it(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """One request returns ids, state, history, times and parameters; a time in 1970 is unset."""
    scripted.on("GET", ONE, _played("get"))
    run = before_scripted.get(RUN, View.BASIC, call())
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert (run.display_name, run.description, run.labels) == ("r2", "설명", {})
    assert (run.state, run.error, run.storage_state) == (RunState.PENDING, "", StorageState.AVAILABLE)
    assert (run.created_at, run.scheduled_at, run.finished_at) == (moment, moment, None)
    assert run.parameters == {"recipient": "서울", "times": 3}
    assert [change.state for change in run.state_history] == [RunState.PENDING]
    assert run.pipeline_version_id == str(uuid.uuid5(uuid.NAMESPACE_OID, "VERSION"))
    assert run.service_account == "pipeline-runner"
    assert len(scripted.requests) == 1


def test_a_full_run_has_names_and_tasks(kfp: RunsKfp, runs: Runs) -> None:
    """BASIC has neither, and both have the same etag."""
    run_id = kfp.add(**FROM_PIPELINE, experiment_id=EXPERIMENT, state="FAILED", error={"message": "no quota"})
    kfp.runs[run_id]["task_count"] = 1
    kfp.tasks = {run_id: [{"name": "train", "task_id": "1", "type": "RUNTIME", "state": "FAILED"}]}
    kfp.spec = {}
    basic, full = (runs.get(run_id, view, call()) for view in (View.BASIC, View.FULL))
    assert (full.pipeline_name, full.pipeline_version_name, full.experiment_name) == (NAME, "2", "실험")
    assert [one.name for one in full.tasks] == ["train"]
    assert (basic.pipeline_name, basic.tasks) == ("", ())
    assert basic.error == full.error == "no quota"
    assert basic.etag == full.etag != ""


def test_names_of_what_is_gone(kfp: RunsKfp, runs: Runs) -> None:
    """A run outlives its pipeline and its experiment; their names are empty."""
    reference = {"pipeline_id": NOBODY, "pipeline_version_id": NOBODY}
    run_id = kfp.add(pipeline_version_reference=reference, experiment_id=NOBODY)
    run = runs.get(run_id, View.FULL, call())
    assert (run.pipeline_id, run.pipeline_name, run.pipeline_version_name) == (NOBODY, "", "")
    assert run.experiment_name == ""


def test_names_that_cannot_be_read(kfp: RunsKfp, runs: Runs) -> None:
    """A pipeline that KFP cannot read hides nothing else of its runs."""
    run_id = kfp.add(pipeline_version_reference={"pipeline_id": PIPELINE, "pipeline_version_id": VERSION})
    kfp.server.first("GET", "/apis/v2beta1/pipelines/", answers(500, {"code": 13, "message": "sql: no rows"}))
    run = runs.get(run_id, View.FULL, call())
    assert (run.pipeline_id, run.pipeline_name, run.experiment_name) == (PIPELINE, "", "Default")


def test_a_run_from_a_file(kfp: RunsKfp, runs: Runs) -> None:
    """It has no pipeline, and its spec is skipped."""
    run = runs.get(kfp.add(pipeline_spec={"root": {}}), View.FULL, call())
    assert (run.pipeline_id, run.pipeline_version_id, run.pipeline_name) == ("", "", "")


OPERATIONS: dict[str, Callable[[Runs, str], object]] = {
    "get": lambda runs, run_id: runs.get(run_id, View.BASIC, call()),
    "terminate": lambda runs, run_id: runs.terminate(run_id, 0, call()),
    "retry": lambda runs, run_id: runs.retry(run_id, call()),
    "archive": lambda runs, run_id: runs.archive(run_id, call()),
    "unarchive": lambda runs, run_id: runs.unarchive(run_id, call()),
    "delete": lambda runs, run_id: runs.delete(run_id, call(), allow_missing=False),
}
WRITES = [name for name in OPERATIONS if name != "get"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_run_that_is_not_there(runs: Runs, operation: str) -> None:
    """RUN_NOT_FOUND names it."""
    with pytest.raises(errors.RunNotFoundError) as caught:
        OPERATIONS[operation](runs, RUN)
    assert caught.value.resource_name == RUN


@pytest.mark.parametrize("operation", ["archive", "unarchive"])
def test_a_kfp_that_does_not_say_that_there_is_none(
    scripted: ScriptedKfp, before_scripted: Runs, operation: str
) -> None:
    """If KFP does not report that the run is missing, a lookup afterwards finds out."""
    scripted.on("POST", "/runs/", DONE).on("GET", ONE, refused(404, 5, f"Run {RUN} not found"))
    with pytest.raises(errors.RunNotFoundError):
        OPERATIONS[operation](before_scripted, RUN)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_stranger(scripted: ScriptedKfp, before_scripted: Runs, operation: str) -> None:
    """KFP's 403 is reported as such, for every call."""
    played = _played("terminate as bob", "multi_user")
    scripted.on("GET", "/runs/", played).on("POST", "/runs/", played).on("DELETE", "/runs/", played)
    with pytest.raises(errors.KfpRejectedCredentialsError, match=rf"\(403, {operation} run {RUN}\)"):
        OPERATIONS[operation](before_scripted, RUN)


AS_IF_DONE = {"terminate": "CANCELING", "retry": "RUNNING", "archive": "RUNNING", "unarchive": "RUNNING"}


@pytest.mark.parametrize("operation", AS_IF_DONE)
def test_a_broken_answer_to_what_was_done(scripted: ScriptedKfp, before_scripted: Runs, operation: str) -> None:
    """The lookup finds that it was done, so the call succeeds; nothing is sent twice."""
    stored = "ARCHIVED" if operation == "archive" else "AVAILABLE"
    scripted.on("POST", "/runs/", resets()).on("GET", ONE, _served(AS_IF_DONE[operation], storage_state=stored))
    OPERATIONS[operation](before_scripted, RUN)
    assert len(scripted.paths("POST")) == 1


@pytest.mark.parametrize("operation", AS_IF_DONE)
def test_a_broken_answer_to_what_was_not_done(scripted: ScriptedKfp, before_scripted: Runs, operation: str) -> None:
    """The lookup finds that it was not done, and the original error is reported; nothing is sent twice."""
    stored = "AVAILABLE" if operation == "archive" else "ARCHIVED"
    state = "FAILED" if operation == "retry" else "RUNNING"
    scripted.on("POST", "/runs/", resets()).on("GET", ONE, _served(state, storage_state=stored))
    with pytest.raises(errors.KfpUnavailableError):
        OPERATIONS[operation](before_scripted, RUN)
    assert len(scripted.paths("POST")) == 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_kfp_at_all(operation: str) -> None:
    """KFP_UNAVAILABLE."""
    backend = connect("http://127.0.0.1:1")
    with pytest.raises(errors.KfpUnavailableError):
        OPERATIONS[operation](backend.runs, RUN)
    backend.close()


# --- delete, archive, retry -------------------------------------------------------------------------------------


def test_delete(kfp: RunsKfp, runs: Runs) -> None:
    """Delete returns whether the run existed."""
    run_id = kfp.add()
    assert runs.delete(run_id, call(), allow_missing=False) is True
    assert runs.delete(run_id, call(), allow_missing=True) is False
    assert kfp.runs == {}


@pytest.mark.parametrize("gone", [True, False])
def test_a_broken_delete(scripted: ScriptedKfp, before_scripted: Runs, gone: bool) -> None:
    """A lookup finds whether the run was deleted."""
    found = refused(404, 5, f"Run {RUN} not found") if gone else _served()
    scripted.on("DELETE", ONE, resets()).on("GET", ONE, found)
    if gone:
        assert before_scripted.delete(RUN, call(), allow_missing=False)
    else:
        with pytest.raises(errors.KfpUnavailableError):
            before_scripted.delete(RUN, call(), allow_missing=False)
    assert len(scripted.paths("DELETE")) == 1


def test_archive_and_back(kfp: RunsKfp, runs: Runs) -> None:
    """The run is returned with its new state, also if it had that state before."""
    run_id = kfp.add()
    assert runs.archive(run_id, call()).storage_state is StorageState.ARCHIVED
    assert runs.archive(run_id, call()).storage_state is StorageState.ARCHIVED
    assert runs.unarchive(run_id, call()).storage_state is StorageState.AVAILABLE


def test_retry(kfp: RunsKfp, runs: Runs) -> None:
    """A failed run is executed again."""
    assert runs.retry(kfp.add(state="FAILED", finished_at=AT), call()).state is RunState.RUNNING


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUCCEEDED", "CANCELING"])
def test_retry_of_what_did_not_fail(kfp: RunsKfp, runs: Runs, state: str) -> None:
    """RUN_NOT_RETRYABLE, with the state."""
    with pytest.raises(errors.RunNotRetryableError, match=f"is {state}; only a failed run") as caught:
        runs.retry(kfp.add(state=state), call())
    assert caught.value.metadata["state"] == state


def test_retry_of_a_run_whose_workflow_is_gone(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """The run failed, but KFP cannot retry it: the message gives the possible reason."""
    scripted.on("POST", "/runs/", _played("retry a run that is not failed")).on("GET", ONE, _served("FAILED"))
    with pytest.raises(errors.RunNotRetryableError, match="no longer holds its workflow"):
        before_scripted.retry(RUN, call())


# --- terminate --------------------------------------------------------------------------------------------------


def test_terminate(kfp: RunsKfp, runs: Runs) -> None:
    """The run is returned with its new state."""
    assert runs.terminate(kfp.add(state="RUNNING"), 0, call()).state is RunState.CANCELING


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "SKIPPED", "CANCELED", "CANCELING"])
def test_terminate_of_what_is_over_or_stopping(kfp: RunsKfp, runs: Runs, state: str) -> None:
    """The run is left unchanged, without an error, though KFP answers 400."""
    assert runs.terminate(kfp.add(state=state), 0, call()).state is RunState(state)


def test_terminate_that_kfp_refuses(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """If KFP rejects it while the run continues, the error has KFP's message."""
    scripted.on("POST", "/runs/", refused(500, 13, "etcd is away")).on("GET", ONE, _served("RUNNING"))
    with pytest.raises(errors.KfpError, match="etcd is away"):
        before_scripted.terminate(RUN, 0, call())


def test_terminate_waits(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """It waits until the run has finished; here the third poll sees that, and the run is read with its tasks."""
    scripted.on("POST", "/runs/", DONE)
    scripted.on("GET", ONE, _served("CANCELING"), _served("CANCELING"), _served("FAILED", finished_at=AT))
    assert before_scripted.terminate(RUN, 60, call()).state is RunState.FAILED
    assert len([path for path in scripted.paths("GET") if "/v2beta1/" in path]) == 4


@pytest.mark.slow
def test_terminate_waits_while_kfp_is_away(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """If KFP is available again within the wait, the final state is returned."""
    scripted.on("POST", "/runs/", DONE)
    away = [answers(503, b"upstream")] * 6
    scripted.on("GET", ONE, _served("CANCELING"), *away, _served("FAILED", finished_at=AT))
    assert before_scripted.terminate(RUN, 60, call(90)).state is RunState.FAILED


@pytest.mark.slow
@pytest.mark.parametrize(("wait_seconds", "budget"), [(0.3, 60), (600, 1.5)])
def test_terminate_waits_no_longer_than_it_may(
    scripted: ScriptedKfp, before_scripted: Runs, wait_seconds: float, budget: float
) -> None:
    """A run that does not stop is returned as it is, within the wait and the call's own deadline."""
    scripted.on("POST", "/runs/", DONE).on("GET", ONE, _served("CANCELING"))
    assert before_scripted.terminate(RUN, wait_seconds, call(budget)).state is RunState.CANCELING


def test_a_caller_who_goes_away_is_not_waited_for(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """The wait ends at once."""
    mine = call(600)

    def goes_away(connection: Connection, received: Received) -> bool:
        kept = _served("CANCELING")(connection, received)
        mine.cancel()
        return kept

    scripted.on("POST", "/runs/", DONE).on("GET", ONE, goes_away)
    with pytest.raises(errors.CallCancelledError):
        before_scripted.terminate(RUN, 600, mine)


# --- lists ------------------------------------------------------------------------------------------------------


def _list(runs: Runs, **where: object) -> list[Run]:
    return list(runs.list(RunFilter(**where), PageRequest(), call()).items)  # type: ignore[arg-type]


def _predicates(kfp: RunsKfp) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(kfp.queries()[-1]["filter"])["predicates"]
    return found


def test_runs_of_a_recurring_run(kfp: RunsKfp, runs: Runs) -> None:
    """KFP is sent a predicate; it would ignore a query parameter, and return all runs."""
    runs.list(RunFilter(recurring_run_id=NOBODY), PageRequest(), call())
    assert {"operation": "EQUALS", "key": "recurring_run_id", "string_value": NOBODY} in _predicates(kfp)
    assert "recurring_run_id" not in kfp.queries()[-1]


def test_a_recorded_list(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """A list is read as KFP wrote it, and so is an empty one, which is `{}`."""
    scripted.on("GET", "/runs", _played("list of the experiment"), answers(200, {}))
    assert [run.display_name for run in _list(before_scripted)] == ["r1", "r2"]
    assert before_scripted.list(RunFilter(), PageRequest(), call()).total_size == 0


def test_what_kfp_is_asked(kfp: RunsKfp, runs: Runs) -> None:
    """Whatever KFP can filter by is sent to KFP; archived runs are excluded unless requested."""
    moment = datetime(2026, 5, 6, 7, 8, 9, 123, tzinfo=timezone.utc)
    where = RunFilter(
        experiment=ExperimentRef(name="실험"),
        states=frozenset({RunState.FAILED, RunState.CANCELED}),
        created_after=moment,
        finished_after=moment,
        display_name_contains="50%_+",
        labels={"team": "비전", "odd": 'a"b'},
        archived=True,
        namespace="team-a",
    )
    runs.list(where, PageRequest(7, order=Order("display_name", descending=False)), call())
    query = kfp.queries()[-1]
    assert (query["experiment_id"], query["sort_by"], query["page_size"]) == (EXPERIMENT, "name asc", "7")
    assert "namespace" not in query
    assert _predicates(kfp) == [
        {"operation": "EQUALS", "key": "storage_state", "string_value": "ARCHIVED"},
        {"operation": "IN", "key": "state", "string_values": {"values": ["CANCELED", "FAILED"]}},
        {"operation": "GREATER_THAN", "key": "created_at", "timestamp_value": "2026-05-06T07:08:09Z"},
        {"operation": "GREATER_THAN", "key": "finished_at", "timestamp_value": "2026-05-06T07:08:09Z"},
        {"operation": "IS_SUBSTRING", "key": "display_name", "string_value": "50%_+"},
        {"operation": "IS_SUBSTRING", "key": "description", "string_value": '"team":"비전"'},
    ]


def test_the_least_that_kfp_is_asked(kfp: RunsKfp, runs: Runs) -> None:
    """Runs that are not archived, of the namespace, the newest first."""
    _list(runs, namespace="team-a")
    assert kfp.queries() == [
        {
            "page_size": "100",
            "sort_by": "created_at desc",
            "namespace": "team-a",
            "filter": json.dumps({"predicates": [NOT_ARCHIVED]}),
        }
    ]


@pytest.mark.parametrize("value", ['a"b', "a\\b"])
def test_labels_that_kfp_cannot_look_for(kfp: RunsKfp, runs: Runs, value: str) -> None:
    """Backslashes have a meaning in LIKE, so KFP is called for runs with labels, and they are compared here."""
    wanted = kfp.add(description=f"kfadapter: {json.dumps({'k': value})}")
    kfp.add(description='kfadapter: {"k":"other"}')
    assert [run.run_id for run in _list(runs, labels={"k": value})] == [wanted]
    assert _predicates(kfp)[-1]["string_value"] == "kfadapter: "


def test_label_keys(kfp: RunsKfp, runs: Runs) -> None:
    """Runs are found by the key of a label, with any value; letter case counts, and other texts do not match."""
    wanted = [kfp.add(description=f'kfadapter: {{"job_id":"{value}"}}') for value in ("1", "둘")]
    kfp.add(description='kfadapter: {"JOB_ID":"1"}')
    kfp.add(description='"job_id":"1"')
    assert {run.run_id for run in _list(runs, label_keys=frozenset({"job_id"}))} == set(wanted)
    assert _predicates(kfp)[-1] == {"operation": "IS_SUBSTRING", "key": "description", "string_value": '"job_id":'}
    page = runs.list(RunFilter(label_keys=frozenset({"job_id", "other"})), PageRequest(), call())
    assert (page.items, page.total_size) == ((), None)


def test_what_kfp_compares_loosely_is_compared_exactly(kfp: RunsKfp, runs: Runs) -> None:
    """Letter case and wildcards in the name, labels in the description; no total is returned then."""
    wanted = kfp.add(display_name="Train_1", description='x\nkfadapter: {"a":"1","b":"2"}')
    kfp.add(display_name="train_1", description='kfadapter: {"a":"1"}')
    kfp.add(display_name="TrainX1", description='say "a":"1"')
    assert [run.run_id for run in _list(runs, display_name_contains="Train_")] == [wanted]
    assert len(_list(runs, labels={"a": "1"})) == 2
    page = runs.list(RunFilter(labels={"a": "1", "b": "2"}), PageRequest(), call())
    assert [run.run_id for run in page.items] == [wanted]
    assert page.total_size is None


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ({"pipeline_id": PIPELINE.upper()}, 2),
        ({"pipeline_version_id": OLDER}, 1),
        ({"pipeline_id": PIPELINE, "pipeline_version_id": VERSION}, 1),
        ({"pipeline_id": NOBODY}, 0),
    ],
)
def test_runs_of_a_pipeline_or_a_version(kfp: RunsKfp, runs: Runs, where: dict[str, object], count: int) -> None:
    """KFP cannot filter by them, so all runs are read."""
    kfp.add(**FROM_PIPELINE)
    kfp.add(pipeline_version_reference={"pipeline_id": PIPELINE, "pipeline_version_id": OLDER})
    kfp.add(pipeline_version_reference={"pipeline_id": EXPERIMENT, "pipeline_version_id": DEFAULT})
    kfp.add()
    assert len(_list(runs, **where)) == count


def test_a_scan_is_bounded_and_goes_on(kfp: RunsKfp, runs: Runs) -> None:
    """A page may be short, even empty; its token continues, and every run is found once."""
    wanted = {kfp.add(**FROM_PIPELINE) if number % 60 == 59 else kfp.add() for number in range(180)} & {
        run_id for run_id, run in kfp.runs.items() if "pipeline_version_reference" in run
    }
    found, pages, token = [], 0, ""
    while True:
        page = runs.list(RunFilter(pipeline_id=PIPELINE), PageRequest(1, token), call())
        found += [run.run_id for run in page.items]
        pages, token = pages + 1, page.next_token
        if not token:
            break
    assert len(found) == len(set(found)) == len(wanted) == 3
    assert pages > 3


def test_pages(kfp: RunsKfp, runs: Runs) -> None:
    """Tokens continue from page to page, and KFP's total is returned if it is exact."""
    wanted = [kfp.add(display_name=f"r{number}") for number in range(5)]
    first = runs.list(RunFilter(), PageRequest(2), call())
    rest = runs.list(RunFilter(), PageRequest(1000, first.next_token), call())
    assert [run.run_id for run in (*first.items, *rest.items)] == wanted
    assert (first.total_size, rest.next_token) == (5, "")


def test_lists_have_no_tasks_but_say_why_a_run_failed(kfp: RunsKfp, runs: Runs) -> None:
    """Lists have the error of a run; only Get has its tasks."""
    task = {"display_name": "train", "state": "FAILED", "error": {"message": "boom"}}
    kfp.add(state="FAILED", run_details={"task_details": [task]})
    (run,) = _list(runs)
    assert (run.error, run.tasks) == ("task 'train' failed: boom", ())


@pytest.mark.parametrize("ref", [ExperimentRef(NOBODY), ExperimentRef(name="없음")])
def test_runs_of_an_experiment_that_is_not_there(runs: Runs, ref: ExperimentRef) -> None:
    """EXPERIMENT_NOT_FOUND, even if a KFP returns an empty list."""
    with pytest.raises(errors.ExperimentNotFoundError):
        _list(runs, experiment=ref)


def test_a_kfp_that_says_that_the_experiment_is_not_there(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """The error names the experiment."""
    scripted.on("GET", "/runs", refused(404, 5, f"Experiment {NOBODY} not found"))
    with pytest.raises(errors.ExperimentNotFoundError) as caught:
        _list(before_scripted, experiment=ExperimentRef(NOBODY))
    assert caught.value.resource_name == NOBODY


def test_an_experiment_without_runs(kfp: RunsKfp, runs: Runs) -> None:
    """No runs, no error."""
    kfp.add(experiment_id=DEFAULT)
    assert _list(runs, experiment=ExperimentRef(EXPERIMENT)) == []


def test_several_users_need_a_namespace(scripted: ScriptedKfp, before_scripted: Runs) -> None:
    """The error is INVALID_FIELD on the namespace."""
    scripted.on("GET", "/runs", _played("list runs without a namespace", "multi_user"))
    with pytest.raises(errors.InvalidFieldError, match="namespace"):
        _list(before_scripted)
