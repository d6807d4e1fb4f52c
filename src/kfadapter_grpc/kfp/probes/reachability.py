"""How far a request gets on its way to KFP: name, connection, TLS, HTTP, the API, credentials, the namespace."""

from __future__ import annotations

import enum
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import msgspec

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.kfp.backend import version_of
from kfadapter_grpc.kfp.connections import (
    NoResponseError,
    NotConnectedError,
    NotHttpError,
    TlsExpectedError,
    is_plain_text,
)
from kfadapter_grpc.kfp.decoding import decode_or_empty
from kfadapter_grpc.kfp.error_table import explain_page
from kfadapter_grpc.kfp.error_table.general import TLS_EXPECTED
from kfadapter_grpc.kfp.failures import is_page, read_failure
from kfadapter_grpc.kfp.rest import V2
from kfadapter_grpc.kfp.transport import Request, Response, Transport, TransportSettings

REACH_SECONDS = 10.0


class Stage(enum.Enum):
    """A stage of the way, in the order in which a request passes them."""

    NAME = "name"
    CONNECTION = "connection"
    TLS = "TLS"
    HTTP = "HTTP"
    API = "API"
    CREDENTIALS = "credentials"
    NAMESPACE = "namespace"


STAGES = tuple(Stage)


class HealthJson(msgspec.Struct):
    """KFP's description of itself."""

    commit_sha: str = ""
    tag_name: str = ""
    multi_user: bool = False
    pipeline_store: str | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a request got.

    Attributes:
        stopped_at: The stage where it ended; None if it got through.
        version: The version that KFP reports, or that follows from its responses; empty if unknown.
        certificate_ends: When its certificate expires, in seconds since 1970; None without TLS.
        skew_seconds: How far KFP's clock is ahead of this one; None if it is unknown.
    """

    stopped_at: Stage | None = None
    found: str = ""
    advice: str = ""
    addresses: tuple[str, ...] = ()
    version: str = ""
    certificate_ends: float | None = None
    multi_user: bool = False
    skew_seconds: float | None = None
    seconds: float = 0.0


class _StoppedError(Exception):
    def __init__(self, stage: Stage, found: str, advice: str) -> None:
        super().__init__(found)
        self.stage = stage
        self.advice = advice


_SOME_NAMESPACE = "default"
_URL = "check KFADAPTER_KFP_URL"
_EXPECTS_TLS = "the server expects TLS"
_PROTOCOL = f"check its log and that of a proxy in between; {_URL}: {{scheme}} may be the wrong protocol"
_CREDENTIALS = (
    "give the adapter credentials that this Kubeflow Pipelines accepts (KFADAPTER_KFP_CREDENTIALS), "
    "or an address inside the cluster"
)


def reach(settings: TransportSettings, namespace: str = "", *, seconds: float = REACH_SECONDS) -> Reach:
    """Sends cheap requests, as the adapter would, and returns how far they got; each has a deadline of `seconds`.

    If callers' credentials are forwarded to KFP, none are available here: requests that need them are omitted.
    """
    parts = urlsplit(settings.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    reached = Reach()
    try:
        reached = Reach(addresses=_resolved(host, port))
        with closing(Transport(settings)) as transport:
            client = _KfpClient(transport, settings.url, seconds)
            reached = replace(reached, certificate_ends=client.certificate_end())
            reached = _health(client, reached)
            if not settings.as_callers:
                _list(client, namespace, multi_user=reached.multi_user)
    except _StoppedError as error:
        return replace(reached, stopped_at=error.stage, found=str(error), advice=error.advice)
    return reached


def _resolved(host: str, port: int) -> tuple[str, ...]:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _StoppedError(Stage.NAME, f"the host name {host} cannot be resolved: {error.strerror}", _URL) from None
    return tuple(dict.fromkeys(str(address[4][0]) for address in addresses))


class _KfpClient:
    """Sends requests to KFP, and reports where one stopped."""

    def __init__(self, transport: Transport, url: str, seconds: float) -> None:
        self.url = url
        self._transport = transport
        self._seconds = seconds

    def certificate_end(self) -> float | None:
        """Returns when the certificate expires, in seconds since 1970; None without TLS."""
        with self._explained():
            return self._transport.certificate_end(self._call()) if self.url.startswith("https:") else None

    def get(self, path: str, *query: tuple[str, str]) -> Response:
        """Requests a path; any response that looks like the API's counts."""
        with self._explained():
            response = self._transport.send(
                Request("GET", V2 + path, query, limit=_MAX_BYTES, public=True), self._call()
            )
        if TLS_EXPECTED.search(response.body):
            raise _stopped(TlsExpectedError(), self.url)
        if HTTPStatus.MULTIPLE_CHOICES <= response.status < HTTPStatus.BAD_REQUEST or is_page(response):
            page = explain_page(response)
            login = isinstance(page, errors.KfpRejectedCredentialsError)
            stage, advice = (Stage.CREDENTIALS, _CREDENTIALS) if login else (Stage.API, _URL)
            raise _StoppedError(stage, page.message.partition(":")[0].partition(";")[0], advice)
        return response

    def _call(self) -> Call:
        return Call(f"doctor-{uuid.uuid4().hex}", self._seconds)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except errors.KfpTimeoutError:
            text = f"connected, but no response within {self._seconds:g} s"
            raise _StoppedError(
                Stage.HTTP, text, "check whether Kubeflow Pipelines is overloaded or still starting"
            ) from None
        except errors.KfpUnavailableError as error:
            raise _stopped(error, self.url) from None
        except errors.AdapterError as error:
            raise _StoppedError(Stage.API, error.message, _URL) from None


