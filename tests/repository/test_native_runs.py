"""What is returned for 22 runs of the KFP after 2.17 (tests/data/native_runs), at each recorded stage.

The table was written by hand from the recordings: what a person would conclude from the tasks.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.connecting import connect
from tests.native_specs import Declared, spec_of_tasks
from tests.recorded_runs import Said, in_v1beta1, names, recorded, recorded_native, said_of
from tests.repository.conftest import call
from tests.runs_kfp import refused
from tests.scripted_kfp import answers, resets

from kfadapter_grpc.contract.errors import TaskNotFoundError, UnsupportedByKfpError
from kfadapter_grpc.contract.listing import PageRequest, View
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import ReadLogsRequest, RunFilter, RunSource, RunSources, RunSourceState
from kfadapter_grpc.contract.watches import RunChanged, RunIds, WatchRunsRequest
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from tests.runs_kfp import RunsKfp

    from kfadapter_grpc.contract.run_outputs import RunOutput
    from kfadapter_grpc.contract.runs import Run
    from kfadapter_grpc.kfp.runs import Runs

SPECS: dict[str, dict[str, object]] = {
    "fails": spec_of_tasks(Declared("boom"), Declared("tell"), Declared("tell-2", after=("boom",))),
    "exits": spec_of_tasks(
        Declared("exit-handler-1", (Declared("boom"), Declared("tell", after=("boom",))), title="guard"),
        Declared("cleanup", after=("exit-handler-1",), at_end=True),
    ),
    "conditions": spec_of_tasks(
        Declared("coin"),
        Declared(
            "condition-branches-1",
            (
                Declared("condition-2", (Declared("tell"),), title="heads", when=True),
                Declared("condition-3", (Declared("tell-2"),), title="tails", when=True),
                Declared("condition-4", (Declared("tell-3"),), title="else", when=True),
            ),
            after=("coin",),
        ),
        Declared("condition-5", (Declared("tell-5"),), title="never", after=("coin",), when=True),
        Declared("tell-4", after=("condition-branches-1",), title="Tell the result"),
    ),
    "outputs": spec_of_tasks(
        Declared("make-artifacts", takes=(("rows", "rows"),)),
        Declared("make-params", takes=(("s", "text"),)),
        Declared("use", takes=(("data", "make-artifacts.data"), ("model", "make-artifacts.model"))),
    ),
    "imports": spec_of_tasks(Declared("importer"), Declared("rd", takes=(("d", "importer.artifact"),))),
    "loop": spec_of_tasks(
        Declared("list"),
        Declared(
            "for-loop-1",
            (Declared("shard", takes=(("i", "item"),)), Declared("square")),
            title="each",
            loops=True,
            takes=(("items", "list.Output"),),
        ),
        Declared(
            "merge",
            after=("for-loop-1",),
            takes=(
                ("nums", "for-loop-1.pipelinechannel--shard-Output"),
                ("parts", "for-loop-1.pipelinechannel--shard-part"),
            ),
        ),
        Declared("total", after=("for-loop-1",)),
    ),
    "loop_fails": spec_of_tasks(
        Declared("for-loop-1", (Declared("div"), Declared("tell", after=("div",))), loops=True),
        Declared("after", after=("for-loop-1",)),
    ),
    "naps": spec_of_tasks(Declared("tell"), Declared("nap"), Declared("tell-2", after=("nap",))),
}


EXIT_1 = "failed to execute component: exit status 1"
UNSCHEDULABLE = "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
LOG = "`kfadapter logs {{run}} {}` shows its log"
AVAILABLE = RunSource(RunSourceState.AVAILABLE)
IN_MLMD = RunSource(
    RunSourceState.NOT_CONFIGURED,
    "this Kubeflow Pipelines keeps inputs, outputs and metrics in ML Metadata; set mlmd_address to read them",
)
SHARDS = "\n".join(f"each[{index}]/shard SUCCEEDED container x1" for index in (1, 2, 0))
SQUARES = "\n".join(f"each[{index}]/square SUCCEEDED container x1" for index in (0, 2, 1))
LOOP = (
    f"each SUCCEEDED loop\n{SHARDS}\n{SQUARES}\nmerge SUCCEEDED container x1\ntotal SUCCEEDED container x1\nlist {{}}"
)
TOLD = "tell SUCCEEDED container cached"

SAID = {
    ("cached", "succeeded"): Said(
        "SUCCEEDED",
        "make-artifacts SUCCEEDED container cached\n"
        "make-params SUCCEEDED container cached\n"
        "use SUCCEEDED container cached",
    ),
    ("conditions", "succeeded"): Said(
        "SUCCEEDED",
        "coin SUCCEEDED container cached\n"
        "condition-branches-1 SUCCEEDED dag\n"
        "condition-branches-1/heads SUCCEEDED condition\n"
        "condition-branches-1/tails SKIPPED condition\n"
        "condition-branches-1/else SKIPPED condition\n"
        "never SKIPPED condition\n"
        "condition-branches-1/heads/tell SUCCEEDED container cached\n"
        "Tell the result SUCCEEDED container cached (Tell the result)",
    ),
    ("dies", "failed"): Said("FAILED", "", "failed to create pod: admission denied"),
    ("empty_loop", "succeeded"): Said("SUCCEEDED", "for-loop-1 SKIPPED loop\ntell SUCCEEDED container x1"),
    ("exits", "failed"): Said(
        "FAILED",
        "guard FAILED dag\n"
        f"guard/boom FAILED container x1: {EXIT_1}\n"
        "cleanup SUCCEEDED exit_handler x1\n"
        "guard/tell OMITTED container",
        f"task 'guard/boom' failed: {EXIT_1}; {LOG.format('guard/boom')}",
    ),
    ("fails", "failed"): Said(
        "FAILED",
        f"boom FAILED container x1: {EXIT_1}\n{TOLD}\ntell-2 OMITTED container",
        f"task 'boom' failed: {EXIT_1}; {LOG.format('boom')}",
    ),
    ("imports", "succeeded"): Said("SUCCEEDED", "importer SUCCEEDED importer x1\nrd SUCCEEDED container x1"),
    ("loop", "running"): Said("RUNNING", LOOP.format("PENDING container")),
    ("loop", "succeeded"): Said("SUCCEEDED", LOOP.format("OMITTED container")),
    ("loop_chain", "failed"): Said(
        "FAILED",
        "for-loop-1 FAILED loop\n"
        "for-loop-1[0]/square SUCCEEDED container x1\n"
        "for-loop-1[1]/square SUCCEEDED container x1\n"
        "for-loop-1/shard FAILED container x1: its driver failed: "
        'input parameter "i" type mismatch: expect NUMBER_INTEGER, got list',
        "the driver of task 'for-loop-1/shard' failed: "
        'input parameter "i" type mismatch: expect NUMBER_INTEGER, got list',
    ),
    ("loop_fails", "failed"): Said(
        "FAILED",
        "for-loop-1 FAILED loop\n"
        f"for-loop-1[1]/div FAILED container x1: {EXIT_1}\n"
        "for-loop-1[2]/div SUCCEEDED container x1\n"
        "for-loop-1[0]/div SUCCEEDED container x1\n"
        "after OMITTED container\n"
        "for-loop-1[0]/tell OMITTED container\n"
        "for-loop-1[1]/tell OMITTED container\n"
        "for-loop-1[2]/tell OMITTED container",
        f"task 'for-loop-1[1]/div' failed: {EXIT_1}; " + LOG.format("'for-loop-1[1]/div'"),
    ),
    ("loops", "succeeded"): Said(
        "SUCCEEDED",
        "for-loop-1 SUCCEEDED loop\n"
        "for-loop-1[0]/condition-2 SUCCEEDED condition\n"
        "for-loop-1[1]/condition-2 SKIPPED condition\n"
        "for-loop-1[0]/inner SUCCEEDED dag\n"
        "for-loop-1[0]/for-loop-3 SUCCEEDED loop\n"
        "for-loop-1[1]/inner SUCCEEDED dag\n"
        "for-loop-1[0]/condition-2/tell SUCCEEDED container x1\n"
        "for-loop-1[1]/for-loop-3 SUCCEEDED loop\n"
        "for-loop-1[0]/inner/add SUCCEEDED container x1\n"
        "for-loop-1[1]/inner/add SUCCEEDED container x1\n"
        "for-loop-1[0]/for-loop-3[1]/add SUCCEEDED container x1\n"
        "for-loop-1[1]/for-loop-3[0]/add SUCCEEDED container x1\n"
        "for-loop-1[1]/for-loop-3[1]/add SUCCEEDED container x1\n"
        "for-loop-1[0]/for-loop-3[0]/add SUCCEEDED container x1",
    ),
    ("naps", "running"): Said("RUNNING", f"{TOLD}\nnap RUNNING container\ntell-2 PENDING container"),
    ("naps", "terminating"): Said("CANCELING", f"{TOLD}\nnap RUNNING container\ntell-2 PENDING container"),
    ("naps", "terminated"): Said("CANCELED", f"{TOLD}\nnap CANCELED container\ntell-2 OMITTED container"),
    ("nested", "succeeded"): Said(
        "SUCCEEDED",
        "middle SUCCEEDED dag\n"
        "middle/inner SUCCEEDED dag\n"
        "middle/inner/square SUCCEEDED container x1\n"
        "middle/inner/square-2 SUCCEEDED container x1\n"
        "Final square SUCCEEDED container x1 (Final square)",
    ),
    ("odd_types", "succeeded"): Said("SUCCEEDED", "folder SUCCEEDED container cached\nodd SUCCEEDED container x1"),
    ("outputs", "running"): Said(
        "RUNNING", "make-artifacts RUNNING container\nmake-params RUNNING container\nuse PENDING container"
    ),
    ("outputs", "succeeded"): Said(
        "SUCCEEDED",
        "make-artifacts SUCCEEDED container x1\nmake-params SUCCEEDED container x1\nuse SUCCEEDED container x1",
    ),
    ("retried", "failed"): Said(
        "FAILED",
        f"{TOLD}\nflaky FAILED container x1: {EXIT_1}",
        f"task 'flaky' failed: {EXIT_1}; {LOG.format('flaky')}",
    ),
    ("retried", "just retried"): Said("RUNNING", f"{TOLD}\nflaky RUNNING container"),
    ("retried", "succeeded"): Said(
        "SUCCEEDED", f"{TOLD}\nflaky SUCCEEDED container x1\ntell-2 SUCCEEDED container cached"
    ),
    ("retries", "succeeded"): Said("SUCCEEDED", f"flaky SUCCEEDED container x2\n{TOLD}"),
    ("stuck", "running"): Said(
        "RUNNING", f"greet PENDING container x1! {UNSCHEDULABLE}", warning=f"task 'greet' is waiting: {UNSCHEDULABLE}"
    ),
    ("text_metric", "failed"): Said(
        "FAILED",
        "text-metric FAILED container x1: failed to execute component: "
        'metric value "note" must be a number, got *structpb.Value_StringValue',
        "task 'text-metric' failed: failed to execute component: "
        'metric value "note" must be a number, got *structpb.Value_StringValue',
    ),
}
"""Every recorded stage but those of `SAID_BY_LAUNCHER`."""

SAID_BY_LAUNCHER = {
    ("imports_outside", "failed"): ("rd", "is outside the configured pipeline root and has no explicit provider"),
    ("nan_metric", "failed"): ("nan", "invalid value NaN"),
    ("not_written", "failed"): ("notwritten", 'declared output artifact "d" is missing at'),
}
"""Runs of which the launcher says at length why a task failed."""


def put(kfp: RunsKfp, stage: dict[str, Any]) -> str:
    """Makes a KFP serve a run as at one stage; returns its id."""
    run_id = str(stage["run"]["run_id"])
    kfp.runs[run_id] = stage["run"]
    kfp.manifests[run_id] = in_v1beta1(stage)
    assert kfp.tasks is not None
    kfp.tasks[run_id] = stage["tasks"]
    return run_id


@pytest.fixture
def native(kfp: RunsKfp) -> RunsKfp:
    """A KFP that has the native API."""
    kfp.tasks = {}
    return kfp


def got(native: RunsKfp, runs: Runs, name: str, stage: str) -> Run:
    """A recorded run as it was at a stage."""
    native.spec = SPECS.get(name, {})
    found = next(one for one in recorded_native(name) if one["stage"] == stage)
    return runs.get(put(native, found), View.FULL, call())


def output_of(run: Run, path: str, name: str) -> RunOutput:
    """An output of a task."""
    task = TaskPaths(run.tasks).find(path)
    return next(one for one in task.outputs if one.name == name)


def test_every_recorded_stage_is_in_a_table() -> None:
    """No recording is left out."""
    stages = {(name, stage["stage"]) for name in names("native_runs") for stage in recorded_native(name)}
    assert stages == SAID.keys() | SAID_BY_LAUNCHER.keys()
    assert len(names("native_runs")) == 22


@pytest.mark.parametrize(("name", "stage"), SAID)
def test_a_recorded_run(native: RunsKfp, runs: Runs, name: str, stage: str) -> None:
    """Tasks, states, reasons and warnings are those in the table."""
    run = got(native, runs, name, stage)
    assert said_of(run) == SAID[name, stage]
    assert run.sources == RunSources(AVAILABLE, AVAILABLE, AVAILABLE)
    ids = [task.task_id for task in run.tasks]
    assert len(ids) == len(set(ids))
    for task in run.tasks:
        assert task.parent_task_id in {"", *ids[: ids.index(task.task_id)]}
        assert (task.started_at is None) is (task.state.value in {"PENDING", "SKIPPED", "OMITTED"}) or task.attempts
        assert (task.finished_at is not None) or task.state.value not in {"SUCCEEDED", "FAILED"}
        assert not [one.name for one in task.outputs if one.name.startswith("executor-logs")]
        assert [one.name for one in task.outputs] == sorted(one.name for one in task.outputs)
        for output in task.outputs:
            assert all(one.run_id == run.run_id and one.task_id in ids for one in output.artifacts)


@pytest.mark.parametrize(("name", "stage"), SAID_BY_LAUNCHER)
def test_what_the_launcher_says(native: RunsKfp, runs: Runs, name: str, stage: str) -> None:
    """If the launcher itself failed, its message is reported, and no command is suggested."""
    path, words = SAID_BY_LAUNCHER[name, stage]
    run = got(native, runs, name, stage)
    assert run.error.startswith(f"task '{path}' failed: failed to execute component: ")
    assert words in run.error
    assert "kfadapter logs" not in run.error


def test_outputs_of_every_type(native: RunsKfp, runs: Runs) -> None:
    """Values as in JSON; metrics that were logged together are one artifact; metrics by task."""
    run = got(native, runs, "outputs", "succeeded")
    values = {one.name: one.value for one in TaskPaths(run.tasks).find("make-params").outputs}
    assert values == {
        "flag": True,
        "items": [1, "two", 3.5],
        "pairs": {"a": {"b": 1}},
        "real": 0.5,
        "text": "hello 190244 문자",
        "whole": 7,
    }
    made = {one.name: one.artifacts[0] for one in TaskPaths(run.tasks).find("make-artifacts").outputs}
    assert {name: one.type for name, one in made.items()} == {
        "blob": "system.Artifact",
        "data": "system.Dataset",
        "matrix": "system.ClassificationMetrics",
        "metrics": "system.Metrics",
        "model": "system.Model",
        "notes": "system.Markdown",
        "page": "system.HTML",
        "roc": "system.ClassificationMetrics",
    }
    assert made["metrics"].metrics == {"loss": 0.07, "accuracy": 0.93}
    assert made["metrics"].artifact_id == "6361150b-f24b-4151-b47d-b5c80044858b"
    assert made["data"].metadata == {"columns": ["x", "y"], "rows": 7}
    assert made["data"].uri.startswith("minio://mlpipeline/v2/artifacts/outputs/")
    assert made["matrix"].confusion_matrix is not None
    assert made["matrix"].confusion_matrix.categories == ("cat", "dog")
    assert [point.true_positive_rate for point in made["roc"].roc_curve] == [0, 0.8, 1]
    assert [(one.task, one.name, one.value) for one in run.metrics] == [
        ("make-artifacts", "accuracy", 0.93),
        ("make-artifacts", "loss", 0.07),
    ]
    odd = output_of(got(native, runs, "odd_types", "succeeded"), "odd", "sliced")
    assert [one.slice for one in odd.artifacts[0].slices] == ["young"]


def test_numbers_by_their_own_ids(native: RunsKfp) -> None:
    """Metrics that were logged together are one artifact, which each of their ids finds."""
    run_id = put(native, recorded_native("outputs")[1])
    with closing(connect(native.url)) as backend:
        found = [
            backend.artifacts.get(run_id, one, call())
            for one in ("6361150b-f24b-4151-b47d-b5c80044858b", "0fb8e1f3-9b2a-45da-b79a-7b37a70ef361")
        ]
    assert found[0] == found[1]
    assert found[0].metrics == {"loss": 0.07, "accuracy": 0.93}


def test_cached_tasks_have_the_artifacts_of_the_run_that_made_them(native: RunsKfp, runs: Runs) -> None:
    """The artifact ids are those of the other run; the task is this run's."""
    made, cached = (got(native, runs, name, "succeeded") for name in ("outputs", "cached"))
    ids = [output_of(run, "make-artifacts", "model").artifacts[0].artifact_id for run in (made, cached)]
    assert ids[0] == ids[1]
    assert output_of(cached, "make-artifacts", "model").artifacts[0].task_id == cached.tasks[0].task_id
    assert made.metrics == cached.metrics


