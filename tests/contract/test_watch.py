"""Watch and ReadLogs on a real server, in front of an embedded KFP whose runs follow the test's script."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.connecting import connect
from tests.contract.running import WAIT_SECONDS, eventually, failure, reported
from tests.embedded.runs import a_run
from tests.embedded.serving import Serving
from tests.embedded.serving import serving as serving_embedded

from kfadapter.v1 import run_pb2 as pb
from kfadapter.v1.run_pb2_grpc import RunServiceStub
from kfadapter_embedded.execution import State
from kfadapter_grpc.client import Client, RunChanged
from kfadapter_grpc.methods import CallKind
from kfadapter_grpc.metrics.catalog import WATCHES
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.watch import poller
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.conftest import Serve

    from kfadapter_grpc.client import RunEvent
    from kfadapter_grpc.server import AdapterServer

NOBODY = "00000000-0000-4000-8000-00000000dead"


@dataclass(frozen=True)
class Adapter:
    """An adapter in front of an embedded KFP."""

    kfp: Serving
    watches: WatchPoller
    server: AdapterServer
    stub: RunServiceStub

    def watch(
        self, *run_ids: str, timeout: float | None = WAIT_SECONDS, **fields: object
    ) -> grpc._CallIterator[pb.RunEvent]:
        """Watches runs."""
        request = pb.WatchRunsRequest(runs=pb.RunIds(run_ids=run_ids), **fields)  # type: ignore[arg-type]
        return self.stub.Watch(request, timeout=timeout)


@pytest.fixture
def adapter(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Adapter]:
    """The adapter, with a short poll interval."""
    monkeypatch.setattr(poller, "POLL_SECONDS", 0.05)
    with serving_embedded(tmp_path) as kfp, contextlib.closing(connect(kfp.url)) as backend:
        watches = WatchPoller(backend.runs)
        with contextlib.closing(watches):
            running = serve(RunServicer(backend.runs, watches=watches, logs=backend.run_logs))
            yield Adapter(kfp, watches, running.server, RunServiceStub(running.channel))


def changed(event: pb.RunEvent) -> pb.Run:
    """The run that an event reports."""
    assert event.WhichOneof("event") == "changed", event
    assert event.HasField("observed_at")
    return event.changed.run


@pytest.mark.parametrize("tasks", [False, True])
def test_the_course_of_a_run(adapter: Adapter, tasks: bool) -> None:
    """A watch reports a run's present state, then its changes, then ends with OK; the error is included as text."""
    run_id = a_run(adapter.kfp.caller)
    events = adapter.watch(run_id, tasks=tasks)
    first = changed(next(events))
    assert (first.run_id, first.state) == (run_id, pb.RUN_STATE_PENDING)
    adapter.kfp.executor.start(run_id, "greet")
    second = changed(next(events))
    assert second.state == pb.RUN_STATE_RUNNING
    adapter.kfp.executor.end_task(run_id, "greet", State.FAILED, "메모리가 부족합니다")
    adapter.kfp.executor.end(run_id, State.FAILED)
    last = [changed(event) for event in events][-1]
    assert last.state == pb.RUN_STATE_FAILED
    assert "메모리가 부족합니다" in last.error
    assert bool(last.tasks) is tasks
    assert tasks or not (last.HasField("sources") or last.metrics)
    assert events.code() is grpc.StatusCode.OK
    assert last.etag == adapter.stub.Get(pb.GetRunRequest(run_id=run_id)).etag


def test_tasks_of_a_run_that_continues(adapter: Adapter) -> None:
    """A watch with tasks reports their changes while the run continues."""
    run_id = a_run(adapter.kfp.caller)
    adapter.kfp.executor.start(run_id, "greet")
    events = adapter.watch(run_id, tasks=True)
    assert [task.state for task in changed(next(events)).tasks] == [pb.RUN_STATE_RUNNING]
    adapter.kfp.executor.end_task(run_id, "greet", State.SUCCEEDED)
    assert [task.state for task in changed(next(events)).tasks] == [pb.RUN_STATE_SUCCEEDED]
    events.cancel()


