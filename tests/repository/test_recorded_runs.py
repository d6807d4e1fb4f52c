"""What is returned for 22 runs whose nodes Argo's own controller created (tests/data/run_nodes), at each stage.

The tables were written by hand from the recordings: what a person would conclude from the nodes.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.connecting import connect
from tests.recorded_runs import Said, in_v1beta1, names, recorded, said_of
from tests.repository.conftest import call
from tests.runs_kfp import NEVER
from tests.scripted_kfp import answers, resets, stalls

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import InvalidFieldError, KfpTimeoutError, KfpUnavailableError, TaskNotFoundError
from kfadapter_grpc.contract.listing import PageRequest, View
from kfadapter_grpc.contract.run_paths import TaskPaths
from kfadapter_grpc.contract.runs import RunFilter, RunSourceState, RunState
from kfadapter_grpc.folding import rows_of
from kfadapter_grpc.kfp import run_reader
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from tests.runs_kfp import RunsKfp
    from tests.scripted_kfp import Behaviour

    from kfadapter_grpc.kfp.runs import Runs

EXIT_1 = "Error (exit code 1)"


STEP_AND_BOOM = "boom {boom}\nstep SUCCEEDED container x1"
GUARDED = f"guarded FAILED dag\nguarded/step SUCCEEDED container x1\nguarded/boom FAILED container x1: {EXIT_1}"
SQUARES = "\n".join(f"for-loop-1[{index}]/square SUCCEEDED container x1" for index in range(3))
INNER = "inner {}\ninner/step SUCCEEDED container x1\ninner/step-2 {}"
UNSCHEDULABLE = (
    "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: "
    "3 No preemption victims found for incoming pod."
)
BACK_OFF = 'ImagePullBackOff: Back-off pulling image "alpine:3.20"'

SAID = {
    ("cached", "succeeded"): Said("SUCCEEDED", "greet SUCCEEDED container cached"),
    ("driver_fails", "failed"): Said(
        "FAILED",
        f"boom FAILED container x1: its driver failed: {EXIT_1}\nstep SUCCEEDED container x1\nstep-2 OMITTED container",
        f"the driver of task 'boom' failed: {EXIT_1}; `kfadapter logs {{run}} boom` shows its log",
    ),
    ("exit_handler", "the exit task is running"): Said("RUNNING", f"{GUARDED}\ncleanup RUNNING exit_handler x1"),
    ("exit_handler", "failed"): Said(
        "FAILED",
        f"{GUARDED}\ncleanup SUCCEEDED exit_handler x1",
        f"task 'guarded/boom' failed: {EXIT_1}; `kfadapter logs {{run}} guarded/boom` shows its log",
    ),
    ("if_elif_else", "succeeded"): Said(
        "SUCCEEDED",
        "condition-branches-1 SUCCEEDED dag\n"
        "condition-branches-1/big SKIPPED condition\n"
        "condition-branches-1/middle SKIPPED condition\n"
        "condition-branches-1/small SUCCEEDED condition\n"
        "condition-branches-1/small/step-3 SUCCEEDED container x1",
    ),
    ("image_pull", "ImagePullBackOff"): Said(
        "RUNNING", f"say PENDING container x1! {BACK_OFF}", warning=f"task 'say' is waiting: {BACK_OFF}"
    ),
    ("importer", "succeeded"): Said("SUCCEEDED", "importer SUCCEEDED importer x1\nlook SUCCEEDED container x1"),
    ("loop", "first done, second running"): Said(
        "RUNNING",
        "for-loop-1 RUNNING loop\n"
        "for-loop-1[0]/square SUCCEEDED container x1\n"
        "for-loop-1[1]/square RUNNING container x1",
    ),
    ("loop", "succeeded"): Said("SUCCEEDED", f"for-loop-1 SUCCEEDED loop\n{SQUARES}\ntotal SUCCEEDED container x1"),
    ("nested", "the inner pipeline is running"): Said("RUNNING", INNER.format("RUNNING dag", "RUNNING container x1")),
    ("nested", "succeeded"): Said(
        "SUCCEEDED",
        INNER.format("SUCCEEDED dag", "SUCCEEDED container x1") + "\n"
        "only-x SUCCEEDED condition\n"
        "only-x/both SUCCEEDED loop\n"
        "only-x/both[0]/step SUCCEEDED container x1\n"
        "only-x/both[1]/step SUCCEEDED container x1",
    ),
    ("old_exit_handler", "failed"): Said(
        "FAILED",
        f"{GUARDED}\ncleanup SUCCEEDED exit_handler x1",
        f"task 'guarded/boom' failed: {EXIT_1}; `kfadapter logs {{run}} guarded/boom` shows its log",
    ),
    ("old_loop", "succeeded"): Said("SUCCEEDED", f"for-loop-1 SUCCEEDED loop\n{SQUARES}\ntotal SUCCEEDED container x1"),
    ("old_retried_good", "first attempt failed, waiting"): Said("RUNNING", "step RUNNING container x1"),
    ("old_retried_good", "second attempt running"): Said("RUNNING", "step RUNNING container x2"),
    ("old_retried_good", "succeeded"): Said("SUCCEEDED", "step SUCCEEDED container x2"),
    ("old_terminated", "ended"): Said("CANCELED", "nap CANCELED container x1"),
    ("out_of_memory", "failed"): Said(
        "FAILED",
        "nap FAILED container x1: OOMKilled (exit code 137)",
        "task 'nap' failed: OOMKilled (exit code 137)",
    ),
    ("root_driver_fails", "failed"): Said(
        "FAILED",
        "",
        f"the driver of the pipeline failed: {EXIT_1}; `kubectl logs -n kubeflow "
        "hello-world-c7a99-system-dag-driver-533641899 -c main` shows its log",
    ),
    ("set_retry_not_retried", "first attempt failed, waiting"): Said("RUNNING", "step RUNNING container x1"),
    ("set_retry_not_retried", "failed"): Said(
        "FAILED",
        f"step FAILED container x1: {EXIT_1}",
        f"task 'step' failed: {EXIT_1}; `kfadapter logs {{run}} step` shows its log",
    ),
    ("stopped_by_argo", "ended"): Said("CANCELED", "nap CANCELED container x1"),
    ("task_fails_then_retry", "running"): Said("RUNNING", STEP_AND_BOOM.format(boom="RUNNING container x1")),
    ("task_fails_then_retry", "failed"): Said(
        "FAILED",
        STEP_AND_BOOM.format(boom=f"FAILED container x1: {EXIT_1}") + "\nstep-2 OMITTED container",
        f"task 'boom' failed: {EXIT_1}; `kfadapter logs {{run}} boom` shows its log",
    ),
    ("task_fails_then_retry", "right after the retry"): Said("RUNNING", STEP_AND_BOOM.format(boom="RUNNING container")),
    ("task_fails_then_retry", "retried, succeeded"): Said(
        "SUCCEEDED",
        STEP_AND_BOOM.format(boom="SUCCEEDED container x1") + "\nstep-2 SUCCEEDED container x1",
    ),
    ("terminated_pending", "running"): Said(
        "RUNNING", f"nap PENDING container x1! {UNSCHEDULABLE}", warning=f"task 'nap' is waiting: {UNSCHEDULABLE}"
    ),
    ("terminated_pending", "ended"): Said("CANCELED", "nap CANCELED container x1"),
    ("terminated_running", "running"): Said("RUNNING", "nap RUNNING container x1"),
    ("terminated_running", "ended"): Said("CANCELED", "nap CANCELED container x1"),
    ("terminated_then_retried", "its manifest is still served after the Workflow is gone"): Said(
        "SUCCEEDED", "nap SUCCEEDED container x1"
    ),
    ("two_tasks", "before the engine saw it"): Said("PENDING"),
    ("two_tasks", "the driver's pod is pending"): Said("RUNNING"),
    ("two_tasks", "one done, one running"): Said(
        "RUNNING", "Left side RUNNING container x1 (Left side)\nstep-2 SUCCEEDED container x1"
    ),
    ("two_tasks", "succeeded"): Said(
        "SUCCEEDED",
        "Left side SUCCEEDED container x1 (Left side)\nstep-2 SUCCEEDED container x1\njoined SUCCEEDED container x1",
    ),
    ("volume", "succeeded"): Said(
        "SUCCEEDED",
        "createpvc SUCCEEDED container x1\ngreet SUCCEEDED container x1\ndeletepvc SUCCEEDED container x1",
    ),
}
"""Every stage whose nodes were recorded."""

SAID_BY_HISTORY = {
    "old_terminated": ["CANCELING", "FAILED"],
    "terminated_pending": ["RUNNING", "CANCELING", "FAILED", "FAILED"],
    "terminated_running": ["RUNNING", "CANCELING", "FAILED", "FAILED"],
    "terminated_then_retried": ["CANCELING", "CANCELED", "RUNNING", "RUNNING", "SUCCEEDED"],
    "task_fails_then_retry": ["RUNNING", "FAILED", "RUNNING", "RUNNING", "SUCCEEDED"],
    "stopped_by_argo": ["FAILED"],
}
"""What BASIC and List can know of runs that were terminated or retried, stage by stage."""


def put(kfp: RunsKfp, stage: dict[str, Any]) -> str:
    """Makes a KFP serve a run as at one stage; returns its id."""
    run_id = str(stage["run"]["run_id"])
    kfp.runs[run_id] = stage["run"]
    kfp.manifests[run_id] = in_v1beta1(stage)
    return run_id


def test_every_recorded_stage_is_in_the_table() -> None:
    """No recording is left out."""
    stages = {(name, stage["stage"]) for name in names() for stage in recorded(name) if stage["manifest"] is not None}
    assert stages == set(SAID)
    assert len(names()) == 22


@pytest.mark.parametrize(("name", "stage"), SAID)
def test_a_recorded_run(kfp: RunsKfp, runs: Runs, name: str, stage: str) -> None:
    """Tasks, states, reasons and warnings are those in the table."""
    found = next(one for one in recorded(name) if one["stage"] == stage)
    run = runs.get(put(kfp, found), View.FULL, call())
    assert said_of(run) == SAID[name, stage]
    ids = [task.task_id for task in run.tasks]
    assert len(ids) == len(set(ids))
    assert set(ids) <= set(_ids_that_argo_gives(found["manifest"])) | {""}


class _Manifests(dict[str, object]):
    """Manifests that tell when one of them was read."""

    was_read = threading.Event()

    def __getitem__(self, run_id: str) -> object:
        found = super().__getitem__(run_id)
        self.was_read.set()
        return found


def test_a_run_that_ends_while_it_is_read(kfp: RunsKfp, runs: Runs) -> None:
    """A manifest that was read before the run ended is read again, so that no task is reported as lost."""
    going, over = recorded("two_tasks")[2:]
    run_id = put(kfp, going)
    manifests = kfp.manifests = _Manifests({run_id: {**in_v1beta1(going), "run": {"finished_at": NEVER}}})

    def end() -> None:
        assert manifests.was_read.wait(10)
        put(kfp, over)

    kfp.before_look = end
    assert said_of(runs.get(run_id, View.FULL, call())) == SAID["two_tasks", "succeeded"]


@pytest.mark.parametrize("name", SAID_BY_HISTORY)
def test_what_the_history_of_a_run_tells(kfp: RunsKfp, runs: Runs, name: str) -> None:
    """BASIC reports a termination if KFP kept CANCELING, and never takes a later failure for one."""
    stages = [stage for stage in recorded(name) if stage["run"] and not stage["stage"].startswith("its manifest")]
    states = [runs.get(put(kfp, stage), View.BASIC, call()).state.value for stage in stages]
    assert states == SAID_BY_HISTORY[name]


def test_the_last_lines_of_failed_tasks(kfp: RunsKfp, runs: Runs) -> None:
    """FULL has the last 20 lines of the pod that failed, or of its driver; nothing if there is no log."""
    kfp.logs["exit-handled-e9d70-system-container-impl-471553310"] = "".join(f"줄 {number}\n" for number in range(50))
    kfp.logs["one-fails-85ce4-system-container-driver-2090368316"] = "F1129 driver: no such input\n"
    guarded = runs.get(put(kfp, recorded("exit_handler")[1]), View.FULL, call())
    assert {task.name: task.log_tail for task in guarded.tasks if task.log_tail} == {
        "boom": "\n".join(f"줄 {number}" for number in range(30, 50))
    }
    driver = runs.get(put(kfp, recorded("driver_fails")[0]), View.FULL, call())
    assert [task.log_tail for task in driver.tasks] == ["F1129 driver: no such input", "", ""]
    memory = runs.get(put(kfp, recorded("out_of_memory")[0]), View.FULL, call())
    assert [task.log_tail for task in memory.tasks] == [""]


def test_lists_of_runs_that_ended_badly(kfp: RunsKfp, runs: Runs) -> None:
    """KFP is called for FAILED and CANCELED, its answer is filtered by the history, and no total is returned."""
    stopped = put(kfp, recorded("terminated_then_retried")[1])
    failed = put(kfp, recorded("driver_fails")[0])
    for state, found in ((RunState.CANCELED, stopped), (RunState.FAILED, failed)):
        page = runs.list(RunFilter(states=frozenset({state})), PageRequest(), call())
        assert ([run.run_id for run in page.items], page.total_size) == ([found], None)
        assert {"operation": "IN", "key": "state", "string_values": {"values": ["CANCELED", "FAILED"]}} in json.loads(
            kfp.queries()[-1]["filter"]
        )["predicates"]
    both = runs.list(RunFilter(states=frozenset({RunState.CANCELED, RunState.FAILED})), PageRequest(), call())
    assert ({run.run_id for run in both.items}, both.total_size) == ({stopped, failed}, 2)


def test_who_terminates_a_run_is_told_that_it_was(kfp: RunsKfp, runs: Runs) -> None:
    """Terminate returns CANCELED, although KFP has FAILED and no CANCELING; a run that failed by itself is FAILED."""
    assert runs.terminate(put(kfp, recorded("terminated_running")[-1]), 5, call()).state is RunState.CANCELED
    assert runs.terminate(put(kfp, recorded("driver_fails")[0]), 5, call()).state is RunState.FAILED


def test_how_a_watch_looks_at_a_run(kfp: RunsKfp) -> None:
    """A list shows which runs are waiting; for these, and for failed ones, a read of the whole run shows why."""
    waiting = put(kfp, recorded("image_pull")[1])
    failed, stopped = put(kfp, recorded("driver_fails")[0]), put(kfp, recorded("terminated_running")[-1])
    backend = connect(kfp.url)
    looks = backend.runs
    found, those_that_wait = looks.read([waiting, failed, stopped], "", call())
    assert ({run.run_id: run.state.value for run in found}, those_that_wait) == (
        {waiting: "RUNNING", failed: "FAILED", stopped: "FAILED"},
        [waiting],
    )
    whole = looks.get_complete(waiting, call())
    assert whole.warnings == (f"task 'say' is waiting: {BACK_OFF}",)
    assert whole.etag.startswith(next(run.etag for run in found if run.run_id == waiting) + "+")
    assert looks.get_complete(failed, call()).error.startswith("the driver of task 'boom' failed")
    assert looks.get_complete(stopped, call()).state is RunState.CANCELED
    looks.in_other_state([stopped], RunState.CANCELED, "", call())
    asked = json.loads(kfp.queries()[-1]["filter"])["predicates"]
    assert [one["string_value"] for one in asked if one["operation"] == "NOT_EQUALS"] == ["CANCELED", "FAILED"]
    backend.close()


def test_which_tasks_hang(kfp: RunsKfp, runs: Runs) -> None:
    """Of all recorded tasks, just those hang whose pods wait for their image or for a node."""
    stages = [(name, stage) for name in names() for stage in recorded(name) if stage["manifest"] is not None]
    hanging = {}
    for name, stage in stages:
        todo = list(rows_of(runs.get(put(kfp, stage), View.FULL, call())))
        for row in todo:
            todo += row.rows
            if row.hangs:
                hanging[name, stage["stage"]] = row.problem
    assert hanging == {
        ("image_pull", "ImagePullBackOff"): BACK_OFF,
        ("terminated_pending", "running"): UNSCHEDULABLE,
    }


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"pipeline_runtime": {"workflow_manifest": "no JSON"}}, "cannot be read"),
        ({"pipeline_runtime": {"workflow_manifest": '{"status": {"offloadNodeStatusVersion": "x"}}'}}, "database"),
        ({"pipeline_runtime": 7}, "an invalid response"),
    ],
)
def test_a_manifest_that_cannot_be_read(kfp: RunsKfp, runs: Runs, answer: dict[str, object], says: str) -> None:
    """The tasks are reported as unavailable, and the rest of the run is unchanged."""
    run_id = put(kfp, recorded("driver_fails")[0])
    kfp.manifests[run_id] = answer
    run = runs.get(run_id, View.FULL, call())
    assert (run.state, run.tasks, run.display_name) == (RunState.FAILED, (), "a driver fails")
    assert run.error.startswith("the run failed; the reason cannot be read: ")
    (warning,) = run.warnings
    assert warning.startswith("tasks are unavailable: ")
    assert says in warning


@pytest.mark.parametrize("outage", [stalls(), resets(), answers(503, {"message": "no healthy upstream"})])
def test_an_outage_of_the_manifest_alone(
    kfp: RunsKfp, runs: Runs, monkeypatch: pytest.MonkeyPatch, outage: Behaviour
) -> None:
    """Get waits for the tasks only so long, and returns the rest of the run; a watch reads it again later."""
    monkeypatch.setattr(run_reader, "_OPTIONAL_SECONDS", 0.3)
    run_id = put(kfp, recorded("driver_fails")[0])
    kfp.server.first("GET", "/apis/v1beta1/runs/", outage)
    run = runs.get(run_id, View.FULL, call())
    assert (run.state, run.tasks, run.pipeline_name) == (RunState.FAILED, (), "")
    assert run.sources is not None
    assert run.sources.tasks is not None
    assert run.sources.tasks.state is RunSourceState.UNREACHABLE
    assert run.warnings == (f"tasks are unavailable: {run.sources.tasks.message}",)
    with pytest.raises((KfpUnavailableError, KfpTimeoutError)):
        runs.get_complete(run_id, Call("c", 1.0))


def _ids_that_argo_gives(manifest: dict[str, Any] | None) -> list[str]:
    """The ids of nodes, and of the Retry nodes that KFP's retry removed and Argo creates again."""
    nodes = (manifest or {}).get("status", {}).get("nodes", {})
    dropped = "one-fails-f9b28-1669756294" if "one-fails-f9b28" in str(list(nodes)[:1]) else ""
    return [*nodes, dropped]