def test_what_a_loop_collects(native: RunsKfp, runs: Runs) -> None:
    """Values and artifacts are in the order of the iterations; an artifact belongs to the task that produced it."""
    run = got(native, runs, "loop", "succeeded")
    assert output_of(run, "each", "pipelinechannel--square-Output").value == [6235313296, 6235471225, 6235629156]
    parts = output_of(run, "each", "pipelinechannel--shard-part").artifacts
    assert [one.metadata for one in parts] == [{"part": 78964}, {"part": 78965}, {"part": 78966}]
    assert parts == tuple(output_of(run, f"each[{index}]/shard", "part").artifacts[0] for index in range(3))
    merge = {one.name: one for one in TaskPaths(run.tasks).find("merge").inputs}
    assert merge["parts"].artifacts == parts
    assert (merge["parts"].source_task, merge["parts"].source_output) == ("for-loop-1", "pipelinechannel--shard-part")
    assert merge["nums"].value == [789640, 789650, 789660]
    (item,) = TaskPaths(run.tasks).find("each[1]/shard").inputs
    assert (item.name, item.value, item.source_task, item.source_output) == ("i", 78965, "list", "Output")


def test_where_inputs_come_from(native: RunsKfp, runs: Runs) -> None:
    """By the task and its output; constants, defaults and inputs of the pipeline have no producer task."""
    run = got(native, runs, "outputs", "succeeded")
    use, make = (TaskPaths(run.tasks).find(name) for name in ("use", "make-params"))
    assert [(one.name, one.source_task, one.source_output, one.has_value) for one in use.inputs] == [
        ("data", "make-artifacts", "data", False),
        ("model", "make-artifacts", "model", False),
    ]
    assert use.inputs[0].artifacts == output_of(run, "make-artifacts", "data").artifacts
    assert {one.name: (one.value, one.source_task) for one in make.inputs} == {
        "b": (True, ""),
        "d": ({"a": {"b": 1}}, ""),
        "f": (0.5, ""),
        "i": (7, ""),
        "s": ("hello 190244", ""),
        "xs": ([1, "two", 3.5], ""),
    }


