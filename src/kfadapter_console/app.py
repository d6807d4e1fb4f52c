"""The application: its routes, its static files, login, health, its error pages; and how it is served.

`python -m kfadapter_console.app SOCKET TARGET MAX_UPLOAD_BYTES` is the page as a child of `kfadapter dev`. SOCKET is
the number of an inherited listening socket. It is served until the parent closes standard input, or dies. Neither
adapter nor page requires a token: both are on loopback.
"""

import logging
import os
import socket
import ssl
import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, closing, suppress
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

from starlette.applications import Starlette
from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from kfadapter_console import compare, page, pipelines, run, runs, start
from kfadapter_console.security import HEALTH_PATH, IDLE_SECONDS, MAX_CONNECTIONS, Connection, Guard, Sessions
from kfadapter_grpc.client import CannotConnectError, Client
from kfadapter_grpc.client.credentials import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, CredentialsError, checked_token
from kfadapter_grpc.client.errors import http_status
from kfadapter_grpc.contract.errors import AdapterError, UnauthenticatedError
from kfadapter_grpc.daemon import http
from kfadapter_grpc.doctor.caller import examine
from kfadapter_grpc.doctor.verdict import Status
from kfadapter_grpc.graph import STYLE
from kfadapter_grpc.version import installed_version

_log = logging.getLogger(__name__)


def make_app(client: Client, *, hosts: Iterable[str], read_only: bool = False, max_upload_bytes: int) -> ASGIApp:
    """Builds the application; `hosts` are the names under which the page is served, besides those of loopback."""
    app = Starlette(
        routes=[
            Route("/", lambda _: RedirectResponse("/runs")),
            Route(HEALTH_PATH, lambda _: PlainTextResponse("ok\n")),
            Mount("/static", StaticFiles(directory=page.STATIC)),
            Route("/graph.css", lambda _: Response(STYLE, media_type="text/css")),
            Route("/login", _login_form),
            page.post("/login", _log_in),
            page.post("/logout", _log_out),
            page.view("/health", _health, "health.html"),
            *(route for module in (compare, pipelines, start, runs, run) for route in module.ROUTES),
        ],
        exception_handlers=dict.fromkeys((AdapterError, CredentialsError, HTTPException, Exception), _failed),
    )
    app.state.client = client
    app.state.sessions = Sessions()
    app.state.read_only = read_only
    # Outside of the application, as the page of an unexpected error is made outside of its middleware.
    return Guard(app, hosts=hosts, read_only=read_only, max_upload_bytes=max_upload_bytes)


def serving(app: ASGIApp, listener: socket.socket, tls: ssl.SSLContext | None = None) -> AbstractContextManager[None]:
    """Serves the application on a listening socket while entered."""
    # It repeats the traceback of what is logged here with the request, and reports every malformed request.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    limits = {"limit_concurrency": MAX_CONNECTIONS, "timeout_keep_alive": IDLE_SECONDS}
    return http.serving(app, listener, "page", tls, http=Connection, **limits)


def _login_form(request: Request) -> Response:
    address = page.local(request.query_params.get("next", "/"))
    return page.respond(request, {"next": address, "form": page.Form({})}, "login.html")


def _log_in(request: Request, form: FormData) -> Response:
    """Tries the token with the cheapest call, and keeps it if the adapter accepts it."""
    token, address = str(form.get("token", "")).strip(), page.local(str(form.get("next", "/")))
    client: Client = request.app.state.client
    try:
        checked_token("what you entered", token)
        calls = client.on_behalf(request_id="", authorization=(f"Bearer {token}",))
        calls.pipelines.list(page_size=1).page()
    except (AdapterError, CredentialsError) as error:
        form_again = page.Form({}, {"token": str(error)})
        return page.respond(request, {"next": address, "form": form_again}, "login.html", HTTPStatus.UNAUTHORIZED)
    request.app.state.sessions.log_out(request.state.session)
    request.state.session = request.app.state.sessions.log_in(token)
    return page.respond(request, address)


def _log_out(request: Request, _: FormData) -> Response:
    request.app.state.sessions.log_out(request.state.session)
    return page.respond(request, "/login")


