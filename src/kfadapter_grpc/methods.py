"""What follows from the descriptors of the services: names, kinds of calls, roles, default deadlines.

Server and client both use it, so that neither repeats a service's name or a method's properties.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message_factory import GetMessageClass

from kfadapter.v1 import artifact_pb2, experiment_pb2, identity_pb2, pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter_grpc.contract.call import Role

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
    from google.protobuf.message import Message

_FILES: tuple[FileDescriptor, ...] = (
    pipeline_pb2.DESCRIPTOR,
    run_pb2.DESCRIPTOR,
    artifact_pb2.DESCRIPTOR,
    experiment_pb2.DESCRIPTOR,
    recurring_run_pb2.DESCRIPTOR,
    identity_pb2.DESCRIPTOR,
)

VERSION_KEY = "x-kfadapter-version"
READ_SECONDS = 10.0
WRITE_SECONDS = 30.0
UPLOAD_SECONDS = 60.0
"""Default deadline of an upload, before its size is known."""
UPLOAD_SECONDS_PER_MB = 2.0
"""The seconds that each MB (10^6 bytes) of an upload adds to its default deadline."""
DOWNLOAD_SECONDS = 60.0
"""Default deadline of a download until KFP has responded; sending has a further one, as an upload of the size has."""


_WITHOUT_DEADLINE = frozenset({"Watch"})
"""The methods whose responses may continue for as long as the caller likes; gRPC's descriptors cannot express it."""


FOLLOW_SECONDS = 365 * 24 * 3600.0
"""The time limit for following a log if the caller sets no deadline."""


class CallKind(enum.Enum):
    """The cost of a call for the server: which of its limits applies."""

    UNARY = "unary"
    UPLOAD = "upload"
    STREAM = "stream"


@dataclass(frozen=True)
class RpcMethod:
    """One RPC of the contract.

    Attributes:
        service: The service's full name (`kfadapter.v1.PipelineService`).
        read_only: Whether it is declared to have no side effects; only such calls may be repeated without checking.
    """

    service: str
    name: str
    read_only: bool
    client_streaming: bool
    server_streaming: bool

    @cached_property
    def path(self) -> str:
        """The method as gRPC names it on the wire (`/kfadapter.v1.PipelineService/Get`)."""
        return f"/{self.service}/{self.name}"

    @cached_property
    def role(self) -> Role | None:
        """The role that its caller needs, if callers have roles; None: no role, as for WhoAmI.

        A reader may make calls without side effects, an admin those that delete; without access rules, where there are
        no admins, a writer may make the latter, too.
        """
        if self.service == identity_pb2.DESCRIPTOR.services_by_name["IdentityService"].full_name:
            return None
        if self.read_only:
            return Role.READER
        return Role.ADMIN if self.name.startswith("Delete") else Role.WRITER

    @cached_property
    def kind(self) -> CallKind:
        if self.client_streaming:
            return CallKind.UPLOAD
        return CallKind.STREAM if self.server_streaming else CallKind.UNARY

    @property
    def endless(self) -> bool:
        """Whether its responses may be endless; `default_seconds` then limits how it begins."""
        return self.server_streaming and self.name in _WITHOUT_DEADLINE

    @property
    def default_seconds(self) -> float:
        """The deadline of a call that sets none; that of an upload or a download grows with its size."""
        if self.client_streaming:
            return UPLOAD_SECONDS
        if self.server_streaming and not self.endless:
            return DOWNLOAD_SECONDS
        return READ_SECONDS if self.read_only else WRITE_SECONDS


def upload_seconds(size: int) -> float:
    """The default deadline of an upload of `size` bytes."""
    return UPLOAD_SECONDS + UPLOAD_SECONDS_PER_MB * size / 1_000_000


def download_seconds(size: int) -> float:
    """The time limit for a download of `size` bytes from the first to the last byte, if the caller sets no deadline."""
    return upload_seconds(size)


def _method(descriptor: MethodDescriptor) -> RpcMethod:
    level = descriptor.GetOptions().idempotency_level
    return RpcMethod(
        service=descriptor.containing_service.full_name,
        name=descriptor.name,
        read_only=level == MethodOptions.NO_SIDE_EFFECTS,
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
    )


_DESCRIPTORS: tuple[MethodDescriptor, ...] = tuple(
    method for file in _FILES for service in file.services_by_name.values() for method in service.methods
)

METHODS: dict[str, RpcMethod] = {method.path: method for method in map(_method, _DESCRIPTORS)}

METHOD_OF_REQUEST: dict[str, RpcMethod] = {one.input_type.name: METHODS[_method(one).path] for one in _DESCRIPTORS}
"""The RPC of a request, by the name of the message: no two RPCs share a request."""

MESSAGES: dict[str, tuple[type[Message], type[Message]]] = {
    _method(one).path: (GetMessageClass(one.input_type), GetMessageClass(one.output_type)) for one in _DESCRIPTORS
}
"""The classes of the request and the response of every RPC, by its path."""

SERVICES: tuple[str, ...] = tuple(dict.fromkeys(method.service for method in METHODS.values()))