def _health(client: _KfpClient, reached: Reach) -> Reach:
    start = time.perf_counter()
    response = client.get("/healthz")
    seconds = time.perf_counter() - start
    _check_access(response, Stage.CREDENTIALS)
    if response.status != HTTPStatus.OK:
        raise _StoppedError(
            Stage.API,
            f"{client.url}{V2}/healthz is HTTP {response.status}: not Kubeflow Pipelines, or not healthy",
            f"{_URL}: it ends before /apis, often with /pipeline; if it is right, see Kubeflow Pipelines' own log",
        )
    health = decode_or_empty(response.body, HealthJson)
    if not (health.commit_sha or health.tag_name):
        raise _StoppedError(Stage.API, "the health check is not that of Kubeflow Pipelines", _URL)
    return replace(
        reached,
        version=version_of(msgspec.structs.asdict(health)),
        multi_user=health.multi_user,
        skew_seconds=_skew(response.date),
        seconds=seconds,
    )


def _list(client: _KfpClient, namespace: str, *, multi_user: bool) -> None:
    """Sends a request that needs credentials: in a multi-user KFP, for the namespace."""
    query = [("page_size", "1")] + ([("namespace", namespace)] if namespace else [])
    forbidden = Stage.NAMESPACE if namespace else Stage.CREDENTIALS
    paths = ["/pipelines"] if multi_user and not namespace else ["/pipelines", "/experiments"]
    for path in paths:
        response = client.get(path, *query)
        _check_access(response, forbidden)
        if response.status != HTTPStatus.OK:
            message = read_failure(response.status, response.body, None).text
            text = f"listing {path[1:]} is HTTP {response.status} {message}".strip()
            raise _StoppedError(Stage.API, text, "see Kubeflow Pipelines' own log")
    if (
        multi_user and not namespace
    ):  # it shows shared pipelines without credentials; whom it knows may be forbidden this
        response = client.get("/experiments", *query, ("namespace", _SOME_NAMESPACE))
        if response.status != HTTPStatus.FORBIDDEN:
            _check_access(response, Stage.CREDENTIALS)


_FAULTS: tuple[tuple[type[BaseException], Stage, str, str], ...] = (
    (socket.gaierror, Stage.NAME, "its host name cannot be resolved", _URL),
    (
        TimeoutError,
        Stage.CONNECTION,
        "unreachable: the connection timed out",
        f"check for a NetworkPolicy or firewall in between; {_URL}",
    ),
    (
        NotConnectedError,
        Stage.CONNECTION,
        "the connection is refused: {system}",
        f"start Kubeflow Pipelines, or {_URL}: kfadapter dev starts an embedded one",
    ),
    (TlsExpectedError, Stage.TLS, _EXPECTS_TLS, f"{_URL}: https: instead of http:"),
    (NotHttpError, Stage.HTTP, "the server does not speak HTTP/1.1", f"{_URL}: its port, and http or https"),
    (NoResponseError, Stage.HTTP, "the connection is closed without a response", _PROTOCOL),
    (BaseException, Stage.HTTP, "the connection breaks before the response is complete", _PROTOCOL),
)
"""What ends a request: the first that is among the causes of its failure."""


def _stopped(error: BaseException, url: str) -> _StoppedError:
    causes = list(_causes(error))
    tls = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if tls is not None:
        return _StoppedError(Stage.TLS, *_explained_tls(tls))
    system = next((cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror), "refused")
    _, stage, found, advice = next(row for row in _FAULTS if any(isinstance(cause, row[0]) for cause in causes))
    return _StoppedError(stage, found.format(system=system), advice.format(scheme=urlsplit(url).scheme))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explained_tls(error: ssl.SSLError) -> tuple[str, str]:
    """What TLS reports, and the advice."""
    if is_plain_text(error):
        return "the server does not speak TLS", f"{_URL}: http: instead of https:"
    if not isinstance(error, ssl.SSLCertVerificationError):
        certificate = "it requires a client certificate (KFADAPTER_KFP_CLIENT_CERTIFICATE)"
        return f"TLS fails: {error.reason or error}", f"{_URL}: https may be the wrong protocol, or {certificate}"
    found = f"its certificate is not trusted: {error.verify_message}"
    if "expired" in error.verify_message:
        return found, "renew the certificate of Kubeflow Pipelines"
    if "ostname" in error.verify_message or "IP address" in error.verify_message:
        return found, f"{_URL}: use a host name that the certificate contains"
    return found, "set the CA of its certificate (KFADAPTER_KFP_CA_FILE), or use its http: address inside the cluster"


def _check_access(response: Response, forbidden: Stage) -> None:
    if response.status == HTTPStatus.UNAUTHORIZED:
        raise _StoppedError(Stage.CREDENTIALS, "it requires authentication (HTTP 401)", _CREDENTIALS)
    if response.status == HTTPStatus.FORBIDDEN:
        advice = "grant the adapter access to it, or set another namespace (KFADAPTER_NAMESPACE)"
        raise _StoppedError(forbidden, "the adapter has no access to it (HTTP 403)", advice)


def _skew(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() + _HALF_SECOND - time.time()
    except (TypeError, ValueError):
        return None


_HALF_SECOND = 0.5
"""a Date header has whole seconds"""
_MAX_BYTES = 8 * 1024 * 1024
"""more than a list of one item has, unless the response is not KFP's"""
