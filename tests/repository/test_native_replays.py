"""The KFP after 2.17, replayed: what it returns while runs execute, whom it denies access, and its uploads."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.connecting import connect
from tests.native_specs import Declared, spec_of_tasks
from tests.repository.conftest import call, pipeline_file
from tests.repository.played import played, step
from tests.runs_kfp import AT, DEFAULT, NEVER
from tests.scripted_kfp import answers
from tests.transcripts import DATA

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.artifacts import ListArtifactsRequest
from kfadapter_grpc.contract.call import Authorization, Call
from kfadapter_grpc.contract.listing import PageRequest, View
from kfadapter_grpc.contract.pipelines import PipelineRef, UploadPipelineMetadata, VersionRef
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import ReadLogsRequest, RunFilter
from kfadapter_grpc.kfp.credentials import ForwardedCredentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runs_kfp import RunsKfp
    from tests.scripted_kfp import ScriptedKfp

    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.kfp.backend import KfpBackend
    from kfadapter_grpc.kfp.pipelines import Pipelines

# --- timelines ------------------------------------------------------------------------------------------------------

PLAYS = {
    play["title"]: play["timeline"]
    for play in json.loads((DATA / "transcripts" / "native" / "timelines.json").read_text("utf-8"))["plays"]
}
GROUPS = {"boom": "exit-handler-1", "report": "condition-1", "square": "for-loop-1"}
SPECS = {
    "hello_world": spec_of_tasks(Declared("greet")),
    "fails_with_exit_handler": spec_of_tasks(
        Declared("exit-handler-1", (Declared("boom"),)), Declared("cleanup", after=("exit-handler-1",), at_end=True)
    ),
    "train_and_report": spec_of_tasks(
        Declared("make-data"),
        Declared("train", after=("make-data",)),
        Declared("condition-1", (Declared("report"),), after=("train",), when=True),
    ),
    "loop of two": spec_of_tasks(Declared("for-loop-1", (Declared("square"),), loops=True)),
    "a task retried by the workflow": spec_of_tasks(Declared("flaky"), Declared("tell", after=("flaky",))),
    "a failed run retried with :retry": spec_of_tasks(
        Declared("tell"), Declared("flaky", after=("tell",)), Declared("tell-2", after=("flaky",))
    ),
}
SHOWN = {
    "hello_world": """
        PENDING: greet PENDING
        RUNNING: greet PENDING
        RUNNING: greet RUNNING
        RUNNING: greet SUCCEEDED
        SUCCEEDED: greet SUCCEEDED""",
    "fails_with_exit_handler": """
        PENDING: cleanup PENDING, exit-handler-1 PENDING
        RUNNING: cleanup PENDING, exit-handler-1 PENDING
        RUNNING: cleanup PENDING, exit-handler-1 RUNNING, exit-handler-1/boom PENDING
        RUNNING: cleanup PENDING, exit-handler-1 RUNNING, exit-handler-1/boom RUNNING
        RUNNING: cleanup PENDING, exit-handler-1 FAILED, exit-handler-1/boom FAILED
        RUNNING: cleanup RUNNING, exit-handler-1 FAILED, exit-handler-1/boom FAILED
        RUNNING: cleanup SUCCEEDED, exit-handler-1 FAILED, exit-handler-1/boom FAILED
        FAILED: cleanup SUCCEEDED, exit-handler-1 FAILED, exit-handler-1/boom FAILED""",
    "train_and_report": """
        PENDING: condition-1 PENDING, make-data PENDING, train PENDING
        RUNNING: condition-1 PENDING, make-data PENDING, train PENDING
        RUNNING: condition-1 PENDING, make-data SUCCEEDED, train PENDING
        RUNNING: condition-1 PENDING, make-data SUCCEEDED, train RUNNING
        RUNNING: condition-1 PENDING, make-data SUCCEEDED, train SUCCEEDED
        RUNNING: condition-1 RUNNING, condition-1/report PENDING, make-data SUCCEEDED, train SUCCEEDED
        RUNNING: condition-1 RUNNING, condition-1/report RUNNING, make-data SUCCEEDED, train SUCCEEDED
        RUNNING: condition-1 SUCCEEDED, condition-1/report SUCCEEDED, make-data SUCCEEDED, train SUCCEEDED
        SUCCEEDED: condition-1 SUCCEEDED, condition-1/report SUCCEEDED, make-data SUCCEEDED, train SUCCEEDED""",
    "loop of two": """
        PENDING: for-loop-1 PENDING
        RUNNING: for-loop-1 PENDING
        RUNNING: for-loop-1 RUNNING
        RUNNING: for-loop-1 RUNNING, for-loop-1[0]/square RUNNING
        RUNNING: for-loop-1 RUNNING, for-loop-1[0]/square RUNNING, for-loop-1[1]/square RUNNING
        RUNNING: for-loop-1 RUNNING, for-loop-1[0]/square SUCCEEDED, for-loop-1[1]/square RUNNING
        RUNNING: for-loop-1 SUCCEEDED, for-loop-1[0]/square SUCCEEDED, for-loop-1[1]/square SUCCEEDED
        SUCCEEDED: for-loop-1 SUCCEEDED, for-loop-1[0]/square SUCCEEDED, for-loop-1[1]/square SUCCEEDED""",
    "a task retried by the workflow": """
        PENDING: flaky PENDING, tell PENDING
        RUNNING: flaky PENDING, tell PENDING
        RUNNING: flaky RUNNING, tell PENDING
        RUNNING: flaky FAILED, tell PENDING
        RUNNING: flaky SUCCEEDED, tell PENDING
        RUNNING: flaky SUCCEEDED, tell SUCCEEDED
        SUCCEEDED: flaky SUCCEEDED, tell SUCCEEDED""",
    "a failed run retried with :retry": """
        PENDING: flaky PENDING, tell PENDING, tell-2 PENDING
        RUNNING: flaky PENDING, tell PENDING, tell-2 PENDING
        RUNNING: flaky PENDING, tell SUCCEEDED, tell-2 PENDING
        RUNNING: flaky RUNNING, tell SUCCEEDED, tell-2 PENDING
        RUNNING: flaky FAILED, tell SUCCEEDED, tell-2 PENDING
        FAILED: flaky FAILED, tell SUCCEEDED, tell-2 OMITTED
        FAILED: flaky CANCELED, tell SUCCEEDED, tell-2 OMITTED
        RUNNING: flaky RUNNING, tell SUCCEEDED, tell-2 PENDING
        RUNNING: flaky SUCCEEDED, tell SUCCEEDED, tell-2 PENDING
        RUNNING: flaky SUCCEEDED, tell SUCCEEDED, tell-2 SUCCEEDED
        SUCCEEDED: flaky SUCCEEDED, tell SUCCEEDED, tell-2 SUCCEEDED""",
}
"""What a run shows after each change that is one for people: without ROOT, pods and logs."""


def put(kfp: RunsKfp, entry: dict[str, Any]) -> None:
    """Makes a KFP serve the run as at an entry of a play; pods and histories were not recorded, names were."""
    over = entry["run_state"] in {"SUCCEEDED", "FAILED"}
    run = {"run_id": "r", "experiment_id": DEFAULT, "state": entry["run_state"], "created_at": AT}
    run |= {"finished_at": AT if over else NEVER}
    kfp.runs["r"] = {**run, "pipeline_spec": kfp.spec, **({"task_count": n} if (n := entry["task_count"]) else {})}
    kfp.tasks = {"r": [task_of(one) for one in entry["tasks"]]}


def task_of(entry: dict[str, Any]) -> dict[str, Any]:
    """A task of the native API."""
    name, index = entry["name"], entry["iteration_index"]
    parent = GROUPS.get(name, "ROOT" if name != "ROOT" else "")
    return {
        **{key: entry[key] for key in ("name", "type", "state")},
        "task_id": f"{name}{index or ''}",
        "create_time": AT,
        "status_metadata": {"message": entry["message"] or ""},
        "type_attributes": {"iteration_index": index} if index else {},
        **({"parent_task_id": parent} if parent else {}),
        **({"end_time": AT} if entry["has_end_time"] else {}),
        "outputs": {
            "parameters": [{"parameter_key": key, "value": 1} for key in entry["output_parameters"]],
            "artifacts": [
                {"artifact_key": key, "artifacts": [{"artifact_id": f"{name}-{key}", "name": key, "type": "Dataset"}]}
                for key in entry["output_artifacts"]
            ],
        },
    }


def shown(run: Run) -> str:
    """The states of a run and of its tasks, by their paths."""
    paths = TaskPaths(run.tasks)
    return f"{run.state.value}: " + ", ".join(sorted(f"{paths.of(task)} {task.state.value}" for task in run.tasks))


def test_every_play_is_in_the_table() -> None:
    """No recording is left out."""
    assert PLAYS.keys() == SHOWN.keys() == SPECS.keys()


@pytest.mark.parametrize("title", SHOWN)
def test_a_run_while_it_goes_on(kfp: RunsKfp, title: str) -> None:
    """Get returns each change; a run's state is never ROOT's, nor a message that of an attempt before a good one."""
    kfp.spec, seen = SPECS[title], list[str]()
    kfp.manifests["r"] = {"run": {"id": "r"}, "pipeline_runtime": {"pipeline_manifest": "{}"}}
    with closing(connect(kfp.url)) as backend:
        for entry in PLAYS[title]:
            put(kfp, entry)
            run = backend.runs.get("r", View.FULL, call())
            seen += [text for text in [shown(run)] if text not in seen[-1:]]
            failed = [task for task in run.tasks if task.state.value == "FAILED" and not task.kind.is_group]
            assert [task for task in run.tasks if task.error] == failed
    assert seen == [line.strip() for line in SHOWN[title].strip().splitlines()]


# --- a server with users --------------------------------------------------------------------------------------------

RUN = step("the run, view=FULL, as alice", "native/multi_user").path.rpartition("/")[2]
READ: dict[str, Callable[[KfpBackend, Call], object]] = {
    "Get": lambda kfp, one: kfp.runs.get(RUN, View.FULL, one),
    "List": lambda kfp, one: kfp.runs.list(RunFilter(namespace="team-a"), PageRequest(), one),
    "ListArtifacts": lambda kfp, one: kfp.artifacts.list(ListArtifactsRequest(run_id=RUN), PageRequest(), one),
    "GetArtifact": lambda kfp, one: kfp.artifacts.get(RUN, "7b9caf8e-e321-460f-9d37-c312fe2b0d47", one),
    "ListMetrics": lambda kfp, one: kfp.artifacts.list_metrics(RunFilter(namespace="team-a"), PageRequest(), one),
    "ReadLogs": lambda kfp, one: kfp.run_logs.read(ReadLogsRequest(RUN, "boom"), one).__enter__(),
}
"""What concerns a run: KFP gives logs to everybody, so the run is always read first."""
REFUSED = {
    "nobody": errors.UnauthenticatedError,
    "a bad token": errors.UnauthenticatedError,
    "bob": errors.PermissionDeniedError,
}


def answer_to(scripted: ScriptedKfp, who: str) -> ScriptedKfp:
    """Makes KFP answer a caller as it did; it returns logs to everyone."""
    for pattern, what in {
        rf"/v2beta1/runs/{RUN}$": "the run, view=FULL,",
        rf"/v2beta1/runs/{RUN}/tasks": "its tasks",
        r"/v2beta1/runs\?": "runs of team-a, view=FULL,",
        r"/artifacts/main-logs:read": "artifact bytes",
        r"/v1alpha1/": "log of its pod",
    }.items():
        scripted.on("GET", pattern, played(f"{what} as {who}", "native/multi_user"))
    return scripted


@pytest.mark.parametrize("who", REFUSED)
@pytest.mark.parametrize("read", READ)
def test_a_run_of_others(scripted: ScriptedKfp, who: str, read: str) -> None:
    """A caller without access to a run gets nothing of it, and the reason says what to do."""
    answer_to(scripted, who)
    with closing(connect(scripted.url, credentials=ForwardedCredentials())) as backend:
        with pytest.raises(REFUSED[who]) as caught:
            READ[read](backend, Call("request", 20, Authorization("Bearer canary")))
        assert "bob@example.org" not in caught.value.message
    assert not [path for path in scripted.paths("GET") if "/log" in path or "/artifacts" in path]


@pytest.mark.parametrize("who", REFUSED)
@pytest.mark.parametrize("read", ["ListArtifacts", "GetArtifact", "ReadLogs"])
def test_a_right_that_ends_in_between(scripted: ScriptedKfp, who: str, read: str) -> None:
    """If KFP returns the run and then denies access to its tasks, that is the reason, not that KFP is unavailable."""
    scripted.on("GET", rf"/v2beta1/runs/{RUN}$", played("the run, view=FULL, as alice", "native/multi_user"))
    answer_to(scripted, who)
    with closing(connect(scripted.url, credentials=ForwardedCredentials())) as backend, pytest.raises(REFUSED[who]):
        READ[read](backend, Call("request", 20, Authorization("Bearer canary")))


# --- uploads --------------------------------------------------------------------------------------------------------


def test_what_an_upload_keeps(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """Tags are kept, the address of the source is dropped, and the answer says so."""
    made = "upload a version with tags and code_source_url: the tags stay, code_source_url is dropped (2.17.0 keeps it)"
    scripted.on("POST", "/pipelines$", answers(409, {"code": 6, "message": "taken"}))
    scripted.on("GET", "/names/", played("upload with tags", "native/uploads"))
    scripted.on("GET", "v1beta1/pipeline_versions", played("the cheap v1beta1 list still answers", "native/uploads"))
    scripted.on("GET", "/versions/", played("get it", "native/uploads"))
    scripted.on("POST", "/upload_version", played(made, "native/uploads"))
    sent = UploadPipelineMetadata("up-192212", "v2", "Two", tags={"k": "v"}, code_source_url="https://example.org/src")
    uploaded = before_scripted.upload(sent, pipeline_file(), call())
    assert (uploaded.not_kept, uploaded.version.tags) == (("code_source_url",), {"k": "v"})
    found = before_scripted.get_version(
        PipelineRef(name="up-192212"), VersionRef(uploaded.version.pipeline_version_id), call()
    )
    assert (found.name, found.display_name, found.tags) == ("v2", "Two", {"k": "v"})


def test_a_file_that_is_no_pipeline(scripted: ScriptedKfp, before_scripted: Pipelines) -> None:
    """It is reported as the file's error, in KFP's words."""
    scripted.on("POST", "/pipelines$", answers(409, {"code": 6, "message": "taken"}))
    scripted.on("GET", "/names/", played("upload with tags", "native/uploads"))
    scripted.on("GET", "/versions", answers(200, {}))
    scripted.on("POST", "/upload_version", played("YAML that is no pipeline", "native/uploads"))
    with pytest.raises(errors.InvalidPipelineFileError, match="unknown template format"):
        before_scripted.upload(UploadPipelineMetadata("up-192212", "v3"), pipeline_file(), call())
