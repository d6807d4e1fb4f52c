"""The sender: attempts when the disk or the program fails, and how it stops."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pytest
from tests.contract.running import eventually
from tests.notices.boxes import Box, at, box, seen

from kfadapter_oran.notices import sender as sender_module
from kfadapter_oran.notices.receiver import Attempt, Outcome
from kfadapter_oran.notices.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from kfadapter_oran.notices.database import Notice


class FakeReceiver:
    """A fake receiver that records the notices."""

    def __init__(self) -> None:
        self.reported: list[tuple[str, str]] = []
        self.answer: Callable[[Notice], Attempt] = lambda _: Attempt(Outcome.DELIVERED, "200")

    def post(self, notice: Notice) -> Attempt:
        """Receives a notice."""
        self.reported.append((notice.run_id, notice.state))
        return self.answer(notice)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Box]:
    """An outbox with the notice of one finished run."""
    with box(tmp_path / "notices.db") as opened:
        opened.outbox.record(seen("r", "SUCCEEDED", at(minutes=1)))
        yield opened


@pytest.fixture
def receiver() -> FakeReceiver:
    """A fake receiver."""
    return FakeReceiver()


@pytest.fixture
def outcomes() -> list[Outcome]:
    """The outcomes of all attempts."""
    return []


@pytest.fixture
def sender(made: Box, receiver: FakeReceiver, outcomes: list[Outcome]) -> Iterator[Sender]:
    """A sender; the test starts it."""
    sending = Sender(made.deliveries, receiver, outcomes.append)  # type: ignore[arg-type]
    yield sending
    sending.stop(20)


def is_delivered(made: Box) -> bool:
    """Whether all notices are delivered."""
    return {status for _, _, status in made.notices} == {"delivered"}


def test_what_is_written_is_sent_at_once(
    made: Box, sender: Sender, receiver: FakeReceiver, outcomes: list[Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new notice wakes the sender and is sent without waiting for the next poll."""
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 3600.0)
    sender.start()
    eventually(lambda: is_delivered(made))
    made.outbox.record(seen("s", "FAILED", at(minutes=1)))
    sender.wake()
    eventually(lambda: is_delivered(made))
    assert receiver.reported == [("r", "SUCCEEDED"), ("s", "FAILED")]
    assert outcomes == [Outcome.DELIVERED] * 2


def test_what_another_process_has_sent_again_is_found(
    made: Box, sender: Sender, receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry requested by another process is found by polling."""
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.01)
    with made.database.writing() as connection:
        connection.execute("UPDATE notices SET status = 'parked'")
    sender.start()
    made.ledger.retry([1])
    eventually(lambda: is_delivered(made))
    assert receiver.reported == [("r", "SUCCEEDED")]


def test_a_delivery_that_cannot_be_noted_is_not_repeated(
    made: Box, sender: Sender, receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the delivery is recorded as soon as there is space, and the notice is not sent again meanwhile."""
    monkeypatch.setattr(sender_module, "_WRITE_RETRY_SECONDS", 0.01)
    note, failures = made.deliveries.delivered, iter(range(100))

    def full(notice: Notice, answer: str) -> None:
        if next(failures) < 5:
            raise sqlite3.OperationalError("database or disk is full")
        note(notice, answer)

    monkeypatch.setattr(made.deliveries, "delivered", full)
    sender.start()
    eventually(lambda: sender.problem)
    made.wait(3600)
    eventually(lambda: is_delivered(made))
    eventually(lambda: not sender.problem)
    assert receiver.reported == [("r", "SUCCEEDED")]


def test_nothing_is_sent_that_is_not_on_disk(
    made: Box, sender: Sender, receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the start of an attempt cannot be recorded, nothing is sent, and health reports why."""
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.01)
    writing, full = made.database.writing, threading.Event()

    def fail() -> object:
        if full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        return writing()

    monkeypatch.setattr(made.database, "writing", fail)
    full.set()
    sender.start()
    eventually(lambda: sender.problem == "the outbox cannot be used: database or disk is full")
    assert receiver.reported == []
    full.clear()
    eventually(lambda: is_delivered(made))
    assert sender.is_alive()


def test_a_fault_of_our_own_ends_nothing(
    made: Box, sender: Sender, receiver: FakeReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception is logged, and the notice is retried later."""
    monkeypatch.setattr(sender_module, "POLL_SECONDS", 0.01)
    receiver.answer = lambda _: Attempt(Outcome.DELIVERED, "200") if len(receiver.reported) > 1 else 1 / 0  # type: ignore[assignment, return-value]
    sender.start()
    eventually(lambda: receiver.reported)
    made.wait(10)
    eventually(lambda: is_delivered(made))
    assert sender.is_alive()


def test_a_receiver_that_hangs_delays_the_end_only_so_long(made: Box, sender: Sender, receiver: FakeReceiver) -> None:
    """A stop waits for attempts in flight, but only for the grace period; no new one starts."""
    held = threading.Event()

    def hang(_: Notice) -> Attempt:
        held.wait(60)
        return Attempt(Outcome.DELIVERED, "200")

    receiver.answer = hang
    sender.start()
    eventually(lambda: receiver.reported)
    began = time.monotonic()
    sender.stop(0.4)
    assert time.monotonic() - began < 30
    made.outbox.record(seen("s", "FAILED", at(minutes=1)))
    sender.wake()
    held.set()
    eventually(lambda: not sender.is_alive())
    assert receiver.reported == [("r", "SUCCEEDED")]
