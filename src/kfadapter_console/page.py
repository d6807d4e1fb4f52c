"""What all pages share: the caller's client, templates, forms."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import uuid
from datetime import datetime, timezone
from functools import cache
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, StreamingResponse

from kfadapter_console.security import CSRF_FIELD
from kfadapter_grpc.client import CallFailedError
from kfadapter_grpc.client.errors import HTTP_STATUS
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.folding import counted
from kfadapter_grpc.times import shown_age, shown_duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.background import BackgroundTask
    from starlette.datastructures import FormData
    from starlette.requests import Request
    from starlette.responses import Response

    from kfadapter_console.security import Sessions
    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.errors import AdapterError
    from kfadapter_grpc.contract.spec import Json

STATIC = Path(__file__).parent / "static"
"""The folder of the script, the style sheet and the icon."""
PAGE_SIZE = 50
"""How many items a page of a list shows."""
MAX_FIELDS = 1000
"""How many fields a form may have."""
_LONGEST_VALUE = 2000


def client(request: Request) -> Client:
    """Returns the client that calls with the token of the request's session, or else with that of the command."""
    token = sessions(request).token(request.state.session)
    base: Client = request.app.state.client
    return base.on_behalf(
        request_id=str(uuid.uuid4()), authorization=(f"Bearer {token}",) if token else (), trace=request.headers
    )


def sessions(request: Request) -> Sessions:
    """Returns the logins."""
    found: Sessions = request.app.state.sessions
    return found


def render(request: Request, template: str, /, status: int = HTTPStatus.OK, **values: object) -> HTMLResponse:
    """Renders a page. Templates know what is passed, and `csrf`, `read_only`, `path`, `now`."""
    return HTMLResponse(text(request, template, **values), status)


def text(request: Request, template: str, /, **values: object) -> str:
    """Renders a template as text, as `render` does."""
    return TEMPLATES.get_template(template).render(
        csrf=sessions(request).csrf(request.state.session),
        read_only=request.app.state.read_only,
        path=request.url.path,
        now=datetime.now(timezone.utc),
        logged_in=bool(sessions(request).token(request.state.session)),
        **values,
    )


def back(where: str) -> RedirectResponse:
    """Redirects after a form to a path of this page."""
    return RedirectResponse(where, HTTPStatus.SEE_OTHER)


def attachment(
    pieces: Iterable[bytes], name: str, media_type: str, *, size: int | None = None, task: BackgroundTask | None = None
) -> Response:
    """Sends a file to be kept. If its first piece cannot be read, the error becomes a page."""
    pieces = iter(pieces)
    first = next(pieces, b"")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if size is not None:
        headers["content-length"] = str(size)
    return StreamingResponse(chain([first], pieces), HTTPStatus.OK, headers, media_type, task)


def action(handler: Callable[[Request, FormData], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Turns a function of a request and its form into an endpoint: reads the form, checks its CSRF token, calls it."""

    async def endpoint(request: Request) -> Response:
        async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
            expected = sessions(request).csrf(request.state.session)
            if not hmac.compare_digest(str(form.get(CSRF_FIELD, "")).encode(), expected.encode()):
                raise HTTPException(
                    HTTPStatus.FORBIDDEN, "The form is out of date, or the browser sent no cookie. Reload its page."
                )
            request.state.sent = form.multi_items()
            return await run_in_threadpool(handler, request, form)

    return endpoint


def http_status(error: AdapterError) -> int:
    """Returns the HTTP status of an error."""
    code = error.status if isinstance(error, CallFailedError) else error.code
    return HTTP_STATUS.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)


def path(*parts: str) -> str:
    """Joins parts to a path of this page, and escapes them."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def local(address: str) -> str:
    """Returns an address of this page as it is, and the start page instead of one that leads to another site."""
    return address if address.startswith("/") and address[1:2] not in {"/", "\\", "\t", "\n", "\r"} else "/"


@cache
def static(name: str) -> str:
    """Returns the address of a static file, which changes with its content."""
    return f"/static/{name}?{hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]}"


def markdown(source: str) -> str:
    """Returns Markdown as HTML; HTML inside it is escaped."""
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(source))


# --- filters of templates -------------------------------------------------------------------------------------------

ICONS = {
    RunState.PENDING: "◌",
    RunState.RUNNING: "●",
    RunState.SUCCEEDED: "✓",
    RunState.FAILED: "✗",
    RunState.SKIPPED: "–",
    RunState.OMITTED: "–",
    RunState.CANCELING: "◼",
    RunState.CANCELED: "◼",
    RunState.PAUSED: "‖",
}


def shown_value(value: Json, longest: int = _LONGEST_VALUE) -> str:
    """Formats a value: text as it is, numbers short, anything else as JSON; long ones are cut."""
    if isinstance(value, float):
        return str(int(value)) if math.isfinite(value) and value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"  # noqa: PLR2004  all below are exact
    found = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found if len(found) <= longest else found[:longest] + "…"


def exact(moment: datetime | None) -> str:
    """Formats a time of a record, which is in UTC, exactly."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else ""


def length_of(record: Any) -> str:  # noqa: ANN401  a run or a task
    """Formats how long a run or task took, or has taken so far."""
    began = getattr(record, "started_at", None) or getattr(record, "created_at", None)
    return shown_duration((record.finished_at or datetime.now(timezone.utc)) - began) if began else ""


TEMPLATES = Environment(
    loader=PackageLoader("kfadapter_console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters.update(value=shown_value, exact=exact, duration=shown_duration, length=length_of, counted=counted)
TEMPLATES.filters["age"] = lambda moment: shown_age(moment, datetime.now(timezone.utc))
TEMPLATES.globals.update(icons=ICONS, link=path, static=static)
