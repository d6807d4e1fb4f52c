"""How runs are followed: the comparison, the watch, and failures to read, which say nothing about a run."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from tests.contract.running import eventually
from tests.notices.boxes import BEGIN, KEEP, Box, at, box

from kfadapter_grpc.client import CannotConnectError
from kfadapter_grpc.client.connection import Pages
from kfadapter_grpc.contract.errors import (
    AdapterError,
    KfpError,
    KfpTimeoutError,
    KfpUnavailableError,
    RunNotFoundError,
)
from kfadapter_grpc.contract.listing import Page, StorageState, View
from kfadapter_grpc.contract.run_outputs import RunMetric
from kfadapter_grpc.contract.runs import Run, RunFilter, RunState
from kfadapter_grpc.contract.watches import Heartbeat, RunChanged, RunGone
from kfadapter_oran.notices.outbox import GONE_SECONDS
from kfadapter_oran.notices.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from kfadapter_grpc.contract.watches import RunEvent

S = RunState


class FakeClient:
    """A fake client: runs in memory, one per page.

    Attributes:
        known: The runs, by id.
        failures: The errors of the next calls.
        events: The events of a watch, which stays open until the client is closed.
        watched: The filters and etags of all watches.
        terminated: The terminated runs, which lists report as failed.
        got: The number of runs read by id.
    """

    target = "fake"

    def __init__(self) -> None:
        self.runs = self
        self.known: dict[str, Run] = {}
        self.failures: list[AdapterError] = []
        self.events: list[RunEvent | AdapterError] = []
        self.watched: list[tuple[RunFilter, Mapping[str, str]]] = []
        self.closed = threading.Event()
        self.terminated: set[str] = set()
        self.got = 0

    def put(self, run_id: str, state: RunState, finished: datetime | None = None, **fields: object) -> Run:
        """Adds or updates a run of job 42."""
        known = self.known.get(run_id) or Run(
            run_id, labels={"trainingjob_id": "42"}, created_at=BEGIN, storage_state=StorageState.AVAILABLE
        )
        run = replace(known, state=state, finished_at=finished, etag=f"{state.value} {finished}", **fields)  # type: ignore[arg-type]
        self.known[run_id] = run
        return run

    def list(
        self,
        *,
        label_keys: Iterable[str],
        states: Iterable[RunState],
        finished_after: datetime | None,
        archived: bool,
        page_size: int,
    ) -> Pages[Run]:
        """Lists the runs that match."""
        self._fail()
        assert page_size > 0
        chosen = set(states)
        found = [
            run
            for run in self.known.values()
            if set(label_keys) <= set(run.labels)
            and (not chosen or run.state in chosen)
            and (finished_after is None or (run.finished_at is not None and run.finished_at > finished_after))
            and (run.storage_state is StorageState.ARCHIVED) is archived
        ]

        def page(token: str) -> Page[Run]:
            number = int(token or 0)
            return Page(tuple(found[number : number + 1]), str(number + 1) if number + 1 < len(found) else "", None)

        return Pages(iter(found), page)

    def get(self, run_id: str, *, view: View = View.FULL) -> Run:
        """Gets a run; only the full view reports that it was terminated."""
        self._fail()
        self.got += 1
        if run_id not in self.known:
            raise RunNotFoundError("there is no such run")
        run = self.known[run_id]
        return replace(run, state=RunState.CANCELED) if view is View.FULL and run_id in self.terminated else run

    def watch(self, *, where: RunFilter, known_etags: Mapping[str, str]) -> Iterator[RunEvent]:
        """Yields the events."""
        self.watched.append((where, known_etags))
        while not self.closed.is_set():
            for event in self.events:
                if isinstance(event, AdapterError):
                    self.events.clear()
                    raise event
                yield event
            self.events.clear()
            self.closed.wait(0.01)

    def close(self) -> None:
        """Ends the watch."""
        self.closed.set()

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


@pytest.fixture
def client() -> FakeClient:
    """A client without runs."""
    return FakeClient()


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Box]:
    """An empty outbox."""
    with box(tmp_path / "notices.db") as opened:
        yield opened


@pytest.fixture
def watcher(client: FakeClient, made: Box) -> Iterator[Watcher]:
    """A watcher; the test starts it."""
    watching = Watcher(client, made.outbox, KEEP, lambda: None, compare_seconds=0.01)  # type: ignore[arg-type]
    yield watching
    watching.stop(10)


@pytest.mark.parametrize("state", [S.SUCCEEDED, S.FAILED, S.CANCELED, S.SKIPPED])
@pytest.mark.parametrize("stored", [StorageState.AVAILABLE, StorageState.ARCHIVED])
def test_what_was_missed_is_caught_up(
    client: FakeClient, made: Box, watcher: Watcher, state: RunState, stored: StorageState
) -> None:
    """A run that started and finished while no notifier ran is found, archived or not, however long ago it finished."""
    client.put("r", state, at(days=300), storage_state=stored)
    client.put("s", state, at(days=1), storage_state=stored)
    watcher.compare()
    assert sorted(made.notices) == [("r", state.value, "pending"), ("s", state.value, "pending")]


def test_a_run_of_no_job_is_nobodys(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """Runs without a job are not followed, except for CloudEvents."""
    client.put("r", RunState.FAILED, at(minutes=1), labels={"trainingjob_id": ""})
    watcher.compare()
    assert made.notices == []
    Watcher(client, made.outbox, KEEP, lambda: None, all_runs=True).compare()  # type: ignore[arg-type]
    assert [run_id for run_id, _, _ in made.notices] == ["r"]


@pytest.mark.slow
def test_more_than_a_watch_holds(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """All finished runs are found, even more than one watch of the adapter can follow."""
    for number in range(1200):
        client.put(f"r-{number}", S.SUCCEEDED, at(seconds=number + 1))
    watcher.compare()
    assert len(made.notices) == 1200


def test_a_run_that_kfp_reports_late(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """A run last seen in progress is reported when it has finished, even if its end time is long past by then."""
    client.put("r", S.RUNNING)
    client.put("s", S.SUCCEEDED, at(days=30))
    watcher.compare()
    client.put("r", S.FAILED, at(hours=1))
    watcher.compare()
    assert ("r", "FAILED", "pending") in made.notices


def test_an_archived_run_in_progress(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """A run that was archived while in progress is reported when it has finished."""
    client.put("r", S.RUNNING, storage_state=StorageState.ARCHIVED)
    watcher.compare()
    client.put("r", S.SUCCEEDED, at(hours=1))
    watcher.compare()
    assert made.notices == [("r", "SUCCEEDED", "pending")]


def test_a_run_that_was_retried_between_comparisons(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """A run that finished after a retry is reported, even if neither the retry nor its progress was seen."""
    client.put("r", S.FAILED, at(hours=1))
    watcher.compare()
    client.put("s", S.SUCCEEDED, at(days=1))
    watcher.compare()
    client.put("r", S.SUCCEEDED, at(days=2))
    watcher.compare()
    assert made.notices == [("r", "FAILED", "pending"), ("s", "SUCCEEDED", "pending"), ("r", "SUCCEEDED", "pending")]


def test_a_run_that_was_terminated(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """A terminated run, which lists report as failed, is read in full once and reported once as cancelled."""
    client.put("r", S.FAILED, at(hours=1))
    client.terminated.add("r")
    for _ in range(3):
        watcher.compare()
    assert made.notices == [("r", "CANCELED", "pending")]
    assert client.got == 1


def test_a_deleted_run(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """A missing run is looked up twice, a minute apart, before it is reported as deleted."""
    client.put("r", S.RUNNING)
    watcher.compare()
    del client.known["r"]
    watcher.compare()
    watcher.compare()
    assert made.notices == []
    made.wait(GONE_SECONDS)
    watcher.compare()
    assert made.notices == [("r", "DELETED", "pending")]


@pytest.mark.parametrize("failing", range(5))
@pytest.mark.parametrize("error", [KfpUnavailableError, KfpTimeoutError, CannotConnectError])
def test_a_failed_read_reports_nothing(
    client: FakeClient, made: Box, watcher: Watcher, failing: int, error: type[AdapterError]
) -> None:
    """If any of the calls fails, a healthy run is not reported, and nothing counts as seen."""
    client.put("r", S.RUNNING)
    watcher.compare()
    client.put("s", S.SUCCEEDED, at(days=1))
    client.put("t", S.SUCCEEDED, at(days=1, seconds=1))
    made.wait(10 * GONE_SECONDS)
    count = iter(range(100))

    def fail() -> None:
        if next(count) == failing:
            raise error("away")

    client._fail = fail  # type: ignore[method-assign]
    with pytest.raises(error):
        watcher.compare()
    assert made.outbox.seen_up_to() == BEGIN
    watcher.compare()
    assert sorted(made.notices) == [("s", "SUCCEEDED", "pending"), ("t", "SUCCEEDED", "pending")]
    assert set(made.outbox.open_runs()) == {"r"}


def test_a_run_that_cannot_be_looked_for_is_not_gone(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """A run missing from the lists is looked up, and is gone only if that returns not found."""
    client.put("r", S.RUNNING)
    watcher.compare()
    hidden = client.known.pop("r")
    client.put("s", S.SUCCEEDED, at(days=1))
    made.wait(10 * GONE_SECONDS)
    ask, client.get = client.get, lambda *_, **__: (_ for _ in ()).throw(KfpUnavailableError("away"))  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(KfpUnavailableError):
            watcher.compare()
        made.wait(10 * GONE_SECONDS)
        assert made.outbox.seen_up_to() == BEGIN
    client.get = ask  # type: ignore[method-assign]
    client.known["r"] = hidden
    watcher.compare()
    assert made.notices == [("s", "SUCCEEDED", "pending")]


def test_the_watch_continues_with_what_is_open(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """The watch starts after the first comparison, with the etags of the runs in progress, and records its events."""
    going = client.put("r", S.RUNNING)
    client.events = [RunChanged(client.put("s", S.SUCCEEDED, at(seconds=5)), BEGIN), Heartbeat(True, BEGIN)]
    assert not watcher.is_receiving()
    watcher.start()
    eventually(lambda: ("s", "SUCCEEDED", "pending") in made.notices)
    eventually(watcher.is_receiving)
    where, known = client.watched[0]
    assert where == RunFilter(label_keys=frozenset({"trainingjob_id"}), created_after=BEGIN)
    assert known == {"r": going.etag}
    assert watcher.is_alive()


def test_the_watch_waits_for_the_first_comparison(
    client: FakeClient, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that started before the runs in progress are known would miss them."""
    monkeypatch.setattr("kfadapter_oran.notices.watcher._INITIAL_BACKOFF", 0.01)
    client.put("r", S.RUNNING)
    client.failures = [KfpUnavailableError("away") for _ in range(4)]
    watcher.start()
    eventually(lambda: client.watched)
    assert client.failures == []
    assert client.watched[0][1].keys() == {"r"}


