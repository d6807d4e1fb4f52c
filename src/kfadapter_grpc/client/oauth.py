"""OAuth 2.0 without a browser: discovery, device authorization (RFC 8628), refresh and revocation.

Every exchange has a deadline and a maximum size; redirects are not followed. Errors never contain a token.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from kfadapter_grpc.addresses import is_loopback

SECONDS = 10.0
MAX_BYTES = 2**20
MAX_SECONDS = 1800.0
"""The maximum time to wait for a login, whatever the issuer allows."""
MARGIN_SECONDS = 60.0
"""How long before its end a token is refreshed; a fifth of its lifetime if that is shorter."""
_DISCOVERY = "/.well-known/openid-configuration"
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_SLOW_DOWN_SECONDS = 5.0
_INTERVALS = (1.0, 60.0)
_CODE = re.compile(r"[a-z_]{1,64}")
_MAX_TEXT = 200
_sleep, _clock = time.sleep, time.monotonic


class OAuthError(Exception):
    """An issuer refused, is unreachable, or its response is invalid; the message has the cause.

    Attributes:
        code: The error code of OAuth 2.0, such as `access_denied`; empty if there is none.
        transient: Whether the same request may succeed later.
    """

    def __init__(self, message: str, code: str = "", *, transient: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.transient = transient


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints of an issuer; empty if unsupported (device authorization, revocation)."""

    token: str
    device: str = ""
    revocation: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """What a user must do to log in.

    Attributes:
        complete_uri: The page with the code entered; empty if there is none.
        interval: The pause between two questions, in seconds.
        device_code: The code of the token requests.
    """

    uri: str
    user_code: str
    complete_uri: str
    seconds: float
    interval: float
    device_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a login. Times are seconds since 1970 by the clock of this machine.

    Attributes:
        refresh_token: Gets the next one; empty if the issuer gave none.
        refresh_at: When to refresh; None if the token has no known end.
        expires_at: When the token expires; None if unknown.
        user: The user, as the issuer names them; empty if unknown.
    """

    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    refresh_at: float | None = None
    expires_at: float | None = None
    user: str = ""
    is_id: bool = False


def check_url(text: str) -> str:
    """Returns a URL unchanged if it may receive secrets: https, or http on this machine; else ValueError."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"'{text}' is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"'{text}' is not a URL of https")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError(f"the URL of {host} must not have a user, a password or a fragment")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"'{text}' must be https: others could read the tokens in transit")
    return text


def discover(issuer: str) -> Endpoints:
    """Reads the metadata of an issuer (OpenID Connect Discovery)."""
    url = issuer.rstrip("/") + _DISCOVERY
    status, body = _exchange(url)
    if status != HTTPStatus.OK:
        raise OAuthError(f"{url} returned {status}; is '{issuer}' the issuer?", transient=_is_transient(status))
    if body.get("issuer") != issuer:
        raise OAuthError(f"{url} is of the issuer '{_text(body, 'issuer')}', not of '{issuer}'")
    names = ("token_endpoint", "device_authorization_endpoint", "revocation_endpoint")
    urls = [_text(body, name) for name in names]
    try:
        if not urls[0]:
            raise ValueError("it names no token_endpoint")
        return Endpoints(*(check_url(url) if url else "" for url in urls))
    except ValueError as error:
        raise OAuthError(f"{url} cannot be used: {error}") from None


def authorize(endpoints: Endpoints, client_id: str, scope: str) -> Device:
    """Requests a code for the user."""
    if not endpoints.device:
        raise OAuthError("the issuer has no device authorization (device_authorization_endpoint)")
    body = _post(endpoints.device, {"client_id": client_id, "scope": scope})
    try:
        uri, code = check_url(_text(body, "verification_uri")), _text(body, "user_code")
        device_code = _text(body, "device_code")
        if not code or not device_code:
            raise ValueError("it has no user_code or no device_code")
        complete = _text(body, "verification_uri_complete")
        seconds = min(_number(body, "expires_in") or MAX_SECONDS, MAX_SECONDS)
        interval = min(max(_number(body, "interval") or _SLOW_DOWN_SECONDS, _INTERVALS[0]), _INTERVALS[1])
        return Device(uri, code, check_url(complete) if complete else "", seconds, interval, device_code)
    except ValueError as error:
        raise OAuthError(f"the response of {endpoints.device} cannot be used: {error}") from None


def wait_for_user(endpoints: Endpoints, client_id: str, device: Device) -> Tokens:
    """Polls until the user has decided (else `access_denied`, `expired_token`), as often as the issuer allows."""
    interval, ends = device.interval, _clock() + device.seconds
    form = {"grant_type": _DEVICE_GRANT, "device_code": device.device_code, "client_id": client_id}
    while _clock() + interval < ends:
        _sleep(interval)
        try:
            return _tokens(_post(endpoints.token, form), Tokens("", ""))
        except OAuthError as error:
            if error.code == "slow_down":
                interval += _SLOW_DOWN_SECONDS
            elif error.transient:
                interval = min(2 * interval, _INTERVALS[1])
            elif error.code != "authorization_pending":
                raise
    raise OAuthError("the code has expired", "expired_token")


