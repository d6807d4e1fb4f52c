"""Executed runs, watched through an adapter in a process of its own, across restarts of KFP and the adapter."""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc
import pytest
from tests.contract.running import failure
from tests.e2e.conftest import ROOT, SECONDS, serve

from kfadapter.v1 import run_pb2
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_embedded.process import start
from kfadapter_grpc.client import Client, Heartbeat, RunChanged, RunState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Adapter

    from kfadapter_grpc.client import Run, RunEvent

pytestmark = pytest.mark.slow


@pytest.fixture
def client(executing: Adapter) -> Iterator[Client]:
    """A client of an adapter in front of a KFP that executes runs."""
    with Client(executing.target) as client:
        yield client


def begin(client: Client, pipeline: str, **parameters: str | float) -> str:
    """Starts a run of one of the sample pipelines; returns its id."""
    name = f"watch-{uuid.uuid4().hex[:12]}"
    client.pipelines.upload(ROOT / "tests" / "data" / "pipelines" / f"{pipeline}.yaml", name=name)
    return client.runs.create(name, parameters=parameters).run_id


def runs(events: Iterator[RunEvent]) -> Iterator[Run]:
    """The runs of events."""
    return (event.run for event in events if isinstance(event, RunChanged))


def test_run_that_succeeds(client: Client) -> None:
    """A run is watched with its tasks until it has finished, and the log of a task is read."""
    run_id = begin(client, "hello_world")
    *_, last = runs(client.runs.watch(run_id, tasks=True))
    assert last.state is RunState.SUCCEEDED
    assert {task.state for task in last.tasks} == {RunState.SUCCEEDED}
    assert b"".join(client.runs.read_logs(run_id, last.tasks[0].name, follow=True))
    assert client.runs.wait(run_id, timeout=SECONDS).etag == last.etag


def test_run_that_fails(client: Client) -> None:
    """Waiting for a failed run returns its error."""
    run = client.runs.wait(begin(client, "fails_with_exit_handler"), timeout=SECONDS)
    assert run.state is RunState.FAILED
    assert run.error


def test_run_that_is_terminated(client: Client) -> None:
    """A terminated run is watched until it has finished."""
    run_id = begin(client, "sleeps", seconds=60)
    events = runs(client.runs.watch(run_id))
    while next(events).state is not RunState.RUNNING:
        pass
    client.runs.terminate(run_id)
    *_, last = events
    assert last.state in {RunState.CANCELED, RunState.FAILED}


def test_kfp_restarted_in_the_middle(tmp_path: Path) -> None:
    """While KFP is unreachable a watch stays open and reports that; then it reports how the run ended."""
    kfp = start(tmp_path)
    port = urlsplit(kfp.url).port
    assert port is not None
    with serve(kfp.url) as adapter, Client(adapter.target) as client:
        run_id = begin(client, "sleeps", seconds=60)
        events = client.runs.watch(run_id)
        while next(events) and client.runs.get(run_id).state is not RunState.RUNNING:
            pass
        os.kill(kfp.pid, signal.SIGKILL)
        kfp.stop()
        reachable = (event.kfp_reachable for event in events if isinstance(event, Heartbeat))
        assert next(reachable) is False
        with start(tmp_path, port):
            *_, last = runs(events)
        assert last.state is RunState.FAILED
        assert last.error


def test_adapter_that_shuts_down(embedded_url: str) -> None:
    """An adapter that gets SIGTERM ends watches with DRAINING at once, and then itself."""
    with serve(embedded_url) as adapter, Client(adapter.target) as client, grpc.insecure_channel(adapter.target) as raw:
        runs_ = run_pb2.RunIds(run_ids=[begin(client, "sleeps", seconds=60)])
        events = RunServiceStub(raw).Watch(run_pb2.WatchRunsRequest(runs=runs_), timeout=SECONDS)
        next(events)
        adapter.process.terminate()
        assert failure(lambda: list(events)).reason == "DRAINING"
        assert adapter.process.wait(SECONDS) == 0
        with serve(embedded_url) as another, Client(another.target) as other:
            other.runs.terminate(runs_.run_ids[0])