def test_what_was_imported(native: RunsKfp, runs: Runs) -> None:
    """An importer is a task like any other."""
    importer = got(native, runs, "imports", "succeeded")
    assert [(one.source_task, one.source_output) for one in TaskPaths(importer.tasks).find("rd").inputs] == [
        ("importer", "artifact")
    ]


def test_warnings_of_tasks(native: RunsKfp, runs: Runs) -> None:
    """The embedded KFP's warnings are read, shared ones once per run, up to a limit; KFP itself has none."""
    stage = recorded_native("loop")[-1]
    assert not runs.get_complete(put(native, stage), call()).warnings
    for task in stage["tasks"]:
        if task["name"] == "square":
            task["status_metadata"] = {"custom_properties": {"warnings": ["KFP 2.17은\n달리 한다"]}}
        if task["name"] == "total":
            many = [f"{number} {'x' * 3000}" for number in range(30)]
            task["status_metadata"] = {"message": "", "custom_properties": {"warnings": many, "more": 1}}
    root = next(task for task in stage["tasks"] if task["type"] == "ROOT")
    root["status_metadata"] = {"custom_properties": {"warnings": ["of the run"]}}
    odd = next(task for task in stage["tasks"] if task["name"] == "merge")
    odd["status_metadata"] = {"custom_properties": {"warnings": {"not": "a list"}}}
    run = runs.get_complete(put(native, stage), call())
    found = {task.name: task.warnings for task in run.tasks}
    assert found["square"] == ("KFP 2.17은 달리 한다",)
    assert [len(found["merge"]), len(found["total"]), len(found["total"][0])] == [0, 20, 2001]
    assert run.warnings[:2] == ("of the run", "task 'for-loop-1[0]/square' and 2 more: KFP 2.17은 달리 한다")
    assert [len(run.warnings), run.warnings[-1]] == [21, "2 more warnings of tasks"]
    assert run.warnings[2].startswith("task 'total': 0 xxx")


