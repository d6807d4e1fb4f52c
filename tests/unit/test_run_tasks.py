"""Of the nodes of a run's workflow people are told those that they know, and of a failure the words that matter."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.transcripts import DATA

from kfadapter_grpc.contract.run_outputs import RunArtifact, RunOutput
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.kfp.run_json import RunJson
from kfadapter_grpc.kfp.run_outputs import artifact
from kfadapter_grpc.kfp.task_details import read_task_details

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kfadapter_grpc.contract.runs import RunTask

AT = "2026-01-02T03:04:{:02d}Z"
NOT_OVER = "0001-01-01T00:00:00Z"


def _recorded(title: str) -> list[RunJson]:
    """A run as it was served while its workflow moved on."""
    plays = json.loads((DATA / "transcripts" / "run_states.json").read_text("utf-8"))["plays"]
    play = next(one for one in plays if one["title"] == title)
    text = json.dumps([step["run"] for step in play["steps"]]).replace("{time}", AT.format(5))
    return msgspec.json.decode(text, type=list[RunJson])


def _node(
    name: str,
    state: str = "SUCCEEDED",
    error: str = "",
    *,
    start: int = 1,
    end: int = 2,
    below: str = "",
    pod: str = "",
) -> dict[str, object]:
    return {
        "display_name": name,
        "task_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {pod}")),
        "state": state,
        "create_time": AT.format(0),
        "start_time": AT.format(start),
        "end_time": AT.format(end) if end else NOT_OVER,
        "pod_name": pod,
        "child_tasks": [{"pod_name": one} for one in below.split()],
        **({"error": {"code": 2, "message": error}} if error else {}),
    }


def _run(*nodes: Mapping[str, object], state: str = "FAILED", **fields: object) -> RunJson:
    body = {"run_id": "r", "state": state, "run_details": {"task_details": nodes}, **fields}
    return msgspec.convert(body, RunJson)


def _tasks(run: RunJson) -> Sequence[RunTask]:
    return read_task_details(run.nodes, "").tasks


def _names(run: RunJson) -> list[str]:
    return [task.name for task in _tasks(run)]


def test_a_recorded_run_as_it_goes_on() -> None:
    """The task has the state, the times and the history that KFP tells; 1970 and the year 1 are no times."""
    _, _, running, over = _recorded("succeeds")
    (task,) = _tasks(running)
    assert (task.state, task.finished_at) == (RunState.RUNNING, None)
    assert task.started_at is not None
    (task,) = _tasks(over)
    assert [change.state for change in task.state_history] == [RunState.RUNNING, RunState.SUCCEEDED]
    assert task.finished_at is not None
    assert running.record().finished_at is None
    assert over.record().finished_at is not None


def test_tasks_that_are_named_like_kfps_own() -> None:
    """A task `bus-driver` has a driver of its own, and so has a task `executor`."""
    names = ("bus-driver", "bus-driver-driver", "executor", "executor-driver", "hello")
    run = _run(*map(_node, names), _node("hello-2", below="hello-2-a"))
    assert sorted(_names(run)) == ["bus-driver", "executor", "hello", "hello-2"]


def test_the_order_is_that_in_which_they_began() -> None:
    """What has not begun is last."""
    run = _run(_node("c", "PENDING", start=0, end=0), _node("b", start=2), _node("a", start=3))
    assert _names(run) == ["b", "a", "c"]
    assert _tasks(run)[-1].started_at is None


def test_the_runs_own_words_come_first() -> None:
    """What KFP says of the run is told, whatever its tasks say."""
    run = _run(_node("train", "FAILED", "boom"), error={"code": 2, "message": "workflow was stopped"})
    assert run.why_failed() == "workflow was stopped"


def test_the_task_that_failed_first_is_told() -> None:
    """Of several the first, and rather a task than the group that failed because of it."""
    run = _run(
        _node("group", "FAILED", "child 'train' failed", end=3, below="x"),
        _node("report", "FAILED", "no file", end=9),
        _node("train", "FAILED", "ValueError: 모양", end=4),
    )
    assert run.why_failed() == "task 'train' failed: ValueError: 모양"


def test_a_failure_without_words_is_passed_over() -> None:
    """Only what says why is named."""
    run = _run(_node("train", "FAILED", end=3), _node("report", "FAILED", "no file", end=9))
    assert run.why_failed() == "task 'report' failed: no file"


def test_a_driver_that_failed() -> None:
    """It is why its task failed, and the task is shown though it never began."""
    run = _run(_node("train-driver", "FAILED", "no such secret"), _node("root", "FAILED", end=8))
    (task,) = _tasks(run)
    assert (task.name, task.state, task.error) == ("train", RunState.FAILED, "no such secret")
    assert run.why_failed() == "task 'train' could not be started: no such secret"


def test_a_task_whose_driver_failed() -> None:
    """The words of the driver are the task's."""
    run = _run(_node("train-driver", "FAILED", "no such secret"), _node("train", "FAILED"))
    (task,) = _tasks(run)
    assert task.error == "could not be started: no such secret"


