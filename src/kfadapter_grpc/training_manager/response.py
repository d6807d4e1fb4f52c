"""Answers that look like those of the `requests` library, as far as the training manager looks at them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpc import StatusCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.domain.errors import AdapterError
    from kfadapter_grpc.domain.spec import Json

CONTENT_TYPE = "application/json"
"""The content type, exactly as the training manager compares it."""

_OK, _SERVER_ERROR = 200, 500
_HTTP_STATUS = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.CANCELLED: 499,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Attributes:
        status_code: The HTTP status that stands for how the call ended.
        body: What was answered.
    """

    status_code: int
    body: Mapping[str, Json]

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.status_code == _OK

    @property
    def headers(self) -> dict[str, str]:
        """The headers: the content type."""
        return {"content-type": CONTENT_TYPE}

    @property
    def text(self) -> str:
        """The body as JSON."""
        return json.dumps(self.body, ensure_ascii=False)

    def json(self) -> Mapping[str, Json]:
        """The body."""
        return self.body


def succeeded(body: Mapping[str, Json]) -> Response:
    """The answer to a call that succeeded."""
    return Response(_OK, body)


def failed(error: AdapterError) -> Response:
    """The answer to a call that failed: what is wrong, the stable reason, and the request id for the adapter's log."""
    status = _HTTP_STATUS.get(error.code, _SERVER_ERROR)
    body: dict[str, Json] = {
        "message": error.message,
        "status": status,
        "reason": error.reason,
        "request_id": error.request_id,
    }
    return Response(status, body)
