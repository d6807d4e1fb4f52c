"""Services besides the contract: health and channelz on their own addresses, and reflection, for grpcurl.

Probes without TLS support, such as those of Kubernetes, check health at the second address. Reflection is served as
grpc.reflection.v1 and as v1alpha, which have the same messages under two names.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer  # type: ignore[import-untyped]
from grpc_reflection.v1alpha.reflection_pb2_grpc import (  # type: ignore[import-untyped]
    add_ServerReflectionServicer_to_server,
)

from kfadapter.v1 import errors_pb2
from kfadapter_grpc import health
from kfadapter_grpc.daemon.listening import bind

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
    from grpc_reflection.v1alpha.reflection_pb2 import (  # type: ignore[import-untyped]
        ServerReflectionRequest,
        ServerReflectionResponse,
    )


MAX_STREAMS = 8
"""Reflection streams served at once: each holds a thread for as long as its caller likes."""
_THREADS = 2


class SideListener:
    """Serves some services, and nothing else, in plain text on another address; on none if that is empty."""

    def __init__(
        self, listen: str, option: str, add: Callable[[grpc.Server], None], options: Sequence[tuple[str, int]]
    ) -> None:
        """Listens on `listen`, HOST:PORT, when started; not at all if empty. `option` sets it; `add` adds services."""
        self.address = listen
        self._option = option
        self._add = add
        self._options = options
        self._server: grpc.Server | None = None
        self._threads: ThreadPoolExecutor | None = None

    def start(self) -> None:
        if not self.address:
            return
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="side")
        self._server = grpc.server(self._threads, options=self._options)
        self._add(self._server)
        port = bind(self._server, self.address, None, self._option)
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        self._server.start()

    def stop(self) -> None:
        if self._server and self._threads:
            self._server.stop(None)
            self._threads.shutdown(wait=False)
            self._server = None


def add_channelz(server: grpc.Server) -> None:
    """Adds channelz, which shows the connections of this process, and reflection of it to `server`."""
    from grpc_channelz.v1 import channelz_pb2  # type: ignore[import-untyped]  # noqa: PLC0415  only where it is served
    from grpc_channelz.v1.channelz import add_channelz_servicer  # type: ignore[import-untyped]  # noqa: PLC0415

    add_channelz_servicer(server)
    add_reflection([service.full_name for service in channelz_pb2.DESCRIPTOR.services_by_name.values()], server)


class BoundedReflection(ReflectionServicer):  # type: ignore[misc]
    """Serves descriptors, to a limited number of callers at once so that threads are left for other calls."""

    def __init__(self, services: Sequence[str]) -> None:
        super().__init__(services, _Pool(services))
        self._slots = threading.Semaphore(MAX_STREAMS)

    def ServerReflectionInfo(  # noqa: N802 - gRPC's name
        self, request_iterator: Iterator[ServerReflectionRequest], context: grpc.ServicerContext
    ) -> Iterator[ServerReflectionResponse]:
        if not self._slots.acquire(blocking=False):
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details(f"{MAX_STREAMS} others use reflection; try again when one of them has ended")
            return
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._slots.release()


class _Pool:
    """The descriptors of some services by all of their symbols.

    Protobuf's pool (upb) finds neither methods nor fields, oneofs and enum values, and has no List of health.
    """

    def __init__(self, services: Sequence[str]) -> None:
        self._pool: DescriptorPool = Default()
        self._symbols: dict[str, FileDescriptor] = {}
        self._seen: set[str] = set()
        self._add(health.DESCRIPTOR)
        self._add(errors_pb2.DESCRIPTOR)  # no message has a field for a reason; it is a text in ErrorInfo
        for service in services:
            self._add(self._pool.FindServiceByName(service).file)

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, name: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """Returns the file that declares a symbol. Raises KeyError if none declares it."""
        # Clients also look for what is only ever packed into Any: the details of errors.
        return self._symbols.get(name) or self._pool.FindFileContainingSymbol(name)

    def _add(self, file: FileDescriptor) -> None:
        if file.name in self._seen:
            return
        self._seen.add(file.name)
        for service in file.services_by_name.values():
            names = (service.full_name, *(method.full_name for method in service.methods))
            self._symbols |= dict.fromkeys(names, file)
        declared = _symbols(file.package, file.message_types_by_name.values(), file.enum_types_by_name.values())
        self._symbols |= dict.fromkeys(declared, file)
        for dependency in file.dependencies:
            self._add(dependency)


def _symbols(scope: str, messages: Iterable[Descriptor], enums: Iterable[EnumDescriptor]) -> Iterator[str]:
    """Yields what is declared in a scope; enum values by both of their names, beside and below their enum."""
    for enum in enums:
        yield enum.full_name
        yield from (f"{parent}.{value.name}" for value in enum.values for parent in (scope, enum.full_name))
    for message in messages:
        yield message.full_name
        yield from (f"{message.full_name}.{name}" for name in (*message.fields_by_name, *message.oneofs_by_name))
        yield from _symbols(message.full_name, message.nested_types, message.enum_types)


def add_reflection(services: Sequence[str], server: grpc.Server) -> None:
    # grpcio-reflection lacks grpc.reflection.v1, which is the same by another name.
    older = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(older)
    renamed = text_format.Parse(str(older).replace("v1alpha", "v1"), FileDescriptorProto())
    Default().AddSerializedFile(renamed.SerializeToString())
    newer = f"{renamed.package}.{renamed.service[0].name}"
    servicer = BoundedReflection((*services, SERVICE_NAME, newer))
    add_ServerReflectionServicer_to_server(servicer, server)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_registered_method_handlers(newer, {"ServerReflectionInfo": handler})
