from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.embedded.runs import a_run, tasks_of
from tests.embedded.serving import Serving, serving
from tests.transcripts import DATA

from kfadapter_embedded.execution import State, TaskReport, log_path
from kfadapter_embedded.run_tasks import task_id
from kfadapter_grpc.kfp.workflow_tasks import read_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "for-loop-1[0]/학습"
LOGS = json.loads((DATA / "transcripts" / "logs.json").read_text("utf-8"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    """A server whose executor is scripted."""
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def run_id(server: Serving) -> str:
    """A run with a task in progress."""
    run_id = a_run(server.caller)
    server.executor.start(run_id, NAME)
    return run_id


def write(server: Serving, text: bytes) -> None:
    """Writes to the log of the task."""
    path = log_path(server.executor.jobs[0].folder, NAME)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(text)


def pod_of(server: Serving, run_id: str) -> str:
    """The pod of the task, as KFP lists it."""
    children = tasks_of(server.caller.get(f"/runs/{run_id}").json)["root-driver-dag"]["child_tasks"]
    assert isinstance(children, list)
    return str(children[0]["pod_name"])


def read(server: Serving, run_id: str, pod: str, version: str = "v1alpha1", **query: object) -> tuple[int, str]:
    """The whole answer to a request for a log."""
    reply = server.caller.get(f"/apis/{version}/runs/{run_id}/nodes/{pod}/log", **query)
    return reply.status, reply.text


def error(text: str) -> str:
    """The message of an error in a log, which has exactly two keys."""
    body = json.loads(text)
    assert list(body) == ["error_message", "error_details"]
    return str(body["error_message"])


def test_names_of_a_task(server: Serving, run_id: str) -> None:
    """A task's log is found by its pod and its id, at KFP's only route for logs."""
    write(server, "한 줄\n".encode())
    ids = tasks_of(server.caller.get(f"/runs/{run_id}").json)
    for name in (pod_of(server, run_id), str(ids[NAME]["task_id"])):
        assert read(server, run_id, name) == (200, "한 줄\n")
        for version in ("v1beta1", "v2beta1"):
            status, text = read(server, run_id, name, version)
            assert (status, json.loads(text)["message"]) == (404, "Not Found")


def test_logs_of_attempts(server: Serving, run_id: str) -> None:
    """Each attempt has its own pod and log; the task's id stands for all of them."""
    for attempt, text in enumerate(("첫째\n", "second\n")):
        path = log_path(server.executor.jobs[0].folder, NAME, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    server.executor.report(run_id, TaskReport(NAME, State.FAILED, attempts=1))
    server.executor.report(run_id, TaskReport(NAME, State.SUCCEEDED, attempts=2))
    task = server.caller.get(f"/runs/{run_id}/tasks/{task_id(run_id, NAME)}").json
    pods = task["pods"]
    assert isinstance(pods, list)
    assert [pod["type"] for pod in pods] == ["DRIVER", "EXECUTOR", "EXECUTOR"]
    assert [read(server, run_id, pod["name"]) for pod in pods[1:]] == [(200, "첫째\n"), (200, "second\n")]
    assert read(server, run_id, str(task["task_id"])) == (200, "첫째\nsecond\n")


def test_pods_at_work(server: Serving) -> None:
    """The workflow of a run names running pods, each in its iteration, and has the reason why one failed."""
    run_id = a_run(server.caller)
    loop = {"type": "LOOP", "type_attributes": {"iteration_count": "2"}}
    server.executor.start(run_id)
    server.executor.report(run_id, TaskReport("loop", State.RUNNING, details=loop))
    paths = [f"loop[{index}]/inner/nap" for index in range(2)]
    for path in paths:
        server.executor.report(run_id, TaskReport(path.removesuffix("/nap"), State.RUNNING, details={"type": "DAG"}))
        server.executor.start(run_id, path)
    server.executor.end_task(run_id, paths[1], State.FAILED, "망가짐")
    manifest = server.caller.get(f"/apis/v1beta1/runs/{run_id}").json["pipeline_runtime"]
    assert isinstance(manifest, dict)
    found = read_nodes(manifest["workflow_manifest"])
    naps = {task.iteration_index: task for task in found.tasks if task.name == "nap"}
    assert [naps[index].error for index in range(2)] == ["", "망가짐"]
    for index, path in enumerate(paths):
        log = log_path(server.executor.jobs[0].folder, path)
        log.parent.mkdir(parents=True)
        log.write_text(path, "utf-8")
        assert read(server, run_id, naps[index].pod_name) == (200, path)


def test_no_log_yet(server: Serving, run_id: str) -> None:
    """A task that has written nothing has an empty log."""
    assert read(server, run_id, pod_of(server, run_id)) == (200, "")


def test_errors(server: Serving, run_id: str) -> None:
    """Errors come with status 200 and in KFP's words."""
    status, text = read(server, run_id, "nobody-1")
    begin = f"BadRequestError: Failed to read logs for run {run_id}: InternalServerError: Failed to read logs from pod"
    assert status == 200
    assert error(text).startswith(f"{begin} nobody-1 due to error opening log stream")
    assert read(server, run_id, "root-driver-dag")[0] == 200


@pytest.mark.parametrize("note", ["unknown run that is no id", "node with an encoded slash", "node with a slash"])
def test_recorded_errors(server: Serving, note: str) -> None:
    """Requests without a match are answered as recorded."""
    step = next(step for step in LOGS["steps"] if step["note"] == note)
    reply = server.caller.get(step["request"]["path"])
    said, recorded = reply.json, step["response"]["json"]
    key = "error_message" if "error_message" in recorded else "message"
    assert (reply.status, said[key]) == (step["response"]["status"], recorded[key])


def test_large_log(server: Serving, run_id: str) -> None:
    """A log is returned completely, however large it is."""
    text = b"0123456789abcde\n" * 100_000
    write(server, text)
    server.executor.end_task(run_id, NAME, State.SUCCEEDED)
    assert read(server, run_id, pod_of(server, run_id)) == (200, text.decode())


def test_log_of_a_task_at_work(server: Serving, run_id: str) -> None:
    """A log is returned as far as it is written, unchanged; as in KFP, the route does not follow it."""
    write(server, b'first\n\n{"level": "info"}\r\nlast')
    assert read(server, run_id, pod_of(server, run_id), follow="true") == (200, 'first\n\n{"level": "info"}\r\nlast')
    write(server, b" line\n")
    assert read(server, run_id, pod_of(server, run_id))[1].endswith("last line\n")
