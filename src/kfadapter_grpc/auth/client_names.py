"""The names in client certificates that are allowed, and their roles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.call import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

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