# --- watches ------------------------------------------------------------------------------------------------------


def test_an_etag_tells_of_tasks(native: RunsKfp, runs: Runs) -> None:
    """Lists of the native API omit tasks by default; they are requested for a few runs, once the API is detected."""
    stage = recorded_native("outputs")[0]
    run_id = put(native, stage)
    assert runs.read([run_id], "", call())[0][0].etag == runs.get(run_id, View.BASIC, call()).etag
    whole = runs.get_complete(run_id, call()).etag
    (listed,), waiting = runs.read([run_id], "", call())
    assert (native.queries()[-1]["view"], waiting) == ("FULL", [run_id])
    assert listed.etag == whole
    for task in stage["tasks"]:
        task["state"] = "SUCCEEDED"
    assert runs.read([run_id], "", call())[0][0].etag.partition("+")[0] == whole.partition("+")[0]
    assert runs.read([run_id], "", call())[0][0].etag == runs.get_complete(run_id, call()).etag != whole
    runs.read([run_id, *map(str, range(20))], "", call())
    assert "view" not in native.queries()[-1]


def test_a_watch_of_tasks(native: RunsKfp) -> None:
    """Each change of a task is an event with the current tasks; the end of the run is the last one."""
    running, terminating, terminated = recorded_native("naps")
    native.spec = {}
    run_id = put(native, running)
    backend = connect(native.url)
    poller = WatchPoller(backend.runs, threaded=False)
    with poller.open(WatchRunsRequest(RunIds((run_id,)), tasks=True), call()) as events:

        def next_event() -> tuple[str, list[str]]:
            for _ in range(3):
                poller.poll()
            event = next(events)
            assert isinstance(event, RunChanged)
            return event.run.state.value, [f"{task.name} {task.state.value}" for task in event.run.tasks]

        assert next_event() == ("RUNNING", ["tell SUCCEEDED", "nap RUNNING"])
        nap = next(task for task in running["tasks"] if task["name"] == "nap")
        nap["state"] = "FAILED"
        assert next_event() == ("RUNNING", ["tell SUCCEEDED", "nap FAILED"])
        put(native, terminating)
        assert next_event() == ("CANCELING", ["tell SUCCEEDED", "nap RUNNING"])
        put(native, terminated)
        assert next_event() == ("CANCELED", ["tell SUCCEEDED", "nap CANCELED"])
        assert next(events, None) is None
    poller.close()
    backend.close()


