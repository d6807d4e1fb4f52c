"""The application: each request becomes calls to an adapter on behalf of its caller, and always gets a response."""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, unquote_to_bytes

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route, compile_path

from kfadapter_grpc.client.credentials import CredentialsError
from kfadapter_grpc.contract.errors import AdapterError, DrainingError, InternalError, OverloadedError
from kfadapter_grpc.methods import upload_seconds
from kfadapter_oran.legacy_http import limits
from kfadapter_oran.legacy_http.body import Body, UploadForm
from kfadapter_oran.legacy_http.routes import ROUTES, RouteRequest
from kfadapter_oran.responses import error_body, http_status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send
    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.client import Client
    from kfadapter_grpc.contract.spec import Json
    from kfadapter_oran.legacy_http.routes import LegacyRoute

NO_ROUTE = "none"
"""What the log and metrics call the route of a request that has none."""
_JSON = re.compile(r"application/json\s*(;|$)", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)


class LegacyHttp:
    """The ASGI application; each connection carries one request."""

    def __init__(
        self,
        client: Client,
        *,
        max_upload_bytes: int,
        observe: Callable[[str, int], None] = lambda _route, _status: None,
    ) -> None:
        """Calls the adapter with `client`, and closes it; `observe` gets the route and status of each response."""
        self._client = client
        self._max_upload_bytes = max_upload_bytes
        self._observe = observe
        self._threads = ThreadPoolExecutor(limits.MAX_REQUESTS, thread_name_prefix="http")
        self._in_flight: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._requests = 0
        self._draining = False
        self._log: FilteringBoundLogger = structlog.get_logger()
        self._starlette = Starlette(
            routes=[Route(route.path, self._endpoint(route), methods=[route.method]) for route in ROUTES],
            exception_handlers={HTTPException: _rejected, AdapterError: _failed, Exception: self._internal_error},
        )
        self._starlette.router.redirect_slashes = False

    def drain(self, seconds: float) -> bool:
        """Rejects new requests; waits up to `seconds` for requests in flight, and returns whether all have finished."""
        with self._changed:
            self._draining = True
            return self._changed.wait_for(lambda: not self._requests, timeout=seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Responds to a request, and reads the rest of it before the connection is closed."""
        began, status = time.perf_counter(), 0
        headers = Request(scope).headers
        length, received = headers.get("content-length"), headers.get("x-request-id", "")
        request_id = received if _REQUEST_ID.fullmatch(received) else str(uuid.uuid4())
        body = Body(receive, content_length=int(length) if length else None, awaits_continue="expect" in headers)
        state = scope["state"] = {"request_id": request_id, "route": NO_ROUTE, "reason": "", "body": body}

        async def respond(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                await send({**message, "headers": [*message["headers"], *_final_headers(request_id)]})
            else:
                await send({**message, "more_body": True})

        with self._counting():
            try:
                await self._route(scope, receive, respond)
            finally:
                self.log(scope["method"], scope["client"][0], state, status, time.perf_counter() - began)
        await body.drain()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self) -> None:
        """Makes no more calls, and cancels those in flight. Closes the client."""
        self._client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def refusal(self, status: int, message: str, peer: str) -> Response:
        """Returns the response to a malformed request."""
        state = {"request_id": str(uuid.uuid4()), "route": NO_ROUTE, "reason": HTTPStatus(status).name}
        response = _Json(error_body(status, message, state["reason"], state["request_id"]), status)
        response.raw_headers += _final_headers(state["request_id"])
        self.log("", peer, state, status, 0.0)
        return response

    def log(self, method: str, peer: str, state: Mapping[str, Any], status: int, seconds: float) -> None:
        """Logs a request, and counts it."""
        self._observe(state["route"], status)
        log = self._log.warning if status >= HTTPStatus.INTERNAL_SERVER_ERROR else self._log.info
        log(
            "http",
            request_id=state["request_id"],
            method=method,
            route=state["route"],
            status=status,
            seconds=round(seconds, 4),
            peer=f"http:{peer}",
            **({"reason": state["reason"]} if state["reason"] else {}),
        )

    @contextmanager
    def _counting(self) -> Iterator[None]:
        with self._changed:
            self._requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1
                self._changed.notify_all()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            scope["path"] = _path(scope)
        except HTTPException as error:
            response = await _rejected(Request(scope), error)
            await response(scope, receive, send)
        else:
            with suppress(Exception):  # Starlette has responded and logged it, and raises it again
                await self._starlette(scope, receive, send)

    def _endpoint(self, route: LegacyRoute) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            request.state.route = route.path
            if route.handler is None:
                return HTMLResponse("Okay")
            self._check_accepts(request)
            handler, parsed = route.handler, await self._read(request, route.body_type)
            return await self._work(request, lambda: handler(parsed))

        return endpoint

    def _check_accepts(self, request: Request) -> None:
        if self._draining:
            raise DrainingError(
                "this adapter is shutting down; try again; another replica, or the restarted one, responds"
            )
        if request.headers.get("origin"):
            # Otherwise any page that a user opens could call an adapter on the same machine on behalf of the user.
            raise HTTPException(HTTPStatus.FORBIDDEN, "pages in browsers may not call this adapter")

    async def _read(self, request: Request, body_type: str) -> RouteRequest:
        """Reads a request, except a file in its body."""
        body: Body = request.state.body
        content_type = request.headers.get("content-type", "")
        details, form, seconds = None, None, limits.CALL_SECONDS
        if body_type == "json":
            if not _JSON.match(content_type):
                text = "send JSON, with Content-Type: application/json"
                raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)
            details = await body.read_json()
        elif body_type == "form":
            body.check_length(self._max_upload_bytes + limits.FRAMING_BYTES)
            form, seconds = UploadForm(content_type, body.read), upload_seconds(self._max_upload_bytes)
            body.set_deadline(limits.BODY_SECONDS)
            await form.begin()
            body.set_deadline(math.inf)  # the file may take as long as the call
        try:
            client = self._client.on_behalf(
                request_id=request.state.request_id,
                authorization=request.headers.getlist("authorization"),
                seconds=seconds,
                trace=request.headers,
            )
        except CredentialsError as error:
            raise HTTPException(HTTPStatus.FORBIDDEN, str(error)) from None
        return RouteRequest(
            client=client,
            name=unquote(request.path_params.get("name", "")),
            details=details,
            file=form.file() if form else None,
            description=form.description if form else "",
            request_id=request.headers.get("idempotency-key", ""),
        )

    async def _work(self, request: Request, call: Callable[[], Mapping[str, Json]]) -> Response:
        """Makes the calls of a request on another thread; rejects the request if no slot is free."""
        peer = request.scope["client"][0]
        if self._in_flight.total() >= limits.MAX_REQUESTS:
            raise OverloadedError(f"{limits.MAX_REQUESTS} requests are being served; wait a moment and try again")
        if self._in_flight[peer] >= limits.MAX_REQUESTS - limits.MAX_REQUESTS // limits.SHARE:
            raise OverloadedError("the last slots are reserved for other callers; wait a moment and try again")
        self._in_flight[peer] += 1
        try:
            return _Json(await asyncio.get_running_loop().run_in_executor(self._threads, call))
        finally:
            self._in_flight -= Counter([peer])

    async def _internal_error(self, request: Request, error: Exception) -> Response:
        request_id = request.state.request_id
        self._log.error("a request could not be served", request_id=request_id, exc_info=error)
        return await _failed(request, InternalError.of(request_id))


class _Json(JSONResponse):
    """ASCII like Flask's JSON, so that clients which decode JSON as Latin-1 read it correctly."""

    def render(self, content: object) -> bytes:
        return json.dumps(content).encode("ascii")


async def _rejected(request: Request, error: Exception) -> Response:
    """Returns the response to a request rejected with an HTTP status."""
    assert isinstance(error, HTTPException)  # noqa: S101  the handler of just this
    status, message, headers = HTTPStatus(error.status_code), error.detail, None
    if status is HTTPStatus.NOT_FOUND:
        message = "unknown route; docs/training-manager.md lists them"
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(one.method for one in ROUTES if compile_path(one.path)[0].match(request.scope["path"]))
        message, headers = f"this route takes {allowed}, not {request.method}", {"Allow": allowed}
    return _failure(request, status, message, status.name, headers)


async def _failed(request: Request, error: Exception) -> Response:
    """Returns the response to a request whose call failed."""
    assert isinstance(error, AdapterError)  # noqa: S101  the handler of just this
    status, headers = http_status(error), {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return _failure(request, status, error.message, error.reason, headers)


def _failure(
    request: Request, status: int, message: str, reason: str, headers: Mapping[str, str] | None = None
) -> Response:
    request.state.reason = reason
    return _Json(error_body(status, message, reason, request.state.request_id), status, headers)


def _final_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-request-id", request_id.encode("ascii")), (b"connection", b"close")]


def _path(scope: Scope) -> str:
    """The path with each segment percent-encoded uniformly: a `%2F` is part of its segment."""
    raw = scope["raw_path"].decode("latin-1")
    size = len(raw) + len(scope["query_string"]) + sum(len(name) + len(value) for name, value in scope["headers"])
    if size > limits.MAX_HEAD_BYTES:  # the parser limits incomplete heads only
        raise HTTPException(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too long")
    if not raw.startswith("/"):
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the target of the request must be a path")
    try:
        return "/".join(quote(unquote_to_bytes(segment).decode("utf-8"), safe="") for segment in raw.split("/"))
    except UnicodeDecodeError:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "the path is not UTF-8, percent-encoded") from None
