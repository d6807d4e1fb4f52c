"""The adapter's metrics for Prometheus."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from kfadapter_grpc.methods import CallKind
from kfadapter_grpc.metrics import catalog
from kfadapter_grpc.metrics.calls import CallMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Counter, Histogram
    from prometheus_client import Metric as Family

    from kfadapter_grpc.daemon.log import LogWriter
    from kfadapter_grpc.kfp.exchange import KfpRequest
    from kfadapter_grpc.server.grpc_server import AdapterServer
    from kfadapter_grpc.watch import WatchPoller

_KNOWN_STATUS = frozenset(HTTPStatus)


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        self.registry = catalog.new_registry()
        self.calls = CallMetrics(self.registry)
        self._requests = catalog.KFP_REQUESTS.counter(self.registry)
        self._seconds = catalog.KFP_SECONDS.histogram(self.registry)
        self._errors = catalog.KFP_ERRORS.counter(self.registry)
        self._series = cache(self._find_series)  # a lookup takes longer than counting

    def kfp(self, request: KfpRequest) -> None:
        requests, seconds = self._series(request.operation, request.status)
        requests.inc()
        seconds.observe(request.seconds)
        if request.reason:
            self._errors.labels(_label(request.operation), request.reason).inc()

    def _find_series(self, operation: str, status: int) -> tuple[Counter, Histogram]:
        # KFP might send any status.
        known = (str(status) if status in _KNOWN_STATUS else "other") if status else "none"
        return self._requests.labels(_label(operation), known), self._seconds.labels(_label(operation))


def _label(operation: str) -> str:
    return operation.replace(",", "").replace(" ", "_")


@dataclass(frozen=True, slots=True, eq=False)
class ServerState(Collector):
    """Values read at each scrape from their owners, without holding a lock that would delay calls.

    `audit_lost` returns how many lines of the audit log were lost.
    """

    server: AdapterServer
    watches: WatchPoller
    lines: LogWriter
    audit_lost: Callable[[], int] = lambda: 0

    def collect(self) -> Iterator[Family]:
        admission, figures = self.server.admission, self.watches.figures()
        inflight = admission.inflight()
        yield catalog.INFLIGHT.reading({(kind.value,): inflight.get(kind, 0) for kind in CallKind})
        yield catalog.LIMIT.reading({(kind.value,): admission.bounds.limit(kind)[1] for kind in CallKind})
        yield catalog.KFP_UP.reading({(): float(self.server.health.kfp_responds)})
        yield catalog.RELOAD_FAILED.reading({(what,): stale for what, stale in self.server.security.stale().items()})
        yield catalog.WATCHES.reading({(): figures.watches})
        yield catalog.WATCHED_RUNS.reading({(): figures.runs})
        yield catalog.WATCH_TICKS.reading({(): figures.polls})
        yield catalog.WATCH_QUESTIONS.reading({(): figures.requests})
        yield catalog.LINES_DROPPED.reading({(): self.lines.dropped})
        yield catalog.AUDIT_LOST.reading({(): self.audit_lost()})
        yield catalog.THREADS.reading({(): threading.active_count()})
        yield catalog.BUILD.reading({catalog.running(): 1})