# --- KFP detection --------------------------------------------------------------------------------------------------


def test_plain_reads_do_not_look_which_kfp_it_is(native: RunsKfp, runs: Runs) -> None:
    """Get without tasks and List send one request each."""
    run_id = put(native, recorded_native("outputs")[1])
    runs.get(run_id, View.BASIC, call())
    runs.list(RunFilter(), PageRequest(), call())
    assert len(native.server.requests) == 2


def test_an_upgrade_of_kfp_while_the_adapter_runs(kfp: RunsKfp, runs: Runs) -> None:
    """A run with tasks of the native API is read from there at once; without them, KFP is checked only now and then."""
    older = put_old(kfp, recorded("two_tasks")[-1])
    assert runs.get(older, View.FULL, call()).sources == RunSources(AVAILABLE, IN_MLMD, AVAILABLE)
    assert runs.get(older, View.FULL, call()).sources == RunSources(AVAILABLE, IN_MLMD, AVAILABLE)
    assert len([path for path in kfp.server.paths("GET") if path == "/apis/v2beta1/artifact_tasks"]) == 1
    kfp.tasks = {}
    newer = put(kfp, recorded_native("outputs")[1])
    assert runs.get(newer, View.FULL, call()).metrics
    found = runs.get(older, View.FULL, call())
    assert found.sources is not None
    assert found.sources.outputs is not None
    assert (len(found.tasks), found.sources.outputs.state) == (3, RunSourceState.NOT_SERVED)
    kfp.tasks = None  # the upgrade is rolled back
    kfp.runs[newer].pop("task_count")
    assert runs.get(newer, View.FULL, call()).tasks == ()
    assert runs.get(older, View.FULL, call()).tasks == found.tasks


