"""The adapter's metrics for Prometheus."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from itertools import product
from typing import TYPE_CHECKING

from grpc import StatusCode
from prometheus_client.registry import Collector

from kfadapter_grpc.contract.errors import all_error_classes
from kfadapter_grpc.daemon.log import LogWriter
from kfadapter_grpc.interceptors.chain import Rpc
from kfadapter_grpc.interceptors.log import call_code
from kfadapter_grpc.kfp.exchange import KfpRequest
from kfadapter_grpc.methods import METHODS, CallKind, RpcMethod
from kfadapter_grpc.metrics import catalog
from kfadapter_grpc.server.grpc_server import AdapterServer
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client import Metric as Family

_KNOWN_STATUS = frozenset(HTTPStatus)
_CODE_NAMES = {
    code: "OK" if code is StatusCode.OK else "".join(word.capitalize() for word in code.name.split("_"))
    for code in StatusCode
} | {StatusCode.CANCELLED: "Canceled"}
"""The codes as grpc-go spells them."""


class CallMetrics:
    """A layer of the interceptor, outside the conversion of errors, so that it sees the outcome of the call."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Counts in `registry`, from 0 for every RPC and reason: a series that starts at 1 shows no increase."""
        self._started = catalog.STARTED.counter(registry)
        self._handled = catalog.HANDLED.counter(registry)
        self._handling = catalog.HANDLING.histogram(registry)
        self._failures = catalog.FAILURES.counter(registry)
        self._received = catalog.RECEIVED.histogram(registry)
        self._sent = catalog.SENT.histogram(registry)
        # Looked up once: a lookup takes longer than counting.
        self._series = {method.path: self._create(method) for method in METHODS.values()}
        for kind, error in product(CallKind, all_error_classes()):
            self._failures.labels(kind.value, error.reason)

    @contextmanager
    def __call__(self, rpc: Rpc) -> Iterator[None]:
        series = self._series.get(rpc.method.path) or self._series.setdefault(rpc.method.path, self._create(rpc.method))
        series.started.inc()
        began = time.perf_counter()
        try:
            yield
        finally:
            series.handling.observe(time.perf_counter() - began)
            self._count_end(rpc, series)

    def _count_end(self, rpc: Rpc, series: _Series) -> None:
        code, usage = call_code(rpc), rpc.call.usage
        handled = series.ok if code is StatusCode.OK else self._handled.labels(*series.labels, _CODE_NAMES[code])
        handled.inc()
        if rpc.failure is not None:
            self._failures.labels(rpc.method.kind.value, rpc.failure.reason).inc()
        if series.received is not None:
            series.received.observe(usage.received_bytes)
        if series.sent is not None:
            series.sent.observe(usage.sent_bytes)

    def _create(self, method: RpcMethod) -> _Series:
        labels, name = _labels(method), (method.service, method.name)
        return _Series(
            labels=labels,
            started=self._started.labels(*labels),
            ok=self._handled.labels(*labels, _CODE_NAMES[StatusCode.OK]),
            handling=self._handling.labels(*labels),
            received=self._received.labels(*name) if method.client_streaming else None,
            sent=self._sent.labels(*name) if method.server_streaming and not method.endless else None,
        )


@dataclass(frozen=True, slots=True)
class _Series:
    labels: tuple[str, ...]
    started: Counter
    ok: Counter
    handling: Histogram
    received: Histogram | None
    sent: Histogram | None


def _labels(method: RpcMethod) -> tuple[str, str, str]:
    if method.client_streaming:
        kind = "bidi_stream" if method.server_streaming else "client_stream"
    else:
        kind = "server_stream" if method.server_streaming else "unary"
    return kind, method.service, method.name


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
        admission = self.server.admission
        inflight = admission.inflight()
        yield catalog.INFLIGHT.reading({(kind.value,): inflight.get(kind, 0) for kind in CallKind})
        yield catalog.LIMIT.reading({(kind.value,): admission.limits[kind] for kind in CallKind})
        yield catalog.KFP_UP.reading({(): float(self.server.health.kfp_responds)})
        yield catalog.RELOAD_FAILED.reading({(what,): stale for what, stale in self.server.security.stale().items()})
        yield from (metric.reading({(): value}) for metric, value in self.watches.figures().items())
        yield catalog.LINES_DROPPED.reading({(): self.lines.dropped})
        yield catalog.AUDIT_LOST.reading({(): self.audit_lost()})
        yield catalog.THREADS.reading({(): threading.active_count()})
        yield catalog.BUILD.reading({catalog.running(): 1})
