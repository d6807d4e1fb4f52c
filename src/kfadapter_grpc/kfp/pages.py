"""Gathers pages of up to 1000 items out of KFP's pages of at most 200, aligned so that no item is missed or repeated.

KFP's tokens point at an item and carry sort and filter, so a page must end where a page of KFP ends. What one answer
may hold is bounded too: gRPC messages of 4 MiB. A page that would grow beyond ends early; its token goes on there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from kfadapter_grpc.contract.listing import Page
from kfadapter_grpc.kfp.gateway import MAX_KFP_PAGE, smaller
from kfadapter_grpc.kfp.transport import AnswerTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_PAGE_BYTES = 3 * 1024 * 1024
"""What the items of one page may weigh; leaves room in a message of 4 MiB."""
MAX_TOTAL = 2**31 - 1
"""What the contract has room for."""
MAX_ROUNDS = 50
"""How many pages of KFP are read for one page of ours, where a filter drops most of them."""


@dataclass(frozen=True, slots=True)
class KfpPage(Generic[T]):
    """A page of KFP: the items that match, the next token, KFP's total."""

    items: list[T]
    next_token: str
    total: int


def gather(
    fetch: Callable[[int, str], KfpPage[T]],
    weight: Callable[[T], int],
    size: int,
    token: str,
    limit: int = MAX_KFP_PAGE,
) -> Page[T]:
    """Gathers a page.

    Args:
        fetch: Gets a page of KFP by its size and token.
        weight: What an item weighs in an answer, in bytes.
        size: How many items at most.
        token: KFP's token to go on from.
        limit: How many items a page of KFP holds at most; less is asked for where they turn out to be large.

    Raises:
        AnswerTooLargeError: KFP's answer with a single item is too large.
    """
    items: list[T] = []
    room, total = MAX_PAGE_BYTES, 0
    for _ in range(MAX_ROUNDS):
        asked = min(limit, size - len(items))
        try:
            page = fetch(asked, token)
        except AnswerTooLargeError:
            if asked > 1:
                limit = smaller(asked)
                continue
            if items:
                break
            raise
        weighs = sum(map(weight, page.items))
        total = min(page.total, MAX_TOTAL)
        if weighs > room and items:
            break
        if weighs > MAX_PAGE_BYTES and limit > 1 and len(page.items) > 1:
            limit = smaller(len(page.items))
            continue
        items += page.items
        room -= weighs
        token = page.next_token
        if not token or len(items) >= size:
            break
    return Page(tuple(items), token, total)
