"""Bearer tokens: of the token file, of issuers, and those that Kubernetes verifies."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from kfadapter_grpc.auth.issuer_keys import IssuerKeys
from kfadapter_grpc.auth.signed_tokens import TokenFault, check_audience, check_times, identity_of, read_token
from kfadapter_grpc.auth.token_review import Reviewer
from kfadapter_grpc.auth.tokens import cache_newest
from kfadapter_grpc.contract.call import Caller, Grant

if TYPE_CHECKING:
    from kfadapter_grpc.auth.issuer_keys import Fetch
    from kfadapter_grpc.auth.issuers import Issuers
    from kfadapter_grpc.auth.reloaded_files import Reloaded
    from kfadapter_grpc.auth.token_review import Post
    from kfadapter_grpc.contract.call import Call, Role
    from kfadapter_grpc.contract.identity import Identity

MAX_VERIFIED = 10_000


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
        self._remember(digest, _Verified(caller, expires, keys, generation))
        return caller

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        with self._lock:
            if self._keys.get(verified.keys.issuer.issuer) is not verified.keys:
                return  # the file has changed
            cache_newest(self._verified, digest, verified, MAX_VERIFIED)

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
