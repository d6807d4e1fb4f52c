from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import urllib3
from tests.embedded.conftest import HELLO, Caller

from kfadapter_grpc.embedded.process import start

if TYPE_CHECKING:
    from pathlib import Path


def test_kill_in_a_stream_of_uploads(tmp_path: Path) -> None:
    """Every acknowledged upload is there, and whole, after a kill -9 in the middle of many."""
    acknowledged: dict[str, str] = {}
    enough = threading.Event()

    def upload(worker: int, caller: Caller) -> None:
        for number in range(1000):
            try:
                reply = caller.upload(name=f"p-{worker}-{number}", description=f"from {worker}")
            except urllib3.exceptions.HTTPError:
                return
            acknowledged[reply["pipeline_id"]] = f"p-{worker}-{number}"
            if len(acknowledged) >= 40:
                enough.set()

    first = start(tmp_path)
    workers = [threading.Thread(target=upload, args=(number, Caller(first.url))) for number in range(4)]
    for worker in workers:
        worker.start()
    assert enough.wait(30)
    os.kill(first.pid, signal.SIGKILL)
    for worker in workers:
        worker.join(30)
    first.stop()

    with start(tmp_path) as second:
        assert {each.name for each in tmp_path.iterdir()} == {
            "lock",
            "runs",
            "kfp.sqlite",
            "kfp.sqlite-shm",
            "kfp.sqlite-wal",
        }
        caller = Caller(second.url)
        expected = caller.get(f"/pipelines/{_reference(caller)}/versions").json["pipeline_versions"]
        assert isinstance(expected, list)
        for pipeline_id, name in acknowledged.items():
            assert caller.get(f"/pipelines/names/{name}")["pipeline_id"] == pipeline_id
            versions = caller.get(f"/pipelines/{pipeline_id}/versions").json["pipeline_versions"]
            assert isinstance(versions, list)
            assert [(each["name"], each["pipeline_spec"]) for each in versions] == [
                (name, expected[0]["pipeline_spec"])
            ]


def _reference(caller: Caller) -> str:
    """A pipeline of the same file, uploaded in peace."""
    return caller.upload(HELLO.read_bytes(), name="reference")["pipeline_id"]


def test_restart(tmp_path: Path) -> None:
    """After an orderly end everything is as it was: names, tags, description, times, deletions."""
    with start(tmp_path) as first:
        caller = Caller(first.url)
        kept = caller.upload(name="유지", description="설명", tags='{"a": "b"}')
        gone = caller.upload(name="gone")
        caller.call("DELETE", f"/pipelines/{gone['pipeline_id']}", cascade="true")
    with start(tmp_path) as second:
        caller = Caller(second.url)
        assert caller.get(f"/pipelines/{kept['pipeline_id']}").json == kept.json
        assert caller.get("/pipelines").json["total_size"] == 1
