"""The client for asyncio, over grpc.aio: the resources of `Client`, whose calls are awaited.

Its connection hands out coroutines and async generators where that of `Client` runs them. So types differ from those
that are declared; what callers see is in `aio.pyi`, made from the declarations by scripts/async_types.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from google.protobuf.message import Message
from grpc import aio

from kfadapter_grpc.client.client import BaseClient, resolve_address
from kfadapter_grpc.client.connection import BaseConnection, Connection
from kfadapter_grpc.client.credentials import Credentials, make_credentials
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.methods import RpcMethod

if TYPE_CHECKING:
    from typing_extensions import Self

R = TypeVar("R")


class AsyncPages(AsyncIterator[R]):
    """A listing: yields all items, requesting pages as they are needed."""

    def __init__(self, items: AsyncIterator[R], read: Callable[[str], Awaitable[Page[R]]]) -> None:
        self._items = items
        self._read = read

    async def __anext__(self) -> R:
        return await anext(self._items)

    async def page(self, token: str = "") -> Page[R]:
        """Requests one page: the first, or that of the previous page's `next_token`."""
        return await self._read(token)


class AsyncConnection(BaseConnection):
    """A channel of grpc.aio to one adapter. It is bound to the event loop of its first call."""

    library: ClassVar[ModuleType] = aio
    pages: ClassVar[Any] = AsyncPages

    def __init__(self, target: str, timeout: float | None, credentials: Credentials) -> None:
        super().__init__(target, timeout, credentials)
        self._uploads: set[Connection] = set()

    def run(self, call: Coroutine[Any, Any, R]) -> R:
        return cast("R", call)

    def each(self, items: AsyncGenerator[R, None]) -> Any:  # noqa: ANN401 - what the caller iterates over
        """Returns the items, which the caller reads with `async for`."""
        return items

    async def result(self, returned: Any) -> Any:  # noqa: ANN401 - whatever gRPC returns
        return await returned

    async def responses(self, call: Any) -> AsyncGenerator[Any, None]:  # noqa: ANN401 - a call of the library
        async for answer in call:
            yield answer

    async def send(self, rpc: RpcMethod, messages: Iterator[Message], seconds: float) -> Any:  # noqa: ANN401
        """Makes the call over a separate connection that blocks a thread.

        If an adapter ends a call while a message is sent, grpc.aio reports INTERNAL instead of the adapter's error.
        """
        blocking = Connection(self.target, self._timeout, self._credentials)
        with self._lock:
            self._open()
            self._uploads.add(blocking)
        try:
            return await asyncio.to_thread(blocking.run, blocking.send(rpc, messages, seconds))
        finally:
            self._uploads.discard(blocking)
            blocking.run(blocking.close())

    async def close(self) -> None:
        """Closes the channel and cancels its calls. Idempotent."""
        for upload in list(self._uploads):
            upload.run(upload.close())
        await super().close()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def in_thread(self, work: Callable[..., R], *arguments: object) -> R:
        loop = asyncio.get_running_loop()

        def each(items: AsyncGenerator[Any, None]) -> Iterator[Any]:
            while (item := asyncio.run_coroutine_threadsafe(anext(items, None), loop).result()) is not None:
                yield item

        iterable = (each(argument) if isinstance(argument, AsyncGenerator) else argument for argument in arguments)
        return await asyncio.to_thread(work, *iterable)


class AsyncClient(BaseClient):
    """Calls an adapter; for one event loop. Use it in an `async with` statement, or close it.

    It takes the arguments of `Client` and has its resources, with the same calls and errors. What `Client` returns is
    awaited here; listings, watches, logs and bytes are read with `async for`.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float | None = None,
        namespace: str = "",
        **credentials: Any,  # noqa: ANN401 - those of `Client`
    ) -> None:
        address = resolve_address(target)
        super().__init__(AsyncConnection(address, timeout, make_credentials(address, **credentials)), namespace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()
