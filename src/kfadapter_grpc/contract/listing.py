"""What the resources have in common: views, storage states, pages and their order."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


class View(enum.Enum):
    """How much of a resource an answer holds."""

    BASIC = "basic"
    FULL = "full"


class StorageState(enum.Enum):
    """Whether a run or an experiment is put away; the values are KFP's."""

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
    """Asks for a page of 1 to 1000 items; `token` is the repository's own, empty for the first page."""

    size: int = 100
    token: str = ""
    order: Order = field(default_factory=Order)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of items; an empty `next_token` ends the listing, `total_size` is None where it is not known."""

    items: tuple[T, ...]
    next_token: str = ""
    total_size: int | None = None
