"""The gRPC server: setup, start and drain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import grpc

from kfadapter_grpc.daemon.listening import bind
from kfadapter_grpc.health import HEALTH_SERVICE, Health, HealthMonitor, add_health
from kfadapter_grpc.interceptors.admission import Admission
from kfadapter_grpc.interceptors.authentication import Impersonation, forward_authorization
from kfadapter_grpc.interceptors.chain import CallInterceptor, Layer, layers
from kfadapter_grpc.methods import SERVICES, CallKind
from kfadapter_grpc.server.security import Security
from kfadapter_grpc.server.side_services import SideListener, add_channelz, add_reflection
from kfadapter_grpc.services import add_servicer

if TYPE_CHECKING:
    from typing_extensions import Self

    from kfadapter_grpc.settings import Settings

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""The largest message: what clients accept by default, and the largest chunk of an upload."""
CHUNK_FRAMING_BYTES = 64 * 1024
"""What may surround a chunk of the largest size in its message."""
FLUSH_SECONDS = 1.0
"""How long responses in flight have to complete when the server stops."""
SPARE_THREADS = 16
"""Threads beyond the bounds: for health checks, reflection, and for refusing calls beyond the bounds."""

_MINUTE_MS = 60_000
_MAX_METADATA_BYTES = 16 * 1024
_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # otherwise two servers silently share a port
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + CHUNK_FRAMING_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
    # Otherwise gRPC estimates the bandwidth and buffers megabytes of each upload before they are requested: eight
    # uploads of 30 MiB at once took 139 MiB instead of 13. A fixed window of 1 MiB is as fast.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024 * 1024),
    ("grpc.max_concurrent_streams", 1000),  # per connection; further calls wait on the client's side
    # Clients of a headless Service balance the load when they connect, so they must reconnect now and then.
    ("grpc.max_connection_age_ms", 30 * _MINUTE_MS),
    ("grpc.max_connection_age_grace_ms", 5 * _MINUTE_MS),
    ("grpc.keepalive_time_ms", _MINUTE_MS),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.ping_timeout_ms", 20_000),  # which gRPC reads instead, and would take for a minute
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # clients may ping every 10 s
)


class AdapterServer:
    """The gRPC server with all its services, while the context is entered; its `address` then has the bound port."""

    def __init__(
        self,
        settings: Settings,
        servicers: Sequence[object],
        probe: Callable[[], bool],
        on_drain: Callable[[], None] = lambda: None,
        *,
        outer: Sequence[Layer] = (),
        observers: Sequence[Layer] = (),
    ) -> None:
        """Builds the server; it listens after the start.

        `probe` returns within a few seconds whether KFP responds. `on_drain` ends calls that would not end by
        themselves. `outer` layers are around the log's, `observers` see the outcome of each call.

        Raises SettingsError if a file with certificates or tokens has become invalid since the settings were loaded.
        """
        self.admission = Admission(
            {
                CallKind.UNARY: settings.max_unary_calls,
                CallKind.UPLOAD: settings.max_uploads,
                CallKind.STREAM: settings.max_streams,
            }
        )
        self.address = settings.listen
        self._settings = settings
        self._on_drain = on_drain
        self.health = Health(SERVICES, follow_kfp=settings.ready_needs_kfp)
        self._monitor = HealthMonitor(probe, self.health.report_kfp)
        self._threads = ThreadPoolExecutor(sum(self.admission.limits.values()) + SPARE_THREADS, "grpc")
        self._stopping = threading.Event()
        self.security = Security(settings)
        serve_health = partial(add_health, self.health.servicer)
        self._health_listener = SideListener(settings.health_listen, "--health-listen", serve_health, _OPTIONS)
        self._channelz = SideListener(settings.channelz_listen, "--channelz-listen", add_channelz, _OPTIONS)
        identity: list[Layer] = []
        if settings.kfp_credentials == "forward":
            identity.append(forward_authorization)
        elif settings.kfp_user_header:
            identity.append(Impersonation(settings.kfp_user_prefix))
        around = layers(self.security.authentication, self.admission, identity, outer=outer, observers=observers)
        self._server = grpc.server(self._threads, interceptors=[CallInterceptor(around)], options=_OPTIONS)
        for servicer in servicers:
            add_servicer(servicer, self._server)
        serve_health(self._server)
        if settings.reflection:
            add_reflection((*SERVICES, HEALTH_SERVICE), self._server)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> int:
        """Listens and serves, whether KFP responds or not; returns the port. Raises ServerStartError if it is taken."""
        port = bind(self._server, self._settings.listen, self.security.credentials)
        self.address = f"{self._settings.listen.rpartition(':')[0]}:{port}"
        self._health_listener.start()
        self._channelz.start()
        self._server.start()
        self.security.start()
        self._monitor.start()
        self.health.serve()
        return port

    def authentication(self) -> dict[str, object]:
        """Returns, for the log, what callers need, and the addresses of health checks without TLS and of channelz."""
        where = {"health_address": self._health_listener.address, "channelz_address": self._channelz.address}
        return {**self.security.summary(), **{key: address for key, address in where.items() if address}}

    def drain(self) -> bool:
        """Drains the server: NOT_SERVING, a pause, no new calls, the grace period for calls in flight.

        Returns whether all calls have ended within the grace period.
        """
        self.health.drain()
        self._stopping.wait(self._settings.drain_seconds)
        self.admission.drain()
        self._on_drain()
        return self.admission.wait_idle(self._settings.grace_seconds)

    def stop(self) -> None:
        """Stops: calls still in flight after a second are cancelled. Idempotent."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self.health.drain()
        self.admission.drain()
        self._on_drain()
        # The response of a finished handler may still be in transit: a stop without grace would cut it off.
        self._server.stop(FLUSH_SECONDS).wait(FLUSH_SECONDS)
        self._health_listener.stop()
        self._channelz.stop()
        self.security.stop()
        self._monitor.stop()
        self.health.servicer.close()
        self._threads.shutdown(wait=False)
