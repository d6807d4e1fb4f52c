"""The state machine of the outbox: what is written, only once, and what is removed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from tests.notices.boxes import BEGIN, KEEP, Box, at, box, seen

from kfadapter_grpc.contract.run_outputs import RunMetric
from kfadapter_grpc.contract.runs import Run, RunState, RunStateChange
from kfadapter_oran.notices.database import VERSION, Database, OutboxBusyError, OutboxError, exclusive
from kfadapter_oran.notices.outbox import GONE_SECONDS, LOOK_BACK, about, earlier_ends, ended_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the outbox."""
    return tmp_path / "notices.db"


@pytest.fixture
def made(path: Path) -> Iterator[Box]:
    """An empty outbox."""
    with box(path) as opened:
        yield opened


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"])
def test_an_end_is_written_once(made: Box, state: str) -> None:
    """A finished run is written with KFP's state, and only once, however often it is seen."""
    made.outbox.record(seen("r", "RUNNING"))
    written = made.outbox.record(seen("r", state, at(minutes=1)))
    assert written is not None
    assert (written.run_id, written.job, written.state) == ("r", "42", state)
    assert made.outbox.record(seen("r", state, at(minutes=1))) is None
    assert made.notices == [("r", state, "pending")]


def test_unfinished_runs_are_not_written(made: Box) -> None:
    """A run in progress is followed, and has no notice."""
    for state in ("PENDING", "RUNNING", "CANCELING", "PAUSED", "RUNNING"):
        assert made.outbox.record(seen("r", state)) is None
    assert made.notices == []
    assert made.outbox.open_runs() == {"r": "e-RUNNING"}


def test_what_ended_before_the_first_start_is_not_written(made: Box) -> None:
    """A run that finished before the first start has no notice; one that was still in progress has."""
    made.outbox.record(seen("old", "FAILED", at(seconds=-1)))
    made.outbox.record(seen("running", "RUNNING"))
    made.outbox.record(seen("running", "SUCCEEDED", at(seconds=-1)))
    assert made.notices == [("running", "SUCCEEDED", "pending")]


def test_later_starts_begin_where_the_first_did(path: Path) -> None:
    """Only the first start sets the time from which ends are reported; ends between two starts are reported too."""
    with box(path):
        pass
    with box(path) as again:
        assert not again.outbox.begin(at(days=3), "")
        assert again.outbox.record(seen("r", "SUCCEEDED", at(days=1))) is not None


def test_an_outbox_belongs_to_one_namespace(path: Path) -> None:
    """An outbox is rejected for another namespace, in which its runs would appear to be gone."""
    with box(path) as again, pytest.raises(OutboxError, match="namespace '', not of 'team-b'"):
        again.outbox.begin(BEGIN, "team-b")


def test_a_retried_run_is_reported_again(made: Box) -> None:
    """A run that failed, and succeeded after a retry, is reported twice, in order; the same state only once."""
    made.outbox.record(seen("r", "FAILED", at(minutes=1)))
    made.outbox.record(seen("r", "RUNNING"))
    assert made.outbox.record(seen("r", "FAILED", at(minutes=3), ("FAILED", at(minutes=1)))) is None
    made.outbox.record(seen("r", "RUNNING"))
    assert made.outbox.record(seen("r", "SUCCEEDED", at(minutes=5), ("FAILED", at(minutes=3)))) is not None
    assert made.deliver() == [("r", "FAILED"), ("r", "SUCCEEDED")]


def test_an_older_end_that_is_seen_late_is_not_reported(made: Box) -> None:
    """An end before one that is already known is not reported, because it would mislead."""
    made.outbox.record(seen("r", "SUCCEEDED", at(minutes=5)))
    assert made.outbox.record(seen("r", "FAILED", at(minutes=1))) is None


def test_a_run_that_was_deleted_before_its_end(made: Box) -> None:
    """A run that has not been found for a minute is reported as DELETED; one that is found again is not."""
    made.outbox.record(seen("r", "RUNNING"))
    assert made.outbox.record_missing("r") is None
    made.wait(GONE_SECONDS - 1)
    assert made.outbox.record_missing("r") is None
    made.outbox.record(seen("r", "RUNNING"))
    made.wait(2)
    assert made.outbox.record_missing("r") is None
    made.wait(GONE_SECONDS)
    written = made.outbox.record_missing("r")
    assert written is not None
    assert written.state == "DELETED"
    assert made.outbox.record_missing("r") is None
    assert made.outbox.record_missing("unknown") is None