def test_a_container_that_failed() -> None:
    """Its words belong to the task above it."""
    run = _run(_node("train", "FAILED", below="p-1"), _node("executor", "FAILED", "exit code 137", pod="p-1"))
    (task,) = _tasks(run)
    assert (task.name, task.error) == ("train", "exit code 137")
    assert run.why_failed() == "task 'train' failed: exit code 137"


@pytest.mark.parametrize("name", ["root-driver", "root", "root-driver-dag", "executor", "iteration-item-driver"])
def test_a_failure_that_belongs_to_no_task(name: str) -> None:
    """No error of KFP's own nodes is lost."""
    run = _run(_node(name, "FAILED", "no quota"))
    assert not _tasks(run)
    assert run.why_failed() == "the run failed: no quota"


def test_a_failure_of_which_nothing_is_known() -> None:
    """There are no words then; others say that KFP does not say why."""
    assert _run().why_failed() == ""


def test_words_in_the_history() -> None:
    """They are read where the task itself has none."""
    history = [{"state": "FAILED", "error": {"message": "evicted"}}]
    (task,) = _tasks(_run({**_node("train", "FAILED"), "state_history": history}))
    assert task.error == "evicted"
    assert task.state_history[0].error == "evicted"


@pytest.mark.parametrize("state", ["SUCCEEDED", "RUNNING", "CANCELED", "CANCELING", "", "FROM_THE_FUTURE"])
def test_only_a_failed_run_failed(state: str) -> None:
    """A task may fail without the run: it is retried, or an exit handler runs on."""
    assert _run(_node("train", "FAILED", "boom"), state=state).why_failed() == ""


def test_nodes_that_contain_each_other() -> None:
    """Whatever KFP says, the answer comes."""
    run = _run(
        _node("iteration-item", "FAILED", "x", below="b", pod="a"),
        _node("iteration-iterations", "FAILED", below="a", pod="b"),
    )
    assert run.why_failed() == "the run failed: x"


def test_outputs() -> None:
    """Values and artifacts where the embedded KFP tells them, KFP's numbers of artifacts elsewhere."""
    told = {
        "parameters": {"loss": 0.5, "name": "모델"},
        "artifacts": [{"name": "m", "type": "system.Metrics", "uri": "file:///m", "metadata": {"accuracy": 0.9}}],
    }
    node = {**_node("train"), "outputs": {"m": {"artifact_ids": ["1"]}, "d": {"artifact_ids": ["2", 3]}}}
    (task,) = _tasks(_run({**node, "kfadapter_outputs": told}))
    key, task_id = f"{task.task_id}.m", task.task_id
    m = artifact("system.Metrics", {"accuracy": 0.9}, name="m", uri="file:///m", artifact_id=key, task_id=task_id)
    assert task.outputs == (
        RunOutput("loss", value=0.5),
        RunOutput("name", value="모델"),
        RunOutput.of("m", m),
        RunOutput.of("d", RunArtifact(metadata={"artifact_ids": ["2", "3"]})),
    )


# --- etags ------------------------------------------------------------------------------------------------------


def test_an_etag_names_a_condition() -> None:
    """The same run has the same one, whatever the order of its nodes, and with outputs told or not."""
    one, other = _node("a"), {**_node("b"), "kfadapter_outputs": {"parameters": {"x": 1}}}
    same = [_run(one, other), _run(other, one), _run(one, _node("b")), _run(one, other, display_name="renamed")]
    assert len({run.etag() for run in same}) == 1


def test_an_etag_changes() -> None:
    """State, history, archiving, end and error of a run, and state, error and times of its tasks make another one."""
    different = [
        _run(_node("a")),
        _run(_node("a"), state="RUNNING"),
        _run(_node("a"), storage_state="ARCHIVED"),
        _run(_node("a"), finished_at=AT.format(9)),
        _run(_node("a"), error={"message": "x"}),
        _run(_node("a"), state_history=[{"state": "PENDING"}]),
        _run(_node("a", "FAILED")),
        _run(_node("a", error="x")),
        _run(_node("a", end=7)),
        _run(),
    ]
    assert len({run.etag() for run in different}) == len(different)


def test_recorded_runs_change_their_etags() -> None:
    """Each recorded step of a run that moved has its own."""
    assert len({run.etag() for run in _recorded("fails")}) == len(_recorded("fails"))
