from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import urllib3
from tests.embedded.conftest import HELLO, Caller
from tests.embedded.runs import a_pipeline, a_run
from tests.embedded.serving import serving
from tests.transcripts import PIPELINES

from kfadapter_embedded.process import start
from kfadapter_embedded.store import Store, StoreError

DATA = Path(__file__).parents[1] / "data" / "embedded"

pytestmark = pytest.mark.slow


def test_kill_in_a_stream_of_uploads(tmp_path: Path) -> None:
    """Every acknowledged upload exists, and is complete, after a kill -9 during many uploads."""
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
            "cache",
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
    """An undisturbed upload of the same file."""
    return caller.upload(HELLO.read_bytes(), name="reference")["pipeline_id"]


def test_restart(tmp_path: Path) -> None:
    """After an orderly shutdown everything is unchanged: names, tags, description, times, deletions."""
    with start(tmp_path) as first:
        caller = Caller(first.url)
        kept = caller.upload(name="유지", description="설명", tags='{"a": "b"}')
        gone = caller.upload(name="gone")
        caller.call("DELETE", f"/pipelines/{gone['pipeline_id']}", cascade="true")
    with start(tmp_path) as second:
        caller = Caller(second.url)
        assert caller.get(f"/pipelines/{kept['pipeline_id']}").json == kept.json
        assert caller.get("/pipelines").json["total_size"] == 1


def _until(caller: Caller, run_id: str, *states: str) -> dict[str, object]:
    """The run, once it is in one of these states."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run = caller.get(f"/runs/{run_id}").json
        if run["state"] in states:
            return run
        time.sleep(0.05)
    raise AssertionError(f"{run_id} is {run['state']}")


@pytest.mark.parametrize("kill", [True, False])
def test_end_in_the_middle_of_runs(tmp_path: Path, kill: bool) -> None:  # a parameter of the test
    """After a kill -9, or an orderly shutdown, during runs, running ones have failed, and waiting ones continue."""
    sleeps = (PIPELINES / "sleeps.yaml").read_bytes()
    first = start(tmp_path, 0, ["--runs-at-once", "2"])
    caller = Caller(first.url)
    long = a_pipeline(caller, sleeps)
    running = [
        a_run(caller, pipeline_version_reference=long, runtime_config={"parameters": {"seconds": 600}})
        for _ in range(2)
    ]
    waiting = a_run(caller)
    for run_id in running:
        _until(caller, run_id, "RUNNING")
    assert caller.get(f"/runs/{waiting}")["state"] == "PENDING"
    if kill:
        os.kill(first.pid, signal.SIGKILL)
    first.stop()

    with start(tmp_path) as second:
        caller = Caller(second.url)
        for run_id in running:
            run = caller.get(f"/runs/{run_id}").json
            assert run["state"] == "FAILED"
            assert "was stopped" in str(run["error"])
        assert _until(caller, waiting, "SUCCEEDED", "FAILED")["state"] == "SUCCEEDED"
        assert caller.call("POST", f"/runs/{running[0]}:retry").status == 200
        _until(caller, running[0], "RUNNING")
        assert caller.call("POST", f"/runs/{running[0]}:terminate").status == 200
        _until(caller, running[0], "FAILED")
        assert caller.call("DELETE", f"/runs/{running[0]}").status == 200
        assert not (tmp_path / "runs" / running[0]).exists()


SERVED = json.loads((DATA / "schema2_served.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("schema", [2, 3, 4])
def test_data_of_the_former_versions(tmp_path: Path, schema: int) -> None:
    """A folder is served as by the version that wrote it, and can be used further."""
    with contextlib.closing(sqlite3.connect(tmp_path / "kfp.sqlite")) as connection:
        connection.create_collation("folded", lambda one, other: (one > other) - (one < other))
        connection.executescript((DATA / f"schema{schema}.sql").read_text(encoding="utf-8"))
    with contextlib.closing(Store(tmp_path / "kfp.sqlite")):
        pass  # upgraded once; the next start has nothing to do
    with serving(tmp_path) as server:
        for path, expected in SERVED.items():
            reply = server.caller.pool.request(
                "GET", f"{server.url}{path if 'apis' in path else '/apis/v2beta1' + path}"
            )
            assert reply.json() == expected, path
        assert [job.run_id for job in server.executor.jobs] == [_named(SERVED["/runs"]["runs"], "waits")]
        failed = _named(SERVED["/runs"]["runs"], "첫 run")
        assert server.caller.call("POST", f"/runs/{failed}:retry").status == 200
        assert json.loads(server.executor.jobs[-1].spec)["pipelineInfo"]["name"] == "hello-world"
        pipeline = SERVED["/pipelines"]["pipelines"][0]
        assert server.caller.upload(name=pipeline["name"].upper()).status == 409


def test_upgrade_that_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade is done completely or not at all: after one that fails the folder is unchanged."""
    with contextlib.closing(sqlite3.connect(tmp_path / "kfp.sqlite")) as connection:
        connection.executescript((DATA / "schema2.sql").read_text(encoding="utf-8"))
        before = list(connection.iterdump())
        with monkeypatch.context() as patched:
            full = Mock(side_effect=sqlite3.OperationalError("database or disk is full"))
            patched.setattr("kfadapter_embedded.upgrade._migrate_task", full)
            with pytest.raises(StoreError, match="disk is full"):
                Store(tmp_path / "kfp.sqlite")
        assert list(connection.iterdump()) == before
    with contextlib.closing(Store(tmp_path / "kfp.sqlite")) as store, store.reading() as documents:
        assert documents.one("SELECT count(*) FROM tasks") > 0


def _named(runs: list[dict[str, str]], name: str) -> str:
    return next(run["run_id"] for run in runs if run["display_name"] == name)


def test_data_of_the_first_version(tmp_path: Path) -> None:
    """Data from before there were runs still exists, and can be run."""
    connection = sqlite3.connect(tmp_path / "kfp.sqlite")
    connection.executescript((DATA / "schema1.sql").read_text(encoding="utf-8"))
    connection.close()
    with serving(tmp_path) as server:
        assert server.caller.get("/pipelines/names/old")["pipeline_id"] == "p"
        a_run(server.caller, pipeline_version_reference={"pipeline_id": "p"})
        assert json.loads(server.executor.jobs[0].spec)["pipelineInfo"] == {"name": "old"}


def test_data_of_a_newer_version(tmp_path: Path) -> None:
    """Data of a newer version is rejected, and unchanged."""
    with contextlib.closing(sqlite3.connect(tmp_path / "kfp.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer version of this program"):
        Store(tmp_path / "kfp.sqlite")
