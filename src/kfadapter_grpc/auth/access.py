"""Authentication and authorization of callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kfadapter_grpc.auth.signed_tokens import TokenFault
from kfadapter_grpc.auth.tokens import PREFIX, Tokens, digest
from kfadapter_grpc.contract.call import Call, Caller, Grant, Role
from kfadapter_grpc.contract.errors import PermissionDeniedError, UnauthenticatedError
from kfadapter_grpc.contract.identity import Identity, Way

if TYPE_CHECKING:
    from kfadapter_grpc.auth.bearer_tokens import SignedBearers

_SCHEME = "bearer"
ANY = "*"


def split_names(text: str) -> frozenset[str]:
    """Parses a comma-separated list of names."""
    return frozenset(name for part in text.split(",") if (name := part.strip()))


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of an allowed certificate.

    Attributes:
        name: The name that is allowed.
        role: Its role; None if it may do what the bearer of the token may.
        is_caller: Whether it is the caller; otherwise, as with `*` and proxies, a token may name any other one.
    """

    name: str
    role: Role | None
    is_caller: bool


class ClientNames:
    """The allowed names. A certificate has several: DNS names, URIs, a common name; one listed name suffices.

    A proxy carries other callers' tokens. A reader has read access only, even if it is also a writer; an exact name
    takes precedence over `*`.
    """

    def __init__(self, writers: str, readers: str, proxies: str = "") -> None:
        lists = ((proxies, None), (readers, Role.READER), (writers, Role.WRITER))
        self._lists = [(split_names(names), role) for names, role in lists]

    def try_holder(self, names: Sequence[str]) -> Holder | None:
        """Returns the holder of a certificate with these names; None if none of them is allowed."""
        for listed, role in self._lists:
            for name in names:
                if name in listed:
                    return Holder(name, role, is_caller=role is not None)
        for listed, role in self._lists:
            if ANY in listed:
                return Holder(next(iter(names), "a certificate without a name"), role, is_caller=False)
        return None


class Access:
    """Authenticates callers by token, by client certificate, by both at once, or not at all."""

    def __init__(
        self,
        tokens: Callable[[], Tokens] | None = None,
        names: ClientNames | None = None,
        signed: SignedBearers | None = None,
    ) -> None:
        """Callers must satisfy all that is not None: a token of either kind, and a certificate with an allowed name."""
        self._tokens = tokens
        self._names = names
        self._signed = signed

    def caller(
        self, authorization: Sequence[str | bytes], names: Callable[[], Sequence[str]], call: Call
    ) -> Caller | None:
        """Returns the caller; None if nothing is required. `names` returns those in the certificate of the connection.

        If a token is required, it gives the name. A certificate beside it must then allow any caller (`*`, a proxy), or
        have the same name, and the call may do what both allow.

        Raises:
            UnauthenticatedError: The call has no valid token, or those of two identities.
            PermissionDeniedError: No name in the certificate is allowed.
            IssuerUnavailableError: The token cannot be verified at the moment.
        """
        presented = tuple(names()) if self._names else ()
        holder = _holder(self._names, presented) if self._names else None
        if self._tokens is None and self._signed is None:
            if holder is None:
                return None
            grants = (Grant("*", holder.role),) if holder.role else ()
            return Caller(Identity(holder.name, Way.CERTIFICATE, certificate_names=presented), grants)
        bearer = self._bearer(_token(authorization), call)
        if holder is None:
            return bearer
        if holder.is_caller and bearer.name not in presented:
            raise TokenFault.TWO_IDENTITIES.error()
        # A certificate that is not the caller's own does not identify the caller, so no rule may match it.
        identity = replace(bearer.identity, certificate_names=presented if holder.is_caller else ())
        weaker = [Grant(grant.namespace, _weaker(grant.role, holder.role)) for grant in bearer.grants]
        return Caller(identity, tuple(weaker))

    def _bearer(self, text: str, call: Call) -> Caller:
        entry = self._tokens().try_find(text) if self._tokens else None
        if entry is None:
            if self._signed is None or text.startswith(PREFIX):
                raise UnauthenticatedError(
                    "the token is none of this adapter's, or no longer; ask its operator for one"
                )
            return self._signed.caller(text, digest(text), call)
        if entry.is_expired():
            raise UnauthenticatedError(
                f"the token of '{entry.name}' expired: its last day was {entry.last_day} (UTC); ask the adapter's "
                "operator for a new one",
                metadata={"name": entry.name, "last_day": str(entry.last_day)},
            )
        return Caller(Identity(entry.name, Way.TOKEN_FILE), (Grant("*", entry.role),))


def authorize(caller: Caller | None, needed: Role | None, method: str) -> None:
    """Raises PermissionDeniedError unless the role allows the call; None: callers are not authenticated."""
    if caller is None or needed is None:
        return
    role = caller.role
    if role is None or not role.allows(needed):
        role_name = role.value if role else "none"
        how = f"as {role.holder}" if role else "without a role"
        raise PermissionDeniedError(
            f"'{caller.name}' calls {how}, and {method.lstrip('/')} needs {needed.holder}; request that role "
            "from the adapter's operator",
            metadata={"caller": caller.name, "role": role_name, "needed": needed.value},
        )


def _token(authorization: Sequence[str | bytes]) -> str:
    if not authorization:
        raise UnauthenticatedError(
            "this adapter requires a token; send the metadata 'authorization: Bearer TOKEN' with one from its "
            "operator, or from an issuer that it accepts"
        )
    parts = authorization[0].split() if isinstance(authorization[0], str) else []
    if len(authorization) > 1 or len(parts) != 2 or parts[0].lower() != _SCHEME:  # noqa: PLR2004 - scheme and token
        raise UnauthenticatedError("the metadata 'authorization' must be set once, as 'Bearer TOKEN'")
    return parts[1]


def _holder(known: ClientNames, names: Sequence[str]) -> Holder:
    holder = known.try_holder(names)
    if holder is None:
        listed = ", ".join(names) or "none"
        raise PermissionDeniedError(
            f"no name in the client certificate ({listed}) is allowed to call this adapter; its operator sets "
            "the allowed ones in tls_client_names",
            metadata={"names": listed},
        )
    return holder


def _weaker(role: Role, other: Role | None) -> Role:
    return other if other and role.allows(other) else role
