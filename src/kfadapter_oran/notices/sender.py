"""Posts due notices on a few threads: a receiver that hangs blocks only those."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable

import structlog
from structlog.typing import FilteringBoundLogger

from kfadapter_oran.notices.database import Notice
from kfadapter_oran.notices.deliveries import Deliveries
from kfadapter_oran.notices.receiver import Attempt, Outcome, Receiver

CONCURRENCY = 4
POLL_SECONDS = 1.0
"""The interval of checks for due notices: an operator may have retried some, in another process."""
_WRITE_RETRY_SECONDS = 2.0


class Sender:
    """Posts notices on its own threads, from `start` to `stop`; `problem` is why the outbox cannot be used, if so."""

    def __init__(
        self,
        deliveries: Deliveries,
        receiver: Receiver,
        observe: Callable[[Outcome], None] = lambda _: None,
        senders: int = CONCURRENCY,
    ) -> None:
        """Calls `observe` with the outcome of every attempt."""
        self._deliveries = deliveries
        self._receiver = receiver
        self._observe = observe
        self._changed = threading.Condition()
        self._written = 0
        self._stopped = False
        self.problem = ""
        self._threads = [
            threading.Thread(target=self._run, name=f"sender-{number}", daemon=True) for number in range(senders)
        ]
        self._log: FilteringBoundLogger = structlog.get_logger()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        with self._changed:
            self._written += 1
            self._changed.notify_all()

    def stop(self, seconds: float) -> None:
        """Stops; waits at most `seconds` for attempts in progress."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._threads[0].ident is not None:
            share = seconds / len(self._threads)
            for thread in self._threads:
                thread.join(share)

    def is_alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while not self._stopped:
            written = self._written
            try:
                found_one = self._send_one()
                self.problem = ""
            except sqlite3.Error as error:
                found_one, self.problem = False, f"the outbox cannot be used: {error}"
                self._log.error("outbox cannot be used", message=str(error))
            except Exception:  # noqa: BLE001 - a fault of our own must not end all sending
                found_one = False
                self._log.exception("a notice could not be sent")
            if not found_one:
                self._wait(written)

    def _wait(self, written: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._written != written, timeout=POLL_SECONDS)

    def _send_one(self) -> bool:
        """Posts one due notice; returns whether there was one."""
        with self._deliveries.claimed() as notice:
            if notice is None:
                return False
            attempt = self._receiver.post(notice)
            self._observe(attempt.outcome)
            self._settle(notice, attempt)
            return True

    def _settle(self, notice: Notice, attempt: Attempt) -> None:
        """Records the result; this thread blocks until it is on disk."""
        while True:
            try:
                self._record(notice, attempt)
            except sqlite3.Error as error:
                self.problem = f"the outbox cannot be written: {error}"
                self._log.error("outbox cannot be written", notice=notice.id, message=str(error))
            else:
                return
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped, timeout=_WRITE_RETRY_SECONDS):
                    return

    def _record(self, notice: Notice, attempt: Attempt) -> None:
        about = {
            "notice": notice.id,
            "trainingjob_id": notice.job,
            "run_id": notice.run_id,
            "run_status": notice.state,
            "attempts": notice.attempts,
            "answer": attempt.body,
        }
        if attempt.outcome is Outcome.DELIVERED:
            self._deliveries.delivered(notice, attempt.body)
            self._log.info("notice delivered", **about)
        elif self._deliveries.failed(notice, attempt.body, refused=attempt.outcome is Outcome.REFUSED):
            self._log.error("notice parked", **about)
        else:
            self._log.warning("notice not delivered", outcome=attempt.outcome.value, **about)
