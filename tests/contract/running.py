"""Shared by the contract tests: an in-process server, scripted servicers, and readers of what is on the wire."""
# ruff: noqa: N802, ARG002 - a servicer's methods are named and called by gRPC

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from kfadapter.v1 import pipeline_pb2 as pb
from kfadapter.v1.pipeline_pb2_grpc import PipelineServiceServicer, PipelineServiceStub
from kfadapter_grpc.contract.errors import UnsupportedByKfpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kfadapter_grpc.server import AdapterServer

T = TypeVar("T")

WAIT_SECONDS = 30.0
"""How long a test waits for what must come about."""


@dataclass(frozen=True)
class Running:
    """A running server and a client connected to it."""

    server: AdapterServer
    channel: grpc.Channel
    stub: PipelineServiceStub


class Scripted(PipelineServiceServicer):
    """A servicer whose responses a test scripts, in one function for each of the three call shapes of the service."""

    def __init__(
        self,
        get: Callable[[grpc.ServicerContext], pb.Pipeline] | None = None,
        upload: Callable[[Iterator[pb.UploadPipelineRequest], grpc.ServicerContext], pb.UploadPipelineResponse]
        | None = None,
        download: Callable[[grpc.ServicerContext], Iterator[pb.DownloadPipelineResponse]] | None = None,
    ) -> None:
        self._get = get
        self._upload = upload
        self._download = download

    def Get(self, request: pb.GetPipelineRequest, context: grpc.ServicerContext) -> pb.Pipeline:
        """Responds as scripted, or with the requested name."""
        return self._get(context) if self._get else pb.Pipeline(name=request.name)

    def Upload(
        self, request_iterator: Iterator[pb.UploadPipelineRequest], context: grpc.ServicerContext
    ) -> pb.UploadPipelineResponse:
        """Responds as scripted, or reads the whole stream."""
        if self._upload:
            return self._upload(request_iterator, context)
        return pb.UploadPipelineResponse(bytes=sum(len(request.chunk) for request in request_iterator))

    def Download(
        self, request: pb.DownloadPipelineRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.DownloadPipelineResponse]:
        """Responds as scripted, or with an empty stream."""
        del request
        return self._download(context) if self._download else iter(())

    def List(self, request: pb.ListPipelinesRequest, context: grpc.ServicerContext) -> NoReturn:
        """Not scripted."""
        raise UnsupportedByKfpError("not scripted")

    def Update(self, request: pb.UpdatePipelineRequest, context: grpc.ServicerContext) -> NoReturn:
        """Not scripted."""
        raise UnsupportedByKfpError("not scripted")

    def UpdateVersion(self, request: pb.UpdatePipelineVersionRequest, context: grpc.ServicerContext) -> NoReturn:
        """Not scripted."""
        raise UnsupportedByKfpError("not scripted")

    def Delete(self, request: pb.DeletePipelineRequest, context: grpc.ServicerContext) -> NoReturn:
        """Not scripted."""
        raise UnsupportedByKfpError("not scripted")

    def ListVersions(self, request: pb.ListPipelineVersionsRequest, context: grpc.ServicerContext) -> NoReturn:
        """Not scripted."""
        raise UnsupportedByKfpError("not scripted")

    def GetVersion(self, request: pb.GetPipelineVersionRequest, context: grpc.ServicerContext) -> NoReturn:
        """Not scripted."""
        raise UnsupportedByKfpError("not scripted")

    def DeleteVersion(self, request: pb.DeletePipelineVersionRequest, context: grpc.ServicerContext) -> NoReturn:
        """Not scripted."""
        raise UnsupportedByKfpError("not scripted")


@dataclass
class Gate:
    """Holds calls in the server until a test opens it or they are cancelled."""

    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    opened: threading.Event = field(default_factory=threading.Event)

    def hold(self, context: grpc.ServicerContext) -> None:
        """Signals that a call has arrived, and holds it."""
        context.add_callback(self.opened.set)
        self.entered.release()
        assert self.opened.wait(WAIT_SECONDS)

    def await_call(self) -> None:
        """Waits until a call has arrived."""
        assert self.entered.acquire(timeout=WAIT_SECONDS)


@dataclass(frozen=True)
class Reported:
    """What a failed call reports to its client."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: Mapping[str, str]
    violations: tuple[tuple[str, str], ...]
    resource: tuple[str, str] | None
    retry_after: float | None
    request_id: str
    trailers: Mapping[str, str | bytes]


def reported(error: grpc.RpcError) -> Reported:
    """Reads what a failed call reports, and checks that its parts agree."""
    assert isinstance(error, grpc.Call)
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    details = {any_.TypeName(): any_ for any_ in status.details}
    info = _unpacked(details, error_details_pb2.ErrorInfo())
    assert info.domain == "kfadapter"
    bad_request = _unpacked(details, error_details_pb2.BadRequest())
    resource = _unpacked(details, error_details_pb2.ResourceInfo())
    retry = _unpacked(details, error_details_pb2.RetryInfo())
    return Reported(
        code=error.code(),
        message=status.message,
        reason=info.reason,
        metadata=dict(info.metadata),
        violations=tuple((v.field, v.description) for v in bad_request.field_violations),
        resource=(resource.resource_type, resource.resource_name) if resource.resource_type else None,
        retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None,
        request_id=_unpacked(details, error_details_pb2.RequestInfo()).request_id,
        trailers=trailers,
    )


def failure(call: Callable[[], object]) -> Reported:
    """Runs a call that must fail, and returns what it reports."""
    try:
        call()
    except grpc.RpcError as error:
        return reported(error)
    raise AssertionError("the call did not fail")


def eventually(condition: Callable[[], T], seconds: float = WAIT_SECONDS) -> T:
    """Waits for a condition, for at most `seconds`."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not (result := condition()):
        assert time.monotonic() < end, "this did not come about"
        pause.wait(0.005)
    return result


def _unpacked(details: Mapping[str, object], into: T) -> T:
    packed = details.get(into.DESCRIPTOR.full_name)  # type: ignore[attr-defined]
    if packed is not None:
        packed.Unpack(into)  # type: ignore[attr-defined]
    return into
