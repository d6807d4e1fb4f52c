"""Requests and answers, as routes see them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from kfadapter_grpc.training_manager.http_status import http_status
from kfadapter_grpc.training_manager.response import CONTENT_TYPE, error_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.errors import AdapterError
    from kfadapter_grpc.contract.spec import Json

TEXT = "text/html; charset=utf-8"
"""The content type of what is no JSON, as the Flask adapter had it."""

LIVENESS = b"Okay"
"""What liveness answers, as the Flask adapter did."""


class RefusalError(Exception):
    """A request is refused before any service is called, by a status of HTTP's own.

    Attributes:
        status: The status.
        message: What is wrong and what to do.
        headers: What the answer says besides.
    """

    def __init__(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered.

    Attributes:
        status: The status.
        body: The bytes.
        content_type: What they are.
        headers: Further headers.
        reason: What the log says of a failure; empty without one.
    """

    status: int
    body: bytes
    content_type: str = CONTENT_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


def answered(body: Mapping[str, Json]) -> Answer:
    """Makes the answer to a request that succeeded.

    Like Flask's, it is ASCII: it is read right even by who takes JSON for Latin-1.
    """
    return Answer(HTTPStatus.OK, json.dumps(body).encode("ascii"))


def refused(refusal: RefusalError, request_id: str) -> Answer:
    """Makes the answer to a request that was refused."""
    body = error_body(refusal.status, refusal.message, refusal.status.name, request_id)
    return Answer(refusal.status, json.dumps(body).encode("ascii"), headers=refusal.headers, reason=refusal.status.name)


def failed(error: AdapterError, request_id: str) -> Answer:
    """Makes the answer to a request whose call failed."""
    status = http_status(error)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    body = json.dumps(error_body(status, error.message, error.reason, request_id))
    return Answer(status, body.encode("ascii"), headers=headers, reason=error.reason)


def json_object(data: bytes) -> dict[str, Json]:
    """Reads a JSON object whose texts can all be said in UTF-8.

    Raises:
        RefusalError: It is none.
    """
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RefusalError(HTTPStatus.BAD_REQUEST, f"the body is no JSON: {why[:200]}") from None
    if not isinstance(value, dict):
        raise RefusalError(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