def _health(client: Client, _: QueryParams) -> page.Values:
    """Runs the doctor's checks of a caller."""
    verdicts = list(examine(client))
    can_read = any(verdict.check == "read" and verdict.status is Status.OK for verdict in verdicts)
    kfp_version = "unknown"
    with suppress(AdapterError):  # of an older adapter, which does not report it
        kfp_version = client.identity.who_am_i().kfp_version
    return {
        "target": client.target,
        "adapter_version": client.adapter_version() if can_read else "unknown",
        "kfp_version": kfp_version,
        "page_version": installed_version(),
        "verdicts": verdicts,
    }


# --- errors ---------------------------------------------------------------------------------------------------------

_TITLE_AND_ADVICE: dict[int, tuple[str, str]] = {
    HTTPStatus.BAD_REQUEST: ("This cannot be done", "Go back and change what was entered."),
    HTTPStatus.UNAUTHORIZED: ("Log in first", "Your login has ended; what you entered was not sent on."),
    HTTPStatus.FORBIDDEN: ("Not permitted", "Log in with a token that may do this, or ask those who run the adapter."),
    HTTPStatus.NOT_FOUND: ("Not found", "It may have been deleted since. Search for it in the lists above."),
    HTTPStatus.CONFLICT: ("This cannot be done now", "Check its current state, which may have changed since."),
    HTTPStatus.TOO_MANY_REQUESTS: ("Too much at once", "Wait for some seconds, then try again."),
    HTTPStatus.NOT_IMPLEMENTED: ("Kubeflow Pipelines cannot do this", "A newer one may."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Unreachable", "This page retries every few seconds until there is a response."),
    HTTPStatus.GATEWAY_TIMEOUT: ("No response in time", "Try again; Health shows what is slow."),
}
_TEMPORARY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
"""After these a form can be sent again, as its fields make its idempotency key."""


def _failed(request: Request, error: Exception) -> Response:
    """Renders an error: why, and what to do, with a link back."""
    address = page.local(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    is_read = request.method in {"GET", "HEAD"}
    headers: Mapping[str, str] | None = None
    match error:
        case UnauthenticatedError() if is_read:
            return page.respond(request, page.link("login", next=address))
        case AdapterError():
            status = http_status(error)
            title, advice = _TITLE_AND_ADVICE.get(status, ("This failed", "Try again; Health shows more."))
            title = "The adapter is unreachable" if isinstance(error, CannotConnectError) else title
        case CredentialsError():
            status, title, advice = HTTPStatus.BAD_GATEWAY, "The token is not sent", str(error)
        case HTTPException(status_code=HTTPStatus.NOT_FOUND as status):
            title, advice = "There is no such page", "The links above lead to all that there are."
        case HTTPException(status_code=status, detail=advice, headers=headers):
            title = HTTPStatus(status).phrase
        case _:
            _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
            status, title = HTTPStatus.INTERNAL_SERVER_ERROR, "This page failed"
            advice = "That is a defect of kfadapter. The output of its process has the cause."
    referrer = urlsplit(request.headers.get("referer", ""))
    is_ours = referrer.netloc == request.url.netloc
    sent: list[tuple[str, object]] = getattr(request.state, "sent", [])
    can_resend = status in _TEMPORARY and all(isinstance(value, str) for _, value in sent)  # a file is gone
    values: page.Values = {
        "title": title,
        "advice": advice,
        "error": error if isinstance(error, AdapterError) else None,
        "code": int(status),
        "address": address,
        "is_read": is_read,
        "before": page.local(urlunsplit(("", "", *referrer[2:4], ""))) if is_ours else "",
        "fields": sent if can_resend else [],
    }
    response = page.respond(request, values, "error.html", status)
    response.headers.update(headers or {})
    return response


if __name__ == "__main__":
    number, target, max_upload_bytes = sys.argv[1:]
    for name in (TOKEN_VARIABLE, TOKEN_FILE_VARIABLE):
        os.environ.pop(name, None)
    calls = Client(target, tls=False)
    application = make_app(calls, hosts=[], max_upload_bytes=int(max_upload_bytes))
    with closing(calls), serving(application, socket.socket(fileno=int(number))):
        sys.stdin.buffer.read()
