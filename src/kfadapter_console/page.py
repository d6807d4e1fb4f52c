"""What all pages share: the caller's client, templates, links, forms."""

import hmac
import json
import math
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from kfadapter_console.security import CSRF_FIELD, Sessions
from kfadapter_grpc.client import Client
from kfadapter_grpc.client.errors import http_status
from kfadapter_grpc.contract.errors import AdapterError, InvalidFieldError
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.spec import Json, Task
from kfadapter_grpc.folding import counted
from kfadapter_grpc.graph import Node, graph_of, svg
from kfadapter_grpc.times import elapsed, shown_age, shown_duration, shown_time

STATIC = Path(__file__).parent / "static"
"""The folder of the script, the style sheet, the icon and the example."""
PAGE_SIZE = 50
"""How many items a page of a list shows."""
MAX_FIELDS = 1000
"""How many fields a form may have."""
_LONGEST_VALUE = 2000
_WRONG_FILTER = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}
T = TypeVar("T")
Names: TypeAlias = tuple[str, ...]
"""The name of a declared task, after those of its groups."""


def sessions(request: Request) -> Sessions:
    """Returns the logins."""
    found: Sessions = request.app.state.sessions
    return found


def client(request: Request) -> Client:
    """Returns the client that calls with the token of the request's session, or else with that of the command."""
    token = sessions(request).token(request.state.session)
    base: Client = request.app.state.client
    return base.on_behalf(
        request_id=str(uuid.uuid4()), authorization=(f"Bearer {token}",) if token else (), trace=request.headers
    )


# --- answers --------------------------------------------------------------------------------------------------------


def render(request: Request, template: str, status: int = HTTPStatus.OK, /, **values: object) -> HTMLResponse:
    """Renders a page. Templates know what is passed, and what `text` adds."""
    return HTMLResponse(text(request, template, **values), status)


def text(request: Request, template: str, block: str = "", /, **values: object) -> str:
    """Renders a template, or one of its blocks, with `csrf`, `read_only`, `path` and `logged_in`."""
    return filled(
        template,
        block,
        is_report=False,
        csrf=sessions(request).csrf(request.state.session),
        read_only=request.app.state.read_only,
        path=request.url.path,
        logged_in=bool(sessions(request).token(request.state.session)),
        **values,
    )


def filled(template: str, block: str = "", /, **values: object) -> str:
    """Renders a template, or one of its blocks; `ui` has the macros, which know the same values."""
    found = TEMPLATES.get_template(template)
    values["ui"] = TEMPLATES.get_template("macros.html").make_module(values)
    return "".join(found.blocks[block](found.new_context(values))) if block else found.render(values)


def listed(read: Callable[[], Page[T]]) -> tuple[Page[T], str]:
    """Reads a page of a list; returns it, or else what is wrong with the filter."""
    try:
        return read(), ""
    except AdapterError as error:
        if http_status(error) not in _WRONG_FILTER:
            raise
        return Page(()), error.message


def back(where: str) -> RedirectResponse:
    """Redirects after a form to a path of this page."""
    return RedirectResponse(where, HTTPStatus.SEE_OTHER)


def attachment(pieces: Iterable[bytes], name: str, media_type: str, *, size: int | None = None) -> Response:
    """Sends a file to be kept. If its first piece cannot be read, the error becomes a page."""
    pieces = iter(pieces)
    first = next(pieces, b"")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if size is not None:
        headers["content-length"] = str(size)
    return StreamingResponse(chain([first], pieces), HTTPStatus.OK, headers, media_type)


def link(*parts: str, **query: object) -> str:
    """Returns a path of this page, with a query if there is one, both escaped."""
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    words = urlencode(query, doseq=True)
    return f"{path}?{words}" if words else path


def number(text: str) -> int:
    """Reads a number of an address; 0 if it is none, or is larger than any that is used."""
    return int(text) if text.isdecimal() and len(text) < 9 else 0  # noqa: PLR2004


def local(address: str) -> str:
    """Returns an address of this page as it is, and the start page instead of one that leads to another site."""
    return address if address.startswith("/") and address[1:2] not in {"/", "\\", "\t", "\n", "\r"} else "/"


# --- forms ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """What a form shows: values by the name of their field, and what is wrong with them; in general under no name."""

    values: Mapping[str, str]
    problems: Mapping[str, str] = field(default_factory=dict)


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


def texts_of(form: FormData) -> dict[str, str]:
    """Returns the texts of a form by their fields, with the line breaks that were typed: browsers send CRLF."""
    return {name: value.replace("\r\n", "\n") for name, value in form.items() if isinstance(value, str)}


def pairs(text: str, name: str, separator: str = "\n") -> dict[str, str]:
    """Parses `key=value` pairs of a field, one in each line; a value may contain further `=`."""
    found: dict[str, str] = {}
    for one in filter(None, map(str.strip, text.replace(separator, "\n").split("\n"))):
        key, equals, value = (part.strip() for part in one.partition("="))
        if not equals or not key or key in found:
            raise InvalidFieldError.of(name, f"'{one}' {'repeats a key' if key in found else 'is not KEY=VALUE'}")
        found[key] = value
    return found


def request_id(form: FormData) -> str:
    """Derives an idempotency key from all that was filled in: a form that is sent twice does its work once.

    A form has a hidden field `once`, which differs each time the form is opened.
    """
    fields = [(name, getattr(one, "filename", one), getattr(one, "size", 0)) for name, one in form.multi_items()]
    return str(uuid.uuid5(uuid.NAMESPACE_URL, repr(fields)))


def problems_of(error: AdapterError, fields: Collection[str], name: str = "") -> dict[str, str]:
    """Returns what an error says of each of these fields; one without violations is about the field `name`."""
    found: dict[str, list[str]] = {}
    for one in error.violations:
        path = one.field.removeprefix("metadata.")
        around = [known for known in fields if path == known or path.startswith((f"{known}.", f"{known}["))]
        place = max(around, key=len, default="")
        found.setdefault(place, []).append(one.description if path == place else f"{path}: {one.description}")
    return {place: "\n".join(texts) for place, texts in found.items()} or {name: error.message}


# --- templates ------------------------------------------------------------------------------------------------------

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


def length_of(record: Any) -> str:  # noqa: ANN401  a run, a row or a task
    """Formats how long a run or task took, or has taken so far."""
    began = getattr(record, "started_at", None) or getattr(record, "created_at", None)
    took = elapsed(began, record.finished_at, datetime.now(timezone.utc), is_over=record.state.is_over)
    return "" if took is None else shown_duration(took)


def picture(
    tasks: Sequence[Task],
    title: str,
    states: Mapping[Names, str] | None = None,
    words: Mapping[Names, str] | None = None,
    *,
    closed: Collection[Names] = (),
    where: str = "",
    link: Callable[[Node], str] | None = None,
    ids: str = "box-",
) -> Markup:
    """Draws declared tasks with their states; they lead to their details on the page `where`, or where `link` says."""
    graph = graph_of(tasks, states=words, closed=closed)
    link = link or (lambda node: f"{where}#task-{'/'.join(node.path)}")
    return Markup(svg(graph, title, embedded=True, states=states, link=link, ids=ids))  # noqa: S704  it escapes


TEMPLATES = Environment(
    loader=PackageLoader("kfadapter_console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters.update(
    value=shown_value, exact=shown_time, duration=shown_duration, length=length_of, counted=counted
)
TEMPLATES.filters["age"] = lambda moment: shown_age(moment, datetime.now(timezone.utc))
TEMPLATES.globals.update(icons=ICONS, link=link, picture=picture)
