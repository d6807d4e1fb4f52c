"""Which notice is due, and how attempts change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.notices.boxes import Box, at, box, seen

from kfadapter_oran.notices.database import NoticeStatus
from kfadapter_oran.notices.deliveries import INITIAL_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, backoff_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PENDING, PARKED, DELIVERED = NoticeStatus.PENDING, NoticeStatus.PARKED, NoticeStatus.DELIVERED


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Box]:
    """An outbox with the notice of one finished run."""
    with box(tmp_path / "notices.db") as opened:
        opened.outbox.record(seen("r", "FAILED", at(minutes=1)))
        yield opened


def fail(made: Box, *, refused: bool) -> bool:
    """Waits until a notice is due and fails it; returns whether it was parked."""
    made.wait(MAX_BACKOFF_SECONDS)
    with made.deliveries.claimed() as one:
        assert one is not None
        return made.deliveries.failed(one, "why", refused=refused)


def test_pauses_grow_and_are_jittered() -> None:
    """Pauses start at a second, double up to five minutes, and are jittered."""
    for attempts in range(1, 60):
        longest = min(INITIAL_BACKOFF_SECONDS * 2 ** (attempts - 1), MAX_BACKOFF_SECONDS)
        assert all(longest / 2 <= backoff_seconds(attempts) <= longest for _ in range(10))
    assert len({backoff_seconds(5) for _ in range(10)}) > 1


def test_nothing_is_handed_out_twice(made: Box) -> None:
    """While a notice is claimed, neither it nor another one of the same run can be claimed."""
    made.outbox.record(seen("r", "SUCCEEDED", at(minutes=2)))
    with made.deliveries.claimed() as one, made.deliveries.claimed() as other:
        assert one is not None
        assert one.state == "FAILED"
        assert other is None


def test_the_order_of_a_run_is_kept(made: Box) -> None:
    """A later notice waits until the run's earlier one is delivered or parked; other runs do not wait."""
    made.outbox.record(seen("r", "SUCCEEDED", at(minutes=2)))
    made.outbox.record(seen("s", "SUCCEEDED", at(minutes=3)))
    with made.deliveries.claimed() as one:
        assert one is not None
        made.deliveries.failed(one, "503", refused=False)
    assert made.deliver() == [("s", "SUCCEEDED")]
    made.wait(MAX_BACKOFF_SECONDS)
    assert made.deliver() == [("r", "FAILED"), ("r", "SUCCEEDED")]


def test_an_unreachable_receiver_is_retried_for_long_then_parked(made: Box) -> None:
    """Attempts at an unreachable receiver are limited, with a pause between them; then the notice is parked."""
    assert [fail(made, refused=False) for _ in range(5)] == [False] * 4 + [True]
    assert made.statuses() == [PARKED]
    made.wait(MAX_BACKOFF_SECONDS * 10)
    with made.deliveries.claimed() as one:
        assert one is None


def test_refusals_park_sooner_and_are_counted_alone(made: Box) -> None:
    """Rejections have their own limit: an outage before them does not count towards it."""
    assert [fail(made, refused=refused) for refused in (False, True, True, True)] == [False, False, False, True]


def test_what_is_not_due_waits(made: Box) -> None:
    """After a failure the notice is not due until the pause has passed."""
    with made.deliveries.claimed() as one:
        assert one is not None
        made.deliveries.failed(one, "503", refused=False)
    assert made.deliver() == []
    made.wait(INITIAL_BACKOFF_SECONDS)
    assert made.deliver() == [("r", "FAILED")]


def test_a_process_that_dies_at_a_notice_tries_it_later(tmp_path: Path) -> None:
    """An attempt is on disk before it is made, so that repeated crashes also lead to longer pauses."""
    path = tmp_path / "notices.db"
    with box(path) as first:
        first.outbox.record(seen("r", "FAILED", at(minutes=1)))
        with first.deliveries.claimed() as one:
            assert one is not None
            assert one.attempts == 1
    with box(path) as second:
        assert second.deliver() == []
        second.wait(INITIAL_BACKOFF_SECONDS)
        with second.deliveries.claimed() as one:
            assert one is not None
            assert one.attempts == 2


