"""The base of the client's resources: calls with typed responses, listings, retries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from kfadapter_grpc.client.connection import MAX_PAUSE_SECONDS, OUTCOME_UNKNOWN, RETRIES, BaseConnection, Pages
from kfadapter_grpc.codec import to_page, to_record
from kfadapter_grpc.contract.errors import AdapterError
from kfadapter_grpc.contract.listing import Page, PageOfListRequest

R = TypeVar("R")


class Resource:
    """The calls of one service, in the client's namespace.

    Public methods return what `run`, `each` and `pages` of the connection make of coroutines: the results in `Client`,
    awaitables and their like in `AsyncClient`.
    """

    def __init__(self, connection: BaseConnection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._run, self._each = connection.run, connection.each

    def _call(self, request: Any, kind: type[R], seconds: float | None = None) -> R:  # noqa: ANN401 - any request
        return self._run(self._record(request, kind, seconds))

    def _list(
        self, request: PageOfListRequest, kind: type[R], on_response: Callable[[Any], None] = lambda _: None
    ) -> Pages[R]:
        """Returns a listing; `on_response` gets each response message."""

        async def page(token: str) -> Page[R]:
            response = await self._response(replace(request, page_token=token))
            on_response(response)
            return to_page(response, kind)

        return self._connection.pages(self._each(_items(page)), lambda token: self._run(page(token)))

    async def _response(self, request: Any, seconds: float | None = None) -> Any:  # noqa: ANN401 - messages
        return await self._connection.unary(self._with_namespace(request), seconds)

    async def _record(self, request: Any, kind: type[R], seconds: float | None = None) -> R:  # noqa: ANN401
        return to_record(await self._response(request, seconds), kind)

    async def _deleted(self, request: Any, key: str) -> bool:  # noqa: ANN401
        """Makes a call that deletes, and returns whether its response has an id: whether there was something."""
        return bool(getattr(await self._response(request), key))

    async def _with_retries(
        self,
        call: Callable[[], Awaitable[R]],
        errors: tuple[type[AdapterError], ...] = OUTCOME_UNKNOWN,
        can_repeat: Callable[[], bool] = lambda: True,
    ) -> R:
        """Makes an idempotent call, and retries it at most twice, after these errors."""
        for _ in range(RETRIES):
            try:
                return await call()
            except errors as error:
                if not can_repeat():
                    raise
                await self._connection.sleep(min(error.retry_after or 0.0, MAX_PAUSE_SECONDS))
        return await call()

    def _with_namespace(self, request: R) -> R:
        """The request with the client's namespace, unless it has one."""
        elsewhere = getattr(request, "namespace", "elsewhere")
        return request if elsewhere else replace(request, namespace=self._namespace)  # type: ignore[type-var] # a record


async def _items(page: Callable[[str], Awaitable[Page[R]]]) -> AsyncGenerator[R, None]:
    token: str | None = ""
    while token is not None:
        result = await page(token)
        for item in result.items:
            yield item
        token = result.next_token or None
