"""The channel of AsyncClient: calls of grpc.aio that are awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import grpc
from grpc import aio

from kfadapter_grpc.client.connection import MARGIN_SECONDS, BaseConnection, new_request_id, sent
from kfadapter_grpc.client.errors import REQUEST_ID_KEY, error_from_rpc
from kfadapter_grpc.contract.errors import CallCancelledError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from types import ModuleType

    from google.protobuf.message import Message


class AsyncConnection(BaseConnection):
    """A channel of grpc.aio to one adapter, and its calls. It belongs to the event loop of its first call."""

    library: ClassVar[ModuleType] = aio

    async def close(self) -> None:
        """Closes the channel and cancels its calls. Idempotent."""
        channel = self._detach()
        if channel is not None:
            await channel.close()

    async def unary(self, request: object, seconds: float | None = None) -> Any:  # noqa: ANN401 - the message of the RPC
        """Makes the call for a request, a record, and returns the response message; as `Connection.unary`."""
        rpc, message = sent(request)
        seconds = rpc.default_seconds + MARGIN_SECONDS if seconds is None else seconds
        return await self.call(self.rpc_of(rpc), message, seconds)

    async def call(self, rpc: Any, sending: Message | Iterator[Message], seconds: float) -> Any:  # noqa: ANN401
        """Makes a call with one response; the deadline is `seconds` unless a timeout was set.

        Raises:
            AdapterError: The call failed.
        """
        request_id = new_request_id()
        metadata = await self._sent_along(request_id)
        try:
            return await rpc(sending, timeout=self.within(seconds), metadata=metadata)
        except (grpc.RpcError, asyncio.CancelledError) as error:
            raise self._failure(error, request_id) from None

    async def stream(
        self, request: object, seconds: float | None, was_open: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[Any, None]:
        """Makes the call for a request with a response stream, cancelled when the iterator is closed.

        Args:
            request: The request.
            seconds: Deadline in seconds; None for none.
            was_open: Called before the call fails, if the response had begun, even without messages.

        Raises:
            AdapterError: The call failed.
        """
        request_id = new_request_id()
        rpc, message = sent(request)
        call = self.rpc_of(rpc)(message, timeout=seconds, metadata=await self._sent_along(request_id))
        try:
            async for answer in call:
                yield answer
        except (grpc.RpcError, asyncio.CancelledError) as error:
            if REQUEST_ID_KEY in (await call.initial_metadata() or ()):
                was_open()
            raise self._failure(error, request_id) from None
        finally:
            call.cancel()

    async def _sent_along(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """Returns the metadata of a call; a token may have to be read or fetched, which must not block the loop."""
        return await asyncio.to_thread(self.metadata, request_id) if self.has_token else self.metadata(request_id)

    def _failure(self, error: BaseException, request_id: str) -> BaseException:
        if isinstance(error, grpc.RpcError):
            return error_from_rpc(error, target=self.target, request_id=request_id)
        return CallCancelledError("the client was closed") if self.is_closed else error  # else the task was cancelled
