"""What the adapter counts and measures, in the form that Prometheus reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from kfadapter_grpc.metrics.calls import CallMetrics
from kfadapter_grpc.metrics.kfp import KfpMetrics
from kfadapter_grpc.metrics.state import ServerState

if TYPE_CHECKING:
    from kfadapter_grpc.daemon.log_writer import LogWriter
    from kfadapter_grpc.server.grpc_server import AdapterServer
    from kfadapter_grpc.watch import WatchPoller


class Metrics:
    """All metrics of one server.

    Attributes:
        calls: The layer that counts calls.
        kfp: Counts requests to KFP.
    """

    def __init__(self) -> None:
        # Otherwise a second series stands beside each one, which tells when it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.calls = CallMetrics(self._registry)
        self.kfp = KfpMetrics(self._registry)

    def read_from(self, server: AdapterServer, watches: WatchPoller, lines: LogWriter) -> None:
        """Has the state of the server told, too."""
        self._registry.register(ServerState(server, watches, lines))

    def render(self, accept: str) -> tuple[bytes, str]:
        """Writes all metrics as they are now.

        Args:
            accept: The `Accept` header of who asks: OpenMetrics where it is wanted, otherwise Prometheus' text.

        Returns:
            The text and its content type.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
