"""Pages of lists, as the database gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from .listing import Position

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from .listing import Listing

_Item_co = TypeVar("_Item_co", covariant=True)


@dataclass(frozen=True)
class Page(Generic[_Item_co]):
    """A part of a list.

    Attributes:
        total_size: how many items the whole list has at this moment.
        next_page_token: leads to the next part; empty at the end.
    """

    items: tuple[_Item_co, ...]
    total_size: int
    next_page_token: str


@dataclass(frozen=True)
class Query(Generic[_Item_co]):
    """What a list selects.

    Attributes:
        columns: the id first.
        source: table and condition, which must be there: other conditions are put behind it with AND.
        arguments: those of the condition.
        read: makes an item of a row.
    """

    columns: str
    source: str
    arguments: tuple[str | int, ...]
    read: Callable[[tuple[str | int, ...]], _Item_co]

    def page(self, connection: sqlite3.Connection, listing: Listing) -> Page[_Item_co]:
        """Reads a page."""
        filters, values = listing.filter.sql(listing.model.columns)
        source, arguments = self.source + filters, [*self.arguments, *values]
        (total,) = connection.execute(f"SELECT count(*) {source}", arguments).fetchone()
        column, (order, bound) = listing.sort_expression, ("DESC", "<=") if listing.descending else ("ASC", ">=")
        if listing.start:
            source += f" AND ({column}, id) {bound} (fold(?), ?)"
            arguments += [listing.start.value, listing.start.id]
        query = f"SELECT {self.columns}, {listing.sort_value} {source} ORDER BY {column} {order}, id {order} LIMIT ?"
        rows = connection.execute(query, [*arguments, listing.page_size + 1]).fetchall()
        token = listing.token(Position(rows[-1][-1], rows[-1][0])) if len(rows) > listing.page_size else ""
        return Page(tuple(self.read(row[:-1]) for row in rows[: listing.page_size]), total, token)
