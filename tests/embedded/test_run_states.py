from __future__ import annotations

import errno
import json
import re
import sqlite3
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from tests.embedded.runs import a_pipeline, a_run, tasks_of, try_run
from tests.embedded.serving import Serving, serving
from tests.transcripts import DATA, Replayer, Transcript

from kfadapter_embedded.execution import State, TaskReport
from kfadapter_embedded.run_tasks import task_id
from kfadapter_embedded.store import Documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.transcripts import JsonObject

    from kfadapter_embedded.document_kinds import Kind
    from kfadapter_embedded.execution import Job

FULL = sqlite3.OperationalError("database or disk is full")
PLAYS = json.loads((DATA / "transcripts" / "run_states.json").read_text(encoding="utf-8"))["plays"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    """A server whose executor is scripted."""
    with serving(tmp_path) as running:
        yield running


def _succeed(server: Serving, run_id: str) -> None:
    server.executor.end_task(run_id, "greet", State.SUCCEEDED)
    server.executor.end(run_id, State.SUCCEEDED)


def _fail(server: Serving, run_id: str) -> None:
    if run_id in server.executor.terminated:
        return server.executor.end(run_id, State.CANCELED)
    server.executor.end_task(run_id, "greet", State.FAILED)
    return server.executor.end(run_id, State.FAILED)


def _call(verb: str) -> Callable[[Serving, str], None]:
    def call(server: Serving, run_id: str) -> None:
        assert server.caller.call("POST", f"/runs/{run_id}:{verb}").status == 200

    return call


STEPS: dict[str, Callable[[Serving, str], None]] = {
    "create": lambda _server, _run_id: None,
    "workflow reported Pending": lambda _server, _run_id: None,
    "workflow reported Running": lambda server, run_id: server.executor.start(run_id, "greet"),
    "workflow reported Succeeded": _succeed,
    "workflow reported Failed": _fail,
    "workflow reported Error": _fail,
    "retry": _call("retry"),
    "terminate": _call("terminate"),
}


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play["title"])
def test_plays(server: Serving, play: JsonObject) -> None:
    """During its execution, a run is served as by KFP while its workflow progresses."""
    run_id = a_run(server.caller, display_name=play["title"])
    free = frozenset({"plugins_output", "task_count"})
    steps = play["steps"]
    assert isinstance(steps, list)
    for step in steps:
        assert isinstance(step, dict)
        STEPS[str(step["after"])](server, run_id)
        served = _comparable(server.caller.get(f"/runs/{run_id}").json)
        # As in the next KFP, tasks are reset at once; KFP 2 shows the former ones until Argo starts.
        ignored = free | {"run_details"} if step["after"] == "retry" else free
        compare = Replayer(server.url, Transcript("run_states", ()), ignored)
        found = list(compare._compare("", _comparable(step["run"]), served))
        assert not found, f"after {step['after']}: {found}"


def _comparable(run: object) -> JsonObject:
    """A run with its tasks by name, and with one name for all pods."""
    plain: JsonObject = json.loads(re.sub(r"hello-world-[0-9a-z]{5}-100\d", "a pod", json.dumps(run)))
    details = plain.get("run_details")
    if isinstance(details, dict) and isinstance(details["task_details"], list):
        details["task_details"].sort(key=lambda task: str(task.get("display_name")) if isinstance(task, dict) else "")
    return plain


def _native(server: Serving, run_id: str) -> list[dict[str, object]]:
    tasks = server.caller.get(f"/runs/{run_id}", view="FULL").json["tasks"]
    assert isinstance(tasks, list)
    return sorted(tasks, key=lambda task: str(task["scope_path"]))


def test_why_it_failed(server: Serving) -> None:
    """A failed run and its failed tasks have the reason, in any script; what never started has none."""
    run_id = a_run(server.caller)
    server.executor.start(run_id, "train")
    server.executor.report(run_id, TaskReport("report", State.SKIPPED, began=False))
    server.executor.end_task(run_id, "train", State.FAILED, "ValueError: 값이 없다 \ud800")
    server.executor.end(run_id, State.FAILED, "task train failed")
    run = server.caller.get(f"/runs/{run_id}").json
    tasks = tasks_of(run)
    assert run["error"] == {"code": 2, "message": "task train failed"}
    assert tasks["train"]["error"] == {"code": 2, "message": "ValueError: 값이 없다 \ufffd"}
    assert tasks["report"]["state"] == "SKIPPED"
    assert [task["name"] for task in _native(server, run_id)] == ["ROOT", "train"]
    assert "error" not in tasks["root-driver-dag"]