def test_terminated_run(adapter: Adapter) -> None:
    """A termination is reported: first that the run is stopping, then how it ended."""
    run_id = a_run(adapter.kfp.caller)
    adapter.kfp.executor.start(run_id, "t")
    events = adapter.watch(run_id)
    assert changed(next(events)).state == pb.RUN_STATE_RUNNING
    adapter.stub.Terminate(pb.TerminateRunRequest(run_id=run_id))
    assert changed(next(events)).state == pb.RUN_STATE_CANCELING
    adapter.kfp.executor.end(run_id, State.CANCELED)
    assert changed(next(events)).state in {pb.RUN_STATE_CANCELED, pb.RUN_STATE_FAILED}
    assert list(events) == []


def test_a_termination_between_two_looks(serve: Serve, tmp_path: Path) -> None:
    """A watch reports that a terminated run is stopping, even if it has finished before KFP is polled again."""
    with serving_embedded(tmp_path) as kfp, contextlib.closing(connect(kfp.url)) as backend:
        run_id = a_run(kfp.caller)
        kfp.executor.start(run_id)
        watches = WatchPoller(backend.runs, threaded=False)
        stub = RunServiceStub(serve(RunServicer(backend.runs, watches=watches, logs=backend.run_logs)).channel)
        events = stub.Watch(pb.WatchRunsRequest(runs=pb.RunIds(run_ids=[run_id])), timeout=WAIT_SECONDS)
        eventually(lambda: watches.figures()[WATCHES])
        watches.poll()
        assert changed(next(events)).state == pb.RUN_STATE_RUNNING
        stub.Terminate(pb.TerminateRunRequest(run_id=run_id))
        assert changed(next(events)).state == pb.RUN_STATE_CANCELING
        kfp.executor.end(run_id, State.CANCELED)
        watches.poll()
        assert [changed(event).state for event in events] == [pb.RUN_STATE_FAILED]


def test_coming_back(adapter: Adapter) -> None:
    """A watch that resumes with the etag of a run gets that run again only if it has changed."""
    run_id, other = a_run(adapter.kfp.caller), a_run(adapter.kfp.caller)
    etag = adapter.stub.Get(pb.GetRunRequest(run_id=run_id)).etag
    events = adapter.watch(run_id, other, known_etags={run_id: etag})
    assert changed(next(events)).run_id == other
    adapter.kfp.executor.start(run_id)
    assert changed(next(events)).run_id == run_id
    events.cancel()


def test_unknown_runs_only(adapter: Adapter) -> None:
    """A watch of unknown runs only reports them as gone and ends; UUIDs are case-insensitive."""
    events = list(adapter.watch(NOBODY.upper(), "another"))
    assert {event.gone.run_id for event in events} == {NOBODY, "another"}


