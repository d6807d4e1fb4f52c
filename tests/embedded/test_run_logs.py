from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from tests.embedded.runs import a_run, tasks_of
from tests.embedded.serving import Told, told

from kfadapter_grpc.embedded.execution import State, log_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from urllib3 import BaseHTTPResponse

NAME = "for-loop-1[0]/학습"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Told]:
    """A server whose executor does as it is told."""
    with told(tmp_path) as running:
        yield running


@pytest.fixture
def run_id(server: Told) -> str:
    """A run with a task that goes on."""
    run_id = a_run(server.caller)
    server.executor.start(run_id, NAME)
    return run_id


def write(server: Told, text: bytes) -> None:
    """Writes to the log of the task."""
    path = log_path(server.executor.jobs[0].folder, NAME)
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.write(text)


def read(server: Told, run_id: str, node: str, version: str = "v1beta1", **query: object) -> tuple[int, str]:
    """The answer to a request for a log, whole."""
    reply = server.caller.get(f"/apis/{version}/runs/{run_id}/nodes/{node}/log", **query)
    return reply.status, reply.text


def test_names_of_a_task(server: Told, run_id: str) -> None:
    """A task's log is found by its name, its id and its pod, under both versions of the API."""
    write(server, "한 줄\n".encode())
    tasks = tasks_of(server.caller.get(f"/runs/{run_id}").json)
    children = tasks["root-driver-dag"]["child_tasks"]
    assert isinstance(children, list)
    for node in ("for-loop-1%5B0%5D%2F%ED%95%99%EC%8A%B5", tasks[NAME]["task_id"], children[0]["pod_name"]):
        for version in ("v1beta1", "v2beta1"):
            assert read(server, run_id, str(node), version) == (200, "한 줄\n")


def test_no_log_yet(server: Told, run_id: str) -> None:
    """A task that has written nothing has an empty log; one that is not there has none."""
    assert read(server, run_id, str(tasks_of(server.caller.get(f"/runs/{run_id}").json)[NAME]["task_id"])) == (200, "")
    for run, node in ((run_id, "nobody"), (run_id, "root-driver-dag"), ("nobody", "nobody"), (run_id, "..%2F..%2Fkfp")):
        status, text = read(server, run, node)
        assert (status, "error_message" in text) == (404, True)


def test_large_log(server: Told, run_id: str) -> None:
    """A log comes whole, however large it is."""
    text = b"0123456789abcde\n" * 100_000
    write(server, text)
    server.executor.end_task(run_id, NAME, State.SUCCEEDED)
    task = tasks_of(server.caller.get(f"/runs/{run_id}").json)[NAME]["task_id"]
    assert read(server, run_id, str(task)) == (200, text.decode())
    assert read(server, run_id, str(task), follow="true") == (200, text.decode())


def follow(server: Told, run_id: str) -> BaseHTTPResponse:
    """Begins to read a log as it is written."""
    task = tasks_of(server.caller.get(f"/runs/{run_id}").json)[NAME]["task_id"]
    url = f"{server.url}/apis/v1beta1/runs/{run_id}/nodes/{task}/log?follow=true"
    return server.caller.pool.request("GET", url, preload_content=False)


@pytest.mark.parametrize("deleted", [False, True])
def test_following(server: Told, run_id: str, deleted: bool) -> None:  # a parameter of the test
    """A log can be followed while it is written, until its task is over or its run is gone."""
    write(server, b"first\n")
    reply = follow(server, run_id)
    assert reply.read(6) == b"first\n"
    write(server, b"second\n")
    assert reply.read(7) == b"second\n"
    write(server, b"third\n")
    if deleted:
        server.caller.call("DELETE", f"/runs/{run_id}")
    else:
        server.executor.end_task(run_id, NAME, State.FAILED)
    assert reply.read() == b"third\n"


def test_followers_that_go_away(server: Told, run_id: str) -> None:
    """Many can follow one log; those that go away in the middle trouble nobody."""
    write(server, b"first\n")
    for reply in [follow(server, run_id) for _ in range(10)]:
        assert reply.read(6) == b"first\n"
        reply.close()
    last = follow(server, run_id)
    ended = threading.Thread(target=last.read)
    ended.start()
    server.executor.end(run_id, State.SUCCEEDED)
    ended.join(30)
    assert not ended.is_alive()
