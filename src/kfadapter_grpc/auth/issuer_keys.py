"""The public keys of an issuer (JWKS): fetched in the background, cached while the issuer is unreachable, bounded.

A call reads the keys that are there. Only a key that is unknown makes it wait, for WAIT_SECONDS at most and with a few
others at most, for a fetch, and only if the last one began more than PAUSE_SECONDS ago.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import structlog
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from kfadapter_grpc.addresses import is_loopback
from kfadapter_grpc.auth.issuers import Issuer
from kfadapter_grpc.auth.signed_tokens import MAX_HEADER_BYTES, MAX_TOKEN_BYTES, SignedToken, TokenFault
from kfadapter_grpc.contract.errors import IssuerUnavailableError

REFRESH_SECONDS = 300.0
"""How often keys are fetched: a key that an issuer withdraws is rejected after this time."""
PAUSE_SECONDS = 10.0
"""The minimum time between two fetches."""
KEPT_SECONDS = 24 * 3600.0
"""How long keys are valid after the last successful fetch."""
FETCH_SECONDS = 5.0
"""The time limit of a fetch: discovery, and then the keys."""
WAIT_SECONDS = 2.0
"""The maximum time that a call waits for an unknown key."""
MAX_WAITING = 8
"""How many calls wait for the keys of an issuer at once; others are refused, so that they never hold all threads."""
MAX_BYTES = 256 * 1024
MAX_KEYS = 100
RSA_BITS = range(2048, 8193)
"""The sizes of RSA keys that are used: smaller ones are weak, larger ones slow."""
Key: TypeAlias = RSAKey | ECKey | OKPKey
Fetch: TypeAlias = "Callable[[str, float, Path | None, Path | None], bytes]"
"""Fetches a document: URL, time limit, CAs, file with a bearer token. Or FetchError; see `server.issuers`."""
_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class FetchError(Exception):
    """A document of an issuer could not be fetched; the message has the reason, for the log."""


class IssuerKeys:
    """The keys of one issuer. Safe to use from many threads; fetches on a thread of its own after `start`."""

    def __init__(self, issuer: Issuer, fetch: Fetch) -> None:
        self.issuer = issuer
        self._fetch = fetch
        self._changed = threading.Condition()
        self._keys: dict[str, Key] | None = None
        self._document = b""
        self._fetched_at = self._last_attempt = float("-inf")
        self._fetches = self._waiting = 0
        self._requested = self._stopped = False
        self._failure = "its keys have not been fetched yet"
        self._log = structlog.get_logger()
        self._registry = jws.JWSRegistry(algorithms=issuer.algorithms, strict_check_header=False)
        self._registry.max_header_length, self._registry.max_payload_length = MAX_HEADER_BYTES, MAX_TOKEN_BYTES
        self._thread = threading.Thread(target=self._run, name="issuer-keys", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; a fetch in progress ends by its time limit."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def verify(self, token: SignedToken) -> object:
        """Verifies the signature, by an allowed algorithm; returns the generation of the keys.

        Raises UnauthenticatedError, or IssuerUnavailableError if the key is unknown and none can be fetched now.
        """
        key, generation = self._key(token)
        kind = _TYPES[token.algorithm[:2]]
        if key.key_type != kind or (key.alg or token.algorithm) != token.algorithm:
            raise TokenFault.ALGORITHM.error()
        try:
            jws.deserialize_compact(token.text, key, registry=self._registry)
        except (JoseError, ValueError):
            raise TokenFault.SIGNATURE.error() from None
        return generation

    @property
    def usable(self) -> dict[str, Key] | None:
        """The keys by id, another mapping whenever they change; None if they are too old to be used."""
        return self._keys if time.monotonic() - self._fetched_at < KEPT_SECONDS else None

    def _key(self, token: SignedToken) -> tuple[Key, object]:
        for fetch in (None, self._await_fetch):
            if fetch:
                fetch()
            keys = self.usable or {}
            if (key := _find(keys, token)) is not None:
                return key, keys
        if self._failure:
            raise IssuerUnavailableError(
                "the token cannot be verified at the moment, as the keys of its issuer cannot be fetched; try again, "
                "and if this persists, ask the adapter's operator, whose log has the cause"
            )
        raise TokenFault.UNKNOWN_KEY.error()

    def _await_fetch(self) -> None:
        """Requests a fetch and waits for it, unless the last one was a moment ago."""
        with self._changed:
            if time.monotonic() - self._last_attempt < PAUSE_SECONDS and not self._requested:
                return
            if self._waiting >= MAX_WAITING:
                raise IssuerUnavailableError("too many tokens wait for the keys of their issuer; try again")
            before = self._fetches
            self._requested = True
            self._waiting += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._fetches > before or self._stopped, WAIT_SECONDS)
            finally:
                self._waiting -= 1

    def _run(self) -> None:
        while True:
            with self._changed:
                self._last_attempt, self._requested = time.monotonic(), True
            self.refresh()
            with self._changed:
                self._fetches += 1
                self._requested = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stopped, PAUSE_SECONDS)
                pause = (REFRESH_SECONDS if not self._failure else 3 * PAUSE_SECONDS) - PAUSE_SECONDS
                self._changed.wait_for(lambda: self._stopped or self._requested, pause)
                if self._stopped:
                    return

    def refresh(self) -> None:
        """Fetches the keys; if that fails, logs why, once, and keeps those that are known."""
        try:
            document = fetch_keys(self.issuer, self._fetch)
            if document != self._document or self._keys is None:
                self._keys, self._document = parse_keys(document), document
                self._log.info("the keys of an issuer fetched", issuer=self.issuer.issuer, keys=len(self._keys))
            elif self._failure:
                self._log.info("the keys of an issuer can be fetched again", issuer=self.issuer.issuer)
            self._fetched_at, self._failure = time.monotonic(), ""
        except FetchError as error:
            why, known = str(error), len(self.usable or {})
            if why != self._failure:
                name = self.issuer.issuer
                self._log.error("the keys of an issuer cannot be fetched", issuer=name, why=why, keys_known=known)
            self._failure = why
        except Exception as fault:  # noqa: BLE001 - the thread must continue
            self._log.error("the keys of an issuer could not be read", issuer=self.issuer.issuer, exc_info=fault)
            self._failure = "internal"


def _find(keys: Mapping[str, Key], token: SignedToken) -> Key | None:
    """Returns the key that a token names; if it names none, the only one of the right type."""
    if token.key_id:
        return keys.get(token.key_id)
    fitting = [key for key in keys.values() if key.key_type == _TYPES[token.algorithm[:2]]]
    return fitting[0] if len(fitting) == 1 else None


def fetch_keys(issuer: Issuer, fetch: Fetch) -> bytes:
    """Fetches the JWKS of an issuer, which discovery finds unless its URL is set. Raises FetchError."""
    end = time.monotonic() + FETCH_SECONDS
    url = issuer.jwks_url
    if not url:
        source = f"{issuer.issuer.rstrip('/')}/.well-known/openid-configuration"
        discovery = _object(fetch(source, FETCH_SECONDS, issuer.ca_file, issuer.token_file), source)
        if discovery.get("issuer") != issuer.issuer:
            raise FetchError(
                f"{source} is the document of another issuer: its 'issuer' differs from the configured one"
            )
        jwks_uri = discovery.get("jwks_uri")
        url = jwks_uri if isinstance(jwks_uri, str) else ""
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise FetchError(f"{source} has no https:// URL as 'jwks_uri'")
    return fetch(url, max(0.1, end - time.monotonic()), issuer.ca_file, issuer.token_file)


def parse_keys(document: bytes) -> dict[str, Key]:
    """Returns the usable keys of a JWKS by their ids or thumbprints. Raises FetchError if there are none."""
    listed = _object(document, "the JWKS").get("keys")
    if not isinstance(listed, list):
        raise FetchError("the JWKS has no list 'keys'")
    if len(listed) > MAX_KEYS:
        raise FetchError(f"the JWKS has {len(listed)} keys, and {MAX_KEYS} are the most")
    keys: dict[str, Key] = {}
    for item in listed:
        key = _try_key(item)
        if key is not None:
            keys.setdefault(key.kid or "", key)
    if not keys:
        raise FetchError("the JWKS has no usable key for signatures (RSA from 2048 bits on, EC, Ed25519)")
    return keys


def _try_key(entry: object) -> Key | None:
    """Reads a key for signatures; None if it is none, or one of an unknown kind."""
    if not isinstance(entry, dict) or entry.get("kty") not in _TYPES.values() or entry.get("use", "sig") != "sig":
        return None
    try:
        key = JWKRegistry.import_key({name: value for name, value in entry.items() if name not in _PRIVATE})
        key.ensure_kid()
        size = key.public_key.key_size if isinstance(key, RSAKey) else RSA_BITS[0]
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) and size in RSA_BITS else None


_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "x5c", "x5u"})


def _object(document: bytes, title: str) -> Mapping[str, Any]:
    try:
        decoded = json.loads(document)
    except (ValueError, RecursionError):
        raise FetchError(f"{title} is not JSON") from None
    if not isinstance(decoded, dict):
        raise FetchError(f"{title} is not a JSON object")
    return decoded
