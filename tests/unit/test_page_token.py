from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfadapter_grpc.contract import page_token
from kfadapter_grpc.contract.errors import InvalidPageTokenError

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(token=texts, listing=st.binary(max_size=50))
def test_a_token_comes_back(token: str, listing: bytes) -> None:
    """What was encoded for a listing is decoded for it, and holds only characters that are safe in a URL."""
    encoded = page_token.encode(token, listing)
    assert page_token.decode(encoded, listing) == token
    assert encoded.replace("-", "").replace("_", "").isalnum()


@given(token=texts, listing=st.binary(max_size=50), other=st.binary(max_size=50))
def test_a_token_is_bound_to_its_listing(token: str, listing: bytes, other: bytes) -> None:
    """For another listing it is refused."""
    if listing == other:
        return
    with pytest.raises(InvalidPageTokenError):
        page_token.decode(page_token.encode(token, listing), other)


@given(text=st.text(min_size=1, max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever a caller sends as a token, it is refused as one, with the field's name."""
    with pytest.raises(InvalidPageTokenError) as caught:
        page_token.decode(text, b"a listing")
    assert [violation.field for violation in caught.value.violations] == ["page_token"]


def test_the_end_of_a_listing() -> None:
    """Only an empty token ends a listing, and only an empty one begins it."""
    assert page_token.encode("", b"x") == ""
    assert page_token.decode("", b"x") == ""


def test_an_endless_token_is_refused_unread() -> None:
    """A token of megabytes is not decoded."""
    with pytest.raises(InvalidPageTokenError):
        page_token.decode("A" * 5_000_000, b"x")