def test_a_run_that_ended_and_was_deleted_is_not_reported_as_deleted(made: Box) -> None:
    """A reported end is final, even if the run is seen in progress by a later, outdated read."""
    made.outbox.record(seen("r", "SUCCEEDED", at(minutes=1)))
    made.outbox.record(seen("r", "RUNNING"))
    made.outbox.record_missing("r")
    made.wait(GONE_SECONDS)
    assert made.outbox.record_missing("r") is None
    assert made.notices == [("r", "SUCCEEDED", "pending")]


def test_what_is_old_and_delivered_is_forgotten(made: Box) -> None:
    """Delivered notices older than the retention, by KFP's clock, are removed; pending and parked ones stay."""
    for run_id in ("delivered", "parked", "pending"):
        made.outbox.record(seen(run_id, "SUCCEEDED", at(days=1)))
    made.database.read("SELECT 1")
    with made.database.writing() as connection:
        connection.execute("UPDATE notices SET status = run_id")
    assert made.outbox.complete(at(days=1) + KEEP - timedelta(seconds=1), KEEP) == 0
    assert made.outbox.complete(at(days=1) + KEEP, KEEP) == 1
    assert [run_id for run_id, _, _ in made.notices] == ["parked", "pending"]


def test_what_was_forgotten_is_never_reported_again(made: Box) -> None:
    """An end whose notice was removed is never reported again."""
    made.outbox.record(seen("r", "FAILED", at(days=1)))
    made.deliver()
    assert made.outbox.complete(at(days=9), KEEP) == 1
    assert made.outbox.record(seen("r", "FAILED", at(days=1))) is None
    # Retried, it fails again: that was reported, according to its own history.
    made.outbox.record(seen("r", "RUNNING"))
    assert made.outbox.record(seen("r", "FAILED", at(days=10), ("FAILED", at(days=1)))) is None
    # Retried once more, it succeeds: that was not reported.
    made.outbox.record(seen("r", "RUNNING"))
    assert made.outbox.record(seen("r", "SUCCEEDED", at(days=11), ("FAILED", at(days=1)))) is not None


def test_a_failure_before_the_first_start_does_not_hide_a_later_one(made: Box) -> None:
    """A run that failed before the first start, and fails again after a retry, is reported."""
    made.outbox.record(seen("r", "RUNNING"))
    assert made.outbox.record(seen("r", "FAILED", at(days=1), ("FAILED", at(days=-1)))) is not None


def test_a_notice_stays_while_its_run_is_retried(made: Box) -> None:
    """The notice of a run that is in progress again is not removed."""
    made.outbox.record(seen("r", "FAILED", at(days=1)))
    made.deliver()
    made.outbox.record(seen("r", "RUNNING"))
    assert made.outbox.complete(at(days=20), KEEP) == 0
    assert made.outbox.record(seen("r", "FAILED", at(days=21))) is None
    assert made.outbox.complete(at(days=22), KEEP) == 0, "its last end is new"


def test_ends_are_looked_at_again_for_a_while(made: Box) -> None:
    """The next comparison starts an hour before the newest end that was seen, and never before the first start."""
    assert made.outbox.seen_up_to() == BEGIN
    made.outbox.complete(at(days=1), KEEP)
    assert made.outbox.seen_up_to() == at(days=1) - LOOK_BACK
    made.outbox.complete(None, KEEP)
    assert made.outbox.seen_up_to() == at(days=1) - LOOK_BACK


def test_what_is_kept_for_too_short_a_time(made: Box) -> None:
    """However short the retention, notices within the next comparison stay, and late ends are reported."""
    made.outbox.record(seen("r", "SUCCEEDED", at(days=1)))
    made.deliver()
    made.outbox.complete(at(days=1), timedelta(seconds=1))
    assert made.outbox.record(seen("r", "SUCCEEDED", at(days=1))) is None
    assert len(made.notices) == 1
    assert made.outbox.record(seen("late", "SUCCEEDED", at(days=1, minutes=-30))) is not None