def test_a_kfp_that_does_not_answer_is_asked_again(kfp: RunsKfp, runs: Runs) -> None:
    """A failed check is not cached, and the run is returned anyway."""
    older = put_old(kfp, recorded("two_tasks")[-1])
    kfp.server.first(
        "GET", "/artifact_tasks", resets(), answers(503), answers(404, b"<html>", content_type="text/html")
    )
    for _ in range(3):
        assert len(runs.get(older, View.FULL, call()).tasks) == 3
    assert len([path for path in kfp.server.paths("GET") if path == "/apis/v2beta1/artifact_tasks"]) >= 3


def put_old(kfp: RunsKfp, stage: dict[str, Any]) -> str:
    """Makes a KFP serve a run whose tasks it does not have."""
    run_id = str(stage["run"]["run_id"])
    kfp.runs[run_id] = {key: value for key, value in stage["run"].items() if key != "run_details"}
    kfp.manifests[run_id] = in_v1beta1(stage)
    return run_id


# --- logs -----------------------------------------------------------------------------------------------------------


def read_log(native: RunsKfp, run_id: str, task: str) -> bytes:
    """The log of a task."""
    backend = connect(native.url)
    try:
        with backend.run_logs.read(ReadLogsRequest(run_id, task), call()) as pieces:
            return b"".join(piece for piece in pieces if isinstance(piece, bytes))
    finally:
        backend.close()