def test_warnings(server: Serving) -> None:
    """A task keeps its warnings, in the field of KFP's task API that KFP leaves empty, until the run is retried."""
    run_id = a_run(server.caller)
    warnings = ("a cluster does it otherwise", "클러스터에서는 다르다")
    server.executor.start(run_id, "group")
    server.executor.report(run_id, TaskReport("group", State.RUNNING, warnings=warnings[1:]))
    server.executor.report(run_id, TaskReport("group/train", State.FAILED, "no", "no", warnings=warnings))
    server.executor.end(run_id, State.FAILED, "no")
    _, group, train = _native(server, run_id)
    assert group["status_metadata"] == {"custom_properties": {"warnings": [warnings[1]]}}
    assert train["status_metadata"] == {"message": "no", "custom_properties": {"warnings": [*warnings]}}
    assert server.caller.call("POST", f"/runs/{run_id}:retry").status == 200
    assert all("status_metadata" not in task for task in _native(server, run_id))


def test_outputs(server: Serving) -> None:
    """A task's outputs are in its task, artifacts are also served separately, and their ids are in `task_details`."""
    run_id = a_run(server.caller)
    folder = server.executor.jobs[0].folder
    made = [
        {"artifact_id": ID.format(1), "name": "model", "type": "Model", "metadata": {"layers": 3}},
        {"artifact_id": ID.format(2), "name": "loss", "type": "Metric", "metadata": {"loss": 0.5}},
    ]
    made[0]["uri"] = (folder / "한글 model").as_uri()
    outputs = {
        "parameters": [_output(parameter_key="Output", value="결과")],
        "artifacts": [
            _output(artifact_key="model", artifacts=made[:1]),
            _output(artifact_key="metrics", artifacts=made[1:]),
            _output(artifact_key="executor-logs", artifacts=[{"artifact_id": ID.format(3), "type": "Artifact"}]),
        ],
    }
    server.executor.start(run_id, "train")
    server.executor.report(run_id, TaskReport("train", State.SUCCEEDED, attempts=1, details={"outputs": outputs}))
    task = server.caller.get(f"/runs/{run_id}/tasks/{task_id(run_id, 'train')}").json
    assert task["outputs"] == outputs
    train = tasks_of(server.caller.get(f"/runs/{run_id}").json)["train"]
    assert set(train["outputs"]) == {"model", "metrics"}  # type: ignore[call-overload]
    assert all(0 <= int(each) < 2**63 for one in train["outputs"].values() for each in one["artifact_ids"])  # type: ignore[attr-defined]
    assert server.caller.get(f"/artifacts/{ID.format(2)}").json == made[1]


ID = "00000000-0000-4000-8000-00000000000{}"


def _output(**fields: object) -> dict[str, object]:
    return {"type": "OUTPUT", "producer": {"task_name": "train"}, **fields}


def test_tasks_in_tasks(server: Serving) -> None:
    """A task's pods are below its parent task, if that is known."""
    run_id = a_run(server.caller)
    server.executor.start(run_id, "loop", "loop[0]/square", "if/elsewhere", "loop[1]", "loop[1]/square")
    tasks = tasks_of(server.caller.get(f"/runs/{run_id}").json)
    pods = {name: len(task.get("child_tasks", [])) for name, task in tasks.items()}  # type: ignore[arg-type]
    # Two for each: the task's own, and its driver's.
    assert pods["root-driver-dag"] == 3 * 2
    assert pods["loop"] == 2
    assert pods["loop[1]"] == 2
    assert len({str(task["task_id"]) for task in tasks.values()}) == len(tasks) == 11


def test_termination(server: Serving) -> None:
    """Terminate calls the executor once, and is complete when that has ended the run; the run may still succeed."""
    ended, finished = a_run(server.caller), a_run(server.caller)
    for run_id in (ended, finished):
        server.executor.start(run_id, "greet")
        assert server.caller.call("POST", f"/runs/{run_id}:terminate").status == 200
        assert server.caller.call("POST", f"/runs/{run_id}:terminate").status == 400
    server.executor.end(ended, State.CANCELED, "")
    server.executor.end(finished, State.SUCCEEDED, "")
    assert server.executor.terminated == [ended, finished]
    assert server.caller.get(f"/runs/{ended}")["state"] == "FAILED"
    assert server.caller.get(f"/runs/{finished}")["state"] == "SUCCEEDED"
    assert server.caller.call("POST", f"/runs/{ended}:terminate").status == 400


