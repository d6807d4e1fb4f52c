"""Decides who calls, and whether they may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.call import Caller, Role
from kfadapter_grpc.contract.errors import PermissionDeniedError, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kfadapter_grpc.auth.client_names import ClientNames
    from kfadapter_grpc.auth.tokens import Tokens

_SCHEME = "bearer"


class Access:
    """Knows whom to let in: bearers of tokens, holders of certificates, both at once, or anybody."""

    def __init__(self, tokens: Callable[[], Tokens] | None, names: ClientNames | None) -> None:
        """Lets in who has all that is asked for.

        Args:
            tokens: Tells the tokens that are valid now; None if no token is asked for.
            names: The names in client certificates that may call; None if no certificate is asked for.
        """
        self._tokens = tokens
        self._names = names

    def caller(self, authorization: Sequence[str | bytes], names: Callable[[], Sequence[str]]) -> Caller | None:
        """Tells who calls; None where nobody is asked.

        Where both are asked for, the token says who it is, and the call may do what both allow.

        Args:
            authorization: The values of the metadata `authorization`.
            names: Tells the names in the certificate of the connection.

        Raises:
            UnauthenticatedError: The call brings no valid token.
            PermissionDeniedError: No name in the certificate may call.
        """
        holder = _holder(self._names, names()) if self._names else None
        bearer = _bearer(self._tokens(), authorization) if self._tokens else None
        if holder and bearer and not holder.role.allows(bearer.role):
            return Caller(bearer.name, holder.role)
        return bearer or holder


def authorize(caller: Caller | None, needed: Role, method: str) -> None:
    """Sees whether somebody may make a call; nobody in particular may, as then nobody is asked.

    Raises:
        PermissionDeniedError: They may not.
    """
    if caller is not None and not caller.role.allows(needed):
        raise PermissionDeniedError(
            f"'{caller.name}' calls as a {caller.role.value}, and {method.lstrip('/')} needs a {needed.value}; ask the "
            "adapter's operator for that role",
            metadata={"caller": caller.name, "role": caller.role.value, "needed": needed.value},
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
    return Caller(entry.name, entry.role)
