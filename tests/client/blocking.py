"""AsyncClient called like Client, so that the tests of one are those of the other."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

from kfadapter_grpc.client.aio import AsyncClient, AsyncPages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from typing_extensions import Self

    from kfadapter_grpc.client import Page


class BlockingClient:
    """An AsyncClient whose event loop runs in a thread; waits for what its calls return."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = AsyncClient(*arguments, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def close(self) -> None:
        """Closes the client."""
        self.wait(self._client.close())

    def wait(self, call: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401
        """Returns what a coroutine returns."""
        response, error = asyncio.run_coroutine_threadsafe(_caught(call), self._loop).result()
        if error is not None:
            raise error
        return response

    def __getattr__(self, name: str) -> object:
        found = getattr(self._client, name)
        return found if isinstance(found, str) else _Blocking(found, self)


class _Blocking:
    def __init__(self, target: Any, client: BlockingClient) -> None:  # noqa: ANN401
        self._target = target
        self._client = client

    def __getattr__(self, name: str) -> _Blocking:
        return _Blocking(getattr(self._target, name), self._client)

    def __call__(self, *arguments: object, **options: object) -> object:
        found = self._target(*arguments, **options)
        if inspect.iscoroutine(found):
            return self._client.wait(found)
        return _Items(found, self._client) if hasattr(found, "__anext__") else found


class _Items:
    def __init__(self, items: AsyncIterator[object], client: BlockingClient) -> None:
        self._items = items
        self._client = client

    def __iter__(self) -> Iterator[object]:
        return self

    def __next__(self) -> object:
        try:
            return self._client.wait(_next(self._items))
        except StopAsyncIteration:
            raise StopIteration from None

    def page(self, token: str = "") -> Page[object]:
        """Requests one page."""
        assert isinstance(self._items, AsyncPages)
        page: Page[object] = self._client.wait(self._items.page(token))
        return page

    def close(self) -> None:
        """Ends the iterator."""
        assert inspect.isasyncgen(self._items)
        self._client.wait(_close(self._items))


async def _caught(call: Coroutine[Any, Any, Any]) -> tuple[object, BaseException | None]:
    """Keeps what would end the event loop."""
    try:
        return await call, None
    except BaseException as error:  # noqa: BLE001
        return None, error


async def _next(items: AsyncIterator[object]) -> object:
    return await anext(items)


async def _close(items: Any) -> None:  # noqa: ANN401
    await items.aclose()
