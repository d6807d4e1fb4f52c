"""Watching by the client library, against a servicer that ends watches as the test scripts."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.client.fake_adapter import wire_status
from tests.client.test_runs import FakeRuns
from typing_extensions import override

from kfadapter.v1 import run_pb2 as pb
from kfadapter.v1 import run_pb2_grpc
from kfadapter_grpc.client import (
    AdapterError,
    Client,
    DeadlineError,
    DrainingError,
    ExperimentRef,
    Heartbeat,
    InvalidFieldError,
    OverloadedError,
    RunChanged,
    RunFilter,
    RunGone,
    RunNotFoundError,
    RunState,
    TaskNotFoundError,
)
from kfadapter_grpc.client import watch as watch_module
from kfadapter_grpc.client.errors import REQUEST_ID_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def changed(run_id: str, state: pb.RunState.ValueType, etag: str = "e") -> pb.RunEvent:
    """An event that reports a run."""
    event = pb.RunEvent(changed=pb.RunChanged(run=pb.Run(run_id=run_id, state=state, etag=etag)))
    event.observed_at.FromDatetime(AT)
    return event


class FakeWatches(FakeRuns):
    """For each watch reports what the test scripts, then ends it as scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.watched: list[pb.WatchRunsRequest] = []
        self.telling: list[tuple[Iterable[pb.RunEvent], AdapterError | None]] = []
        self.opens = False
        self.deadlines: list[float | None] = []

    @override
    def Watch(self, request: pb.WatchRunsRequest, context: grpc.ServicerContext) -> Iterator[pb.RunEvent]:
        """Reports the next scripted events."""
        self.watched.append(request)
        self.deadlines.append(context.time_remaining())
        events, error = self.telling.pop(0)
        if self.opens:
            context.send_initial_metadata(((REQUEST_ID_KEY, "one"),))
            time.sleep(0.01)  # grpc.aio may lose metadata that arrives together with the end
        yield from events
        if error is not None:
            context.abort_with_status(wire_status(error))

    @override
    def ReadLogs(self, request: pb.ReadLogsRequest, context: grpc.ServicerContext) -> Iterator[pb.ReadLogsResponse]:
        """Reads two chunks."""
        self.deadlines.append(context.time_remaining())
        if request.task == "nobody":
            context.abort_with_status(wire_status(TaskNotFoundError("not there")))
        yield pb.ReadLogsResponse(chunk=b"one ")
        yield pb.ReadLogsResponse(chunk=b"two")
        if request.attempt:
            yield pb.ReadLogsResponse(note=f"attempt {request.attempt}, iteration {request.iteration_index}")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWatches:
    """The servicer; the client resumes without a pause."""
    monkeypatch.setattr(watch_module, "_FIRST_PAUSE_SECONDS", 0.0)
    return FakeWatches()


