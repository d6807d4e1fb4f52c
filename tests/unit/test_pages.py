"""Pages of the adapter are gathered from KFP's pages, whatever the sizes of items."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfadapter_grpc.kfp.rest import MAX_KFP_PAGE, MAX_PAGE_BYTES, ListJson, ListQuery, paginate
from kfadapter_grpc.kfp.transport import ResponseTooLargeError


@dataclass(frozen=True)
class _Item:
    number: int
    weight: int
    answer_bytes: int


@dataclass
class _Listing:
    """A KFP that holds items and rejects pages that are too large."""

    items: list[_Item]
    answer_limit: int
    sizes: list[int] = field(default_factory=list)

    def fetch(self, query: ListQuery) -> ListJson[_Item]:
        size, start = query.page_size, int(query.page_token or 0)
        self.sizes.append(size)
        found = self.items[start : start + size]
        if sum(item.answer_bytes for item in found) > self.answer_limit:
            raise ResponseTooLargeError("too large")
        end = start + len(found)
        return ListJson(found, len(self.items), str(end) if end < len(self.items) else "")


_SIZES = st.tuples(st.one_of(st.integers(0, 5_000), st.integers(0, 2 * MAX_PAGE_BYTES)), st.integers(0, 100))


@given(
    sizes=st.lists(_SIZES, max_size=300),
    page_size=st.integers(1, 1000),
    limit=st.integers(1, MAX_KFP_PAGE),
    answer_limit=st.integers(100, 3_000),
)
def test_every_item_comes_once_and_in_order(
    sizes: list[tuple[int, int]], page_size: int, limit: int, answer_limit: int
) -> None:
    """With any sizes and limits, no item is missed or repeated, no page is too large, and the listing ends."""
    listing = _Listing([_Item(number, *size) for number, size in enumerate(sizes)], answer_limit)
    got: list[_Item] = []
    token = ""
    for _ in range(len(sizes) + 1):
        page = paginate(listing.fetch, list, ListQuery(page_size, token), limit, weigh=lambda item: item.weight)
        assert len(page.items) <= page_size
        assert len(page.items) <= 1 or sum(item.weight for item in page.items) <= MAX_PAGE_BYTES
        assert page.total_size == len(sizes)
        got += page.items
        token = page.next_token
        if not token:
            break
    assert token == ""
    assert got == listing.items
    assert all(1 <= size <= limit for size in listing.sizes)


def test_a_page_ends_before_it_is_too_large() -> None:
    """An item that does not fit comes on the next page."""
    listing = _Listing([_Item(number, MAX_PAGE_BYTES // 2 + 1, 1) for number in range(3)], answer_limit=100)
    page = paginate(listing.fetch, list, ListQuery(3, ""), limit=1, weigh=lambda item: item.weight)
    assert ([item.number for item in page.items], page.next_token) == ([0], "1")


def _with_a_giant(*before: int) -> _Listing:
    items = [_Item(number, 1, size) for number, size in enumerate((*before, 101))]
    return _Listing(items, answer_limit=100)


def test_items_before_one_too_large_are_returned() -> None:
    """The page ends before an item that exceeds the limit; only the page that begins with that item fails."""
    listing = _with_a_giant(40, 40, 40)
    page = paginate(listing.fetch, list, ListQuery(10, ""), weigh=lambda item: item.weight)
    assert [item.number for item in page.items] == [0, 1, 2]
    with pytest.raises(ResponseTooLargeError):
        paginate(listing.fetch, list, ListQuery(10, page.next_token), weigh=lambda item: item.weight)


def test_the_page_of_kfp_shrinks_to_one() -> None:
    """After a response that is too large a quarter is requested, down to a single item."""
    listing = _with_a_giant()
    with pytest.raises(ResponseTooLargeError):
        paginate(listing.fetch, list, ListQuery(200, ""), weigh=lambda item: item.weight)
    assert listing.sizes == [200, 50, 12, 3, 1]
