"""What keeps other sites, other hosts' names and other users out.

A page on loopback is reachable from every site that the same browser shows. So the name in `Host` must be one of
ours (DNS rebinding), a request that changes something must come from our own pages (`Origin`, `Sec-Fetch-Site`, and a
CSRF token bound to the session's cookie), other sites may link to a page but not load one, and every answer carries a
Content-Security-Policy that allows our own script and style sheet only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from anyio import fail_after
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from kfadapter_grpc.addresses import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_FIELD = "csrf"
"""The form field with the token."""
SESSION_SECONDS = 12 * 3600
"""How long a login lasts."""
MAX_SESSIONS = 1000
"""How many logins are remembered; the oldest is forgotten first."""
FORM_BYTES = 1 << 20
"""How large a form without a file may be."""
BODY_SECONDS, SLOWEST_BYTES_PER_SECOND = 30, 64 * 1024
"""How long a form may take to arrive, and how fast the most that it may hold arrives at least."""
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
    "cache-control": "no-store",
}
"""On every answer that does not set them itself."""
HEALTH_PATH = "/healthz"
"""What probes ask, under any name: it says only that the page is served."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOGINS = frozenset({"/login", "/logout"})
_SESSION = re.compile(r"[A-Za-z0-9_-]{43}")


class Sessions:
    """The tokens that users logged in with, in memory only, by the session's cookie."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def csrf(self, session: str) -> str:
        """Returns the CSRF token of a session."""
        return hmac.new(self._secret, session.encode(), hashlib.sha256).hexdigest()

    def log_in(self, token: str) -> str:
        """Keeps a bearer token; returns the new session, so that one planted before the login is worth nothing."""
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens[session] = token, time.monotonic() + SESSION_SECONDS
            while len(self._tokens) > MAX_SESSIONS:
                self._tokens.popitem(last=False)
        return session

    def log_out(self, session: str) -> None:
        """Forgets the token of a session."""
        with self._lock:
            self._tokens.pop(session, None)

    def token(self, session: str) -> str:
        """Returns the bearer token of a session; empty if it has none, or no longer."""
        with self._lock:
            token, end = self._tokens.get(session, ("", 0.0))
            if end < time.monotonic():
                self._tokens.pop(session, None)
                return ""
        return token


class Guard:
    """Checks each request before the application sees it, and completes the headers of each answer."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], read_only: bool, max_upload_bytes: int) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._read_only = read_only
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a request, or passes it on with its session."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        cookie = cookie_name(scope)
        session = _session(headers, cookie)
        scope.setdefault("state", {})["session"] = session or secrets.token_urlsafe(32)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    given.setdefault(name, value)
                is_page = given.get("content-type", "").startswith("text/html")
                if is_page and not session and cookie not in given.get("set-cookie", ""):
                    secure = "; Secure" if is_https(scope) else ""
                    value = f"{cookie}={scope['state']['session']}; Path=/; HttpOnly; SameSite=Lax{secure}"
                    given.append("set-cookie", value)
            await send(message)

        if (why := self._refusal(scope, headers)) is not None:
            status, text = why
            await PlainTextResponse(f"{text}\n", status)(scope, receive, answer)
            return
        await self._app(scope, _bounded(receive, self._limit(headers)), answer)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[HTTPStatus, str] | None:
        host = headers.get("host", "")
        if not (self._is_ours(host) or scope["path"] == HEALTH_PATH):
            return HTTPStatus.MISDIRECTED_REQUEST, (
                "this page is not served under this name; start it with --host NAME to allow another one"
            )
        if why := _foreign(scope, headers):
            return HTTPStatus.FORBIDDEN, why
        if scope["method"] in _SAFE:
            return None
        if self._read_only and scope["path"] not in _LOGINS:
            return HTTPStatus.FORBIDDEN, "this page is read-only (--read-only)"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limit(headers):
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {self._limit(headers)} bytes were sent"
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether `Host` names this page. A name of loopback always does: no other site can have it."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._hosts or is_loopback(name)

    def _limit(self, headers: Headers) -> int:
        """The largest body: only a multipart form has a file."""
        is_upload = headers.get("content-type", "").lower().startswith("multipart/")
        return FORM_BYTES + (self._max_upload_bytes if is_upload else 0)


def _foreign(scope: Scope, headers: Headers) -> str:
    """Returns why a request of another site is refused; empty if it is one of our own pages, or a link."""
    origin = headers.get("origin")
    is_foreign = headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}
    if scope["method"] in _SAFE:
        is_link = headers.get("sec-fetch-mode") == "navigate"
        return "other sites may link to this page, but not load it" if is_foreign and not is_link else ""
    if is_foreign or (origin is not None and origin.partition("://")[2] != headers.get("host")):
        return "the request comes from another site"
    return ""


def _bounded(receive: Receive, limit: int) -> Receive:
    """Ends a body that is longer than allowed, also one without Content-Length, and one that arrives too slowly."""
    left, seconds, is_complete = limit, BODY_SECONDS + limit / SLOWEST_BYTES_PER_SECOND, False
    end = time.monotonic() + seconds

    async def read() -> Message:
        nonlocal left, is_complete
        try:
            with fail_after(None if is_complete else end - time.monotonic()):
                message = await receive()
        except TimeoutError:
            words = f"The request did not arrive within {seconds:.0f} seconds."
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, words) from None
        is_complete = not message.get("more_body")
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"More than {limit} bytes were sent.")
        return message

    return read


def is_https(scope: Scope) -> bool:
    """Whether the browser used HTTPS: to this page, or to what ends TLS before it (who lies harms their own cookie)."""
    return scope["scheme"] == "https" or Headers(scope=scope).get("x-forwarded-proto") == "https"


def cookie_name(scope: Scope) -> str:
    """Returns the name of the session's cookie. Cookies do not distinguish ports, so two pages need two names."""
    return f"kfadapter_console_{(scope.get('server') or ('', 0))[1]}"


def _session(headers: Headers, cookie: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(cookie)
    except CookieError:
        return ""
    return found.value if found and _SESSION.fullmatch(found.value) else ""
