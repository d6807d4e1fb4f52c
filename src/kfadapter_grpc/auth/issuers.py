"""The file of accepted issuers: which signed tokens (JWTs) are valid, and what of Kubernetes' TokenReview is used.

It is TOML: tables `[[issuers]]`, and at most one table `[token_review]`; docs/security.md shows it.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from kfadapter_grpc.addresses import is_loopback
from kfadapter_grpc.contract.call import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
"""The algorithms that may be allowed: signatures with a public key only."""
MAX_ISSUERS = 20
MAX_SKEW_SECONDS = 600
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes puts the token of a pod's service account, and its own CAs."""


class IssuersError(ValueError):
    """The file is invalid; the message has the line."""


@dataclass(frozen=True, slots=True)
class Issuer:
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
    audiences: tuple[str, ...]
    role: Role | None = None
    name_claim: str = "sub"
    name_prefix: str = ""
    groups_claim: str = "groups"
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    jwks_url: str = ""
    ca_file: Path | None = None
    token_file: Path | None = None
    clock_skew_seconds: int = 60


@dataclass(frozen=True, slots=True)
class TokenReview:
    """Has the Kubernetes API server verify tokens.

    Attributes:
        audiences: The adapter's names; a token must be for one of them.
        role: The role of all its callers in all namespaces; None: none, unless rules give one.
        token_file: The token of a service account that may create TokenReviews.
        cache_seconds: For how long an outcome is valid.
    """

    audiences: tuple[str, ...]
    role: Role | None = None
    url: str = "https://kubernetes.default.svc"
    ca_file: Path | None = SERVICE_ACCOUNT / "ca.crt"
    token_file: Path | None = SERVICE_ACCOUNT / "token"
    cache_seconds: int = 10


@dataclass(frozen=True, slots=True)
class Issuers:
    issuers: tuple[Issuer, ...] = ()
    token_review: TokenReview | None = None


def parse_issuers(data: bytes) -> Issuers:
    """Parses the file. Raises IssuersError if it is invalid."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        tables = toml.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise IssuersError("it is not UTF-8 text") from None
    except ValueError as error:
        raise IssuersError(f"it is not TOML: {error}") from None
    unknown = tables.keys() - {"issuers", "token_review"}
    if unknown:
        raise IssuersError(f"unknown: {', '.join(sorted(unknown))}; there are [[issuers]] and [token_review]")
    listed = tables.get("issuers", [])
    if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
        raise IssuersError("issuers must be tables [[issuers]]")
    if len(listed) > MAX_ISSUERS:
        raise IssuersError(f"it holds {len(listed)} issuers, and {MAX_ISSUERS} are the most")
    issuers = tuple(_issuer(table, f"issuers[{number}]") for number, table in enumerate(listed))
    review = _token_review(tables["token_review"]) if "token_review" in tables else None
    if not issuers and review is None:
        raise IssuersError("it holds neither [[issuers]] nor [token_review]: no token would be valid")
    for name in ("issuer", "name_prefix"):
        values = [getattr(issuer, name) for issuer in issuers]
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise IssuersError(f"two issuers have {name} = {twice!r}")
        if values.count("") > 1:
            raise IssuersError("two issuers without name_prefix could give two callers the same name; set name_prefix")
    return Issuers(issuers, review)


def _issuer(table: Mapping[str, Any], context: str) -> Issuer:
    issuer = _read(Issuer, table, context)
    _check_url(issuer.issuer, f"{context}.issuer")
    if issuer.jwks_url:
        _check_url(issuer.jwks_url, f"{context}.jwks_url")
    unknown = [name for name in issuer.algorithms if name not in ALGORITHMS]
    if unknown or not issuer.algorithms:
        raise IssuersError(f"{context}.algorithms: {', '.join(unknown) or 'empty'}; there are {', '.join(ALGORITHMS)}")
    if not 0 <= issuer.clock_skew_seconds <= MAX_SKEW_SECONDS:
        raise IssuersError(f"{context}.clock_skew_seconds: must be 0 to {MAX_SKEW_SECONDS}")
    if not issuer.name_claim:
        raise IssuersError(f"{context}.name_claim: must not be empty")
    if issuer.token_file and not issuer.ca_file:
        raise IssuersError(f"{context}.token_file: needs ca_file, so that the token is sent to its own cluster only")
    return issuer


def _token_review(table: object) -> TokenReview:
    if not isinstance(table, dict):
        raise IssuersError("token_review must be a table [token_review]")
    review = _read(TokenReview, table, "token_review")
    _check_url(review.url, "token_review.url")
    if not 0 <= review.cache_seconds <= MAX_SKEW_SECONDS:
        raise IssuersError(f"token_review.cache_seconds: must be 0 to {MAX_SKEW_SECONDS}")
    return review


def _read(kind: type[T], table: Mapping[str, Any], context: str) -> T:
    """Makes a record from a table, by the types of its fields' defaults."""
    declared = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    if unknown := table.keys() - declared.keys():
        raise IssuersError(f"{context}: unknown: {', '.join(sorted(unknown))}; there are {', '.join(declared)}")
    if missing := [name for name, field in declared.items() if field.default is MISSING and not table.get(name)]:
        raise IssuersError(f"{context}: {' and '.join(missing)} must be set")
    return kind(**{name: _value(value, str(declared[name].type), f"{context}.{name}") for name, value in table.items()})


def _value(value: object, kind: str, context: str) -> object:
    if kind.startswith("tuple"):
        if isinstance(value, list) and all(isinstance(text, str) and text for text in value):
            return tuple(value)
        raise IssuersError(f'{context}: must be a list of texts, as ["kfadapter"]')
    if kind == "int":
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise IssuersError(f"{context}: must be a whole number")
    if not isinstance(value, str):
        raise IssuersError(f"{context}: must be a text")
    if kind.startswith("Role"):
        if value not in (names := [role.value for role in Role]):
            raise IssuersError(f"{context}: must be {' or '.join(names)}")
        return Role(value)
    return (Path(value) if value else None) if kind.startswith("Path") else value


def _check_url(url: str, context: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)))
        _ = parts.port
    except ValueError:
        valid = False
    if not valid or parts.username or parts.query or parts.fragment or not url.isascii() or not url.isprintable():
        raise IssuersError(f"{context}: must be an https:// URL without user, query and fragment")
