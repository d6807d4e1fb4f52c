"""Calls of any RPC by its path, with a deadline, and what becomes of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_grpc.methods import RpcMethod

Send: TypeAlias = "Callable[..., Any]"
"""A method of a channel, for bytes."""
OK = "OK"
"""The reason of a call that succeeded."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended.

    Attributes:
        code: The gRPC status code's name.
        reason: The stable reason; `OK`, or empty where the status carries none.
        message: The status' text.
        seconds: How long it took.
        says_when: Whether it tells when to try again.
    """

    code: str
    reason: str
    message: str
    seconds: float
    says_when: bool = False


def call(
    channel: grpc.Channel, method: RpcMethod, sent: Sequence[bytes], seconds: float, request_id: str = ""
) -> Outcome:
    """Makes a call and reads all its answers, at most `seconds`.

    Args:
        channel: To the adapter.
        method: The RPC.
        sent: The serialized messages; one, unless the caller sends a stream.
        seconds: The call's deadline.
        request_id: What the call is known by; made up by the adapter where it is empty.
    """
    began = time.monotonic()
    try:
        _send(channel, method, sent, timeout=seconds, metadata=_metadata(request_id))
    except grpc.RpcError as error:
        return _failed(error, time.monotonic() - began)
    return Outcome(OK, OK, "", time.monotonic() - began)


def _metadata(request_id: str) -> Sequence[tuple[str, str]]:
    return (("x-request-id", request_id),) if request_id else ()


def _send(channel: grpc.Channel, method: RpcMethod, sent: Sequence[bytes], **how: object) -> None:
    if method.client_streaming:
        upload: Send = channel.stream_unary(method.path)
        upload(iter(sent), **how)
    elif method.server_streaming:
        stream: Send = channel.unary_stream(method.path)
        for _ in stream(sent[0], **how):
            pass
    else:
        unary: Send = channel.unary_unary(method.path)
        unary(sent[0], **how)


def _failed(error: grpc.RpcError, seconds: float) -> Outcome:
    ended: Any = error  # what is raised is the call, too
    trailers = dict(ended.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    reasons = [info.reason for detail in status.details if detail.Unpack(info)]
    says_when = any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    return Outcome(ended.code().name, "".join(reasons), ended.details() or "", seconds, says_when)
