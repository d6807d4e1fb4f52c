"""The client with which a request calls the adapter's own services, in the name of who sent it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kfadapter_grpc.client import Client
from kfadapter_grpc.client.connection import Connection
from kfadapter_grpc.client.credentials import AUTHORIZATION_KEY, Credentials, Token
from kfadapter_grpc.client.errors import REQUEST_ID_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

_TARGET = "this adapter"


def client_for(
    channel: grpc.Channel, request_id: str, authorization: Sequence[str], seconds: float | None = None
) -> Client:
    """Makes the client for one request.

    Args:
        channel: Leads to the services, in the name of who sent the request.
        request_id: What all calls are named in the log.
        authorization: The values of the header, which go with each call as they are.
        seconds: How long all calls may take together; None: each as the contract says.
    """
    return Client.over(_RequestConnection(channel, request_id, authorization, seconds))


class _RequestConnection(Connection):
    """The connection of one request."""

    def __init__(
        self, channel: grpc.Channel, request_id: str, authorization: Sequence[str], seconds: float | None
    ) -> None:
        super().__init__(_TARGET, None, Credentials(None, Token()))
        self._given = channel
        self._metadata = ((REQUEST_ID_KEY, request_id), *((AUTHORIZATION_KEY, value) for value in authorization))
        self._ends = None if seconds is None else time.monotonic() + seconds

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """What every call carries: the request's own id, and who sent it."""
        del request_id
        return self._metadata

    def _new_channel(self, *more: tuple[str, str | int]) -> grpc.Channel:
        del more
        return self._given

    def _within(self, default: float) -> float | None:
        return None if self._ends is None else max(0.001, min(default, self._ends - time.monotonic()))
