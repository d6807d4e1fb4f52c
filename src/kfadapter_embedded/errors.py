"""Errors with the messages of KFP's API server, and the three body shapes that it uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http import HTTPStatus

from starlette.responses import PlainTextResponse, Response

from .json_text import to_json

# gRPC's codes, each with the HTTP status that KFP's gateway maps it to.
_INVALID_ARGUMENT = (3, HTTPStatus.BAD_REQUEST)
_NOT_FOUND = (5, HTTPStatus.NOT_FOUND)
_ALREADY_EXISTS = (6, HTTPStatus.CONFLICT)
_RESOURCE_EXHAUSTED = (8, HTTPStatus.TOO_MANY_REQUESTS)
_FAILED_PRECONDITION = (9, HTTPStatus.BAD_REQUEST)
_ABORTED = (10, HTTPStatus.CONFLICT)
_INTERNAL = (13, HTTPStatus.INTERNAL_SERVER_ERROR)
_MESSAGES = "kubeflow.pipelines.backend.api.v2beta1"
_INTERNAL_REASON = "Internal Server Error"


class KfpError(Exception):
    """An error of the JSON API: `{"code", "message", "details"}`.

    Attributes:
        status: the gRPC code that KFP puts into the body, and the HTTP status.
        reason: the innermost message, which KFP repeats in `details`; empty for errors of its gateway.
        text: the whole chain of contexts, outermost first, ending with the reason.
    """

    def __init__(self, status: tuple[int, HTTPStatus], reason: str, text: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.text = reason if text is None else text

    def response(self) -> Response:
        """The HTTP response that KFP returns for this error."""
        body: dict[str, object] = {"code": self.status[0], "message": self.text}
        if self.reason:
            detail = {"code": self.status[0], "message": self.reason}
            body["details"] = [{"@type": "type.googleapis.com/google.rpc.Status", **detail}]
        return json_response(body, self.status[1])


def invalid_input(reason: str) -> KfpError:
    """The request has a value that KFP rejects."""
    return KfpError(_INVALID_ARGUMENT, reason, f"Invalid input error: {reason}")


def invalid_parameter(name: str, value: str) -> KfpError:
    """A query parameter has a value that KFP's gateway does not know."""
    return KfpError(_INVALID_ARGUMENT, "", f'parsing field "{name}": "{value}" is not a valid value')


def already_set(field: str, oneof: str) -> KfpError:
    """A second field of a oneof is set; reported by KFP's gateway."""
    return KfpError(
        _INVALID_ARGUMENT, "", f'proto: (line 1:1): error parsing "{field}", oneof {_MESSAGES}.{oneof} is already set'
    )


def invalid_page_token(cause: str) -> KfpError:
    """KFP could not decode the page token; the cause is in the text only."""
    return KfpError(_INVALID_ARGUMENT, "Invalid page token", f"InvalidInputError: Invalid page token: {cause}")


def not_found(reason: str, *layers: str) -> KfpError:
    """The requested resource does not exist; `layers` are the contexts that KFP adds, outermost first."""
    return KfpError(_NOT_FOUND, reason, ": ".join([*layers, f"ResourceNotFoundError: {reason}"]))


def already_exists(reason: str, *layers: str) -> KfpError:
    """The name is already in use; `layers` are the contexts that KFP adds, outermost first."""
    return KfpError(_ALREADY_EXISTS, reason, ": ".join([*layers, f"Already exist error: {reason}"]))


def bad_request(reason: str, cause: str) -> KfpError:
    """The state of the resource does not permit the request; KFP returns 409."""
    return KfpError(_ABORTED, reason, f"BadRequestError: {reason}: {cause}")


def failed_precondition(reason: str, cause: str) -> KfpError:
    return KfpError(_FAILED_PRECONDITION, reason, f"FailedPreconditionError: {reason}: {cause}")


def exhausted(reason: str) -> KfpError:
    """This machine has no space left; KFP has no such error."""
    return KfpError(_RESOURCE_EXHAUSTED, reason, f"ResourceExhaustedError: {reason}")


def internal(cause: str = "") -> KfpError:
    """An error of this server, or one that KFP reports as internal: then with the cause in the text."""
    return KfpError(_INTERNAL, _INTERNAL_REASON, f"InternalServerError: {cause}" if cause else _INTERNAL_REASON)


@contextlib.contextmanager
def context(*layers: str) -> Iterator[None]:
    """Prepends contexts, outermost first, to the text of any `KfpError` raised inside, as KFP's layers do."""
    try:
        yield
    except KfpError as error:
        raise KfpError(error.status, error.reason, ": ".join([*layers, error.text])) from error


class UploadError(Exception):
    """An error of the two upload routes: `{"error_message", "error_details"}`."""

    def __init__(
        self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, *, early: bool = True, plain: bool = False
    ) -> None:
        """Creates the error.

        Args:
            message: KFP's message.
            status: the HTTP status.
            early: whether KFP fails before it creates anything: it labels the body as text then.
            plain: whether KFP responds in plain text, as for names that are too long.
        """
        super().__init__(message)
        self.message = message
        self._status = status
        self._content_type = "text/plain; charset=utf-8" if early else "application/json"
        self._plain = plain

    def response(self) -> Response:
        """The HTTP response that KFP returns for this error (without KFP's stack trace)."""
        if self._plain:
            return PlainTextResponse(f"Invalid input error: {self.message}\n", self._status)
        body = to_json({"error_message": self.message, "error_details": self.message})
        return Response(body, self._status, headers={"content-type": self._content_type})


def json_response(body: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Sends a string as it is."""
    return Response(body if isinstance(body, str) else to_json(body), status, media_type="application/json")


def unknown_route(path: str, status: int) -> Response:
    """The response of KFP's gateway to an unknown route (404) or method, and of Go's router next to it."""
    if not path.startswith("/apis/"):
        return PlainTextResponse("404 page not found\n", HTTPStatus.NOT_FOUND)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return json_response({"code": 12, "message": "Method Not Allowed"}, HTTPStatus.NOT_IMPLEMENTED)
    return json_response({"code": 5, "message": "Not Found"}, HTTPStatus(status))
