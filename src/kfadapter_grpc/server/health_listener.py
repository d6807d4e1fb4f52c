"""A second listener that answers health checks without TLS, for probes that know none, as those of Kubernetes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server  # type: ignore[import-untyped]

from kfadapter_grpc.daemon.listening import bind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kfadapter_grpc.health import HealthServicer

_THREADS = 2


class HealthListener:
    """Answers what the server's own health service answers, on another address and nothing else there.

    Attributes:
        address: Where it listens; empty if it does not.
    """

    def __init__(self, listen: str, servicer: HealthServicer, options: Sequence[tuple[str, int]]) -> None:
        """Will listen on `listen`, HOST:PORT; empty: nowhere."""
        self.address = listen
        self._servicer = servicer
        self._options = options
        self._server: grpc.Server | None = None
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Listens.

        Raises:
            ServerStartError: The address cannot be listened on.
        """
        if not self.address:
            return
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="health")
        self._server = grpc.server(self._threads, options=self._options)
        add_HealthServicer_to_server(self._servicer, self._server)
        port = bind(self._server, self.address, None, "--health-listen")
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        self._server.start()

    def stop(self) -> None:
        """Ends. Harmless when repeated."""
        if self._server and self._threads:
            self._server.stop(None)
            self._threads.shutdown(wait=False)
            self._server = None
