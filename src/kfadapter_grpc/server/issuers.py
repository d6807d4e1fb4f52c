"""Reaches issuers of tokens and the Kubernetes API over HTTP; connects as the file of issuers defines."""

from __future__ import annotations

import json
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from kfadapter_grpc.auth.bearer_tokens import PATH, SignedBearers
from kfadapter_grpc.auth.issuer_keys import MAX_BYTES, FetchError
from kfadapter_grpc.auth.issuers import TokenReview, parse_issuers
from kfadapter_grpc.auth.reloaded_files import Reloaded
from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import AdapterError, KfpTimeoutError
from kfadapter_grpc.kfp.connections import TlsFiles
from kfadapter_grpc.kfp.credentials import Credentials, TokenFile
from kfadapter_grpc.kfp.transport import Request, ResponseTooLargeError, Transport, TransportSettings

_CONNECT_SECONDS = 3.0
_ACCEPT = "application/json, application/jwk-set+json"
"""Kubernetes returns its keys as the second one only."""


def signed_bearers(path: Path) -> SignedBearers:
    """Reads the file of issuers, or raises OSError or ValueError; fetches nothing before the start."""
    return SignedBearers(Reloaded("the issuers", [path], parse_issuers), fetch, post_review)


def fetch(url: str, seconds: float, ca_file: Path | None, token_file: Path | None) -> bytes:
    """Fetches a document of an issuer. Redirects are not followed: they would lead to another server than the set one.

    Raises FetchError if there was no response with status 200 in time, or if it is too large.
    """
    parts = urlsplit(url)
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    with closing(_transport(f"{parts.scheme}://{parts.netloc}", ca_file, token_file)) as transport:
        try:
            request = Request("GET", path, accept=_ACCEPT, limit=MAX_BYTES)
            response = transport.send(request, Call("issuer-keys", seconds))
        except ResponseTooLargeError:
            raise FetchError(f"{url}: the document is larger than {MAX_BYTES // 1024} KiB") from None
        except KfpTimeoutError:
            raise FetchError(f"{url}: no complete response within {seconds:.0f} s") from None
        except AdapterError as error:
            raise FetchError(f"{url}: {cause(error)}") from None
    if response.status != HTTPStatus.OK:
        followed = "; redirects are not followed" if response.location else ""
        raise FetchError(f"{url}: HTTP {response.status}{followed}")
    return response.body


def post_review(review: TokenReview, token: str, call: Call) -> tuple[int, bytes]:
    """Has the Kubernetes API server review a token; returns status and body, or raises AdapterError."""
    spec = {"token": token, "audiences": review.audiences}
    document = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
    request = Request("POST", PATH, body=json.dumps(document).encode(), limit=MAX_BYTES)
    with closing(_transport(review.url, review.ca_file, review.token_file)) as transport:
        response = transport.send(request, call)
    return response.status, response.body


def cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(getattr(error, "verify_message", "") or getattr(error, "strerror", "") or error or type(error).__name__)


def _transport(url: str, ca_file: Path | None, token_file: Path | None) -> Transport:
    credentials = TokenFile(token_file) if token_file else Credentials()
    return Transport(TransportSettings(url, 1, _CONNECT_SECONDS, credentials, TlsFiles(ca_file)))
