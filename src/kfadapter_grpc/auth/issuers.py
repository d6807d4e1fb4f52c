"""The file of accepted issuers: which signed tokens (JWTs) are valid, and what of Kubernetes' TokenReview is used.

It is TOML: tables `[[issuers]]`, and at most one table `[token_review]`; docs/security.md shows it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from kfadapter_grpc.addresses import is_loopback
from kfadapter_grpc.contract.call import Role

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
"""The algorithms that may be allowed: signatures with a public key only."""
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts the token of a pod's service account, and its own CAs."""
_Text: TypeAlias = Annotated[str, Meta(min_length=1)]
_Texts: TypeAlias = Annotated[tuple[_Text, ...], Meta(min_length=1)]
_Seconds: TypeAlias = Annotated[int, Meta(ge=0, le=600)]


class IssuersError(ValueError):
    """The file is invalid; the message has the line, or the path of the value."""


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file. An empty path is none."""

    def __post_init__(self) -> None:
        for name in ("ca_file", "token_file"):
            if getattr(self, name) == Path():
                msgspec.structs.force_setattr(self, name, None)


class Issuer(_Table, frozen=True):
    """An issuer of signed tokens.

    Attributes:
        issuer: The value of `iss`; discovery is below it, at `/.well-known/openid-configuration`.
        audiences: The adapter's names in `aud`; a token must have one of them.
        role: The role of all its callers in all namespaces; None: none, unless rules give one.
        name_prefix: Precedes the name, so that two issuers never give the same name.
        groups_claim: The claim with the groups, or a path to it (`realm_access.roles`); empty: no groups.
        jwks_url: Where its keys are; empty: discovery finds it.
        ca_file: The CAs of its certificate; None: the well-known ones.
        token_file: A bearer token for discovery and keys, as Kubernetes wants one.
    """

    issuer: str
    audiences: _Texts
    role: Role | None = None
    name_claim: _Text = "sub"
    name_prefix: str = ""
    groups_claim: str = "groups"
    algorithms: _Texts = ("RS256", "ES256")
    jwks_url: str = ""
    ca_file: Path | None = None
    token_file: Path | None = None
    clock_skew_seconds: _Seconds = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_url("issuer", self.issuer)
        if self.jwks_url:
            _check_url("jwks_url", self.jwks_url)
        if unknown := [name for name in self.algorithms if name not in ALGORITHMS]:
            raise ValueError(f"algorithms: unknown are {', '.join(unknown)}; there are {', '.join(ALGORITHMS)}")
        if self.token_file and not self.ca_file:
            raise ValueError("token_file needs ca_file, so that the token is sent to its own cluster only")


class TokenReview(_Table, frozen=True):
    """Has the Kubernetes API server verify tokens.

    Attributes:
        audiences: The adapter's names; a token must be for one of them.
        role: The role of all its callers in all namespaces; None: none, unless rules give one.
        token_file: The token of a service account that may create TokenReviews.
        cache_seconds: For how long an outcome is valid.
    """

    audiences: _Texts
    role: Role | None = None
    url: str = "https://kubernetes.default.svc"
    ca_file: Path | None = SERVICE_ACCOUNT / "ca.crt"
    token_file: Path | None = SERVICE_ACCOUNT / "token"
    cache_seconds: _Seconds = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_url("url", self.url)


class Issuers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    issuers: Annotated[tuple[Issuer, ...], Meta(max_length=20)] = ()
    token_review: TokenReview | None = None

    def __post_init__(self) -> None:
        if not self.issuers and self.token_review is None:
            raise ValueError("it holds neither [[issuers]] nor [token_review]: no token would be valid")
        for name in ("issuer", "name_prefix"):
            values = [getattr(issuer, name) for issuer in self.issuers]
            if twice := next((value for value in values if values.count(value) > 1 and value), None):
                raise ValueError(f"two issuers have {name} = {twice!r}")
            if values.count("") > 1:
                raise ValueError(f"two issuers without {name} could give two callers the same name; set {name}")


def parse_issuers(data: bytes) -> Issuers:
    """Parses the file. Raises IssuersError if it is invalid."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        tables = toml.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise IssuersError("it is not UTF-8 text") from None
    except ValueError as error:
        raise IssuersError(f"it is not TOML: {error}") from None
    try:
        return msgspec.convert(tables, Issuers, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        text = str(error)
        text += f"; a role is one of {', '.join(role.value for role in Role)}" if "enum value" in text else ""
        raise IssuersError(text) from None


def _check_url(name: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)))
        _ = parts.port
    except ValueError:
        valid = False
    if not valid or parts.username or parts.query or parts.fragment or not url.isascii() or not url.isprintable():
        raise ValueError(f"{name} must be an https:// URL without user, query and fragment")
