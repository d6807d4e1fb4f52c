"""What a notifier tells of itself: metrics and health, read from where they are kept when somebody asks."""

from __future__ import annotations

import json
import platform
import sqlite3
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import grpc
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from kfadapter_grpc.metrics import catalog
from kfadapter_grpc.metrics.instruments import counter, reading
from kfadapter_oran.notices.models import NoticeStatus
from kfadapter_oran.notices.receiver import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric as Family

    from kfadapter_grpc.daemon.log_writer import LogWriter
    from kfadapter_oran.notices.follower import Follower
    from kfadapter_oran.notices.ledger import Ledger
    from kfadapter_oran.notices.sender import Sender

_BUILD = (version("kfadapter-grpc"), platform.python_version(), grpc.__version__)


class NotifierState(Collector):
    """Reads the state of a notifier, in the forms that Prometheus and a probe read."""

    def __init__(self, ledger: Ledger, lines: LogWriter) -> None:
        """Reads it from these, and from what `read_from` is given."""
        # Otherwise a second series stands beside each one, which tells when it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._ledger = ledger
        self._lines = lines
        self._follower: Follower | None = None
        self._sender: Sender | None = None
        self._began = time.monotonic()
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._attempts = counter(catalog.ATTEMPTS, self._registry)
        for outcome in Outcome:
            self._attempts.labels(outcome.value)
        self._registry.register(self)

    def read_from(self, follower: Follower, sender: Sender) -> None:
        """Has their state told, too."""
        self._follower, self._sender = follower, sender

    def count(self, outcome: Outcome) -> None:
        """Counts an attempt."""
        self._attempts.labels(outcome.value).inc()

    def collect(self) -> Iterator[Family]:
        """Yields what is so now."""
        figures = self._ledger.figures()
        yield reading(catalog.NOTICES, {(status.value,): figures.counts[status] for status in NoticeStatus})
        yield reading(catalog.NOTICE_AGE, {(): _age(figures.oldest_pending_at)})
        yield reading(catalog.OPEN_RUNS, {(): figures.open_runs})
        yield reading(catalog.WATCH_CONNECTED, {(): float(self._hears())})
        yield reading(catalog.COMPARISON_AGE, {(): self._comparison_age()})
        yield reading(catalog.LINES_DROPPED, {(): self._lines.dropped})
        yield reading(catalog.NOTIFIER_BUILD, {_BUILD: 1})

    def render(self, accept: str) -> tuple[bytes, str]:
        """Writes all metrics as they are now, and tells their content type, as an `Accept` header wants them."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def health(self) -> tuple[bool, bytes]:
        """Tells whether the notifier can work, and more as JSON.

        It can while its threads live and its outbox can be used. That the adapter or the receiver is away is told and
        is no fault of its own: a restart would mend neither.
        """
        problem, told = self._problem(), {}
        try:
            figures = self._ledger.figures()
            told = {status.value: figures.counts[status] for status in NoticeStatus}
            told |= {"open_runs": figures.open_runs, "oldest_pending_seconds": round(_age(figures.oldest_pending_at))}
        except sqlite3.Error as error:
            problem = f"the outbox cannot be read: {error}"
        document = {
            "status": "failing" if problem else "ok",
            "problem": problem,
            **told,
            "watch_connected": self._hears(),
            "last_comparison_seconds": round(self._comparison_age()),
        }
        return not problem, json.dumps(document).encode() + b"\n"

    def _problem(self) -> str:
        follower, sender = self._follower, self._sender
        if follower is None or sender is None:
            return ""
        if not follower.is_alive() or not sender.is_alive():
            return "a thread has ended"
        return follower.problem or sender.problem

    def _hears(self) -> bool:
        return self._follower is not None and self._follower.hears()

    def _comparison_age(self) -> float:
        compared = self._follower.compared_at if self._follower else None
        return time.monotonic() - (self._began if compared is None else compared)


def _age(written_at: float | None) -> float:
    return 0.0 if written_at is None else max(time.time() - written_at, 0.0)