@pytest.fixture
def client(connect: type[Client], fake: FakeWatches) -> Iterator[Client]:
    """A client of a server with it, with a timeout that applies to other calls only."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        run_pb2_grpc.add_RunServiceServicer_to_server(fake, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with connect(f"127.0.0.1:{port}", namespace="team-a", timeout=20) as client:
            yield client
        server.stop(None).wait()


def draining() -> DrainingError:
    """The error of an adapter that shuts down."""
    return DrainingError("shutting down")


def test_events(client: Client, fake: FakeWatches) -> None:
    """Events are typed; a watch without errors ends when the adapter ends it, and has no deadline."""
    gone = pb.RunEvent(gone=pb.RunGone(run_id="b"))
    beat = pb.RunEvent(heartbeat=pb.Heartbeat(kfp_reachable=False))
    fake.telling = [([changed("a", pb.RUN_STATE_RUNNING), gone, beat, pb.RunEvent()], None)]
    events = list(client.runs.watch(["a", "b"], tasks=True, known_etags={"a": "old"}))
    assert [type(event) for event in events] == [RunChanged, RunGone, Heartbeat]
    assert isinstance(events[0], RunChanged)
    assert (events[0].run.state, events[0].observed_at) == (RunState.RUNNING, AT)
    (asked,) = fake.watched
    assert (list(asked.runs.run_ids), asked.runs.namespace, asked.tasks) == (["a", "b"], "team-a", True)
    assert dict(asked.known_etags) == {"a": "old"}
    assert (fake.deadlines[0] or 1e10) > 1e6


def test_comes_back(client: Client, fake: FakeWatches) -> None:
    """After the adapter shuts down, the watch resumes with the etags it has received, without runs that are gone."""
    first = [changed("a", pb.RUN_STATE_RUNNING, "a1"), pb.RunEvent(gone=pb.RunGone(run_id="b"))]
    fake.telling = [
        (first, draining()),
        ([], draining()),
        ([changed("a", pb.RUN_STATE_SUCCEEDED, "a2")], None),
    ]
    assert len(list(client.runs.watch(["a", "b", "c"]))) == 3
    assert [list(asked.runs.run_ids) for asked in fake.watched] == [["a", "b", "c"], ["a", "c"], ["a", "c"]]
    assert [dict(asked.known_etags) for asked in fake.watched] == [{}, {"a": "a1"}, {"a": "a1"}]


def test_reports_that_it_cannot_reconnect(client: Client, fake: FakeWatches) -> None:
    """A caller is notified that reconnecting failed, once more for each failure, and that the stream continues."""
    output: list[bool | str] = []
    fake.telling = [
        ([changed("a", pb.RUN_STATE_RUNNING, "a1")], draining()),
        ([], draining()),
        ([], draining()),
        ([changed("a", pb.RUN_STATE_RUNNING, "a2")], draining()),
        ([changed("a", pb.RUN_STATE_SUCCEEDED, "a3")], None),
    ]
    for event in client.runs.watch("a", on_connection=output.append):
        assert isinstance(event, RunChanged)
        output.append(event.run.etag)
    assert output == ["a1", False, False, True, "a2", "a3"]


def test_nothing_left_to_come_back_for(client: Client, fake: FakeWatches) -> None:
    """If all runs are gone, the watch ends even if it was cut off."""
    fake.telling = [([pb.RunEvent(gone=pb.RunGone(run_id="a"))], draining())]
    assert len(list(client.runs.watch("a"))) == 1
    assert len(fake.watched) == 1


def test_gives_up(client: Client, fake: FakeWatches) -> None:
    """A watch that fails ten times in a row raises the last error; an event restarts the count."""
    reported = ([changed("a", pb.RUN_STATE_RUNNING)], OverloadedError("full"))
    fake.telling = [([], draining())] * 9 + [reported] + [([], draining())] * 9
    events = client.runs.watch("a")
    next(events)
    with pytest.raises(DrainingError):
        next(events)
    assert fake.telling == []


def test_a_watch_without_news_was_not_in_vain(client: Client, fake: FakeWatches) -> None:
    """However often adapters restart without any event, a watch that each of them opened resumes."""
    fake.opens = True
    fake.telling = [([], draining())] * 25 + [([changed("a", pb.RUN_STATE_SUCCEEDED)], None)]
    assert len(list(client.runs.watch("a"))) == 1


def test_other_errors_end_it(client: Client, fake: FakeWatches) -> None:
    """A permanent error ends the watch at once."""
    fake.telling = [([], InvalidFieldError.of("runs.run_ids", "too many"))]
    with pytest.raises(InvalidFieldError):
        list(client.runs.watch("a"))
    assert len(fake.watched) == 1


@pytest.mark.parametrize("connect", [Client], indirect=True)
def test_closing_a_callers_client_ends_its_streams(client: Client, fake: FakeWatches) -> None:
    """A stream that another thread reads ends when its caller's client is closed; the shared channel stays open."""
    gate = threading.Event()

    def quiet() -> Iterator[pb.RunEvent]:
        yield changed("a", pb.RUN_STATE_RUNNING)
        gate.wait(30)

    fake.telling = [(quiet(), None), ([], None)]
    caller = client.on_behalf(request_id="r")
    events = caller.runs.watch("a")
    assert isinstance(next(events), RunChanged)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, events, None)
        caller.close()
        try:
            with pytest.raises(AdapterError):
                waiting.result(10)
        finally:
            gate.set()
    with pytest.raises(RuntimeError):
        next(caller.runs.watch("a"))
    assert list(client.runs.watch("b")) == []


