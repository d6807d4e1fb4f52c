"""Errors as KFP's API server words them, and the three body shapes it wraps them in."""

from __future__ import annotations

import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

from starlette.responses import PlainTextResponse, Response

from .bodies import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

_INVALID_ARGUMENT, _NOT_FOUND, _ALREADY_EXISTS, _UNIMPLEMENTED, _INTERNAL = 3, 5, 6, 12, 13
_RESOURCE_EXHAUSTED, _FAILED_PRECONDITION, _ABORTED = 8, 9, 10
_INTERNAL_REASON = "Internal Server Error"
_HTTP_STATUS = {
    _INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    _NOT_FOUND: HTTPStatus.NOT_FOUND,
    _ALREADY_EXISTS: HTTPStatus.CONFLICT,
    _RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    _FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    _ABORTED: HTTPStatus.CONFLICT,
    _UNIMPLEMENTED: HTTPStatus.METHOD_NOT_ALLOWED,
    _INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class KfpError(Exception):
    """A refusal of the JSON API: `{"code", "message", "details"}`.

    Attributes:
        code: the gRPC code that KFP puts into the body.
        reason: the innermost words, which KFP repeats in `details`.
        text: the whole chain of contexts, outermost first, ending in the reason.
    """

    def __init__(self, code: int, reason: str, text: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.text = reason if text is None else text

    def response(self) -> Response:
        """The HTTP answer that KFP gives for this error."""
        detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": self.code, "message": self.reason}
        body = {"code": self.code, "message": self.text, "details": [detail]}
        return json_response(body, _HTTP_STATUS[self.code])


def invalid_input(reason: str) -> KfpError:
    """The caller sent something that KFP refuses."""
    return KfpError(_INVALID_ARGUMENT, reason, f"Invalid input error: {reason}")


def invalid_input_because(reason: str, cause: str) -> KfpError:
    """The caller sent something that KFP could not decode; the cause is in the text only."""
    return KfpError(_INVALID_ARGUMENT, reason, f"InvalidInputError: {reason}: {cause}")


def not_found(reason: str) -> KfpError:
    """What the caller asked for does not exist."""
    return KfpError(_NOT_FOUND, reason, f"ResourceNotFoundError: {reason}")


def already_exists(reason: str) -> KfpError:
    """The name is taken."""
    return KfpError(_ALREADY_EXISTS, reason, f"Already exist error: {reason}")


def bad_request(reason: str, cause: str) -> KfpError:
    """What the caller wants does not go with the state of things; KFP calls it so, and answers 409."""
    return KfpError(_ABORTED, reason, f"BadRequestError: {reason}: {cause}")


def failed_precondition(reason: str, cause: str) -> KfpError:
    """Something else has to be done first."""
    return KfpError(_FAILED_PRECONDITION, reason, f"FailedPreconditionError: {reason}: {cause}")


def exhausted(reason: str) -> KfpError:
    """There is no room for more; no answer of KFP's, but of this machine's."""
    return KfpError(_RESOURCE_EXHAUSTED, reason, f"ResourceExhaustedError: {reason}")


def internal_because(cause: str) -> KfpError:
    """What KFP takes for a fault of its own, with the cause in the text only."""
    return KfpError(_INTERNAL, _INTERNAL_REASON, f"InternalServerError: {cause}")


def internal() -> KfpError:
    """A fault of this server; what it was goes to the log only."""
    return KfpError(_INTERNAL, _INTERNAL_REASON)


@contextlib.contextmanager
def context(words: str) -> Iterator[None]:
    """Puts words in front of the text of any `KfpError` raised inside, as KFP's layers do."""
    try:
        yield
    except KfpError as error:
        raise KfpError(error.code, error.reason, f"{words}: {error.text}") from error


class UploadError(Exception):
    """A refusal of the two upload routes: `{"error_message", "error_details"}`.

    Attributes:
        message: KFP's words.
        status: the HTTP status.
        content_type: KFP labels the body as text unless it got as far as creating something.
    """

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, *, early: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.content_type = "text/plain; charset=utf-8" if early else "application/json"

    def response(self) -> Response:
        """The HTTP answer that KFP gives for this error (without KFP's stack trace)."""
        body = to_json({"error_message": self.message, "error_details": self.message})
        return Response(body, self.status, headers={"content-type": self.content_type})


class TooLongError(UploadError):
    """A name over its limit, which KFP answers in plain text."""

    def response(self) -> Response:
        """The HTTP answer that KFP gives for this error."""
        return PlainTextResponse(f"Invalid input error: {self.message}\n", self.status)


def json_response(body: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A JSON answer, in UTF-8 and without spaces."""
    return json_text_response(to_json(body), status)


def json_text_response(text: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """An answer that is JSON text already."""
    return Response(text, status, media_type="application/json")


def unknown_route(status: int) -> Response:
    """The answer of KFP's gateway where it has no route (404) or not for this method (405)."""
    code, words = (
        (_UNIMPLEMENTED, "Method Not Allowed") if status == HTTPStatus.METHOD_NOT_ALLOWED else (5, "Not Found")
    )
    return json_response({"code": code, "message": words, "details": []}, HTTPStatus(status))


def raise_missing(kind: str, item_id: str, layer: str) -> NoReturn:
    """Raises KFP's 404 for an id, worded as the layer that looked for it does.

    Args:
        kind: for example "Pipeline".
        item_id: the id that was not found.
        layer: the words of the layer, for example "Failed to get a pipeline with id X".

    Raises:
        KfpError: always.
    """
    with context(layer):
        raise not_found(f"{kind} {item_id} not found")