def test_a_watch_that_is_cut_off_is_begun_again(
    client: FakeClient, made: Box, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken watch, and a run reported as gone, say nothing about a run; the watch is restarted."""
    monkeypatch.setattr("kfadapter_oran.notices.watcher._INITIAL_BACKOFF", 0.01)
    client.put("r", S.RUNNING)
    client.events = [RunGone("r", BEGIN), CannotConnectError("away")]
    watcher.start()
    eventually(lambda: len(client.watched) > 1)
    client.events = [KfpUnavailableError("away")]
    eventually(lambda: len(client.watched) > 2)
    made.wait(10 * GONE_SECONDS)
    assert made.notices == []
    client.events = [RunChanged(client.put("r", S.CANCELED, at(seconds=9)), BEGIN)]
    eventually(lambda: made.notices)
    assert made.notices == [("r", "CANCELED", "pending")]


def test_what_is_old_is_forgotten_by_comparing(client: FakeClient, made: Box, watcher: Watcher) -> None:
    """Comparing removes old notices, so the outbox stays small."""
    client.put("r", S.SUCCEEDED, at(days=1))
    watcher.compare()
    made.deliver()
    client.put("s", S.SUCCEEDED, at(days=1) + KEEP + timedelta(seconds=1))
    watcher.compare()
    assert [run_id for run_id, _, _ in made.notices] == ["s"]
    watcher.compare()
    assert [run_id for run_id, _, _ in made.notices] == ["s"]


def test_an_end_has_its_metrics(
    client: FakeClient, made: Box, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run is read in full once; if that fails permanently, it is reported without metrics."""

    def broken(_: str) -> Run:
        raise KfpError("broken")

    for run_id in ("r", "s"):
        client.put(run_id, S.RUNNING)
    watcher.compare()
    client.put("r", S.SUCCEEDED, at(minutes=1), metrics=(RunMetric("정확도", 0.9, "train", "m"),))
    watcher.compare()
    watcher.compare()
    assert client.got == 1
    client.put("s", S.SUCCEEDED, at(minutes=1))
    monkeypatch.setattr(client, "get", broken)
    watcher.compare()
    assert [(one.run_id, one.metrics) for one in made.ledger.notices()] == [("r", {"정확도": 0.9}), ("s", {})]
