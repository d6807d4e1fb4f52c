"""What the resources have in common: views, storage states, pages and their order."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Generic, TypeVar

from kfadapter_grpc.contract.checks import Faults, within

T = TypeVar("T")

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_INT32 = 2**31 - 1
_ORDER_BY = re.compile(r"\s*(\w+)(?:\s+(asc|desc))?\s*")


class View(enum.Enum):
    """How much of a resource a response contains."""

    BASIC = "basic"
    FULL = "full"


class StorageState(enum.Enum):
    """Whether a run or an experiment is archived; the values are KFP's."""

    UNKNOWN = ""
    AVAILABLE = "AVAILABLE"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a listing: `field` is a name of the proto (`created_at`)."""

    field: str = "created_at"
    descending: bool = True


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page of 1 to 1000 items; `token` is the one of kfp/, empty for the first page."""

    size: int = DEFAULT_PAGE_SIZE
    token: str = ""
    order: Order = field(default_factory=Order)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOfListRequest:
    page_size: Annotated[int, within(0, MAX_INT32, "is {}; use 0 for the default of 100, or up to 1000")] = 0
    page_token: str = ""

    def page(self, token: str) -> PageRequest:
        """Returns which page is requested; `token` is the one of kfp/."""
        return PageRequest(min(self.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE), token)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest(PageOfListRequest):
    """A request for a page of a listing, which can be ordered by the fields of ORDERS."""

    ORDERS: ClassVar[tuple[str, ...]] = ()

    order_by: str = ""

    def check(self) -> Faults:
        match = _ORDER_BY.fullmatch(self.order_by)
        if self.order_by.strip() and (match is None or match.group(1) not in self.ORDERS):
            known = ", ".join(self.ORDERS)
            yield "order_by", f"'{self.order_by[:100]}' is not an order; use one of {known}, with ' desc' or not"

    def page(self, token: str) -> PageRequest:
        """Returns which page is requested; `token` is the one of kfp/."""
        match = _ORDER_BY.fullmatch(self.order_by)
        order = Order(match.group(1), match.group(2) == "desc") if match else Order()
        return replace(PageOfListRequest.page(self, token), order=order)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of items; an empty `next_token` ends the listing, `total_size` is None if it is unknown."""

    items: tuple[T, ...]
    next_token: str = ""
    total_size: int | None = None
