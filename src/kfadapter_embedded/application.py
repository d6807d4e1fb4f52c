"""All routes of the embedded KFP in one application."""

from __future__ import annotations

import errno
import ipaddress
import logging
import re
import sqlite3
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import KfpError, UploadError, exhausted, internal, json_response, unknown_route
from .experiments import Experiments
from .pipelines import Pipelines
from .recurring_runs import RecurringRuns
from .run_logs import RunLogs
from .runs import Runs
from .store import Store
from .tasks import Tasks
from .uploads import Uploads
from .workflow import Workflows

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
_refused_page = PlainTextResponse("pages from elsewhere may not use this server\n", HTTPStatus.FORBIDDEN)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def application(store: Store, folder: Path, runs: Runs) -> Starlette:
    """Creates the application; the data folder is named in the error when its disk is full."""
    # The fixed upload paths come before the pattern that would match them as ids.
    routes = [
        Route("/apis/v2beta1/healthz", _health(pipeline_store="database"), methods=["GET", "POST"]),
        Route("/apis/v1beta1/healthz", _health(), methods=["GET", "POST"]),
        *Uploads(store).routes(),
        *Pipelines(store).routes(),
        *Experiments(store).routes(),
        *RunLogs(store, runs.folders).routes(),
        *Tasks(store).routes(),
        *Workflows(store).routes(),
        *runs.routes(),
        *RecurringRuns(store).routes(),
    ]

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, KfpError | UploadError):
            return error.response()
        if isinstance(error, HTTPException):
            return unknown_route(request.url.path, error.status_code)
        if _is_full(error):
            words = "free space there, or delete runs that are no longer needed, with their files"
            return exhausted(f"the disk that {folder} is on is full: {words}").response()
        name = request.headers.get("x-request-id", "")
        request_id = name if _REQUEST_ID.fullmatch(name) else "unnamed"
        _log.error("%s %s failed (request %s)", request.method, request.url.path, request_id, exc_info=error)
        return internal().response()

    known = (KfpError, UploadError, HTTPException, OSError, sqlite3.OperationalError, Exception)
    handlers = dict.fromkeys(known, failed)
    app = Starlette(routes=routes, exception_handlers=handlers, middleware=[Middleware(_NoForeignPages)])
    app.router.redirect_slashes = False
    return app


class _NoForeignPages:
    """Rejects requests that a browser sends from a page of another origin.

    This server has no authentication: without this, any page that a local user opens could upload pipelines or read the
    logs of runs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origin, host = headers.get("origin", ""), headers.get("host", "")
        # DNS rebinding: a foreign name in `Host` may resolve to this machine so that a page can read from it.
        foreign = (origin and _host(origin) not in _THIS_MACHINE) or (host and not _is_address(_host(f"//{host}")))
        await (_refused_page if foreign else self._app)(scope, receive, send)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    """Whether a host is an IP address or localhost."""
    if host in _THIS_MACHINE:
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _health(**more: str) -> Callable[[Request], Response]:
    body = {"commit_sha": "unknown", "tag_name": "embedded", "multi_user": False, **more}
    return lambda _request: json_response(body)


def _is_full(error: Exception) -> bool:
    """Whether the error means that the disk is full; SQLite reports it only in its message."""
    return "disk is full" in str(error) if isinstance(error, sqlite3.Error) else getattr(error, "errno", None) in _FULL