def test_logs_by_the_pods_of_tasks(native: RunsKfp, runs: Runs) -> None:
    """The log of a task is its last pod's; the last lines of failed tasks' logs come with the run."""
    native.logs["outputs-5eb66-system-container-impl-3281505986"] = "문자\n"
    assert read_log(native, put(native, recorded_native("outputs")[1]), "use").decode() == "문자\n"
    failed = recorded_native("fails")[0]
    native.logs["fails-9aaf9-system-container-impl-1910697071"] = "no such table: customers\n"
    run = runs.get(put(native, failed), View.FULL, call())
    assert [task.log_tail for task in run.tasks if task.name == "boom"] == ["no such table: customers"]


def test_the_log_of_a_task_at_work(native: RunsKfp) -> None:
    """Only the manifest has the name of its pod."""
    stage = recorded_native("naps")[0]
    nodes = {
        "naps-a61cd": {"name": "naps-a61cd", "type": "DAG", "templateName": "entrypoint"},
        "naps-a61cd-1": {"name": "naps-a61cd.root-driver", "type": "Pod", "templateName": "system-dag-driver"},
        "naps-a61cd-2": {"name": "naps-a61cd.root", "type": "DAG", "templateName": "root"},
        "naps-a61cd-3": {"name": "naps-a61cd.root.nap", "type": "DAG", "templateName": "system-container-executor"},
        "naps-a61cd-4": {
            "name": "naps-a61cd.root.nap.executor",
            "type": "Pod",
            "templateName": "system-container-impl",
            "phase": "Running",
        },
    }
    ids = {str(node["name"]): key for key, node in nodes.items()}
    for key, node in nodes.items():
        name = str(node["name"])
        node |= {"id": key, "displayName": name.rpartition(".")[2], "boundaryID": ids.get(name.rpartition(".")[0], "")}
    stage["manifest"] = {"metadata": {"name": "naps-a61cd"}, "status": {"nodes": nodes}}
    native.logs["naps-a61cd-system-container-impl-4"] = "so far\n"
    assert read_log(native, put(native, stage), "nap") == b"so far\n"