def test_history_of_a_termination(server: Serving) -> None:
    """If a task was reported in between, the history of a terminated run has CANCELING, as in KFP."""
    run_id = a_run(server.caller)
    server.executor.start(run_id, "greet")
    server.caller.call("POST", f"/runs/{run_id}:terminate")
    server.executor.end_task(run_id, "greet", State.CANCELED)
    server.executor.end(run_id, State.CANCELED)
    history = server.caller.get(f"/runs/{run_id}").json["state_history"]
    assert isinstance(history, list)
    assert [each["state"] for each in history] == ["PENDING", "RUNNING", "CANCELING", "FAILED"]


def test_termination_while_it_waits(server: Serving) -> None:
    """A run that is terminated before it has started stays CANCELING whatever starts, and has no tasks in the end."""
    run_id = a_run(server.caller)
    server.caller.call("POST", f"/runs/{run_id}:terminate")
    server.executor.start(run_id)
    assert server.caller.get(f"/runs/{run_id}")["state"] == "CANCELING"
    other = a_run(server.caller)
    server.caller.call("POST", f"/runs/{other}:terminate")
    server.executor.end(other, State.CANCELED)
    run = server.caller.get(f"/runs/{other}").json
    assert (run["state"], "run_details" in run) == ("FAILED", False)


