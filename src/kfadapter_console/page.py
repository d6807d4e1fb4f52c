"""What all pages share: views, actions, templates, links, forms."""

import hmac
import json
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
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
from starlette.routing import Route

from kfadapter_console.live import MEDIA_TYPE, Changes, Live
from kfadapter_console.security import CSRF_FIELD
from kfadapter_grpc.client import Client
from kfadapter_grpc.client.errors import http_status
from kfadapter_grpc.contract.errors import AdapterError, InvalidFieldError
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.contract.runs import RunState
from kfadapter_grpc.contract.spec import Json, Task
from kfadapter_grpc.folding import counted
from kfadapter_grpc.graph import graph_of, svg
from kfadapter_grpc.times import elapsed, shown_age, shown_duration, shown_time

STATIC = Path(__file__).parent / "static"
"""The folder of the script, the style sheet, the icon and the example."""
PAGE_SIZE = 50
"""How many items a page of a list shows."""
MAX_FIELDS = 1000
"""How many fields a form may have."""
_MAX_VALUE_LENGTH = 2000
_INVALID_FILTER = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}
T = TypeVar("T")
Values: TypeAlias = dict[str, object]
"""The values of a template."""
Result: TypeAlias = Values | str | Response
"""What handlers return: the values of a page, an address of this site, or a response."""
Handler: TypeAlias = Callable[..., Any]
"""Returns a `Result`; `view` and `action` say for what."""
Names: TypeAlias = tuple[str, ...]
"""The name of a declared task, after those of its groups."""


def client(request: Request) -> Client:
    """Returns the client that calls with the token of the request's session, or else with that of the command."""
    token = request.app.state.sessions.token(request.state.session)
    base: Client = request.app.state.client
    return base.on_behalf(
        request_id=str(uuid.uuid4()), authorization=(f"Bearer {token}",) if token else (), trace=request.headers
    )


# --- pages ----------------------------------------------------------------------------------------------------------


def view(path: str, handler: Handler, template: str = "", changes: Callable[..., Changes] | None = None) -> Route:
    """Responds with what the handler returns for a client, the query, and the parameters of the path.

    With `changes`, which gets the same, a request for events gets the content of the page whenever it has changed.
    """

    def endpoint(request: Request) -> Response:
        calls = client(request)
        handle = partial(handler, calls, request.query_params, **request.path_params)
        if changes and MEDIA_TYPE in request.headers.get("accept", "") and request.method == "GET":
            return Live(
                changes(calls, request.query_params, **request.path_params),
                lambda **read: fill(template, **_shared(request), **handle(**read)),
                calls.close,
            )
        return respond(request, handle(), template)

    return Route(path, endpoint)


def respond(request: Request, result: Result, template: str = "", status: int = HTTPStatus.OK) -> Response:
    """Redirects to an address, or renders values, beside which the template has the shared ones."""
    if isinstance(result, str):
        return RedirectResponse(local(result), HTTPStatus.SEE_OTHER)
    if isinstance(result, dict):
        return HTMLResponse(fill(template, "base.html", **_shared(request), **result), status)
    return result


def _shared(request: Request) -> Values:
    path = request.url.path

    def here(**changes: object) -> str:
        """Returns the address of this page, with these parameters of its query changed."""
        items = [pair for pair in request.query_params.multi_items() if pair[0] not in changes]
        query = urlencode([(name, value) for name, value in (*items, *changes.items()) if value])
        return path + (f"?{query}" if query else "")

    logins, session = request.app.state.sessions, request.state.session
    return {
        "csrf": logins.csrf(session),
        "logged_in": bool(logins.token(session)),
        "read_only": request.app.state.read_only,
        "origin": f"{request.url.scheme}://{request.url.netloc}",
        "path": path,
        "query": request.query_params,
        "here": here,
    }


def fill(template: str, layout: str = "", /, **values: object) -> str:
    """Renders a template, in a layout if set, which has its `title`; `ui` has the macros, which know the values."""
    values.setdefault("is_report", False)
    values["ui"] = TEMPLATES.get_template("macros.html").make_module(values)
    content = TEMPLATES.get_template(template).make_module(values)
    return TEMPLATES.get_template(layout).render(values, content=content) if layout else str(content)


def listed(read: Callable[[], Page[T]]) -> tuple[Page[T], str]:
    """Reads a page of a list; returns it, or else what is wrong with the filter."""
    try:
        return read(), ""
    except AdapterError as error:
        if http_status(error) not in _INVALID_FILTER:
            raise
        return Page(()), error.message


def attachment(chunks: Iterable[bytes], name: str, media_type: str, *, size: int | None = None) -> Response:
    """Sends a file as a download. If its first chunk cannot be read, the error becomes a page."""
    chunks = iter(chunks)
    first = next(chunks, b"")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    if size is not None:
        headers["content-length"] = str(size)
    return StreamingResponse(chain([first], chunks), HTTPStatus.OK, headers, media_type)


def link(*parts: str, **query: object) -> str:
    """Returns a path of this site, with a query if there is one, both escaped."""
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    return f"{path}?{urlencode(query, doseq=True)}" if query else path