def test_a_clock_that_was_put_back_holds_nothing_up(made: Box) -> None:
    """A notice that is due later than the longest pause is due immediately."""
    made.wait(86_400)
    fail(made, refused=False)
    made.wait(-86_400)
    assert made.deliver() == [("r", "FAILED")]


def test_a_parked_notice_is_sent_again_on_request(made: Box) -> None:
    """A retried notice is due immediately, with its attempts reset."""
    for _ in range(3):
        fail(made, refused=True)
    (one,) = made.ledger.notices()
    assert made.ledger.retry([one.id]) == [one.id]
    (again,) = made.ledger.notices()
    assert (again.status, again.attempts, again.refusals, again.answer) == (PENDING, 0, 0, "why")
    assert made.deliver() == [("r", "FAILED")]


def test_only_parked_notices_can_be_decided_on(made: Box) -> None:
    """Retry and discard leave pending, delivered and unknown notices unchanged."""
    assert made.ledger.retry([1, 99]) == []
    made.deliver()
    assert made.ledger.retry([1]) == []
    assert made.ledger.discard([1]) == []
    assert made.statuses() == [DELIVERED]


def test_a_discarded_notice_is_never_sent_nor_written_again(made: Box) -> None:
    """A discarded notice stays discarded, even if its run is seen again."""
    for _ in range(3):
        fail(made, refused=True)
    assert made.ledger.discard(made.ledger.parked()) == [1]
    made.wait(MAX_BACKOFF_SECONDS)
    assert made.deliver() == []
    assert made.outbox.record(seen("r", "FAILED", at(minutes=1))) is None


def test_a_parked_notice_is_out_of_date_when_a_later_one_was_delivered(made: Box) -> None:
    """A parked notice is superseded when a later one is delivered: sending it afterwards would mislead the receiver."""
    for _ in range(3):
        fail(made, refused=True)
    made.outbox.record(seen("r", "SUCCEEDED", at(minutes=2)))
    assert made.deliver() == [("r", "SUCCEEDED")]
    assert made.statuses() == [NoticeStatus.SUPERSEDED, DELIVERED]
    assert made.ledger.retry([1]) == []


def test_a_notice_that_is_sent_again_while_a_later_one_is_on_its_way(made: Box) -> None:
    """A retried notice waits while a later one is in flight, and is not sent once that is delivered."""
    for _ in range(3):
        fail(made, refused=True)
    made.outbox.record(seen("r", "SUCCEEDED", at(minutes=2)))
    with made.deliveries.claimed() as later:
        assert later is not None
        assert later.state == "SUCCEEDED"
        made.ledger.retry([1])
        with made.deliveries.claimed() as other:
            assert other is None
        made.deliveries.delivered(later, "200")
    assert made.deliver() == []
    assert made.statuses() == [NoticeStatus.SUPERSEDED, DELIVERED]


def test_figures(made: Box) -> None:
    """The figures count the notices by status, and have the time since which the oldest is pending."""
    made.wait(5)
    made.outbox.record(seen("s", "SUCCEEDED", at(minutes=3)))
    made.outbox.record(seen("t", "RUNNING"))
    made.deliver()
    made.outbox.record(seen("u", "SUCCEEDED", at(minutes=4)))
    figures = made.ledger.figures()
    assert (figures.counts[DELIVERED], figures.counts[PENDING], figures.counts[PARKED]) == (2, 1, 0)
    assert (figures.oldest_pending_at, figures.open_runs) == (made.now(), 1)


def test_the_list_is_bounded(made: Box) -> None:
    """The list has all pending notices, and the last twenty finished ones."""
    for number in range(30):
        made.outbox.record(seen(f"done-{number}", "SUCCEEDED", at(minutes=2)))
    made.deliver()
    made.outbox.record(seen("waits", "SUCCEEDED", at(minutes=2)))
    listed = made.ledger.notices()
    assert len(listed) == 21
    assert listed[-1].run_id == "waits"
