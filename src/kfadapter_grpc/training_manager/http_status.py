"""The HTTP status that stands for each way in which a call can fail: one table, for stubs and HTTP alike."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from grpc import StatusCode

if TYPE_CHECKING:
    from kfadapter_grpc.contract.errors import AdapterError

CLIENT_CLOSED_REQUEST = 499
"""What proxies call a request whose caller went away."""

_BY_CODE: dict[StatusCode, int] = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    StatusCode.ABORTED: HTTPStatus.CONFLICT,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.CANCELLED: CLIENT_CLOSED_REQUEST,
    StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
_BY_REASON: dict[str, int] = {
    "UPLOAD_TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "STORAGE_FULL": HTTPStatus.INSUFFICIENT_STORAGE,
    "KFP_ERROR": HTTPStatus.BAD_GATEWAY,
    "KFP_REJECTED_CREDENTIALS": HTTPStatus.BAD_GATEWAY,
}
"""Where HTTP tells apart what gRPC's codes do not."""


def http_status(error: AdapterError) -> int:
    """Tells the status of a failed call."""
    return int(_BY_REASON.get(error.reason) or _BY_CODE.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR))
