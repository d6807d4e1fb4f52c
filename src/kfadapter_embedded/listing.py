"""The parameters of a list request: page size, order, filter and page token.

Tokens and messages are those of KFP (`backend/src/apiserver/list` in its sources), so that clients see the same from
both. A token names the first item of the next page, which keeps paging stable while items are added and deleted.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .document_kinds import Kind
from .errors import context, invalid_input, invalid_page_token
from .filters import Filter, is_scalar, predicates_of, read_filter
from .json_text import to_json

_DEFAULT_PAGE_SIZE = 20
_MAX_PAGE_SIZE = 200
_MAX_WORDS = 2
_OTHER_CRITERIA = (
    "page token does not match the supplied sort by and/or filtering criteria. Either specify the same criteria or "
    "leave the latter empty if page token is specified"
)


@dataclass(frozen=True)
class Listing:
    """A page of a list, ready for the store.

    Attributes:
        sort_column: KFP's column; ties are sorted by id.
        start: where the page starts: the first item's value of the sort column, and its id.
    """

    kind: Kind
    page_size: int
    sort_column: str
    descending: bool
    filter: Filter
    start: tuple[str | int, str] | None = None

    def token(self, value: str | int, item_id: str) -> str:
        """KFP's page token for a page that starts with this item."""
        prefix = self.kind.token_prefix
        fields = {
            "SortByFieldName": self.sort_column,
            "SortBySQLColumn": self.sort_column,
            "SortByFieldValue": value,
            "SortByFieldPrefix": prefix,
            "KeyFieldName": "UUID",
            "KeyFieldValue": item_id,
            "KeyFieldPrefix": prefix,
            "IsDesc": self.descending,
            "ModelName": self.kind.token_name,
            "Filter": self.filter.to_token(prefix),
        }
        return base64.b64encode(to_json(fields).encode()).decode()


def parse_listing(kind: Kind, query: Mapping[str, str], most: int = _MAX_PAGE_SIZE) -> Listing:
    """Parses `page_size`, capped at `most`, `page_token`, `sort_by` and `filter`; raises KfpError."""
    page_size = _integer_parameter("page_size", query.get("page_size", ""))
    sort_by, filter_text, token = (query.get(key, "") for key in (kind.order_by, "filter", "page_token"))
    words = kind.bad_listing
    if kind.tagged:
        options = f"pageToken: {token}, pageSize: {page_size}, sortBy: {sort_by}, filter: {filter_text}"
        words = f"Failed to list {kind.plural} due invalid list options: {options}"
    with context(f"Failed to list {kind.plural} due to invalid tag filter in filter spec" if kind.tagged else words):
        sent, tags = read_filter(filter_text, tagged=kind.tagged)
    with context(words):
        if page_size < 0:
            raise invalid_input(f"The page size should be greater than 0. Got {page_size}")
        size = min(page_size or _DEFAULT_PAGE_SIZE, most)
        first = _first_page(kind, size, sort_by, Filter(predicates_of(sent, kind), tags))
        return _next_page(first, token, compare=bool(sort_by or sent)) if token else first


def _integer_parameter(name: str, text: str) -> int:
    """A 32-bit number from the query, 0 if empty; otherwise rejected with the message of KFP's gateway."""
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", text or "0") or not -(2**31) <= int(text or "0") < 2**31:
        raise invalid_input(
            f'type mismatch, parameter: {name}, error: strconv.ParseInt: parsing "{text}": invalid syntax'
        )
    return int(text or "0")


def _first_page(kind: Kind, page_size: int, sort_by: str, filters: Filter) -> Listing:
    words = sort_by.lower().split()
    if len(words) > _MAX_WORDS or (len(words) == _MAX_WORDS and words[1] not in {"asc", "desc"}):
        formats = '"field_name", "field_name desc", or "field_name asc"'
        raise invalid_input(f'Received invalid sort by format "{sort_by}". Supported format: {formats}')
    field = words[0] if words else kind.order
    column = kind.try_column(field)
    if column is None:
        raise invalid_input(f'Invalid sorting field: "{field}" on listable type {kind.name}')
    return Listing(kind, page_size, column, words[1:] == ["desc"], filters)


def _next_page(first: Listing, token: str, *, compare: bool) -> Listing:
    """The page of a token, with the token's criteria, from which `first` must not differ."""
    fields, kind = _token_fields(token), first.kind
    column, value, key = (fields.get(name) for name in ("SortByFieldName", "SortByFieldValue", "KeyFieldValue"))
    if not (isinstance(column, str) and is_scalar(value) and isinstance(value, str | int) and isinstance(key, str)):
        raise invalid_page_token("it is not whole")
    if fields.get("ModelName") != kind.token_name or column not in kind.columns.values():
        raise invalid_page_token("it is of another listing")
    filters = Filter.from_token(fields.get("Filter"), kind, first.filter.tags)
    listing = replace(first, sort_column=column, descending=fields.get("IsDesc") is True, filter=filters)
    if compare and listing != first:
        raise invalid_input(_OTHER_CRITERIA)
    return replace(listing, start=(value, key))


def _token_fields(token: str) -> dict[str, object]:
    try:
        fields = json.loads(base64.b64decode(token, validate=True))
    except binascii.Error:
        cause = f"illegal base64 data at input byte {_first_bad_byte(token)}"
        raise invalid_page_token(cause) from None
    except (ValueError, RecursionError):
        raise invalid_page_token("it holds no JSON") from None
    if not isinstance(fields, dict):
        raise invalid_page_token("it holds no JSON object")
    return fields


def _first_bad_byte(token: str) -> int:
    """The position at which Go's decoder fails: an invalid character, or the start of an incomplete quartet."""
    foreign = re.search(r"[^A-Za-z0-9+/]", token.rstrip("="))
    return foreign.start() if foreign else len(token.rstrip("=")) // 4 * 4