def test_filter(adapter: Adapter) -> None:
    """A watch of a filter includes runs created later, and reports only those that match."""
    request = pb.WatchRunsRequest(filter=pb.RunFilter(display_name_contains="학습"))
    events = adapter.stub.Watch(request, timeout=WAIT_SECONDS)
    a_run(adapter.kfp.caller, display_name="other")
    run_id = a_run(adapter.kfp.caller, display_name="학습 1")
    assert changed(next(events)).run_id == run_id
    later = a_run(adapter.kfp.caller, display_name="학습 2")
    assert changed(next(events)).run_id == later
    events.cancel()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.WatchRunsRequest(), "what"),
        (pb.WatchRunsRequest(runs=pb.RunIds()), "what"),
        (pb.WatchRunsRequest(runs=pb.RunIds(run_ids=[f"r-{number}" for number in range(10_000)])), "runs.run_ids"),
        (pb.WatchRunsRequest(runs=pb.RunIds(run_ids=["a", ""])), "runs.run_ids"),
        (pb.WatchRunsRequest(runs=pb.RunIds(run_ids=["a/b"])), "runs.run_ids"),
        (pb.WatchRunsRequest(runs=pb.RunIds(run_ids=["a"]), known_etags={"a/b": "x"}), "known_etags"),
        (pb.WatchRunsRequest(filter=pb.RunFilter(pipeline_id="?")), "filter.pipeline_id"),
    ],
)
def test_wrong_requests(adapter: Adapter, request_: pb.WatchRunsRequest, field: str) -> None:
    """A request with nothing to watch, too much, or invalid values is rejected with the field's name."""
    it = failure(lambda: list(adapter.stub.Watch(request_, timeout=WAIT_SECONDS)))
    assert (it.code, it.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [name for name, _ in it.violations] == [field]


def test_unknown_experiment(adapter: Adapter) -> None:
    """A filter with an unknown experiment fails at once."""
    request = pb.WatchRunsRequest(filter=pb.RunFilter(experiment_name="nobody"))
    it = failure(lambda: list(adapter.stub.Watch(request, timeout=WAIT_SECONDS)))
    assert (it.code, it.reason) == (grpc.StatusCode.NOT_FOUND, "EXPERIMENT_NOT_FOUND")


def test_draining(adapter: Adapter) -> None:
    """When the adapter shuts down, a watch ends with DRAINING, so the server need not wait for its grace period."""
    run_id = a_run(adapter.kfp.caller)
    events = adapter.watch(run_id)
    next(events)
    adapter.watches.drain()
    with pytest.raises(grpc.RpcError) as caught:
        next(events)
    it = reported(caught.value)
    assert (it.code, it.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


def test_nothing_is_left_of_a_watch(adapter: Adapter) -> None:
    """A watch that is cancelled, or whose deadline passes, releases its slot, and KFP is no longer polled for it."""
    run_id = a_run(adapter.kfp.caller)
    events = adapter.watch(run_id, timeout=None)
    next(events)
    assert adapter.watches.figures()[WATCHES] == 1
    events.cancel()
    eventually(lambda: adapter.watches.figures()[WATCHES] == 0)
    with pytest.raises(grpc.RpcError):
        list(adapter.watch(run_id, timeout=0.3))
    eventually(lambda: adapter.watches.figures()[WATCHES] == 0)
    eventually(lambda: not adapter.server.admission.inflight().get(CallKind.STREAM))
    eventually(lambda: all(thread.name != "watch-poller" for thread in threading.enumerate()))


def test_headers_come_before_news(adapter: Adapter) -> None:
    """A watch of a filter that matches nothing returns its headers at once, with its request id."""
    request = pb.WatchRunsRequest(filter=pb.RunFilter(display_name_contains="nothing is called so"))
    events = adapter.stub.Watch(request, timeout=5, metadata=(("x-request-id", "mine"),))
    assert ("x-request-id", "mine") in tuple(events.initial_metadata())
    assert events.is_active()
    events.cancel()


def test_adapter_restarted_in_the_middle(adapter: Adapter, serve: Serve) -> None:
    """When the adapter shuts down, the client library resumes the watch on its successor, and reports nothing twice."""
    run_id = a_run(adapter.kfp.caller)
    with Client(adapter.server.address) as client:
        events = client.runs.watch(run_id)
        assert _state(next(events)) == "PENDING"
        adapter.watches.drain()
        adapter.server.stop()
        adapter.kfp.executor.start(run_id)
        with (
            contextlib.closing(connect(adapter.kfp.url)) as backend,
            contextlib.closing(WatchPoller(backend.runs)) as watches,
        ):
            serve(RunServicer(backend.runs, watches=watches, logs=backend.run_logs), listen=adapter.server.address)
            assert _state(next(events)) == "RUNNING"
            adapter.kfp.executor.end(run_id, State.SUCCEEDED)
            assert [_state(event) for event in events] == ["SUCCEEDED"]


def _state(event: RunEvent) -> str:
    assert isinstance(event, RunChanged)
    return event.run.state.value
