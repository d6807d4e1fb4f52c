"""Counts calls: a layer around every call."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from grpc import StatusCode

from kfadapter_grpc.contract.errors import all_error_classes
from kfadapter_grpc.interceptors.log import call_code
from kfadapter_grpc.methods import METHODS, CallKind
from kfadapter_grpc.metrics import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry, Counter, Histogram

    from kfadapter_grpc.interceptors import Rpc
    from kfadapter_grpc.methods import RpcMethod

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
