"""The server as a process: built from settings, stopped by signals."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import structlog

from kfadapter_grpc.addresses import OFF
from kfadapter_grpc.daemon.appended_file import AppendedFile
from kfadapter_grpc.daemon.log import LogWriter, logging_to_stderr
from kfadapter_grpc.daemon.metrics_endpoint import MetricsEndpoint
from kfadapter_grpc.daemon.signals import StopSignals
from kfadapter_grpc.interceptors.log import AuditLog
from kfadapter_grpc.kfp.backend import KfpBackend
from kfadapter_grpc.server.grpc_server import AdapterServer
from kfadapter_grpc.server.kfp import connect_kfp
from kfadapter_grpc.server.memory import freeze_loaded_objects, return_large_blocks
from kfadapter_grpc.server.metrics import Metrics, ServerState
from kfadapter_grpc.services.artifacts import ArtifactServicer
from kfadapter_grpc.services.experiments import ExperimentServicer
from kfadapter_grpc.services.identity import IdentityServicer
from kfadapter_grpc.services.pipelines import PipelineServicer
from kfadapter_grpc.services.recurring_runs import RecurringRunServicer
from kfadapter_grpc.services.runs import RunServicer
from kfadapter_grpc.setting_sources import SettingsError
from kfadapter_grpc.telemetry.otlp import Telemetry
from kfadapter_grpc.upload.limits import UploadLimits
from kfadapter_grpc.watch.poller import WatchPoller

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.settings import Settings

ABANDON_SECONDS = 2.0
"""How long calls that were cut off at the end of the grace get to notice it."""


def run(settings: Settings, on_ready: Callable[[str], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains within the grace period. Main thread only.

    A second SIGINT exits immediately with 130. `on_ready` gets the address, HOST:PORT, once the server listens.
    Raises ServerStartError if the address cannot be bound.
    """
    with ExitStack() as stages:  # closed in reverse order: health is switched off before what it reports
        # 1. The process itself: the log, also for the following stages, and memory.
        telemetry = stages.enter_context(Telemetry("kfadapter"))
        lines = stages.enter_context(logging_to_stderr(settings.log_format, settings.log_level, telemetry.processors))
        return_large_blocks()
        log: FilteringBoundLogger = structlog.get_logger()
        if telemetry.missing:
            log.warning(telemetry.missing)
        audit = stages.enter_context(_audit_log(settings))
        # 2. Metrics, counted from the start and served until the end.
        metrics = Metrics()
        telemetry.export(metrics.registry)
        endpoint = stages.enter_context(MetricsEndpoint(settings.metrics_listen, metrics.registry))
        # 3. KFP, without requests yet.
        limits = UploadLimits(max_bytes=settings.max_upload_bytes, directory=settings.upload_dir)
        backend = connect_kfp(settings, limits.place, metrics.kfp)
        stages.enter_context(closing(backend))
        # 4. Signals, before anything needs to be stopped.
        signals = stages.enter_context(StopSignals())
        # 5. The server with health and reflection.
        watches = stages.enter_context(closing(WatchPoller(backend.runs)))
        served = servicers(backend, watches, limits, settings.namespace)
        server = AdapterServer(
            settings,
            served,
            backend.is_alive,
            watches.drain,
            outer=telemetry.layers(),
            observers=[*audit.layers, metrics.calls],
        )
        metrics.registry.register(ServerState(server, watches, lines, audit.lost))
        stages.enter_context(server)
        freeze_loaded_objects()
        addresses = {"address": server.address, "metrics": endpoint.address}
        log.info("serving", **addresses, kfp_url=settings.kfp_url, **server.authentication())
        if os.environ.get("KF_ADAPTER_PORT"):
            log.info("KF_ADAPTER_PORT opens no port here; for the Flask adapter's routes, run kfadapter legacy-http")
        if on_ready is not None:
            on_ready(server.address)
        log.info("draining", signal=signals.wait())
        if not server.drain():
            log.warning("the grace period has ended; calls in flight are cancelled", calls=server.admission.count())
    if not server.admission.wait_idle(ABANDON_SECONDS):  # Python would wait for their threads forever
        log.error("calls in flight do not end; exiting without them", calls=server.admission.count())
        sys.stderr.flush()
        os._exit(0)


def servicers(backend: KfpBackend, watches: WatchPoller, limits: UploadLimits, namespace: str) -> list[object]:
    return [
        PipelineServicer(backend.pipelines, limits, namespace),
        RunServicer(backend.runs, namespace, watches=watches, logs=backend.run_logs),
        ArtifactServicer(backend.artifacts, namespace, read=backend.artifact_bytes.read),
        ExperimentServicer(backend.experiments, namespace),
        RecurringRunServicer(backend.recurring_runs, namespace),
        IdentityServicer(lambda: backend.version),
    ]


class _Audit(NamedTuple):
    """The layer that writes the log, if it is on, and what returns how many lines were lost."""

    layers: tuple[AuditLog, ...]
    lost: Callable[[], int]


@contextmanager
def _audit_log(settings: Settings) -> Iterator[_Audit]:
    """Writes the audit log on a thread of its own during the block; what is queued is written at the end.

    Raises SettingsError if the file cannot be opened.
    """
    if settings.audit_log in ("", OFF):
        yield _Audit((), lambda: 0)
        return
    try:
        file = AppendedFile(settings.audit_log)
    except OSError as error:
        raise SettingsError(f"audit_log: {settings.audit_log} cannot be written: {error.strerror}") from error
    with closing(file), LogWriter(file, name="audit") as lines:
        yield _Audit((AuditLog(lines.write, reads=settings.audit_reads),), lambda: file.lost + lines.dropped)