def test_filter(client: Client, fake: FakeWatches) -> None:
    """A filter is sent as given, in the client's namespace; at most 1000 etags are sent on resuming."""
    many = [changed(f"run-{number}", pb.RUN_STATE_RUNNING) for number in range(1100)]
    where = RunFilter(
        ExperimentRef(name="실험"),
        frozenset({RunState.FAILED}),
        created_after=AT,
        labels={"team": "비전"},
        label_keys=frozenset({"job"}),
        archived=True,
    )
    fake.telling = [(many, draining()), ([], None)]
    assert len(list(client.runs.watch(where=where))) == 1100
    asked = fake.watched[1].filter
    assert (asked.experiment_name, list(asked.states), dict(asked.labels), list(asked.label_keys)) == (
        "실험",
        [pb.RUN_STATE_FAILED],
        {"team": "비전"},
        ["job"],
    )
    assert (asked.namespace, asked.created_after.ToDatetime(timezone.utc)) == ("team-a", AT)
    known = fake.watched[1].known_etags
    assert len(known) == 1000
    assert "run-1099" in known
    assert "run-99" not in known


@pytest.mark.parametrize("arguments", [{}, {"run_ids": "a", "where": RunFilter()}])
def test_what_to_watch(client: Client, arguments: dict[str, object]) -> None:
    """Neither ids nor a filter, or both, are rejected before the adapter is called."""
    with pytest.raises(InvalidFieldError):
        client.runs.watch(**arguments)  # type: ignore[arg-type]


def test_wait(client: Client, fake: FakeWatches) -> None:
    """Waiting returns the finished run, however often the adapter is unavailable meanwhile."""
    fake.telling = [
        ([changed("a", pb.RUN_STATE_RUNNING)], draining()),
        ([changed("a", pb.RUN_STATE_FAILED)], None),
    ]
    assert client.runs.wait("a").state is RunState.FAILED


def test_wait_for_a_run_that_goes(client: Client, fake: FakeWatches) -> None:
    """Waiting for a run that does not exist, or is deleted, is an error with that reason."""
    fake.telling = [([pb.RunEvent(gone=pb.RunGone(run_id="a"))], None)]
    with pytest.raises(RunNotFoundError, match="a"):
        client.runs.wait("a")


def test_wait_has_a_limit(client: Client, fake: FakeWatches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting ends at its timeout, even while the adapter is unreachable."""
    fake.telling = [([], draining())] * 5
    with pytest.raises(
        DeadlineError, match="run a did not finish within 0 s; its state is unknown yet, and it continues"
    ):
        client.runs.wait("a", timeout=0)
    for name in ("_FIRST_PAUSE_SECONDS", "_MAX_PAUSE_SECONDS"):
        monkeypatch.setattr(watch_module, name, 1000.0)
    with pytest.raises(DeadlineError, match="shutting down"):
        client.runs.wait("a", timeout=60)


def test_logs(client: Client, fake: FakeWatches) -> None:
    """A log is returned in chunks; following it has no deadline, reading it has the client's timeout."""
    assert b"".join(client.runs.read_logs("a", "t")) == b"one two"
    assert b"".join(client.runs.read_logs("a", "t", follow=True)) == b"one two"
    notes: list[str] = []
    pieces = client.runs.read_logs("a", "t", attempt=2, iteration_index=3, on_note=notes.append)
    assert (list(pieces), notes) == ([b"one ", b"two"], ["attempt 2, iteration 3"])
    reading, following, _ = (seconds or 1e10 for seconds in fake.deadlines)
    assert reading < 1000 < following
    with pytest.raises(TaskNotFoundError):
        list(client.runs.read_logs("a", "nobody"))
