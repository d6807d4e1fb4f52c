"""The names in client certificates that are allowed, and their roles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.call import Caller, Grant, Role
from kfadapter_grpc.contract.identity import Identity, Way

if TYPE_CHECKING:
    from collections.abc import Sequence

ANY = "*"
"""Stands in a list for every name."""


def split_names(text: str) -> frozenset[str]:
    """Parses a comma-separated list of names."""
    return frozenset(name for part in text.split(",") if (name := part.strip()))


class ClientNames:
    """The allowed names. A certificate has several: DNS names, URIs, a common name; one listed name suffices.

    A reader has read access only, even if it is also a writer; an exact name takes precedence over `*`.
    """

    def __init__(self, writers: str, readers: str) -> None:
        """Takes both lists, comma-separated."""
        self._lists = ((split_names(readers), Role.READER), (split_names(writers), Role.WRITER))

    def try_caller(self, names: Sequence[str]) -> Caller | None:
        """Returns the caller whose certificate has these names; None if none of them is allowed."""
        for listed, role in self._lists:
            for name in names:
                if name in listed:
                    return _caller(name, names, role)
        for listed, role in self._lists:
            if ANY in listed:
                return _caller(next(iter(names), "a certificate without a name"), names, role)
        return None


def _caller(name: str, names: Sequence[str], role: Role) -> Caller:
    return Caller(Identity(name, Way.CERTIFICATE, certificate_names=tuple(names)), (Grant("*", role),))
