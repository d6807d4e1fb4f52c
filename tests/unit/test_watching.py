"""Watching a KFP that counts its requests; the poller is polled by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.unit.watched import BEGIN, Watching, task

from kfadapter_grpc.contract.errors import (
    CallCancelledError,
    DrainingError,
    InvalidFieldError,
    KfpError,
    KfpUnavailableError,
)
from kfadapter_grpc.contract.experiments import ExperimentRef
from kfadapter_grpc.contract.listing import StorageState
from kfadapter_grpc.contract.run_outputs import RunOutput
from kfadapter_grpc.contract.runs import RunFilter, RunState
from kfadapter_grpc.contract.watches import RunChanged
from kfadapter_grpc.metrics.catalog import WATCHES
from kfadapter_grpc.watch import poller as poller_module
from kfadapter_grpc.watch.registry import MAX_WATCHED

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING, PENDING, SUCCEEDED, FAILED = RunState.RUNNING, RunState.PENDING, RunState.SUCCEEDED, RunState.FAILED
ALL = RunFilter()


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    """A poller of a fake KFP; its watches send a heartbeat as soon as there is no event."""
    monkeypatch.setattr(poller_module, "HEARTBEAT_SECONDS", 0)
    made = Watching()
    yield made
    made.close()


def test_present_state_first_then_changes(watching: Watching) -> None:
    """A watch sends the current state of each run, then changes, and ends when all runs have finished."""
    for run_id in ("a", "b"):
        watching.kfp.put(run_id)
    watch = watching.watch("a", "b")
    watching.poll()
    assert watch.reported() == ["a RUNNING", "b RUNNING"]
    watching.poll()
    assert watch.reported() == []
    watching.kfp.put("b", FAILED)
    watching.poll()
    assert watch.reported() == ["b FAILED"]
    watching.kfp.put("a", SUCCEEDED)
    watching.poll()
    assert watch.reported() == ["a SUCCEEDED", "end"]


@pytest.mark.slow
def test_cost_of_many_watches(watching: Watching) -> None:
    """500 watches of the same 100 runs cost KFP as much as one: at most 6 calls a poll, of at most 100 ids each."""
    ids = [f"run-{number}" for number in range(100)]
    states = [PENDING, RUNNING, RUNNING, SUCCEEDED]
    for number, run_id in enumerate(ids):
        watching.kfp.put(run_id, states[number % 4])
    watches = [watching.watch(*ids) for _ in range(500)]
    assert watching.poll() == {"read": 1}
    assert [len(watch.reported()) for watch in watches] == [100] * 500
    for _ in range(40):
        assert watching.poll().total() <= 6
    asked = watching.poll(15)
    assert asked == {"in_other_state": 2 * 15 + 1, "count": 1}
    watching.kfp.put("run-1", SUCCEEDED)
    assert watching.poll().total() <= 6
    assert {tuple(watch.reported()) for watch in watches} == {("run-1 SUCCEEDED",)}
    assert max(watching.kfp.sizes) <= 100


@pytest.mark.slow
def test_cost_of_two_hundred_runs(watching: Watching) -> None:
    """1000 watches of 200 runs in all states cost at most 6 calls a poll, also while the runs change."""
    ids = [f"run-{number}" for number in range(200)]
    states = [PENDING, RUNNING, SUCCEEDED, FAILED, RunState.CANCELING]
    for number, run_id in enumerate(ids):
        watching.kfp.put(run_id, states[number % 5])
    for _ in range(1000):
        watching.watch(*ids)
    assert watching.poll(3)["get"] == 40  # the failed ones: each is read in full once, twenty a poll
    for number in range(60):
        watching.kfp.put(ids[3 * number], states[number % 5])
        assert watching.poll().total() <= 6


def test_no_watches(watching: Watching) -> None:
    """Without watches KFP is not called, and nothing is kept."""
    watching.kfp.put("a")
    watching.watch("a", "not there")
    watching.watch(where=ALL)
    watching.poll(3)
    watching.close()
    assert watching.poller.figures()[WATCHES] == 0
    assert watching.poll(20).total() == 0


def test_known_runs_are_reported_at_once(watching: Watching) -> None:
    """A watch of runs that are watched already sends their known state, without a request."""
    watching.kfp.put("a")
    watching.watch("a")
    watching.poll()
    assert watching.watch("a").reported() == ["a RUNNING"]


def test_coming_back_with_etags(watching: Watching) -> None:
    """A watch that resumes with etags only sends runs that differ; unknown etags are ignored."""
    old = {run_id: watching.kfp.put(run_id).etag for run_id in ("a", "b", "c")}
    watching.kfp.put("b", SUCCEEDED)
    watch = watching.watch("a", "b", "c", known={**old, "elsewhere": "x", "c": "another"})
    watching.poll()
    assert watch.reported() == ["b SUCCEEDED", "c RUNNING"]


def test_resuming_after_all_have_finished(watching: Watching) -> None:
    """A watch that resumes with the etags of finished runs sends nothing and ends."""
    known = {"a": watching.kfp.put("a", SUCCEEDED).etag}
    for tasks in (False, True):
        watch = watching.watch("a", known=known, tasks=tasks)
        watching.poll()
        assert watch.reported() == ["end"]


def test_unknown_and_deleted_runs(watching: Watching) -> None:
    """An unknown run is reported as gone at once, a deleted one within 30 s; both end the watch."""
    for run_id in ("a", "b", "c"):
        watching.kfp.put(run_id)
    watch = watching.watch("a", "b", "c", "nobody")
    watching.poll()
    assert watch.reported() == ["a RUNNING", "b RUNNING", "c RUNNING", "nobody gone"]
    del watching.kfp.runs["b"]
    watching.poll(31)
    assert watch.reported() == ["b gone"]
    watching.kfp.runs.clear()
    watching.poll(31)
    assert sorted(watch.reported()) == ["a gone", "c gone", "end"]


def test_archived_and_retried_runs(watching: Watching) -> None:
    """Within 30 s a watch sends that a run was archived, or that a finished run was retried."""
    watching.kfp.put("a", FAILED)
    watching.kfp.put("b")
    watch = watching.watch("a", "b")
    watching.poll()
    assert sorted(watch.reported()) == ["a FAILED", "b RUNNING"]
    watching.kfp.put("b", storage_state=StorageState.ARCHIVED)
    watching.kfp.put("a", RUNNING)
    watching.poll(31)
    assert sorted(watch.reported()) == ["a RUNNING", "b RUNNING"]
    watching.poll(31)
    assert watch.reported() == []


def test_slow_reader(watching: Watching) -> None:
    """A slow reader gets the latest state of each run, and no more, however often it changed."""
    watch = watching.watch("a")
    for state in (PENDING, RUNNING, FAILED, RUNNING, SUCCEEDED):
        watching.kfp.put("a", state)
        watching.poll(16)
    assert watch.reported() == ["a SUCCEEDED", "end"]


def test_changes_of_tasks(watching: Watching) -> None:
    """Changes of tasks are only sent to watches with tasks; their outputs are sent when the run has finished."""
    watching.kfp.put("a", RUNNING, tasks=(task("t", PENDING),))
    with_tasks, without = watching.watch("a", tasks=True), watching.watch("a")
    watching.poll()
    assert with_tasks.reported() == without.reported() == ["a RUNNING"]
    watching.kfp.put("a", RUNNING, tasks=(task("t", RUNNING),))
    watching.poll()
    assert (with_tasks.reported(), without.reported()) == (["a RUNNING"], [])
    done = task("t", SUCCEEDED, outputs=(RunOutput("metric", value=0.5),))
    watching.kfp.put("a", SUCCEEDED, tasks=(done,))
    watching.poll()
    event = next(with_tasks.events)
    assert isinstance(event, RunChanged)
    assert event.run.tasks == (done,)
    assert with_tasks.reported() == ["end"]


def test_cost_of_tasks(watching: Watching) -> None:
    """Active runs are listed in turns of twenty; only those that have changed are read in full, once."""
    ids = [f"run-{number}" for number in range(100)]
    for run_id in ids:
        watching.kfp.put(run_id)
    watch = watching.watch(*ids, tasks=True)
    assert watching.poll(5)["get"] == 100
    assert len(watch.reported()) == 100
    assert watching.poll(5) == {"read": 5, "in_other_state": 5}
    for run_id in ids:
        watching.kfp.put(run_id, RUNNING, tasks=(task("t", RUNNING),))
    for _ in range(5):
        assert watching.poll()["get"] <= 20
    watching.poll()
    assert len(watch.reported()) == 100


def test_a_run_whose_task_waits(watching: Watching) -> None:
    """A run with a waiting task is read in full every 30 s; its warnings are sent once, to watches with tasks."""
    watching.kfp.put("a", tasks=(task("t", PENDING),))
    watch, without = watching.watch("a", tasks=True), watching.watch("a")
    watching.poll()
    assert (watch.reported(), without.reported()) == (["a RUNNING"], ["a RUNNING"])
    watching.kfp.waiting.add("a")
    warned = watching.kfp.put("a", warnings=("task 't' is waiting: ImagePullBackOff",))
    watching.pass_time(31)
    assert watching.poll(3)["get"] == 1
    assert (watch.reported(), without.reported()) == (["a RUNNING"], [])
    watching.pass_time(31)
    assert watching.poll(3)["get"] == 1
    assert watch.reported() == []
    again = watching.watch("a", tasks=True, known={"a": warned.etag})
    watching.poll()
    assert again.reported() == []


def test_a_run_that_was_terminated(watching: Watching) -> None:
    """A run that lists report as failed is read in full once, sent as canceled, and not read again."""
    watching.kfp.put("a")
    watching.kfp.put("b")
    watch = watching.watch("a", "b")
    watching.poll()
    assert watch.reported() == ["a RUNNING", "b RUNNING"]
    watching.kfp.put("a", RunState.CANCELED)
    watching.kfp.listed_as_failed.add("a")
    assert watching.poll(40)["get"] == 1
    assert watch.reported() == ["a CANCELED"]


def test_outage(watching: Watching) -> None:
    """While KFP is unreachable the watch continues and reports it, and afterwards sends what has changed meanwhile."""
    watching.kfp.put("a")
    watch = watching.watch("a")
    watching.poll()
    assert watch.reported() == ["a RUNNING"]
    watching.kfp.failure = KfpUnavailableError("away")
    watching.poll(3)
    assert watch.reported() == ["away"]
    watching.kfp.put("a", SUCCEEDED)
    watching.kfp.failure = None
    watching.poll()
    assert watch.reported() == []  # a heartbeat: KFP is reachable again
    assert watch.reported() == ["a SUCCEEDED", "end"]


def test_outage_from_the_beginning(watching: Watching) -> None:
    """A watch that begins while KFP is unreachable waits for it."""
    watching.kfp.put("a", SUCCEEDED)
    watching.kfp.failure = KfpUnavailableError("away")
    watch = watching.watch("a")
    watching.poll(2)
    assert watch.reported() == ["away"]
    watching.kfp.failure = None
    watching.poll()
    assert watch.reported() == []  # a heartbeat: KFP is reachable again
    assert watch.reported() == ["a SUCCEEDED", "end"]


def test_refused_from_the_beginning(watching: Watching) -> None:
    """A permanent error ends a watch that begins; running watches, and those with a transient error, wait."""
    watching.kfp.put("a")
    old = watching.watch("a")
    watching.poll()
    old.reported()
    watching.kfp.failure = InvalidFieldError.of("namespace", "say which")
    new = watching.watch("b")
    watching.poll()
    with pytest.raises(InvalidFieldError):
        next(new.events)
    assert old.reported() == ["away"]
    watching.kfp.failure = KfpError("a bad answer")
    later = watching.watch("c")
    watching.poll()
    assert later.reported() == ["away"]


def test_draining(watching: Watching) -> None:
    """When the adapter drains, all watches end with DRAINING, and none can begin."""
    watch = watching.watch("a")
    watching.poller.drain()
    with pytest.raises(DrainingError):
        next(watch.events)
    with pytest.raises(DrainingError):
        watching.watch("a")


def test_caller_disconnects(watching: Watching) -> None:
    """A watch ends when the client disconnects."""
    watch = watching.watch("a")
    watch.call.cancel()
    with pytest.raises(CallCancelledError):
        next(watch.events)


def test_filter_adds_new_runs(watching: Watching) -> None:
    """A watch of a filter sends matching runs, including new ones; it does not end when all have finished."""
    watching.kfp.put("a", SUCCEEDED)
    watch = watching.watch(where=ALL)
    watching.poll()
    assert watch.reported() == ["a SUCCEEDED"]
    watching.kfp.put("b", PENDING)
    watching.poll()
    assert watch.reported() == ["b PENDING"]
    watching.kfp.put("b", SUCCEEDED)
    watching.poll()
    assert watch.reported() == ["b SUCCEEDED"]
    watching.poll(20)
    assert watch.reported() == []


def test_filter_by_state(watching: Watching) -> None:
    """A run that starts to match is sent, one that stops matching is sent once more, others are not."""
    where = RunFilter(states=frozenset({RUNNING}))
    watching.kfp.put("over", SUCCEEDED)
    watching.kfp.put("waits", PENDING)
    watch = watching.watch(where=where)
    watching.poll()
    assert watch.reported() == []
    watching.kfp.put("waits", RUNNING)
    watching.kfp.put("new", PENDING)
    watching.poll()
    assert watch.reported() == ["waits RUNNING"]
    watching.kfp.put("waits", SUCCEEDED)
    watching.kfp.put("new", FAILED)
    watching.poll()
    assert watch.reported() == ["waits SUCCEEDED"]
    watching.kfp.put("waits", FAILED)
    watching.poll(20)
    assert watch.reported() == []


def test_filter_by_time_of_end(watching: Watching) -> None:
    """An active run matches a filter by finish time once it has finished."""
    watching.kfp.put("a")
    watch = watching.watch(where=RunFilter(finished_after=BEGIN))
    watching.poll()
    assert watch.reported() == []
    watching.kfp.put("a", SUCCEEDED, finished_at=BEGIN + timedelta(hours=1))
    watching.poll()
    assert watch.reported() == ["a SUCCEEDED"]


def test_filter_resumed(watching: Watching) -> None:
    """A watch of a filter that resumes sends the known runs that no longer match."""
    known = {"a": watching.kfp.put("a").etag, "b": "deleted since"}
    watching.kfp.put("a", SUCCEEDED)
    watch = watching.watch(where=RunFilter(states=frozenset({RUNNING})), known=known)
    watching.poll()
    assert sorted(watch.reported()) == ["a SUCCEEDED", "b gone"]


def test_run_that_comes_late(watching: Watching) -> None:
    """A run is found even if KFP shows it after one that was created later."""
    first = watching.kfp.put("first")
    watch = watching.watch(where=ALL)
    watching.poll()
    watching.kfp.runs["later"] = replace(first, run_id="later", created_at=BEGIN + timedelta(seconds=7))
    watching.poll()
    watching.kfp.runs["late"] = replace(first, run_id="late", created_at=BEGIN + timedelta(seconds=3))
    watching.poll()
    assert watch.reported() == ["first RUNNING", "later RUNNING", "late RUNNING"]


def test_cost_of_filters(watching: Watching) -> None:
    """Watches of the same filter share their requests; without changes a poll makes one that returns nothing."""
    watching.kfp.put("a")
    watches = [watching.watch(where=RunFilter(labels={"team": "vision"})) for _ in range(50)]
    watching.poll()
    assert [watch.reported() for watch in watches] == [["a RUNNING"]] * 50
    watching.poll(20)
    assert watching.poll() in ({"made": 1, "in_other_state": 1}, {"made": 1, "in_other_state": 1, "count": 1})


def test_bound_of_a_filter(watching: Watching) -> None:
    """A filter follows the newest 1000 runs; older ones are dropped."""
    for number in range(MAX_WATCHED + 5):
        watching.kfp.put(f"run-{number}")
    watch = watching.watch(where=ALL)
    watching.poll()
    reported = watch.reported()
    assert len(reported) == MAX_WATCHED
    assert "run-4 RUNNING" not in reported
    watching.kfp.put("new")
    watching.poll()
    watching.kfp.put("run-5", SUCCEEDED)
    watching.kfp.put("run-6", SUCCEEDED)
    watching.poll()
    assert watch.reported() == ["new RUNNING", "run-6 SUCCEEDED"]


def test_experiment_of_a_filter(watching: Watching) -> None:
    """The experiment of a filter is looked up once, when the watch begins."""
    watching.watch(where=RunFilter(experiment=ExperimentRef(name="e")))
    assert watching.kfp.asked["experiment_id"] == 1
    assert "experiment_id" not in watching.poll(3)