def refresh(endpoints: Endpoints, client_id: str, scope: str, old: Tokens) -> Tokens:
    """Returns new tokens for a refresh token; `invalid_grant` ends the login."""
    form = {"grant_type": "refresh_token", "refresh_token": old.refresh_token, "client_id": client_id, "scope": scope}
    return _tokens(_post(endpoints.token, form), old)


def revoke(endpoints: Endpoints, client_id: str, tokens: Tokens) -> None:
    """Revokes a login, if the issuer supports it."""
    if endpoints.revocation and tokens.refresh_token:
        form = {"token": tokens.refresh_token, "token_type_hint": "refresh_token", "client_id": client_id}
        _post(endpoints.revocation, form)


def _tokens(body: Mapping[str, Any], old: Tokens) -> Tokens:
    """Reads a token response: the ID token is what is sent, as kubectl does; the access token if there is none."""
    kind, id_token = _text(body, "token_type"), _text(body, "id_token")
    token = id_token or _text(body, "access_token")
    if not token or (kind and kind.lower() != "bearer"):
        raise OAuthError("the issuer's response has no bearer token")
    claims, now = claims_of(token), time.time()
    lifetime = _number(claims, "exp") - (_number(claims, "iat") or now) if "exp" in claims else 0.0
    lifetime = lifetime or _number(body, "expires_in")
    if old.is_id and not id_token:
        raise OAuthError("the issuer does not refresh ID tokens", "invalid_grant")
    return Tokens(
        token,
        _text(body, "refresh_token") or old.refresh_token,
        now + lifetime - min(MARGIN_SECONDS, lifetime / 5) if lifetime else None,
        now + lifetime if lifetime else None,
        _text(claims, "email") or _text(claims, "preferred_username") or _text(claims, "sub"),
        bool(id_token),
    )


def claims_of(token: str) -> Mapping[str, Any]:
    """Reads the claims of a JWT without verifying them; empty if it is not one."""
    parts = token.split(".")
    with suppress(ValueError, RecursionError):
        if len(parts) == 3:  # noqa: PLR2004 - header, claims, signature
            claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
            return claims if isinstance(claims, dict) else {}
    return {}


def _post(url: str, form: Mapping[str, str]) -> Mapping[str, Any]:
    """Posts a form; returns the response if it is a success."""
    status, body = _exchange(url, urlencode(form).encode())
    if status == HTTPStatus.OK:
        return body
    code = _text(body, "error")
    code = code if _CODE.fullmatch(code) else ""
    about = _text(body, "error_description")
    secrets = [value for name, value in form.items() if name in ("device_code", "refresh_token", "token")]
    if any(secret in about for secret in secrets):
        about = ""
    description = ": ".join(part for part in (code, about[:_MAX_TEXT]) if part)
    transient = not code and _is_transient(status)
    raise OAuthError(f"{url} returned {status}{f' ({description})' if description else ''}", code, transient=transient)


def _is_transient(status: int) -> bool:
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS


def _exchange(url: str, body: bytes | None = None) -> tuple[int, Mapping[str, Any]]:
    """Makes one request on a thread, as urllib bounds the time between two bytes only."""
    outcomes: list[tuple[int, bytes] | Exception] = []

    def request() -> None:
        try:
            outcomes.append(_request(url, body))
        except Exception as error:  # noqa: BLE001 - raised again below
            outcomes.append(error)

    worker = threading.Thread(target=request, name="issuer", daemon=True)
    worker.start()
    worker.join(SECONDS)
    if not outcomes:
        raise OAuthError(f"{url} did not respond within {SECONDS:g} s", transient=True)
    if isinstance(outcome := outcomes[0], Exception):
        reason = getattr(outcome, "reason", outcome)
        raise OAuthError(f"{url} is unreachable: {getattr(reason, 'strerror', '') or reason}", transient=True)
    status, text = outcome
    if len(text) > MAX_BYTES:
        raise OAuthError(f"the response of {url} is larger than {MAX_BYTES >> 20} MiB")
    try:
        document = json.loads(text)
        if not isinstance(document, dict):
            raise ValueError
    except (ValueError, RecursionError):
        if status != HTTPStatus.OK:
            return status, {}
        raise OAuthError(f"the response of {url} is not a JSON object") from None
    return status, document


def _request(url: str, body: bytes | None) -> tuple[int, bytes]:
    headers = {"Accept": "application/json", "User-Agent": "kfadapter"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - checked by check_url
    proxies = urllib.request.ProxyHandler({} if is_loopback(urlsplit(url).hostname or "") else None)
    try:
        with urllib.request.build_opener(_NoRedirects, proxies).open(request, timeout=SECONDS) as response:
            return response.status, response.read(MAX_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(MAX_BYTES + 1)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Rejects redirects, so that secrets are sent to the configured URL only."""

    redirect_request: Callable[..., None] = lambda *_: None


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    return value if isinstance(value, str) else ""


def _number(body: Mapping[str, Any], name: str) -> float:
    value = body.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**40:
        return 0.0
    return float(value)