def test_termination_before_it_is_submitted(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a run is terminated before it reached the executor, the executor is called afterwards."""
    submit = server.executor.submit

    def slow(job: Job) -> None:
        assert server.caller.call("POST", f"/runs/{job.run_id}:terminate").status == 200
        server.executor.terminated.clear()
        submit(job)

    monkeypatch.setattr(server.executor, "submit", slow)
    run_id = a_run(server.caller)
    assert server.executor.terminated == [run_id]


def test_retry(server: Serving) -> None:
    """A failed run can be retried: what succeeded is kept, the rest starts again as the same tasks."""
    run_id = a_run(server.caller)
    server.executor.start(run_id, "greet", "before")
    server.executor.end_task(run_id, "before", State.SUCCEEDED)
    server.executor.report(run_id, TaskReport("after", State.SKIPPED, began=False))
    server.executor.end_task(run_id, "greet", State.FAILED, "no")
    server.executor.end(run_id, State.FAILED, "no")
    assert server.caller.call("POST", f"/runs/{run_id}:retry").status == 200
    assert server.caller.get(f"/runs/{run_id}")["finished_at"] == "1970-01-01T00:00:00Z"
    again = {str(task["name"]): task for task in _native(server, run_id)}
    assert {name: (task["state"], "pods" not in task) for name, task in again.items()} == {
        "ROOT": ("RUNNING", True),
        "before": ("SUCCEEDED", False),
        "greet": ("RUNNING", True),
    }
    assert not again["greet"].keys() & {"end_time", "status_metadata"}
    assert [job.run_id for job in server.executor.jobs] == [run_id, run_id]
    server.executor.start(run_id, "greet")
    server.executor.end_task(run_id, "greet", State.SUCCEEDED)
    server.executor.end(run_id, State.SUCCEEDED)
    run = server.caller.get(f"/runs/{run_id}").json
    history = run["state_history"]
    assert isinstance(history, list)
    assert [each["state"] for each in history] == ["PENDING", "RUNNING", "FAILED", "RUNNING", "SUCCEEDED"]
    assert "error" not in run
    assert {name: task["task_id"] for name, task in tasks_of(run).items() if "-driver" not in name} == {
        name: task["task_id"] for name, task in again.items() if name != "ROOT"
    }
    (greet,) = (task for task in _native(server, run_id) if task["name"] == "greet")
    states = [each["state"] for each in greet["state_history"]]  # type: ignore[attr-defined]
    assert states == ["RUNNING", "FAILED", "RUNNING", "SUCCEEDED"]


def test_retry_without_the_result(server: Serving) -> None:
    """A task that succeeded is executed again if its result is missing; a group that succeeded is kept."""
    run_id = a_run(server.caller)
    server.executor.start(run_id, "greet")
    server.executor.report(run_id, TaskReport("loop", State.RUNNING, details={"type": "DAG"}))
    for name in ("greet", "loop"):
        server.executor.end_task(run_id, name, State.SUCCEEDED)
    server.executor.end(run_id, State.FAILED, "no")
    assert server.caller.call("POST", f"/runs/{run_id}:retry").status == 200
    for name in ("greet", "loop"):
        server.executor.report(run_id, TaskReport(name, State.RUNNING))
    tasks = {str(task["name"]): task for task in _native(server, run_id)}
    assert (tasks["greet"]["state"], tasks["loop"]["state"]) == ("RUNNING", "SUCCEEDED")
    assert tasks["greet"]["outputs"] == {}


def test_no_retry(server: Serving) -> None:
    """A run that has not failed cannot be retried."""
    run_id = a_run(server.caller)
    assert server.caller.call("POST", f"/runs/{run_id}:retry").status == 409
    server.executor.start(run_id)
    assert server.caller.call("POST", f"/runs/{run_id}:retry").status == 409
    server.executor.end(run_id, State.SUCCEEDED)
    reply = server.caller.call("POST", f"/runs/{run_id}:retry")
    assert (reply.status, reply.json["code"]) == (409, 10)
    assert len(server.executor.jobs) == 1


def test_deletion_of_a_run_that_goes_on(server: Serving) -> None:
    """Deleting a run in progress ends it; its files are deleted when it has ended, and its id is free from then on."""
    run_id = a_run(server.caller, run_id="chosen")
    folder = server.executor.jobs[0].folder
    server.executor.start(run_id, "greet")
    assert server.caller.call("DELETE", f"/runs/{run_id}").status == 200
    assert server.caller.get(f"/runs/{run_id}").status == 404
    assert server.executor.terminated == [run_id]
    assert try_run(server.caller, run_id="chosen").status == 500
    (folder / "written-late").write_text("x", encoding="utf-8")
    server.executor.end_task(run_id, "greet", State.CANCELED)
    server.executor.end(run_id, State.CANCELED)
    assert not folder.exists()
    assert try_run(server.caller, run_id="chosen").status == 200


def test_deletion_of_a_run_that_is_over(server: Serving) -> None:
    """Deleting a finished run deletes its files at once; its spec is kept while other runs use it."""
    pipeline = a_pipeline(server.caller)
    first, second = (a_run(server.caller, pipeline_version_reference=pipeline) for _ in range(2))
    server.executor.end(first, State.SUCCEEDED)
    assert server.caller.call("DELETE", f"/runs/{first}").status == 200
    assert not server.executor.jobs[0].folder.exists()
    assert server.executor.terminated == []
    assert server.caller.get(f"/runs/{second}").status == 200
    server.caller.call("DELETE", f"/runs/{second}")
    server.caller.call("DELETE", f"/pipelines/{pipeline['pipeline_id']}", cascade="true")
    with server.store.reading() as documents:
        assert documents.one("SELECT count(*) FROM specs") == 0


def test_start_after_a_cut(tmp_path: Path) -> None:
    """After a restart, runs in progress have failed and say so, and waiting ones are submitted in their order."""
    with serving(tmp_path) as first:
        running, ending, over, *waiting = (a_run(first.caller, run_id=f"run-{number}") for number in range(6, 0, -1))
        for run_id in (running, ending, over):
            first.executor.start(run_id, "greet")
        first.caller.call("POST", f"/runs/{ending}:terminate")
        _succeed(first, over)
        (tmp_path / "runs" / "nobody-knows").mkdir()
    with serving(tmp_path) as second:
        assert [job.run_id for job in second.executor.jobs] == waiting
        assert all(job.folder.is_dir() and job.spec.startswith(b"{") for job in second.executor.jobs)
        assert not (tmp_path / "runs" / "nobody-knows").exists()
        for run_id in (running, ending):
            run = second.caller.get(f"/runs/{run_id}").json
            assert run["state"] == "FAILED"
            assert "stopped in the middle" in str(run["error"])
            assert tasks_of(run)["greet"]["state"] == "FAILED"
        assert second.caller.get(f"/runs/{over}")["state"] == "SUCCEEDED"
        assert second.caller.call("POST", f"/runs/{running}:retry").status == 200


def test_end_of_the_server(server: Serving) -> None:
    """While the server shuts down, a run that has not started is unchanged, whatever its executor reports."""
    waiting, running = a_run(server.caller), a_run(server.caller)
    server.executor.start(running)
    server.progress.close()
    for run_id in (waiting, running):
        server.executor.end(run_id, State.FAILED, "cut off")
    assert server.caller.get(f"/runs/{waiting}")["state"] == "PENDING"
    assert server.caller.get(f"/runs/{running}")["state"] == "FAILED"


def test_disk_that_is_full_for_a_while(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be stored at first is stored later."""
    run_id = a_run(server.caller)
    faults = iter([FULL] * 20)
    put = Documents.put

    def fail_at_first(documents: Documents, kind: Kind, document: dict[str, object]) -> str:
        if fault := next(faults, None):
            raise fault
        return put(documents, kind, document)

    monkeypatch.setattr("kfadapter_embedded.progress._RETRY_SECONDS", (0.001,) * 3)
    monkeypatch.setattr(Documents, "put", fail_at_first)
    server.executor.end(run_id, State.SUCCEEDED)
    assert server.caller.get(f"/runs/{run_id}")["state"] == "SUCCEEDED"


@pytest.mark.parametrize("fault", [FULL, OSError(errno.ENOSPC, "No space left on device")])
def test_disk_that_is_full(server: Serving, monkeypatch: pytest.MonkeyPatch, fault: Exception, tmp_path: Path) -> None:
    """What needs space on a full disk is rejected with an error that names the disk, and what to do."""
    pipeline = a_pipeline(server.caller)
    monkeypatch.setattr(server.store, "writing", Mock(side_effect=fault))
    reply = try_run(server.caller, pipeline_version_reference=pipeline)
    assert (reply.status, reply.json["code"]) == (429, 8)
    assert f"the disk that {tmp_path} is on is full" in reply["message"]
    monkeypatch.setattr(server.store, "writing", Mock(side_effect=sqlite3.OperationalError("no such table")))
    assert try_run(server.caller, pipeline_version_reference=pipeline).status == 500


def test_deleting_on_a_full_disk(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a finished run make the space that its deletion needs; a run in progress keeps its files."""
    over, active = a_run(server.caller), a_run(server.caller)
    folders = {job.run_id: job.folder for job in server.executor.jobs}
    server.executor.end(over, State.SUCCEEDED)
    drop = server.runs.drop

    def drop_if_there_is_room(run_id: str) -> object:
        if folders[over].exists() or run_id != over:
            raise FULL
        return drop(run_id)

    monkeypatch.setattr(server.runs, "drop", drop_if_there_is_room)
    assert server.caller.call("DELETE", f"/runs/{active}").status == 429
    assert folders[active].exists()
    assert server.caller.call("DELETE", f"/runs/{over}").status == 200
    assert server.caller.get(f"/runs/{over}").status == 404
    assert server.caller.get(f"/runs/{active}").status == 200


def test_room_for_files(tmp_path: Path) -> None:
    """If the files of runs take too much space, new runs are rejected with an error that says what to do."""
    with serving(tmp_path, most_file_bytes=1 << 20) as server:
        large = a_run(server.caller, display_name="큰 것")
        (server.executor.jobs[0].folder / "model").write_bytes(b"x" * (2 << 20))
        failed = a_run(server.caller)
        server.executor.end(failed, State.FAILED)
        server.executor.end(large, State.SUCCEEDED)
        reply = try_run(server.caller)
        assert (reply.status, reply.json["code"]) == (429, 8)
        assert str(tmp_path / "runs") in reply["message"]
        assert (
            f"delete runs that are not needed any more, and their files go with them (most are of run {large}, 큰 것)"
            in (reply["message"])
        )
        assert server.caller.call("POST", f"/runs/{failed}:retry").status == 429
        server.caller.call("DELETE", f"/runs/{large}")
        assert try_run(server.caller).status == 200


def test_no_folder_for_files(server: Serving, tmp_path: Path) -> None:
    """A run whose folder cannot be created has failed, and says so."""
    (tmp_path / "runs" / "chosen").write_text("in the way", encoding="utf-8")
    run_id = a_run(server.caller, run_id="chosen")
    run = server.caller.get(f"/runs/{run_id}").json
    assert run["state"] == "FAILED"
    assert "no folder can be made for it" in str(run["error"])
    assert server.executor.jobs == []
