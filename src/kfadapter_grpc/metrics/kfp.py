"""Counts requests to KFP."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.metrics import catalog
from kfadapter_grpc.metrics.instruments import counter, histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from kfadapter_grpc.kfp.observation import KfpRequest

_KNOWN_STATUS = frozenset(HTTPStatus)


class KfpMetrics:
    """What the backend tells of each request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Counts in `registry`."""
        self._requests = counter(catalog.KFP_REQUESTS, registry)
        self._seconds = histogram(catalog.KFP_SECONDS, registry)
        self._errors = counter(catalog.KFP_ERRORS, registry)

    def __call__(self, request: KfpRequest) -> None:
        """Counts a request that is over."""
        operation = request.operation.replace(",", "").replace(" ", "_")
        self._requests.labels(operation, _status(request.status)).inc()
        self._seconds.labels(operation).observe(request.seconds)
        if request.reason:
            self._errors.labels(operation, request.reason).inc()


def _status(status: int) -> str:
    """The status as a label: KFP might send any number."""
    if not status:
        return "none"
    return str(status) if status in _KNOWN_STATUS else "other"
