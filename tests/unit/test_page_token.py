"""Page tokens are bound to their listings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfadapter.v1.run_pb2 import ListRunsRequest, ListRunsResponse
from kfadapter_grpc.contract.errors import InvalidPageTokenError
from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.services.responses import page, page_token

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
orders = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def _encoded(token: str, order: str) -> str:
    return page(Page((), token), ListRunsResponse, ListRunsRequest(order_by=order)).next_page_token


@given(token=texts, order=orders)
def test_a_token_comes_back(token: str, order: str) -> None:
    """A token is decoded for the listing it was encoded for, and only has characters that are safe in a URL."""
    encoded = _encoded(token, order)
    assert page_token(ListRunsRequest(order_by=order, page_token=encoded, page_size=7)) == token
    assert encoded.replace("-", "").replace("_", "").isalnum()


@given(token=texts, order=orders, other=orders)
def test_a_token_is_bound_to_its_listing(token: str, order: str, other: str) -> None:
    """For another listing a token is rejected."""
    if order == other:
        return
    with pytest.raises(InvalidPageTokenError):
        page_token(ListRunsRequest(order_by=other, page_token=_encoded(token, order)))


@given(text=texts)
def test_any_text_is_read_or_refused(text: str) -> None:
    """Any string is decoded or rejected as a token, with the field's name."""
    with pytest.raises(InvalidPageTokenError) as caught:
        page_token(ListRunsRequest(page_token=text))
    assert [violation.field for violation in caught.value.violations] == ["page_token"]


def test_the_end_of_a_listing() -> None:
    """Only an empty token ends a listing, and only an empty one begins it."""
    assert _encoded("", "x") == ""
    assert page_token(ListRunsRequest()) == ""


def test_an_endless_token_is_refused_unread() -> None:
    """A token of megabytes is rejected without decoding it."""
    with pytest.raises(InvalidPageTokenError):
        page_token(ListRunsRequest(page_token="A" * 5_000_000))
