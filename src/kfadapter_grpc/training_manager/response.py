"""Answers that look like those of the `requests` library, as far as the training manager looks at them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.training_manager.http_status import http_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.errors import AdapterError
    from kfadapter_grpc.contract.spec import Json

CONTENT_TYPE = "application/json"
"""The content type, exactly as the training manager compares it."""

_OK = 200


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
    status = http_status(error)
    return Response(status, error_body(status, error.message, error.reason, error.request_id))


def error_body(status: int, message: str, reason: str, request_id: str) -> dict[str, Json]:
    """Makes the body of an answer that is none: what is wrong, and what it is called in the adapter's log."""
    return {"message": message, "status": status, "reason": reason, "request_id": request_id}
