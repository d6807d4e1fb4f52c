"""Services besides the contract: health on its own address, and reflection, for grpcurl.

Probes without TLS support, such as those of Kubernetes, check health at the second address. Reflection is
grpc.reflection.v1alpha.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection_pb2_grpc import (  # type: ignore[import-untyped]
    add_ServerReflectionServicer_to_server,
)

from kfadapter_grpc.daemon.listening import bind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from grpc_reflection.v1alpha.reflection_pb2 import (  # type: ignore[import-untyped]
        ServerReflectionRequest,
        ServerReflectionResponse,
    )

    from kfadapter_grpc.health import HealthServicer

MAX_STREAMS = 8
"""Reflection streams served at once: each holds a thread for as long as its caller likes."""
_THREADS = 2


class HealthListener:
    """Serves the server's health service, and nothing else, on another address.

    Attributes:
        address: The listen address; empty if it does not listen.
    """

    def __init__(self, listen: str, servicer: HealthServicer, options: Sequence[tuple[str, int]]) -> None:
        """Listens on `listen`, HOST:PORT, when started; not at all if empty."""
        self.address = listen
        self._servicer = servicer
        self._options = options
        self._server: grpc.Server | None = None
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> None:
        """Listens.

        Raises:
            ServerStartError: The address cannot be bound.
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
        """Stops. Idempotent."""
        if self._server and self._threads:
            self._server.stop(None)
            self._threads.shutdown(wait=False)
            self._server = None


class BoundedReflection(ReflectionServicer):  # type: ignore[misc]
    """Serves descriptors, to a limited number of callers at once so that threads are left for other calls."""

    def __init__(self, services: Sequence[str]) -> None:
        """Describes `services`, by full name."""
        super().__init__(services)
        self._places = threading.Semaphore(MAX_STREAMS)

    def ServerReflectionInfo(  # noqa: N802 - gRPC's name
        self, request_iterator: Iterator[ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterator[ServerReflectionResponse]:
        """Answers requests one by one."""
        if not self._places.acquire(blocking=False):
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details(f"{MAX_STREAMS} others use reflection; try again when one of them has ended")
            return
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._places.release()


def add_reflection(services: Sequence[str], server: grpc.Server) -> None:
    """Adds reflection of `services`, and of reflection itself, to `server`."""
    add_ServerReflectionServicer_to_server(BoundedReflection((*services, SERVICE_NAME)), server)
