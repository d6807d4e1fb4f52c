"""The identity of a caller: what was verified about it, whatever way it authenticates."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from kfadapter_grpc.contract.call import Grant
from kfadapter_grpc.contract.spec import Json


class Way(enum.Enum):
    """How a caller authenticates."""

    NONE = "none"
    TOKEN_FILE = "token-file"  # noqa: S105 - a name
    CERTIFICATE = "certificate"
    ISSUER = "issuer"
    TOKEN_REVIEW = "token-review"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Identity:
    """What was verified about a caller.

    Attributes:
        name: The name in logs and limits: of a line of the token file, in a certificate, or from a token's claims.
        claims: All claims of the token; only those of a verified token.
        certificate_names: The names in the caller's own client certificate, whatever way the caller authenticated;
            empty for that of a proxy, and for any that `*` allows beside a token.
    """

    name: str
    way: Way
    issuer: str = ""
    subject: str = ""
    groups: tuple[str, ...] = ()
    claims: Mapping[str, Json] = field(default_factory=dict, repr=False)
    certificate_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WhoAmIRequest:
    """Requests the caller's identity."""


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """The caller's identity and roles, and the version of KFP."""

    name: str = ""
    way: Way = Way.NONE
    issuer: str = ""
    subject: str = ""
    groups: tuple[str, ...] = ()
    grants: tuple[Grant, ...] = ()
    kfp_user: str = ""
    certificate_names: tuple[str, ...] = ()
    kfp_version: str = ""
