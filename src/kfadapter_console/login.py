"""Login before an adapter that requires a token: kept in memory, behind a cookie that scripts cannot read."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.routing import Route

from kfadapter_console import page
from kfadapter_console.security import SESSION_SECONDS, cookie_name, is_https
from kfadapter_grpc.client.credentials import CredentialsError
from kfadapter_grpc.contract.errors import AdapterError

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_grpc.client import Client


def show(request: Request) -> Response:
    """Shows the form."""
    return page.render(request, "login.html", next=page.local(request.query_params.get("next", "/")), wrong="")


def log_in(request: Request, form: FormData) -> Response:
    """Tries the token with the cheapest call, and keeps it if the adapter accepts it."""
    token, following = str(form.get("token", "")).strip(), page.local(str(form.get("next", "/")))
    base: Client = request.app.state.client
    try:
        calls = base.on_behalf(request_id="", authorization=(f"Bearer {token}",))
        calls.pipelines.list(page_size=1).page()
    except (AdapterError, CredentialsError) as error:
        return page.render(request, "login.html", HTTPStatus.UNAUTHORIZED, next=following, wrong=str(error))
    found = page.back(following)
    page.sessions(request).log_out(request.state.session)
    found.set_cookie(
        cookie_name(request.scope),
        page.sessions(request).log_in(token),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="lax",
        secure=is_https(request.scope),
    )
    return found


def log_out(request: Request, form: FormData) -> Response:  # noqa: ARG001  an action
    """Forgets the token."""
    page.sessions(request).log_out(request.state.session)
    return page.back("/login")


ROUTES = [
    Route("/login", show),
    Route("/login", page.action(log_in), methods=["POST"]),
    Route("/logout", page.action(log_out), methods=["POST"]),
]
