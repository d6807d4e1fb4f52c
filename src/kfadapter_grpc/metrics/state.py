"""What is read when somebody asks, as others keep it: calls, KFP's health, watches, the log, the build."""

from __future__ import annotations

import platform
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING

import grpc
from prometheus_client.registry import Collector

from kfadapter_grpc.methods import CallKind
from kfadapter_grpc.metrics import catalog
from kfadapter_grpc.metrics.instruments import reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric as Family

    from kfadapter_grpc.daemon.log_writer import LogWriter
    from kfadapter_grpc.server.grpc_server import AdapterServer
    from kfadapter_grpc.watch import WatchPoller

_BUILD = (version("kfadapter-grpc"), platform.python_version(), grpc.__version__)


class ServerState(Collector):
    """Reads the state of a server."""

    def __init__(self, server: AdapterServer, watches: WatchPoller, lines: LogWriter) -> None:
        """Reads it from these, without a lock that a call would wait for long."""
        self._server = server
        self._watches = watches
        self._lines = lines

    def collect(self) -> Iterator[Family]:
        """Yields what is so now."""
        admission, figures = self._server.admission, self._watches.figures()
        inflight = admission.inflight()
        yield reading(catalog.INFLIGHT, {(kind.value,): inflight.get(kind, 0) for kind in CallKind})
        yield reading(catalog.LIMIT, {(kind.value,): admission.bounds.of(kind)[1] for kind in CallKind})
        yield reading(catalog.KFP_UP, {(): float(self._server.kfp_answers)})
        yield reading(catalog.WATCHES, {(): figures.watches})
        yield reading(catalog.WATCHED_RUNS, {(): figures.runs})
        yield reading(catalog.WATCH_TICKS, {(): figures.polls})
        yield reading(catalog.WATCH_QUESTIONS, {(): figures.requests})
        yield reading(catalog.LINES_DROPPED, {(): self._lines.dropped})
        yield reading(catalog.THREADS, {(): threading.active_count()})
        yield reading(catalog.BUILD, {_BUILD: 1})
