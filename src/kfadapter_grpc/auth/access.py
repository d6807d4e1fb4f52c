"""Authentication and authorization of callers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.call import Caller, Grant, Role
from kfadapter_grpc.contract.errors import PermissionDeniedError, UnauthenticatedError
from kfadapter_grpc.contract.identity import Identity, Way

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_grpc.auth.client_names import ClientNames
    from kfadapter_grpc.auth.tokens import Tokens

_SCHEME = "bearer"


class Access:
    """Authenticates callers by token, by client certificate, by both at once, or not at all."""

    def __init__(self, tokens: Callable[[], Tokens] | None, names: ClientNames | None) -> None:
        """Callers must satisfy all that is required.

        Args:
            tokens: Returns the tokens that are valid now; None if none is required.
            names: The names in client certificates that are allowed; None if no certificate is required.
        """
        self._tokens = tokens
        self._names = names

    def caller(self, authorization: Sequence[str | bytes], names: Callable[[], Sequence[str]]) -> Caller | None:
        """Returns the caller; None if nothing is required.

        If both are required, the token gives the name, and the call may do what both allow.

        Args:
            authorization: The values of the metadata `authorization`.
            names: Returns the names in the certificate of the connection.

        Raises:
            UnauthenticatedError: The call has no valid token.
            PermissionDeniedError: No name in the certificate is allowed.
        """
        holder = _holder(self._names, names()) if self._names else None
        bearer = _bearer(self._tokens(), authorization) if self._tokens else None
        if holder and bearer:
            identity = replace(bearer.identity, certificate_names=holder.identity.certificate_names)
            return Caller(identity, _weaker(holder, bearer))
        return bearer or holder


def _weaker(one: Caller, other: Caller) -> tuple[Grant, ...]:
    """What both may do; each has one role in all namespaces."""
    role = one.role
    return other.grants if role and all(role.allows(grant.role) for grant in other.grants) else one.grants


def authorize(caller: Caller | None, needed: Role | None, method: str) -> None:
    """Returns if the caller may make the call; None may, as then callers are not authenticated.

    Raises:
        PermissionDeniedError: The role does not allow it.
    """
    if caller is None or needed is None:
        return
    role = caller.role
    if role is None or not role.allows(needed):
        held = role.value if role else "none"
        raise PermissionDeniedError(
            f"'{caller.name}' calls {f'as a {held}' if role else 'without a role'}, and {method.lstrip('/')} needs a "
            f"{needed.value}; ask the adapter's operator for that role",
            metadata={"caller": caller.name, "role": held, "needed": needed.value},
        )


def _token(authorization: Sequence[str | bytes]) -> str:
    if not authorization:
        raise UnauthenticatedError(
            "this adapter answers only who has a token; send the metadata 'authorization: Bearer TOKEN' with one from "
            "its operator"
        )
    words = authorization[0].split() if isinstance(authorization[0], str) else []
    if len(authorization) > 1 or len(words) != 2 or words[0].lower() != _SCHEME:  # noqa: PLR2004 - scheme and token
        raise UnauthenticatedError("the metadata 'authorization' must be there once, as 'Bearer TOKEN'")
    return words[1]


def _holder(known: ClientNames, names: Sequence[str]) -> Caller:
    caller = known.try_caller(names)
    if caller is None:
        said = ", ".join(names) or "none"
        raise PermissionDeniedError(
            f"the names in the client certificate ({said}) may not call this adapter; its operator lists in "
            "tls_client_names who may",
            metadata={"names": said},
        )
    return caller


def _bearer(tokens: Tokens, authorization: Sequence[str | bytes]) -> Caller:
    entry = tokens.try_find(_token(authorization))
    if entry is None:
        raise UnauthenticatedError("the token is none of this adapter's, or no longer; ask its operator for one")
    if entry.is_expired():
        raise UnauthenticatedError(
            f"the token of '{entry.name}' expired: its last day was {entry.last_day} (UTC); ask the adapter's "
            "operator for a new one",
            metadata={"name": entry.name, "last_day": str(entry.last_day)},
        )
    return Caller(Identity(entry.name, Way.TOKEN_FILE), (Grant("*", entry.role),))
