"""What the calls of all services share: a connection, and the namespace that they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kfadapter_grpc.contract.errors import InvalidFieldError

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from kfadapter_grpc.client.connection import Connection


class Calls:
    """Calls of one service; the client is made of those of all services."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace


def at_most_one(what: str, **given: str) -> dict[str, str]:
    """Fills the oneof of a request; with none of the fields given, it stays unset.

    Args:
        what: The oneof, in words.
        given: Its fields; the empty ones are not given.

    Raises:
        InvalidFieldError: Several are given, of which the wire could hold only one.
    """
    fields = {key: value for key, value in given.items() if value}
    if len(fields) > 1:
        raise InvalidFieldError.of(what, f"give only one of {' and '.join(fields)}")
    return fields


def set_at_most_one(message: Message, what: str, **given: str) -> None:
    """Sets a oneof of a request, as `at_most_one` tells it.

    Raises:
        InvalidFieldError: Several are given.
    """
    for key, value in at_most_one(what, **given).items():
        setattr(message, key, value)