def number(text: str) -> int:
    """Parses a number of an address; 0 if it is none or has more than 8 digits."""
    return int(text) if text.isdecimal() and len(text) < 9 else 0  # noqa: PLR2004


def local(address: str) -> str:
    """Returns an address of this site unchanged, and the start page instead of one that leads to another site."""
    return address if address.startswith("/") and address[1:2] not in {"/", "\\", "\t", "\n", "\r"} else "/"


# --- forms ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """The values of a form by field, and their problems; those of the whole form under an empty name."""

    values: Mapping[str, str]
    problems: Mapping[str, str] = field(default_factory=dict)


def post(path: str, handler: Callable[[Request, FormData], Response]) -> Route:
    """Parses a form, checks its CSRF token, and calls the handler in a thread."""

    async def endpoint(request: Request) -> Response:
        async with request.form(max_files=1, max_fields=MAX_FIELDS) as form:
            expected: str = request.app.state.sessions.csrf(request.state.session)
            if not hmac.compare_digest(str(form.get(CSRF_FIELD, "")).encode(), expected.encode()):
                raise HTTPException(
                    HTTPStatus.FORBIDDEN, "The form is out of date, or the browser sent no cookie. Reload its page."
                )
            request.state.sent = form.multi_items()
            return await run_in_threadpool(handler, request, form)

    return Route(path, endpoint, methods=["POST"])


def action(path: str, handler: Handler, again: Handler | None = None, template: str = "") -> Route:
    """Responds with what the handler returns for a client, a form, and the parameters of the path.

    An address is replaced by `back`, if set. If the handler fails, the view `again` shows the form with its problems.
    """

    def endpoint(request: Request, form: FormData) -> Response:
        ids, query = request.path_params, request.query_params
        try:
            result = handler(client(request), form, **ids)
        except AdapterError as error:
            if again is None:
                raise
            filled = Form(texts_of(form), problems_of(error, form.keys()))
            return respond(request, again(client(request), query, form=filled, **ids), template, http_status(error))
        return respond(request, query.get("back", result) if isinstance(result, str) else result, template)

    return post(path, endpoint)


def texts_of(form: FormData) -> dict[str, str]:
    """Returns the texts of a form by field, with the line breaks that were typed: browsers send CRLF."""
    return {name: value.replace("\r\n", "\n") for name, value in form.items() if isinstance(value, str)}


def pairs(text: str, name: str, separator: str = "\n") -> dict[str, str]:
    """Parses the `key=value` pairs of the field `name`, one in each line; a value may contain further `=`."""
    values: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.replace(separator, "\n").split("\n"))):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key or key in values:
            raise InvalidFieldError.of(name, f"'{line}' {'repeats a key' if key in values else 'is not KEY=VALUE'}")
        values[key] = value
    return values


def request_id(form: FormData) -> str:
    """Derives an idempotency key from all fields of a form, of which `once` differs each time the form is opened."""
    fields = [(name, getattr(one, "filename", one), getattr(one, "size", 0)) for name, one in form.multi_items()]
    return str(uuid.uuid5(uuid.NAMESPACE_URL, repr(fields)))


def problems_of(error: AdapterError, fields: Collection[str]) -> dict[str, str]:
    """Returns the violations of an error by field; an error without any is about the whole form."""
    problems: dict[str, list[str]] = {}
    for violation in error.violations:
        path = violation.field.removeprefix("metadata.")
        around = [known for known in fields if path == known or path.startswith((f"{known}.", f"{known}["))]
        nearest = max(around, key=len, default="")
        text = violation.description if path == nearest else f"{path}: {violation.description}"
        problems.setdefault(nearest, []).append(text)
    return {field: "\n".join(texts) for field, texts in problems.items()} or {"": error.message}


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


def format_value(value: Json, max_length: int = _MAX_VALUE_LENGTH) -> str:
    """Formats a value: text unchanged, numbers short, anything else as JSON; long ones are cut."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"  # noqa: PLR2004  exact below
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= max_length else text[:max_length] + "…"


def format_length(record: Any) -> str:  # noqa: ANN401  a run, a row or a task
    """Formats how long a run or task took, or has taken so far."""
    began = getattr(record, "started_at", None) or getattr(record, "created_at", None)
    took = elapsed(began, record.finished_at, datetime.now(timezone.utc), is_over=record.state.is_over)
    return "" if took is None else shown_duration(took)


def draw_graph(
    tasks: Sequence[Task], title: str, changes: Mapping[Names, str] | None = None, where: str = "", ids: str = "box-"
) -> Markup:
    """Draws declared tasks, marked as added, changed or removed; they link to their details on the page `where`."""
    graph, link = graph_of(tasks, states=changes), lambda node: f"{where}#task-{'/'.join(node.path)}"
    return Markup(svg(graph, title, embedded=True, states=changes, link=link, ids=ids))  # noqa: S704  it escapes


TEMPLATES = Environment(
    loader=PackageLoader("kfadapter_console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters.update(
    age=lambda moment: shown_age(moment, datetime.now(timezone.utc)),
    counted=counted,
    duration=shown_duration,
    exact=shown_time,
    length=format_length,
    value=format_value,
)
TEMPLATES.globals.update(graph=draw_graph, icons=ICONS, link=link, unique=uuid.uuid4)
