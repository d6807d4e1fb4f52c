"""Which names in client certificates may call, and in which role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.call import Caller, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

ANY = "*"
"""Stands in a list for every name."""


def split_names(text: str) -> frozenset[str]:
    """Reads a list of names with commas in between."""
    return frozenset(name for part in text.split(",") if (name := part.strip()))


class ClientNames:
    """The names that may call. A certificate has several: DNS names, URIs, a common name; one that is listed suffices.

    A reader only reads, even if it is also a writer; a name that is spelled out counts before `*`.
    """

    def __init__(self, writers: str, readers: str) -> None:
        """Takes both lists, with commas in between."""
        self._lists = ((split_names(readers), Role.READER), (split_names(writers), Role.WRITER))

    def try_caller(self, names: Sequence[str]) -> Caller | None:
        """Returns the caller whose certificate has these names; None if none of them may call."""
        for listed, role in self._lists:
            for name in names:
                if name in listed:
                    return Caller(name, role)
        for listed, role in self._lists:
            if ANY in listed:
                return Caller(next(iter(names), "a certificate without a name"), role)
        return None
