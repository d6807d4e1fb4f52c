"""Reads signed tokens (JWTs), and checks their claims. No key and no I/O is needed here.

The JSON is read more strictly than the standard demands, so that no two readers of a token can differ: no key twice, no
NaN, no deep nesting.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from kfadapter_grpc.auth.issuers import Issuer
from kfadapter_grpc.contract.errors import UnauthenticatedError
from kfadapter_grpc.contract.identity import Identity, Way
from kfadapter_grpc.contract.spec import Json

MAX_TOKEN_BYTES = 16 * 1024
"""The largest token; gRPC accepts no more metadata."""
MAX_HEADER_BYTES = 4 * 1024
MAX_NAME = 256
MAX_GROUPS = 500
_MAX_TIME = 1e12
_PARTS = 3
_ENCODED = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt", "application/jwt"})
"""The types of tokens for callers; others, as `logout+jwt`, mean something else."""


class TokenFault(enum.Enum):
    """What is wrong with a token: the value `fault` in ErrorInfo's metadata, and what to do."""

    MALFORMED = "the token is not a signed token (JWT) that this adapter can read; get a new one from its issuer"
    ALGORITHM = "the token is signed with an algorithm that this adapter does not allow for its issuer"
    UNKNOWN_ISSUER = (
        "the token is from an issuer that this adapter does not accept; get one from an issuer that it accepts"
    )
    UNKNOWN_KEY = "the token is signed with a key that its issuer does not publish; get a new token"
    SIGNATURE = "the token's signature is wrong; get a new token from its issuer"
    EXPIRED = "the token has expired; get a new one from its issuer (kfadapter login)"
    NOT_YET_VALID = "the token is not valid yet; check the clocks of the issuer and of the adapter"
    AUDIENCE = "the token is not for this adapter: request one with the adapter's audience from the issuer"
    CLAIMS = "the token lacks a claim that this adapter needs, or it has one with a wrong type"
    REJECTED = "Kubernetes does not accept the token; get a new one for the service account and the adapter's audience"
    TWO_IDENTITIES = "the client certificate and the token name two identities; use those of one"

    def error(self, more: str = "") -> UnauthenticatedError:
        """Makes the error for the caller; it shows nothing of the token."""
        return UnauthenticatedError(self.value + more, metadata={"fault": self.name})


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token that was read and not verified; its `key_id` is empty without a `kid`."""

    text: str = field(repr=False)
    key_id: str
    algorithm: str
    claims: Mapping[str, Json] = field(repr=False)

    @property
    def issuer(self) -> str:
        """The unverified `iss`; empty if it is no text."""
        issuer = self.claims.get("iss")
        return issuer if isinstance(issuer, str) else ""


def read_token(text: str) -> SignedToken:
    """Reads a token. Raises UnauthenticatedError if it is none."""
    parts = text.split(".")
    if len(text) > MAX_TOKEN_BYTES or len(parts) != _PARTS or not all(map(_ENCODED.fullmatch, parts)):
        raise TokenFault.MALFORMED.error()
    header, claims = (_object(part) for part in parts[:2])
    key_id, algorithm, kind = header.get("kid", ""), header.get("alg", ""), header.get("typ", "")
    if not (isinstance(key_id, str) and isinstance(algorithm, str) and isinstance(kind, str)):
        raise TokenFault.MALFORMED.error()
    if "crit" in header or kind.lower() not in _TYPES or len(parts[0]) > MAX_HEADER_BYTES:
        raise TokenFault.MALFORMED.error()
    return SignedToken(text, key_id, algorithm, claims)


def check_times(claims: Mapping[str, Json], skew: float) -> float:
    """Checks the times, or raises UnauthenticatedError; returns the end, in seconds since 1970, with the skew."""
    now, times = time.time(), {name: claims.get(name) for name in ("exp", "nbf", "iat")}
    for name, value in times.items():
        is_time = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_TIME
        if not is_time and (name == "exp" or value is not None):
            raise TokenFault.CLAIMS.error(f" ({name})")
    expires = cast("float", times["exp"]) + skew
    if now >= expires:
        raise TokenFault.EXPIRED.error()
    if any(now < cast("float", value) - skew for name, value in times.items() if name != "exp" and value is not None):
        raise TokenFault.NOT_YET_VALID.error()
    return expires


def check_audience(claims: Mapping[str, Json], audiences: Sequence[str]) -> None:
    """Checks that the token is for one of `audiences`. Raises UnauthenticatedError if it is not."""
    audience_claim = claims.get("aud")
    listed = [audience_claim] if isinstance(audience_claim, str) else audience_claim
    if not isinstance(listed, list) or not all(isinstance(audience, str) for audience in listed):
        raise TokenFault.AUDIENCE.error()
    if not set(audiences) & set(cast("list[str]", listed)):
        raise TokenFault.AUDIENCE.error()


def identity_of(claims: Mapping[str, Json], issuer: Issuer) -> Identity:
    """Returns the identity in the claims. Raises UnauthenticatedError if one is missing or has a wrong type."""
    subject, name = _text(claims, "sub"), _text(claims, issuer.name_claim)
    if issuer.name_claim == "email" and claims.get("email_verified", True) is not True:
        raise TokenFault.CLAIMS.error(" (email_verified)")
    groups = _at(issuer.groups_claim, claims) if issuer.groups_claim else []
    groups = [groups] if isinstance(groups, str) else groups
    if not isinstance(groups, list) or len(groups) > MAX_GROUPS or not all(map(_is_text, groups)):
        raise TokenFault.CLAIMS.error(f" ({issuer.groups_claim})")
    return Identity(
        issuer.name_prefix + name, Way.ISSUER, issuer.issuer, subject, tuple(cast("list[str]", groups)), claims
    )


def _at(path: str, claims: Mapping[str, Json]) -> Json:
    """The groups in a claim of this name, or in one within claims (`realm_access.roles`); empty if it is missing."""
    if path in claims:
        return claims[path]
    first, _, rest = path.partition(".")
    inside = claims.get(first)
    return _at(rest, inside) if rest and isinstance(inside, dict) else []


def _text(claims: Mapping[str, Json], name: str) -> str:
    value = claims.get(name)
    if not _is_text(value) or not cast("str", value).strip():
        raise TokenFault.CLAIMS.error(f" ({name})")
    return cast("str", value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= MAX_NAME


def _object(part: str) -> dict[str, Json]:
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars="-_", validate=True)
        decoded = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, binascii.Error, RecursionError):
        raise TokenFault.MALFORMED.error() from None
    if not isinstance(decoded, dict):
        raise TokenFault.MALFORMED.error()
    return decoded


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key occurs twice")
    return mapping


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
