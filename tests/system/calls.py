"""Calls of any RPC by its path, as bytes, and how they end."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from kfadapter_grpc.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

OK = "OK"
"""The reason of a call that succeeded."""
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
"""Options of a channel that shares its connection with no other one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: its status code and text, and its stable reason, which is empty where the status has none."""

    code: str
    reason: str
    message: str
    seconds: float
    retry_info: bool = False
    answer: bytes = b""


def serialized(*messages: Message) -> list[bytes]:
    """The messages of a call as bytes."""
    return [message.SerializeToString() for message in messages]


def begin(channel: grpc.Channel, path: str, sent: Sequence[bytes], seconds: float, request_id: str = "") -> Any:  # noqa: ANN401 - one of gRPC's calls
    """Begins a call; several messages are sent only where the caller sends a stream."""
    how: dict[str, Any] = {"timeout": seconds, "metadata": [("x-request-id", request_id)] if request_id else []}
    make: Any = channel
    method = METHODS.get(path)  # health checks are not of the contract
    if method is not None and method.client_streaming:
        return make.stream_unary(path).future(iter(sent), **how)
    if method is not None and method.server_streaming:
        return make.unary_stream(path)(sent[0], **how)
    return make.unary_unary(path).future(sent[0], **how)


def call(channel: grpc.Channel, path: str, sent: Sequence[bytes], seconds: float, request_id: str = "") -> Outcome:
    """Makes a call and reads all its answers, at most `seconds`."""
    began = time.monotonic()
    begun = begin(channel, path, sent, seconds, request_id)
    answer = b""
    with suppress(grpc.RpcError):
        if path in METHODS and METHODS[path].server_streaming:
            for _ in begun:
                pass
        else:
            answer = begun.result()
    return outcome(begun, time.monotonic() - began, answer)


def outcome(ended: Any, seconds: float, answer: bytes = b"") -> Outcome:  # noqa: ANN401 - one of gRPC's calls
    """How a call has ended."""
    if ended.code() is grpc.StatusCode.OK:
        return Outcome(OK, OK, "", seconds, answer=answer)
    trailers = dict(ended.trailing_metadata() or ())
    details = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b"")).details
    info = error_details_pb2.ErrorInfo()
    reason = "".join(info.reason for detail in details if detail.Unpack(info))
    retry_info = any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
    return Outcome(ended.code().name, reason, ended.details() or "", seconds, retry_info)