def test_a_log_that_is_gone(native: RunsKfp) -> None:
    """KFP says so with status 200, in the words of 2.17; a cached task has no log; one that never started has none."""
    run_id = put(native, recorded_native("fails")[0])
    with pytest.raises(UnsupportedByKfpError, match="it was not archived"):
        read_log(native, run_id, "boom")
    with pytest.raises(TaskNotFoundError, match="its result came from the cache"):
        read_log(native, run_id, "tell")


# --- faults ---------------------------------------------------------------------------------------------------------


def test_tasks_that_the_caller_may_not_see(native: RunsKfp, runs: Runs) -> None:
    """The run is returned anyway, and says what is missing."""
    run_id = put(native, recorded_native("outputs")[1])
    native.server.first("GET", "/tasks", refused(403, 7, "User is not authorized to list tasks"))
    run = runs.get(run_id, View.FULL, call())
    assert (run.state.value, run.tasks) == ("SUCCEEDED", ())
    assert run.sources is not None
    assert run.sources.tasks is not None
    assert run.sources.tasks.state is RunSourceState.UNREACHABLE
    assert run.warnings == (f"tasks are unavailable: {run.sources.tasks.message}",)


def test_a_manifest_that_cannot_be_read(native: RunsKfp, runs: Runs) -> None:
    """What the tasks contain is returned; only the names of running pods are missing, which affects logs."""
    run_id = put(native, recorded_native("naps")[0])
    native.spec = {}
    native.server.first("GET", "/v1beta1/runs/", answers(500, {"code": 13, "message": "broken"}))
    run = runs.get(run_id, View.FULL, call())
    assert [task.name for task in run.tasks] == ["tell", "nap"]
    assert run.sources is not None
    assert (run.sources.tasks, run.sources.outputs) == (AVAILABLE, AVAILABLE)
    assert run.sources.logs is not None
    assert run.sources.logs.state is RunSourceState.UNREACHABLE


def test_more_tasks_than_a_page(native: RunsKfp, runs: Runs) -> None:
    """All pages are read, each task once."""
    stage = recorded_native("outputs")[1]
    one = next(task for task in stage["tasks"] if task["name"] == "use")
    stage["tasks"] += [{**one, "task_id": str(number), "name": f"use-{number}"} for number in range(450)]
    native.spec = {}
    assert len(runs.get(put(native, stage), View.FULL, call()).tasks) == 453
    assert len([path for path in native.server.paths("GET") if "/tasks?" in path]) == 3