def test_everything_survives_the_process(path: Path) -> None:
    """Everything written is there when the file is opened again."""
    with box(path) as first:
        first.outbox.record(seen("r", "SUCCEEDED", at(minutes=1)))
        first.outbox.record(seen("s", "RUNNING"))
    with box(path) as second:
        assert second.notices == [("r", "SUCCEEDED", "pending")]
        assert second.outbox.open_runs() == {"s": "e-RUNNING"}


def test_the_disk_is_asked_to_write(path: Path) -> None:
    """The file uses a write-ahead log that is synced when a transaction has finished."""
    with box(path) as made:
        assert made.database.read("PRAGMA journal_mode") == [("wal",)]
        assert made.database.read("PRAGMA synchronous") == [(2,)]


def test_files_that_are_no_outbox(tmp_path: Path) -> None:
    """Another kind of file, a folder, a newer outbox and a missing file have their own errors."""
    other = tmp_path / "text"
    other.write_text("no database, but a text that is long enough to be looked at as one" * 20)
    newer = tmp_path / "newer.db"
    with box(newer) as made:
        made.database.read(f"PRAGMA user_version = {VERSION + 1}")
    for file, output in ((other, "cannot be used"), (tmp_path, "cannot be opened"), (newer, "by another version")):
        with pytest.raises(OutboxError, match=output):
            Database(file, create=True)
    with pytest.raises(OutboxError, match="not found: outbox"):
        Database(tmp_path / "nowhere.db", create=False)


def test_a_second_notifier_is_refused(path: Path) -> None:
    """Only one notifier works with an outbox; after it another one may."""
    with exclusive(path), pytest.raises(OutboxBusyError, match="another notifier"), exclusive(path):
        pass
    with exclusive(path):
        pass


def test_two_open_it_at_once(path: Path) -> None:
    """A second process waits for the notifier's writes, and sees them."""
    with box(path) as one, closing(Database(path, create=False)) as other:
        one.outbox.record(seen("r", "SUCCEEDED", at(minutes=1)))
        assert other.read("SELECT run_id FROM notices") == [("r",)]


def test_names_and_error() -> None:
    """Names and error are kept, the error in part if it is long."""
    run = Run("r", state=RunState.FAILED, display_name="학습", pipeline_name="train", error="x" * 10_000)
    assert about(run) == {"display_name": "학습", "pipeline_name": "train", "error": "x" * 4096}


def test_ends_of_a_run() -> None:
    """A run has a latest end, and earlier ends in the same state before retries."""
    history = (
        RunStateChange(RunState.FAILED, at(minutes=1)),
        RunStateChange(RunState.RUNNING, at(minutes=2)),
        RunStateChange(RunState.FAILED, at(minutes=4)),
    )
    run = Run("r", state=RunState.FAILED, created_at=BEGIN, finished_at=at(minutes=3), state_history=history)
    assert ended_at(run) == at(minutes=4).timestamp()
    assert list(earlier_ends(run)) == [at(minutes=1).timestamp()]
    assert list(earlier_ends(replace(run, state=RunState.SUCCEEDED))) == []
    assert ended_at(Run("r", state=RunState.FAILED, created_at=BEGIN)) == BEGIN.timestamp()


def test_an_outbox_without_metrics(path: Path) -> None:
    """The file of an older version is migrated: its notices have no metrics and no names, new ones do."""
    with closing(Database(path, create=True)) as database:
        for column in ("metrics", "about"):
            database.read(f"ALTER TABLE notices DROP COLUMN {column}")
    with box(path) as made:
        made.outbox.record(seen("r", "RUNNING"))
        run = replace(seen("r", "SUCCEEDED", at(minutes=1)), metrics=(RunMetric("정확도", 0.9),), display_name="r")
        written = made.outbox.record(run)
        assert written is not None
        assert (written.metrics, written.about) == ({"정확도": 0.9}, {"display_name": "r"})
        assert written.ended_at == at(minutes=1)
