"""The notifier as a process: built from settings, stopped by signals; its metrics and health."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import structlog
from prometheus_client import Metric as Family
from prometheus_client.registry import Collector
from structlog.typing import FilteringBoundLogger

from kfadapter_grpc.client import Client
from kfadapter_grpc.daemon.log import LogWriter, logging_to_stderr
from kfadapter_grpc.daemon.metrics_endpoint import MetricsEndpoint
from kfadapter_grpc.daemon.signals import StopSignals
from kfadapter_grpc.metrics import catalog
from kfadapter_oran.notices.command import NotifyOptions
from kfadapter_oran.notices.database import Database, NoticeStatus, exclusive
from kfadapter_oran.notices.deliveries import Deliveries, Ledger
from kfadapter_oran.notices.outbox import Outbox
from kfadapter_oran.notices.receiver import Outcome, Receiver, ReceiverOptions
from kfadapter_oran.notices.sender import Sender
from kfadapter_oran.notices.watcher import Watcher

WATCHER_SECONDS = 2.0
SENDER_SECONDS = 5.0
_CLOCKS_DIFFER = timedelta(minutes=1)


def run(
    client: Client,
    outbox: Path,
    receiver: ReceiverOptions,
    options: NotifyOptions,
    *,
    namespace: str,
    since: datetime | None,
    keep: timedelta,
) -> None:
    """Sends notices until SIGTERM or SIGINT. Main thread only.

    At the first start, ends after `since` are reported, by default those after the start; `keep` is the retention of
    delivered notices. Raises OutboxError if the outbox cannot be used, is of another namespace, or is used by another
    notifier, and ServerStartError if the address for metrics and health cannot be bound.
    """
    with ExitStack() as stages:
        lines = stages.enter_context(logging_to_stderr(options.log_format, options.log_level))
        log: FilteringBoundLogger = structlog.get_logger()
        stages.enter_context(closing(client))
        stages.enter_context(exclusive(outbox))
        database = stages.enter_context(closing(Database(outbox, create=True)))
        box = Outbox(database)
        # KFP's clock may be behind ours; an end just before the first start is reported rather than missed.
        first = box.begin(since or datetime.now(timezone.utc) - _CLOCKS_DIFFER, namespace)
        state = NotifierState(Ledger(database), lines)
        metrics = stages.enter_context(MetricsEndpoint(options.metrics_listen, state.registry, state.health))
        signals = stages.enter_context(StopSignals())
        sender = Sender(Deliveries(database, options.max_attempts), Receiver(receiver), state.count)
        watcher = Watcher(client, box, keep, sender.wake, all_runs=bool(receiver.event_source))
        state.read_from(watcher, sender)
        stages.callback(sender.stop, SENDER_SECONDS)
        stages.callback(watcher.stop, WATCHER_SECONDS)
        sender.start()
        watcher.start()
        about = {"adapter": client.target, "receiver": str(receiver.url), "metrics": metrics.address}
        log.info("notifying", **about, outbox=str(outbox), first_start=first)
        log.info("stopping", signal=signals.wait())


class NotifierState(Collector):
    """The state of a notifier, read at each scrape of the metrics in `registry`."""

    def __init__(self, ledger: Ledger, lines: LogWriter) -> None:
        """Reads the state from these objects, and from those passed to `read_from`."""
        self._ledger = ledger
        self._lines = lines
        self._watcher: Watcher | None = None
        self._sender: Sender | None = None
        self._began = time.monotonic()
        self.registry = catalog.new_registry()
        self._attempts = catalog.ATTEMPTS.counter(self.registry)
        for outcome in Outcome:
            self._attempts.labels(outcome.value)
        self.registry.register(self)

    def read_from(self, watcher: Watcher, sender: Sender) -> None:
        self._watcher, self._sender = watcher, sender

    def count(self, outcome: Outcome) -> None:
        self._attempts.labels(outcome.value).inc()

    def collect(self) -> Iterator[Family]:
        """Yields the current values."""
        figures = self._ledger.figures()
        yield catalog.NOTICES.reading({(status.value,): figures.counts[status] for status in NoticeStatus})
        yield catalog.NOTICE_AGE.reading({(): _age(figures.oldest_pending_at)})
        yield catalog.OPEN_RUNS.reading({(): figures.open_runs})
        yield catalog.WATCH_CONNECTED.reading({(): float(self._is_receiving())})
        yield catalog.COMPARISON_AGE.reading({(): self._comparison_age()})
        yield catalog.LINES_DROPPED.reading({(): self._lines.dropped})
        yield catalog.NOTIFIER_BUILD.reading({catalog.running(): 1})

    def health(self) -> tuple[bool, bytes]:
        """Returns whether the notifier is healthy, and details as JSON.

        It is while its threads are alive and its outbox is usable. An unreachable adapter or receiver is reported,
        but does not make it unhealthy: a restart would fix neither.
        """
        problem, counts = self._problem(), {}
        try:
            figures = self._ledger.figures()
            counts = {status.value: figures.counts[status] for status in NoticeStatus}
            counts |= {"open_runs": figures.open_runs, "oldest_pending_seconds": round(_age(figures.oldest_pending_at))}
        except sqlite3.Error as error:
            problem = f"the outbox cannot be read: {error}"
        document = {
            "status": "failing" if problem else "ok",
            "problem": problem,
            **counts,
            "watch_connected": self._is_receiving(),
            "last_comparison_seconds": round(self._comparison_age()),
        }
        return not problem, json.dumps(document).encode() + b"\n"

    def _problem(self) -> str:
        watcher, sender = self._watcher, self._sender
        if watcher is None or sender is None:
            return ""
        if not watcher.is_alive() or not sender.is_alive():
            return "a thread has ended"
        return watcher.problem or sender.problem

    def _is_receiving(self) -> bool:
        return self._watcher is not None and self._watcher.is_receiving()

    def _comparison_age(self) -> float:
        compared = self._watcher.compared_at if self._watcher else None
        return time.monotonic() - (self._began if compared is None else compared)


def _age(written_at: float | None) -> float:
    return 0.0 if written_at is None else max(time.time() - written_at, 0.0)
