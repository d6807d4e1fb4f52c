"""What all resources of the client share: calls with typed answers, listings, repetitions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from kfadapter_grpc.client.connection import MAX_PAUSE_SECONDS, OUTCOME_UNKNOWN, REPEATS
from kfadapter_grpc.codec import to_page, to_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from kfadapter_grpc.client.connection import Connection
    from kfadapter_grpc.contract.errors import AdapterError
    from kfadapter_grpc.contract.listing import Page, PageOfListRequest

R = TypeVar("R")


class Pages(Iterator[R]):
    """A listing: yields all items, requesting pages as they are needed."""

    def __init__(self, read: Callable[[str], Page[R]]) -> None:
        self._read = read
        self._items = self._all()

    def __next__(self) -> R:
        return next(self._items)

    def page(self, token: str = "") -> Page[R]:
        """Requests one page: the first, or that of the previous page's `next_token`."""
        return self._read(token)

    def _all(self) -> Iterator[R]:
        page = self._read("")
        yield from page.items
        while page.next_token:
            page = self._read(page.next_token)
            yield from page.items


class Resource:
    """The calls of one service, in the client's namespace.

    `AsyncClient` has the same resources: there `_read` and `_repeated` return awaitables, which other methods pass on.
    """

    _pages: type[Pages[Any]] = Pages

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._namespace = namespace

    def _read(self, request: Any, read: Callable[[Any], R], seconds: float | None = None) -> R:  # noqa: ANN401 - any request
        """Makes a call, and returns what `read` makes of its response message."""
        return read(self._connection.unary(self._here(request), seconds))

    def _repeated(
        self,
        call: Callable[[], R],
        errors: tuple[type[AdapterError], ...] = OUTCOME_UNKNOWN,
        can_repeat: Callable[[], bool] = lambda: True,
    ) -> R:
        """Makes an idempotent call, and retries it at most twice, after these errors."""
        for _ in range(REPEATS):
            try:
                return call()
            except errors as error:
                if not can_repeat():
                    raise
                time.sleep(min(error.retry_after or 0.0, MAX_PAUSE_SECONDS))
        return call()

    def _ask(self, request: Any, kind: type[R], seconds: float | None = None) -> R:  # noqa: ANN401 - any request
        """Makes a call, and returns its response as a record."""
        return self._read(request, lambda answer: to_record(answer, kind), seconds)

    def _list(
        self, request: PageOfListRequest, kind: type[R], on_answer: Callable[[Any], None] = lambda _: None
    ) -> Pages[R]:
        """Returns a listing; `on_answer` gets each response message."""

        def read(answer: Any) -> Page[R]:  # noqa: ANN401 - the message of a page
            on_answer(answer)
            return to_page(answer, kind)

        return self._pages(lambda token: self._read(replace(request, page_token=token), read))

    def _here(self, request: R) -> R:
        """The request with the client's namespace, unless it has one."""
        elsewhere = getattr(request, "namespace", "elsewhere")
        return request if elsewhere else replace(request, namespace=self._namespace)  # type: ignore[type-var] # a record