def test_pods_of_attempts() -> None:
    """A retried task has a pod for each attempt, the first one first; the names are those in Kubernetes."""
    stage = recorded("old_retried_good")[1]
    nodes = read_nodes(json.dumps(stage["manifest"]))
    pods = nodes.pods(TaskPaths(nodes.tasks).find("step").task_id)
    assert [(pod.name, pod.is_over, sorted(pod.artifacts)) for pod in pods] == [
        ("flaky-retried-350bd-retry-system-container-impl-236334627", True, ["main-logs"]),
        ("flaky-retried-350bd-retry-system-container-impl-4061675686", False, []),
    ]


@pytest.mark.parametrize(
    ("named", "iteration", "found"),
    [
        ("total", None, "total"),
        ("square", 1, "for-loop-1[1]/square"),
        ("for-loop-1[2]/square", None, "for-loop-1[2]/square"),
        ("square[2]", None, "for-loop-1[2]/square"),
        ("for-loop-1/square", 0, "for-loop-1[0]/square"),
        ("parallel-squares-d0bc8-2612133799", None, "for-loop-1[0]/square"),
        ("for-loop-1", None, "for-loop-1"),
    ],
)
def test_how_a_task_is_named(named: str, iteration: int | None, found: str) -> None:
    """By name, by task_id, by path; an iteration selects one where a name alone does not."""
    nodes = read_nodes(json.dumps(recorded("loop")[1]["manifest"]))
    assert TaskPaths(nodes.tasks).of(TaskPaths(nodes.tasks).find(named, iteration)) == found


def test_an_ambiguous_name() -> None:
    """The error lists the candidates."""
    nodes = read_nodes(json.dumps(recorded("loop")[1]["manifest"]))
    with pytest.raises(InvalidFieldError, match=r"'for-loop-1\[0\]/square', 'for-loop-1\[1\]/square'"):
        TaskPaths(nodes.tasks).find("square")
    with pytest.raises(TaskNotFoundError, match="for-loop-1, for-loop-1"):
        TaskPaths(nodes.tasks).find("square", 7)


def test_groups_by_their_authors_names() -> None:
    """A path may use the name that the author gave a group, or the one that KFP generated."""
    nodes = read_nodes(json.dumps(recorded("nested")[1]["manifest"]))
    assert TaskPaths(nodes.tasks).find("only-x/both[1]/step") == TaskPaths(nodes.tasks).find(
        "condition-1/for-loop-3[1]/step"
    )
    assert TaskPaths(nodes.tasks).find("both[1]/step").iteration_index == 1
