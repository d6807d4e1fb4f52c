"""Keeps out other sites, other host names and other users.

A page on loopback is reachable from every site that the same browser shows. So the name in `Host` must be ours (DNS
rebinding), a request that changes something must come from our own pages (`Origin`, `Sec-Fetch-Site`, and a CSRF token
bound to the session's cookie), other sites may link to a page but not load it, and every response has a
Content-Security-Policy that allows our own script and style sheet only.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from anyio import fail_after
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from kfadapter_grpc.addresses import is_loopback

CSRF_FIELD = "csrf"
"""The form field with the token."""
SESSION_SECONDS = 12 * 3600
MAX_SESSIONS = 1000
"""How many logins are kept; the oldest is removed first."""
FORM_BYTES = 1 << 20
"""The largest form, without its file."""
MAX_CONNECTIONS = 200
"""Further ones get 503."""
IDLE_SECONDS = 30
"""How long a connection may be without a complete head of a request."""
BODY_SECONDS, MIN_BYTES_PER_SECOND = 30, 64 * 1024
"""How long a form may take to arrive: in general, and for its largest size."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""The default headers of every response."""
HEALTH_PATH = "/healthz"
"""For probes, under any host name; it shows only that the page is served."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGINS = frozenset({"/login", "/logout"})
_SESSION = re.compile(r"[A-Za-z0-9_-]{43}")


class Sessions:
    """The tokens of logged-in users, in memory only, by the session in the cookie."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()

    def csrf(self, session: str) -> str:
        """Returns the CSRF token of a session."""
        return hmac.new(self._secret, session.encode(), hashlib.sha256).hexdigest()

    def log_in(self, token: str) -> str:
        """Stores a bearer token; returns a new session, so that one planted before the login is worthless."""
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens[session] = token, time.monotonic() + SESSION_SECONDS
            while len(self._tokens) > MAX_SESSIONS:
                del self._tokens[next(iter(self._tokens))]
        return session

    def log_out(self, session: str) -> None:
        with self._lock:
            self._tokens.pop(session, None)

    def token(self, session: str) -> str:
        """Returns the bearer token of a session; empty if it has none or has expired."""
        with self._lock:
            token, end = self._tokens.get(session, ("", 0.0))
            if end < time.monotonic():
                self._tokens.pop(session, None)
                return ""
        return token


class Guard:
    """Checks each request before the application handles it, and completes the headers of each response."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], read_only: bool, max_upload_bytes: int) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._read_only = read_only
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Rejects a request, or passes it on with its session."""
        if scope["type"] != "http":
            return
        request = HTTPConnection(scope)
        # Cookies do not distinguish ports, so two pages need two names.
        cookie = f"kfadapter_console_{(scope.get('server') or ('', 0))[1]}"
        received = request.cookies.get(cookie, "")
        received = received if _SESSION.fullmatch(received) else ""
        request.state.session = session = received or secrets.token_urlsafe(32)

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-cache" if "etag" in headers else "no-store")
                is_new = not received and headers.get("content-type", "").startswith("text/html")
                if is_new or request.state.session != session:  # a login changes it
                    # The proxy that ends TLS adds the header; users who forge it harm their own cookie only.
                    is_https = "https" in {scope["scheme"], request.headers.get("x-forwarded-proto")}
                    attributes = f"Path=/; HttpOnly; SameSite=Lax{'; Secure' if is_https else ''}"
                    headers.append("set-cookie", f"{cookie}={request.state.session}; {attributes}")
            await send(message)

        is_upload = request.headers.get("content-type", "").lower().startswith("multipart/")
        limit = FORM_BYTES + (self._max_upload_bytes if is_upload else 0)
        try:
            self._check(scope, request.headers, limit)
        except HTTPException as error:
            await PlainTextResponse(f"{error.detail}\n", error.status_code)(scope, receive, respond)
        else:
            await self._app(scope, _limited(receive, limit), respond)

    def _check(self, scope: Scope, headers: Headers, limit: int) -> None:
        """Rejects a request for another host name, of another site, with too large a body, or to a read-only page."""
        if not (self._is_ours(headers.get("host", "")) or scope["path"] == HEALTH_PATH):
            text = "this page is not served under this name; start it with --host NAME to allow another one"
            raise HTTPException(HTTPStatus.MISDIRECTED_REQUEST, text)
        is_foreign = headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}
        is_safe, origin = scope["method"] in _SAFE, headers.get("origin")
        if is_safe and is_foreign and headers.get("sec-fetch-mode") != "navigate":
            raise HTTPException(HTTPStatus.FORBIDDEN, "other sites may link to this page, but not load it")
        if not is_safe and (is_foreign or (origin is not None and origin.partition("://")[2] != headers.get("host"))):
            raise HTTPException(HTTPStatus.FORBIDDEN, "the request comes from another site")
        if self._read_only and (scope["path"] == "/start" or not (is_safe or scope["path"] in _LOGINS)):
            raise HTTPException(HTTPStatus.FORBIDDEN, "this page is read-only (--read-only)")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {limit} bytes were sent")

    def _is_ours(self, host: str) -> bool:
        """Whether `Host` is a name of this page. Names of loopback always are: no other site can have one."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._hosts or is_loopback(name)


class Connection(H11Protocol):
    """Closes the connection if no request begins in time: uvicorn limits the time between requests only."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(IDLE_SECONDS, self._close_if_idle, None)

    def _close_if_idle(self, last: RequestResponseCycle | None) -> None:
        """Closes the connection if no request began since `last`, and that one is complete."""
        if self.cycle is last and (last is None or last.response_complete):
            self.transport.abort()
        elif not self.transport.is_closing():
            self.loop.call_later(IDLE_SECONDS, self._close_if_idle, self.cycle)


def _limited(receive: Receive, limit: int) -> Receive:
    """Ends a body that is longer than allowed, also one without Content-Length, and one that arrives too slowly."""
    left, seconds, is_complete = limit, BODY_SECONDS + limit / MIN_BYTES_PER_SECOND, False
    end = time.monotonic() + seconds

    async def read() -> Message:
        nonlocal left, is_complete
        try:
            with fail_after(None if is_complete else end - time.monotonic()):
                message = await receive()
        except TimeoutError:
            text = f"The request did not arrive within {seconds:.0f} seconds."
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, text) from None
        is_complete = not message.get("more_body")
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"More than {limit} bytes were sent.")
        return message

    return read
