"""Server reflection (grpc.reflection.v1alpha), for grpcurl and others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection_pb2_grpc import (  # type: ignore[import-untyped]
    add_ServerReflectionServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from grpc_reflection.v1alpha.reflection_pb2 import (  # type: ignore[import-untyped]
        ServerReflectionRequest,
        ServerReflectionResponse,
    )

MAX_STREAMS = 8
"""Reflection streams served at once: each holds a thread for as long as its caller likes."""


class BoundedReflection(ReflectionServicer):  # type: ignore[misc]
    """Answers questions for descriptors, to so many callers at once that threads for others are left."""

    def __init__(self, services: Sequence[str]) -> None:
        """Describes `services`, by full name."""
        super().__init__(services)
        self._places = threading.Semaphore(MAX_STREAMS)

    def ServerReflectionInfo(  # noqa: N802 - gRPC's name
        self, request_iterator: Iterator[ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterator[ServerReflectionResponse]:
        """Answers one question after the other."""
        if not self._places.acquire(blocking=False):
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details(f"{MAX_STREAMS} others use reflection; try again when one of them has ended")
            return
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._places.release()


def add_reflection(services: Sequence[str], server: grpc.Server) -> None:
    """Lets callers ask `server` for the descriptors of `services`, and of reflection itself."""
    add_ServerReflectionServicer_to_server(BoundedReflection((*services, SERVICE_NAME)), server)
