"""The application: its routes, its static files, login, health, and its error pages."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

from starlette.applications import Starlette
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from kfadapter_console import compare, page, pipelines, run, runs, start, task
from kfadapter_console.security import HEALTH_PATH, Guard, Sessions
from kfadapter_grpc.client import CannotConnectError, Client
from kfadapter_grpc.client.credentials import CredentialsError, checked_token
from kfadapter_grpc.client.errors import http_status
from kfadapter_grpc.contract.errors import AdapterError, UnauthenticatedError
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
            Route("/login", _login_form),
            Route("/login", page.action(_log_in), methods=["POST"]),
            Route("/logout", page.action(_log_out), methods=["POST"]),
            Route("/health", _health),
            *compare.ROUTES,
            *pipelines.ROUTES,
            *start.ROUTES,
            Route("/graph.css", lambda _: Response(STYLE, media_type="text/css")),
            *runs.ROUTES,
            *run.ROUTES,
            *task.ROUTES,
        ],
        exception_handlers=dict.fromkeys((AdapterError, CredentialsError, HTTPException, Exception), _failed),
    )
    app.state.client = client
    app.state.sessions = Sessions()
    app.state.read_only = read_only
    app.state.max_upload_bytes = max_upload_bytes
    # Outside of the application, as the page of an unexpected error is made outside of its middleware.
    return Guard(app, hosts=hosts, read_only=read_only, max_upload_bytes=max_upload_bytes)


def _login_form(request: Request) -> Response:
    return page.render(
        request, "login.html", next=page.local(request.query_params.get("next", "/")), form=page.Form({})
    )


def _log_in(request: Request, form: FormData) -> Response:
    """Tries the token with the cheapest call, and keeps it if the adapter accepts it."""
    token, following = str(form.get("token", "")).strip(), page.local(str(form.get("next", "/")))
    base: Client = request.app.state.client
    try:
        checked_token("what you entered", token)
        calls = base.on_behalf(request_id="", authorization=(f"Bearer {token}",))
        calls.pipelines.list(page_size=1).page()
    except (AdapterError, CredentialsError) as error:
        shown = page.Form({}, {"token": str(error)})
        return page.render(request, "login.html", HTTPStatus.UNAUTHORIZED, next=following, form=shown)
    page.sessions(request).log_out(request.state.session)
    request.state.session = page.sessions(request).log_in(token)
    return page.back(following)


def _log_out(request: Request, form: FormData) -> Response:  # noqa: ARG001  an action
    """Forgets the token."""
    page.sessions(request).log_out(request.state.session)
    return page.back("/login")


def _health(request: Request) -> Response:
    """Runs the doctor's checks of a caller."""
    calls = page.client(request)
    verdicts = list(examine(calls))
    can_read = any(one.check == "read" and one.status is Status.OK for one in verdicts)
    kfp = "unknown"
    with suppress(AdapterError):  # an older adapter does not know it
        kfp = calls.identity.who_am_i().kfp_version
    facts = [
        ("Adapter", calls.target),
        ("Version of the adapter", calls.adapter_version() if can_read else "unknown"),
        ("Version of Kubeflow Pipelines", kfp),
        ("Page", f"{request.url.scheme}://{request.url.netloc}"),
        ("Version of the page", installed_version()),
    ]
    return page.render(request, "health.html", facts=facts, verdicts=verdicts, target=calls.target)


# --- errors ---------------------------------------------------------------------------------------------------------

_WAYS_OUT: dict[int, tuple[str, str]] = {
    HTTPStatus.BAD_REQUEST: ("This cannot be done", "Go back and change what was entered."),
    HTTPStatus.UNAUTHORIZED: ("Log in first", "Your login has ended; what you entered was not sent on."),
    HTTPStatus.FORBIDDEN: ("Not permitted", "Log in with a token that may do this, or ask those who run the adapter."),
    HTTPStatus.NOT_FOUND: ("Not found", "It may have been deleted since. Search for it in the lists above."),
    HTTPStatus.CONFLICT: ("This cannot be done now", "Check its current state, which may have changed since."),
    HTTPStatus.TOO_MANY_REQUESTS: ("Too much at once", "Wait for some seconds, then try again."),
    HTTPStatus.NOT_IMPLEMENTED: ("Kubeflow Pipelines cannot do this", "A newer one may."),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        "Unreachable",
        "This page retries every few seconds, and continues once there is a response.",
    ),
    HTTPStatus.GATEWAY_TIMEOUT: ("No response in time", "Try again; Health shows what is slow."),
}
"""What an error's page is titled, and what to do, by its status."""
_PASSING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
"""After them a form can be sent again; its idempotency key is made of what it holds."""


def _failed(request: Request, error: Exception) -> Response:
    """Renders an error: why, and what to do, with a link to where the request came from."""
    here = page.local(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    is_read = request.method in {"GET", "HEAD"}
    headers: Mapping[str, str] | None = None
    match error:
        case UnauthenticatedError() if is_read:
            return page.back(page.link("login", next=here))
        case AdapterError():
            status = http_status(error)
            title, advice = _WAYS_OUT.get(status, ("This failed", "Try again; Health shows more."))
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
    came_from = urlsplit(request.headers.get("referer", ""))
    is_ours = came_from.netloc == request.url.netloc
    sent: list[tuple[str, object]] = getattr(request.state, "sent", [])
    is_complete = all(isinstance(value, str) for _, value in sent)  # a file is gone
    shown = page.render(
        request,
        "error.html",
        status,
        title=title,
        advice=advice,
        error=error if isinstance(error, AdapterError) else None,
        code=int(status),
        here=here,
        is_read=is_read,
        before=page.local(urlunsplit(("", "", *came_from[2:4], ""))) if is_ours else "",
        fields=sent if is_complete and status in _PASSING else [],
    )
    shown.headers.update(headers or {})
    return shown
