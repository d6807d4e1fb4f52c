"""Bearer tokens: those that issuers sign, and those that Kubernetes verifies (TokenReview), for a few seconds each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import msgspec
import structlog

from kfadapter_grpc.auth.issuer_keys import Fetch, IssuerKeys
from kfadapter_grpc.auth.issuers import Issuers, TokenReview
from kfadapter_grpc.auth.reloaded_files import Reloaded
from kfadapter_grpc.auth.signed_tokens import (
    MAX_NAME,
    SignedToken,
    TokenFault,
    check_audience,
    check_times,
    identity_of,
    read_token,
)
from kfadapter_grpc.auth.tokens import cache_newest
from kfadapter_grpc.contract.call import Call, Caller, Grant, Role
from kfadapter_grpc.contract.errors import AdapterError, IssuerUnavailableError
from kfadapter_grpc.contract.identity import Identity, Way

MAX_CACHED = 10_000


class _Verified(NamedTuple):
    caller: Caller
    expires: float
    keys: IssuerKeys
    generation: object


class SignedBearers:
    """Verifies signed tokens by the file of issuers. Safe to use from many threads.

    A verified token is remembered by its hash until it expires, its issuer's keys change, or the file does.
    """

    def __init__(self, file: Reloaded[Issuers], fetch: Fetch, post: Post) -> None:
        self.file = file
        self._fetch = fetch
        self._post = post
        self._lock = threading.Lock()
        self._started = False
        self._keys: dict[str, IssuerKeys] = {}
        self._reviewer: Reviewer | None = None
        self._verified: dict[bytes, _Verified] = {}
        self._applied: Issuers | None = None
        self._apply()

    def start(self) -> None:
        self._started = True
        for keys in self._keys.values():
            keys.start()

    def stop(self) -> None:
        for keys in self._keys.values():
            keys.stop()

    def refresh(self) -> None:
        """Re-reads the file; the keys of unchanged issuers stay cached."""
        self.file.refresh()
        if self.file.value is not self._applied:
            self._apply()

    def caller(self, text: str, digest: bytes, call: Call) -> Caller:
        """Returns the bearer of a token. Raises UnauthenticatedError; IssuerUnavailableError may be retried."""
        verified = self._verified.get(digest)
        if verified and time.time() < verified.expires and verified.keys.usable is verified.generation:
            return verified.caller
        token = read_token(text)
        keys, reviewer = self._keys.get(token.issuer), self._reviewer
        if keys is None:
            if reviewer is None:
                raise TokenFault.UNKNOWN_ISSUER.error()
            return _caller(reviewer.identity(token, digest, call), reviewer.review.role)
        issuer = keys.issuer
        if token.algorithm not in issuer.algorithms:
            raise TokenFault.ALGORITHM.error()
        expires = check_times(token.claims, issuer.clock_skew_seconds)
        check_audience(token.claims, issuer.audiences)
        generation = keys.verify(token)
        caller = _caller(identity_of(token.claims, issuer), issuer.role)
        with self._lock:
            if self._keys.get(issuer.issuer) is keys:  # otherwise the file has changed
                cache_newest(self._verified, digest, _Verified(caller, expires, keys, generation), MAX_CACHED)
        return caller

    def _apply(self) -> None:
        file, old = self.file.value, self._keys
        new = {issuer.issuer: IssuerKeys(issuer, self._fetch) for issuer in file.issuers}
        unchanged = {name: keys for name, keys in old.items() if name in new and new[name].issuer == keys.issuer}
        review = file.token_review
        if review is None or self._reviewer is None or self._reviewer.review != review:
            self._reviewer = Reviewer(review, self._post) if review else None
        with self._lock:
            self._keys, self._verified, self._applied = {**new, **unchanged}, {}, file
        for name, keys in old.items():
            if name not in unchanged:
                keys.stop()
        for name, keys in self._keys.items():
            if self._started and name not in unchanged:
                keys.start()


def _caller(identity: Identity, role: Role | None) -> Caller:
    return Caller(identity, (Grant("*", role),) if role else ())


# --- TokenReview ----------------------------------------------------------------------------------------------------


REVIEW_SECONDS = 3.0
MAX_REVIEWS = 8
SKEW_SECONDS = 60
Post: TypeAlias = "Callable[[TokenReview, str, Call], tuple[int, bytes]]"
"""Has the Kubernetes API server review a token; returns status and body, or raises AdapterError."""
PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
REVIEWED = (200, 201)
"""The HTTP statuses of a review, whatever its outcome."""


class _User(msgspec.Struct):
    username: str = ""
    groups: list[str] | None = None


class _Status(msgspec.Struct):
    authenticated: bool = False
    user: _User = msgspec.field(default_factory=_User)
    audiences: list[str] | None = None


class _Reviewed(msgspec.Struct):
    status: _Status


class Reviewer:
    """Verifies tokens by TokenReview. Safe to use from many threads."""

    def __init__(self, review: TokenReview, post: Post) -> None:
        self.review = review
        self._post = post
        self._slots = threading.BoundedSemaphore(MAX_REVIEWS)
        self._lock = threading.Lock()
        self._cache: dict[bytes, tuple[float, Identity | None]] = {}
        self._failure = ""

    def identity(self, token: SignedToken, digest: bytes, call: Call) -> Identity:
        """Returns the identity of a bearer. Raises UnauthenticatedError; IssuerUnavailableError may be retried.

        What needs no verification is checked first, so that garbage does not reach the API server.
        """
        check_times(token.claims, SKEW_SECONDS)
        check_audience(token.claims, self.review.audiences)
        outcome = self._try_cached(digest)
        if outcome is None:
            with call.within(REVIEW_SECONDS) as part:
                if not self._slots.acquire(timeout=max(0.0, part.remaining())):
                    raise self._unavailable("all slots for reviews are taken")
                try:
                    outcome = self._try_cached(digest)
                    if outcome is None:
                        identity = self._review(token, part)
                        outcome = time.monotonic() + self.review.cache_seconds, identity
                        with self._lock:
                            cache_newest(self._cache, digest, outcome, MAX_CACHED)
                finally:
                    self._slots.release()
        if outcome[1] is None:
            raise TokenFault.REJECTED.error()
        return outcome[1]

    def _try_cached(self, digest: bytes) -> tuple[float, Identity | None] | None:
        cached = self._cache.get(digest)
        return cached if cached and time.monotonic() < cached[0] else None

    def _review(self, token: SignedToken, call: Call) -> Identity | None:
        try:
            status, body = self._post(self.review, token.text, call)
            if status not in REVIEWED:
                raise self._unavailable(f"the Kubernetes API server responds with HTTP {status} to a TokenReview")
            review = msgspec.json.decode(body, type=_Reviewed).status
        except msgspec.MsgspecError:
            raise self._unavailable("the Kubernetes API server's response is not a TokenReview") from None
        except IssuerUnavailableError:
            raise
        except AdapterError as error:
            raise self._unavailable(f"the Kubernetes API server cannot be reached ({error.reason})") from None
        self._failure = ""
        name = review.user.username
        if not review.authenticated or not set(review.audiences or ()) & set(self.review.audiences):
            return None
        if not name or not name.isprintable() or len(name) > MAX_NAME:
            return None
        return Identity(
            name, Way.TOKEN_REVIEW, token.issuer, name, tuple(review.user.groups or ()), claims=token.claims
        )

    def _unavailable(self, why: str) -> IssuerUnavailableError:
        """Logs a cause once, not for each call."""
        if why != self._failure:
            self._failure = why
            structlog.get_logger().error("tokens cannot be reviewed", why=why, url=self.review.url)
        return IssuerUnavailableError(
            "the token cannot be verified at the moment, as the Kubernetes API server does not review it; try again, "
            "and if this persists, ask the adapter's operator, whose log has the cause"
        )
