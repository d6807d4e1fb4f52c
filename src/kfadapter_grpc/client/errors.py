"""Failed calls as exceptions: the adapter's own classes rebuilt from the wire, and failures before it responds."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import StatusCode

from kfadapter_grpc.contract.errors import AdapterError, CallCancelledError, FieldViolation, try_error_class

DETAILS_KEY = "grpc-status-details-bin"
"""The trailer that carries a `google.rpc.Status`."""
REQUEST_ID_KEY = "x-request-id"
"""The metadata that names a call, in both directions."""


_NOT_SERVING = "backend unhealthy"
"""gRPC's text if no health check returned SERVING."""


HTTP_STATUS = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.FAILED_PRECONDITION: 409,
    StatusCode.ABORTED: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.CANCELLED: 499,
    StatusCode.INTERNAL: 500,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}
"""The HTTP status of a failed call by its code, for gateways; 499 is what proxies call a cancelled request."""


class CannotConnectError(AdapterError, reason="CANNOT_CONNECT", code=StatusCode.UNAVAILABLE, retry_after=0.2):
    """No adapter responds at the address, the connection broke, or the adapter reports NOT_SERVING."""


class DeadlineError(AdapterError, reason="DEADLINE", code=StatusCode.DEADLINE_EXCEEDED):
    """The adapter did not respond within the client's deadline."""


class CallFailedError(AdapterError, reason="CALL_FAILED", code=StatusCode.UNKNOWN):
    """The call failed with an error that is not the adapter's own, or is unknown to this version."""

    def __init__(self, message: str, *, status: StatusCode, request_id: str, metadata: dict[str, str]) -> None:
        super().__init__(message, request_id=request_id, metadata=metadata)
        self.status = status


def http_status(error: AdapterError) -> int:
    return HTTP_STATUS.get(error.status if isinstance(error, CallFailedError) else error.code, 500)


_KINDS = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.ResourceInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.RequestInfo,
    )
}


def _details(raw: bytes) -> dict[str, Any]:
    """Reads the details, as arguments of an error; none if they cannot be read, as a proxy may cut them."""
    details: dict[str, Any] = {}
    try:
        for packed in status_pb2.Status.FromString(raw).details:
            kind = _KINDS.get(packed.type_url.rpartition("/")[2], error_details_pb2.Help)  # which is not read
            detail = kind.FromString(packed.value)
            if kind is error_details_pb2.ErrorInfo:
                details |= {"reason": detail.reason, "metadata": dict(detail.metadata)}
            elif kind is error_details_pb2.BadRequest:
                violations = [
                    FieldViolation(violation.field, violation.description) for violation in detail.field_violations
                ]
                details["violations"] = violations
            elif kind is error_details_pb2.ResourceInfo:
                details["resource_name"] = detail.resource_name
            elif kind is error_details_pb2.RetryInfo:
                details["retry_after"] = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9
            elif kind is error_details_pb2.RequestInfo and detail.request_id:
                details["request_id"] = detail.request_id
    except DecodeError:
        return {}
    return details


def error_from_rpc(error: grpc.RpcError, *, target: str, request_id: str) -> AdapterError:
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return _without_details(StatusCode.UNKNOWN, str(error), target, request_id)
    raw = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    details = {"request_id": request_id} | (_details(raw) if isinstance(raw, bytes) else {})
    message, reason = error.details() or "", details.pop("reason", "")
    error_class = try_error_class(reason)
    if error_class is not None:
        return error_class(message, **details)
    cause = f"{message} ({reason})" if reason else message
    return _without_details(error.code(), cause, target, details["request_id"])


def _without_details(code: StatusCode, cause: str, target: str, request_id: str) -> AdapterError:
    about = {"target": target, "cause": cause}
    if code is StatusCode.UNAVAILABLE:
        why = "reports NOT_SERVING: it is starting, shutting down or waiting for Kubeflow Pipelines"
        text = f"the adapter at {target} {why}" if cause.endswith(_NOT_SERVING) else f"cannot connect to {target}"
        return CannotConnectError(text, metadata=about, request_id=request_id)
    if code is StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(f"no response from {target} in time", metadata=about, request_id=request_id)
    if code is StatusCode.CANCELLED:
        return CallCancelledError("the call was cancelled", metadata=about, request_id=request_id)
    message = f"{target} returned {code.name}: {cause or 'no message'}"
    return CallFailedError(message, status=code, metadata=about, request_id=request_id)
