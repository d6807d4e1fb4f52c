"""Every metric of the adapter and of the notifier, as data: the source of instruments and documentation.

No label has a text chosen by a caller or KFP: methods, codes, reasons and operations are those known to the
program, so the number of series is bounded. Names of the metrics of calls, and spellings of codes, are those of
go-grpc-prometheus, so that existing dashboards and alerts for it work.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_BYTES = (1e3, 1e4, 1e5, 1e6, 4e6, 16e6, 64e6, 256e6)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, by its name when scraped: that of a counter ends with `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def counter(self, registry: CollectorRegistry) -> Counter:
        return Counter(self.name, self.text, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        return Histogram(self.name, self.text, self.labels, registry=registry, buckets=self.buckets)

    def reading(self, values: Mapping[tuple[str, ...], float]) -> CounterMetricFamily | GaugeMetricFamily:
        """Creates a metric from values that are stored elsewhere, by label values."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.text, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family


def new_registry() -> CollectorRegistry:
    """Creates the registry of a process, with the process's own metrics."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise there is a second series beside each one
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def running() -> tuple[str, str, str]:
    return version("kfadapter-grpc"), platform.python_version(), grpc.__version__


STARTED = Metric("grpc_server_started_total", "counter", "Calls that have started.", _METHOD)
HANDLED = Metric(
    "grpc_server_handled_total", "counter", "Finished calls, by their status code.", (*_METHOD, "grpc_code")
)
HANDLING = Metric(
    "grpc_server_handling_seconds", "histogram", "How long calls took, streams to their end.", _METHOD, _SECONDS
)
FAILURES = Metric(
    "kfadapter_call_failures_total",
    "counter",
    "Calls that failed, by the reason that callers got (docs/reference/errors.md), refusals among them.",
    ("kind", "reason"),
)
INFLIGHT = Metric("kfadapter_calls_inflight", "gauge", "Calls that are being served.", ("kind",))
LIMIT = Metric("kfadapter_calls_limit", "gauge", "The concurrency limit of calls of this kind.", ("kind",))
RECEIVED = Metric(
    "kfadapter_received_bytes",
    "histogram",
    "Finished uploads, by the received bytes.",
    ("grpc_service", "grpc_method"),
    _BYTES,
)
SENT = Metric(
    "kfadapter_sent_bytes",
    "histogram",
    "Finished downloads and logs, by the sent bytes.",
    ("grpc_service", "grpc_method"),
    _BYTES,
)

LEGACY_HTTP = Metric(
    "kfadapter_legacy_http_requests_total",
    "counter",
    "Requests over HTTP, by route and status; while it grows, some callers have yet to move to gRPC.",
    ("route", "status"),
)

KFP_REQUESTS = Metric(
    "kfadapter_kfp_requests_total",
    "counter",
    "Requests to KFP, repetitions included, by the HTTP status of the response: `none` without a response, `other` for "
    "an unknown status.",
    ("operation", "status"),
)
KFP_SECONDS = Metric(
    "kfadapter_kfp_request_seconds", "histogram", "How long requests to KFP took.", ("operation",), _SECONDS
)
KFP_ERRORS = Metric(
    "kfadapter_kfp_errors_total",
    "counter",
    "Requests to KFP without a response: unreachable or broken (KFP_UNAVAILABLE), late (KFP_TIMEOUT), given up because "
    "the client cancelled the call (CANCELLED), too large (KFP_ERROR).",
    ("operation", "reason"),
)
KFP_UP = Metric("kfadapter_kfp_up", "gauge", "1 while KFP responds to the health probe, sent every 2 s, otherwise 0.")
RELOAD_FAILED = Metric(
    "kfadapter_reload_failed",
    "gauge",
    "1 while a file is invalid since it has changed, so that its previous contents are used (tokens, issuers, "
    "access_rules, certificate), otherwise 0.",
    ("file",),
)

WATCHES = Metric("kfadapter_watches", "gauge", "Open watches of runs.")
WATCHED_RUNS = Metric("kfadapter_watched_runs", "gauge", "Runs that they cover.")
WATCH_TICKS = Metric("kfadapter_watch_ticks_total", "counter", "Polls of KFP for watches.")
WATCH_QUESTIONS = Metric(
    "kfadapter_watch_questions_total", "counter", "Queries of these polls, of one request or more each."
)

LINES_DROPPED = Metric(
    "kfadapter_log_lines_dropped_total", "counter", "Log lines that were dropped, because the log was not read."
)
AUDIT_LOST = Metric(
    "kfadapter_audit_lines_lost_total",
    "counter",
    "Lines of the audit log that were lost: it could not be written, or was written too slowly.",
)
THREADS = Metric("kfadapter_threads", "gauge", "Threads of the process.")
BUILD = Metric("kfadapter_build_info", "gauge", "Always 1; its labels are versions.", ("version", "python", "grpc"))

NOTICES = Metric(
    "kfadapter_notify_notices",
    "gauge",
    "Notices in the outbox, by status: pending, parked, delivered, superseded, discarded.",
    ("status",),
)
NOTICE_AGE = Metric(
    "kfadapter_notify_oldest_pending_seconds", "gauge", "Age of the oldest pending notice; 0 if there is none."
)
ATTEMPTS = Metric(
    "kfadapter_notify_attempts_total",
    "counter",
    "Attempts to deliver a notice, by outcome: delivered, away (no response, or a temporary error), refused (any other "
    "response).",
    ("outcome",),
)
OPEN_RUNS = Metric("kfadapter_notify_open_runs", "gauge", "Runs of training jobs that have not finished.")
WATCH_CONNECTED = Metric(
    "kfadapter_notify_watch_connected", "gauge", "1 if the watch of runs has had an event within 90 s, otherwise 0."
)
COMPARISON_AGE = Metric(
    "kfadapter_notify_last_comparison_seconds",
    "gauge",
    "How long ago all runs were last compared with the outbox; since the start if they never were.",
)
NOTIFIER_BUILD = Metric(
    "kfadapter_notify_build_info", "gauge", "Always 1; its labels are versions.", ("version", "python", "grpc")
)

_ALL = [metric for metric in globals().copy().values() if isinstance(metric, Metric)]
LEGACY_HTTP_CATALOG: tuple[Metric, ...] = (LEGACY_HTTP,)
"""The metrics of `kfadapter legacy-http`, besides those of the process (`process_*`) by the client library."""
NOTIFY_CATALOG = (*(metric for metric in _ALL if metric.name.startswith("kfadapter_notify_")), LINES_DROPPED)
"""The metrics of a notifier."""
CATALOG = tuple(
    metric for metric in _ALL if metric is LINES_DROPPED or metric not in (*LEGACY_HTTP_CATALOG, *NOTIFY_CATALOG)
)
"""The metrics of the adapter."""
