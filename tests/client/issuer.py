"""An OpenID Connect issuer on loopback with scripted responses."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "canary-4711"  # noqa: S105
"""Is part of every secret that the issuer gives."""


def id_token(number: int = 0, seconds: float = 3600, *, ahead: float = 0) -> str:
    """An unsigned ID token; the issuer's clock is `ahead`."""
    now = int(time.time() + ahead)
    claims = {"sub": "1", "email": "alice@example.com", "iat": now, "exp": now + int(seconds), "n": number}
    parts = (b'{"alg":"none"}', json.dumps(claims).encode(), SECRET.encode())
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def tokens(number: int = 0, **more: object) -> tuple[int, dict[str, Any]]:
    """A token response."""
    body = {"token_type": "Bearer", "access_token": f"{SECRET}-access", "refresh_token": f"{SECRET}-refresh-{number}"}
    return 200, {**body, "id_token": id_token(number), **more}


def refused(error: str, **more: str) -> tuple[int, dict[str, Any]]:
    """An error response."""
    return 400, {"error": error, **more}


@dataclass
class Issuer:
    """The responses of the issuer, and the requests that it received.

    Attributes:
        url: Its address.
        responses: The next responses of the token endpoint: status and body; the last one is repeated.
        metadata: Replaces members of its metadata.
        device: Replaces members of the device authorization response.
        requests: The forms that it got, with their paths.
    """

    url: str = ""
    responses: list[tuple[int, Any]] = field(default_factory=lambda: [tokens()])
    metadata: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def response(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        """The response to a request."""
        with self._lock:
            self.requests.append((path, form))
            if path == "/.well-known/openid-configuration":
                ends = ("token_endpoint", "device_authorization_endpoint", "revocation_endpoint")
                return 200, {"issuer": self.url, **{end: f"{self.url}/{end}" for end in ends}, **self.metadata}
            if path == "/device_authorization_endpoint":
                page = {"verification_uri": f"{self.url}/device", "user_code": "WDJB-MJHT", "interval": 3}
                return 200, {"device_code": f"{SECRET}-device", "expires_in": 600, **page, **self.device}
            if path == "/token_endpoint":
                return self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
            return 200, {}

    def forms(self, path: str) -> list[dict[str, str]]:
        """The forms that were posted to a path."""
        return [form for where, form in self.requests if where == path]


@contextmanager
def serving(issuer: Issuer) -> Iterator[Issuer]:
    """Serves it on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._response({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._response({name: values[0] for name, values in parse_qs(body).items()})

        def _response(self, form: dict[str, str]) -> None:
            status, body = issuer.response(self.path, form)
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{issuer.url}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.url = issuer.url or f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
