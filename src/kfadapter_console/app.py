"""The application: its routes, its static files, and its error pages."""

from __future__ import annotations

import logging
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from grpc import StatusCode
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from kfadapter_console import compare, health, login, page, recurring
from kfadapter_console.security import Guard, Sessions
from kfadapter_grpc.client import CallFailedError
from kfadapter_grpc.client.credentials import CredentialsError
from kfadapter_grpc.contract.errors import AdapterError, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Client

_STATUS = {
    StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    StatusCode.ABORTED: HTTPStatus.CONFLICT,
    StatusCode.FAILED_PRECONDITION: HTTPStatus.CONFLICT,
    StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
"""The HTTP status of an error by its gRPC code; all others are 500."""
_log = logging.getLogger(__name__)


def make_app(
    client: Client, *, hosts: Iterable[str], read_only: bool = False, max_upload_bytes: int, secure: bool = False
) -> Starlette:
    """Builds the application.

    Args:
        client: Calls the adapter.
        hosts: The names under which the page is served; one of loopback stands for all of them.
        read_only: Refuse whatever changes something.
        max_upload_bytes: Maximum size of an uploaded file.
        secure: Whether it is served by HTTPS.
    """
    app = Starlette(
        routes=[
            Route("/", lambda _: RedirectResponse("/runs")),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
            *login.ROUTES,
            *compare.ROUTES,
            *recurring.ROUTES,
            *health.ROUTES,
        ],
        middleware=[
            Middleware(Guard, hosts=hosts, read_only=read_only, max_upload_bytes=max_upload_bytes, secure=secure)
        ],
        exception_handlers={
            AdapterError: _failed,
            CredentialsError: _insecure,
            HTTPException: _refused,
            Exception: _broken,
        },
    )
    app.state.client = client
    app.state.sessions = Sessions()
    app.state.read_only = read_only
    app.state.max_upload_bytes = max_upload_bytes
    return app


def http_status(error: AdapterError) -> HTTPStatus:
    """Returns the HTTP status of an error."""
    code = error.status if isinstance(error, CallFailedError) else error.code
    return _STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


def _failed(request: Request, error: Exception) -> Response:
    if isinstance(error, UnauthenticatedError) and request.method == "GET":
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(where, safe='')}", HTTPStatus.SEE_OTHER)
    if not isinstance(error, AdapterError):
        raise error
    status = http_status(error)
    return page.render(request, "error.html", status, title=status.phrase, error=error)


def _insecure(request: Request, error: Exception) -> Response:
    return page.render(request, "error.html", HTTPStatus.BAD_GATEWAY, title=str(error), error=None)


def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    title = "There is no such page." if error.status_code == HTTPStatus.NOT_FOUND else error.detail
    found = page.render(request, "error.html", error.status_code, title=title, error=None)
    found.headers.update(error.headers or {})
    return found


def _broken(request: Request, error: Exception) -> Response:
    _log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    title = "The page itself failed. Its log says why."
    return page.render(request, "error.html", HTTPStatus.INTERNAL_SERVER_ERROR, title=title, error=None)
