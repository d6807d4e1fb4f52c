"""From the nodes of a run's workflow: its tasks, and why it failed."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import msgspec
import pytest
from tests.transcripts import DATA

from kfadapter_grpc.kfp.run_json import RunJson

if TYPE_CHECKING:
    from collections.abc import Mapping


AT = "2026-01-02T03:04:{:02d}Z"
NOT_OVER = "0001-01-01T00:00:00Z"


def _recorded(title: str) -> list[RunJson]:
    """A run as KFP served it while its workflow advanced."""
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


def test_a_recorded_run_in_progress() -> None:
    """1970 and the year 1 are read as unset times."""
    _, _, running, over = _recorded("succeeds")
    assert running.record().finished_at is None
    assert over.record().finished_at is not None


def test_the_runs_own_words_come_first() -> None:
    """KFP's message for the run takes precedence over those of its tasks."""
    run = _run(_node("train", "FAILED", "boom"), error={"code": 2, "message": "workflow was stopped"})
    assert run.failure_message() == "workflow was stopped"


def test_the_task_that_failed_first_is_reported() -> None:
    """Of several failures the first is reported, and that of a task rather than its group's."""
    run = _run(
        _node("group", "FAILED", "child 'train' failed", end=3, below="x"),
        _node("report", "FAILED", "no file", end=9),
        _node("train", "FAILED", "ValueError: 모양", end=4),
    )
    assert run.failure_message() == "task 'train' failed: ValueError: 모양"


def test_a_failure_without_words_is_passed_over() -> None:
    """A failure without a message is skipped."""
    run = _run(_node("train", "FAILED", end=3), _node("report", "FAILED", "no file", end=9))
    assert run.failure_message() == "task 'report' failed: no file"


def test_a_driver_that_failed() -> None:
    """A failed driver is reported as the reason of its task."""
    run = _run(_node("train-driver", "FAILED", "no such secret"), _node("root", "FAILED", end=8))
    assert run.failure_message() == "task 'train' could not be started: no such secret"


def test_a_container_that_failed() -> None:
    """The message of a container belongs to the task above it."""
    run = _run(_node("train", "FAILED", below="p-1"), _node("executor", "FAILED", "exit code 137", pod="p-1"))
    assert run.failure_message() == "task 'train' failed: exit code 137"


@pytest.mark.parametrize("name", ["root-driver", "root", "root-driver-dag", "executor", "iteration-item-driver"])
def test_a_failure_that_belongs_to_no_task(name: str) -> None:
    """An error of KFP's own nodes is reported for the run."""
    run = _run(_node(name, "FAILED", "no quota"))
    assert run.failure_message() == "the run failed: no quota"


def test_a_failure_of_which_nothing_is_known() -> None:
    """Without any message, the reason is empty."""
    assert _run().failure_message() == ""


def test_words_in_the_history() -> None:
    """If a task has no message, that of its history is used."""
    history = [{"state": "FAILED", "error": {"message": "evicted"}}]
    assert (
        _run({**_node("train", "FAILED"), "state_history": history}).failure_message() == "task 'train' failed: evicted"
    )


@pytest.mark.parametrize("state", ["SUCCEEDED", "RUNNING", "CANCELED", "CANCELING", "", "FROM_THE_FUTURE"])
def test_only_a_failed_run_failed(state: str) -> None:
    """A task may fail without the run: it is retried, or an exit handler runs."""
    assert _run(_node("train", "FAILED", "boom"), state=state).failure_message() == ""


def test_nodes_that_contain_each_other() -> None:
    """Nodes that contain each other do not prevent a response."""
    run = _run(
        _node("iteration-item", "FAILED", "x", below="b", pod="a"),
        _node("iteration-iterations", "FAILED", below="a", pod="b"),
    )
    assert run.failure_message() == "the run failed: x"


# --- etags ------------------------------------------------------------------------------------------------------


def test_an_etag_names_a_condition() -> None:
    """The same run has the same etag, whatever the order of its nodes, and with or without outputs."""
    one, other = _node("a"), {**_node("b"), "outputs": {"x": {"artifact_ids": ["1"]}}}
    same = [_run(one, other), _run(other, one), _run(one, _node("b")), _run(one, other, display_name="renamed")]
    assert len({run.etag() for run in same}) == 1


def test_an_etag_changes() -> None:
    """State, history, archiving, end and error of a run, and state, error and times of its tasks change the etag."""
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
    """Each recorded step of an advancing run has its own etag."""
    assert len({run.etag() for run in _recorded("fails")}) == len(_recorded("fails"))
