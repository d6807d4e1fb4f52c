"""What happens to a request: a name, a route, a place, an answer, a line in the log."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog

from kfadapter_grpc.auth.certificates import names_of
from kfadapter_grpc.contract.errors import AdapterError, InternalError, OverloadedError
from kfadapter_grpc.interceptors.admission import draining
from kfadapter_grpc.interceptors.in_process import Peer
from kfadapter_grpc.interceptors.request_id import REQUEST_ID, REQUEST_ID_KEY
from kfadapter_oran.legacy_http import limits, messages
from kfadapter_oran.legacy_http.calls import client_for
from kfadapter_oran.legacy_http.messages import Answer, RefusalError
from kfadapter_oran.legacy_http.routes import Asked, find_route
from kfadapter_oran.legacy_http.upload_form import UploadForm

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from structlog.typing import FilteringBoundLogger

    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.interceptors.in_process import InProcess
    from kfadapter_oran.legacy_http.exchange import Exchange
    from kfadapter_oran.legacy_http.routes import Handler, Route

_JSON = re.compile(r"application/json\s*(;|$)", re.IGNORECASE)
NO_ROUTE = "none"
"""What the log and metrics call the route of a request that has none."""


@dataclass(slots=True)
class _Handled:
    """One request on its way.

    Attributes:
        exchange: Its connection.
        peer: Who sent it.
        request_id: What it is called in the log and in the answer.
        route: Its route; None while it is not known.
    """

    exchange: Exchange
    peer: Peer
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    route: Route | None = None


class RequestHandling:
    """Answers requests."""

    def __init__(
        self,
        calls: InProcess,
        threads: ThreadPoolExecutor,
        places: int,
        max_upload_bytes: int,
        observe: Callable[[str, int], None],
    ) -> None:
        """Calls services with `calls`, on `threads`, of which there are as many as `places`."""
        self._calls = calls
        self._threads = threads
        self._places = places
        self._max_body_bytes = max_upload_bytes + limits.FRAMING_BYTES
        self._observe = observe
        self._changed = threading.Condition()
        self._requests = 0
        self._working = 0
        self._draining = False
        self._log: FilteringBoundLogger = structlog.get_logger()

    def drain(self) -> None:
        """Refuses new requests from now on."""
        with self._changed:
            self._draining = True

    def wait_idle(self, seconds: float) -> bool:
        """Waits until no request is being answered, at most `seconds`; tells whether that came true."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._requests, timeout=seconds)

    async def handle(self, exchange: Exchange, peer: str, tls: ssl.SSLObject | None) -> None:
        """Answers the request of a connection, if one comes."""
        handled = _Handled(exchange, _peer(peer, tls))
        try:
            if not await exchange.begin():
                return
        except RefusalError as refusal:
            await self._send(handled, messages.refused(refusal, handled.request_id), time.perf_counter())
        else:
            began = time.perf_counter()
            with self._counted():
                await self._send(handled, await self._answer(handled), began)
        await exchange.linger()

    async def _send(self, handled: _Handled, answer: Answer, began: float) -> None:
        try:
            await handled.exchange.answer(answer, handled.request_id)
        finally:
            self._tell(handled, answer, time.perf_counter() - began)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self._requests += 1
        try:
            yield
        finally:
            with self._changed:
                self._requests -= 1
                self._changed.notify_all()

    async def _answer(self, handled: _Handled) -> Answer:
        try:
            return await self._routed(handled)
        except RefusalError as refusal:
            return messages.refused(refusal, handled.request_id)
        except AdapterError as error:
            return messages.failed(error, handled.request_id)
        except Exception as fault:  # noqa: BLE001 - nothing may leave a request unanswered
            self._log.error("a request could not be answered", request_id=handled.request_id, exc_info=fault)
            return messages.failed(InternalError.of(handled.request_id), handled.request_id)

    async def _routed(self, handled: _Handled) -> Answer:
        exchange = handled.exchange
        if REQUEST_ID.fullmatch(given := exchange.header(REQUEST_ID_KEY)):
            handled.request_id = given
        route, name = find_route(exchange.method, exchange.target)
        handled.route = route
        if route.handler is None:
            return Answer(HTTPStatus.OK, messages.LIVENESS, messages.TEXT)
        self._check_welcome(exchange)
        details = await _details(exchange, route)
        form = await self._form(exchange, route)
        asked = Asked(
            client=client_for(
                self._calls.channel(handled.peer),
                handled.request_id,
                exchange.headers("authorization"),
                None if form else limits.WORK_SECONDS,
            ),
            name=name,
            details=details,
            form=form,
            request_id=exchange.header("idempotency-key"),
        )
        return await self._work(route.handler, asked)

    def _check_welcome(self, exchange: Exchange) -> None:
        if self._draining:
            raise draining()
        if exchange.header("origin"):
            # Any page that somebody looks at could otherwise call an adapter on the same machine in their name.
            raise RefusalError(HTTPStatus.FORBIDDEN, "pages in browsers may not call this adapter")

    async def _form(self, exchange: Exchange, route: Route) -> UploadForm | None:
        if route.takes != "form":
            return None
        exchange.check_length(self._max_body_bytes)
        form = UploadForm(exchange.header("content-type"), exchange.read)
        exchange.read_within(limits.BODY_SECONDS)
        await form.begin()
        exchange.read_within(math.inf)  # the file has the time of its upload, which is seen to where that is served
        return form

    async def _work(self, handler: Handler, asked: Asked) -> Answer:
        if self._working >= self._places:
            text = f"the adapter answers {self._places} requests over HTTP already; wait a moment and try again"
            raise OverloadedError(text)
        self._working += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, lambda: messages.answered(handler(asked)))
        finally:
            self._working -= 1

    def _tell(self, handled: _Handled, answer: Answer, seconds: float) -> None:
        """Writes the line of a request, and counts it."""
        route = handled.route.path if handled.route else NO_ROUTE
        status = int(answer.status)
        self._observe(route, status)
        log = self._log.warning if status >= HTTPStatus.INTERNAL_SERVER_ERROR else self._log.info
        log(
            "http",
            request_id=handled.request_id,
            method=handled.exchange.method,
            route=route,
            status=status,
            seconds=round(seconds, 4),
            peer=handled.peer.address,
            **({"reason": answer.reason} if answer.reason else {}),
        )


async def _details(exchange: Exchange, route: Route) -> dict[str, Json] | None:
    if route.takes != "json":
        return None
    if not _JSON.match(exchange.header("content-type")):
        raise RefusalError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON, with Content-Type: application/json")
    return messages.json_object(await exchange.read_all(limits.MAX_JSON_BYTES))


def _peer(address: str, tls: ssl.SSLObject | None) -> Peer:
    certificate = tls.getpeercert(binary_form=True) if tls else None
    return Peer(f"http:{address}", names_of(certificate) if certificate else {})
