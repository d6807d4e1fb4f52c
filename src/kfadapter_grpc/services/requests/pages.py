"""Reads which page of a listing is asked for, and how much of each item."""

from __future__ import annotations

import re
from typing import TypeAlias

from kfadapter.v1 import common_pb2, experiment_pb2, pipeline_pb2, recurring_run_pb2, run_pb2
from kfadapter_grpc.contract import page_token
from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.listing import Order, PageRequest, View
from kfadapter_grpc.services.requests.checks import Checks

ListRequest: TypeAlias = (
    pipeline_pb2.ListPipelinesRequest
    | pipeline_pb2.ListPipelineVersionsRequest
    | experiment_pb2.ListExperimentsRequest
    | run_pb2.ListRunsRequest
    | recurring_run_pb2.ListRecurringRunsRequest
)
"""A message that asks for a page of a listing."""

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000

_ORDER_BY = re.compile(r"\s*(\w+)(?:\s+(asc|desc))?\s*")
_VIEWS = {
    common_pb2.VIEW_UNSPECIFIED: View.BASIC,
    common_pb2.VIEW_BASIC: View.BASIC,
    common_pb2.VIEW_FULL: View.FULL,
}


def view(value: common_pb2.View.ValueType) -> View:
    """Reads a view.

    Raises:
        InvalidFieldError: There is no such view.
    """
    if value not in _VIEWS:
        raise InvalidFieldError.of("view", f"{value} is not a view; use VIEW_BASIC or VIEW_FULL")
    return _VIEWS[value]


def page(request: ListRequest, *order_fields: str) -> PageRequest:
    """Reads which page is asked for; `order_fields` are the keys of `order_by`, of which there is always `created_at`.

    Raises:
        InvalidFieldError: Size or order is wrong.
        InvalidPageTokenError: The token is not one of this listing.
    """
    checks = Checks()
    if request.page_size < 0:
        checks.add("page_size", f"is {request.page_size}; use 0 for the default of 100, or up to 1000")
    order = _order(checks, request.order_by, ("created_at", *order_fields))
    checks.raise_any()
    size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    return PageRequest(size, page_token.decode(request.page_token, _listing(request)), order)


def next_page_token(token: str, request: ListRequest) -> str:
    """Makes the token for the next page of the request's listing."""
    return page_token.encode(token, _listing(request))


def _listing(request: ListRequest) -> bytes:
    """What makes a listing the same: everything but which page of it."""
    same = type(request)()
    same.CopyFrom(request)  # type: ignore[arg-type] # of the same type, which mypy cannot tell for a union
    same.ClearField("page_size")
    same.ClearField("page_token")
    return same.DESCRIPTOR.full_name.encode() + same.SerializeToString(deterministic=True)


def _order(checks: Checks, order_by: str, fields: tuple[str, ...]) -> Order:
    if not order_by.strip():
        return Order()
    match = _ORDER_BY.fullmatch(order_by)
    if match is None or match.group(1) not in fields:
        checks.add(
            "order_by", f"'{order_by[:100]}' is not an order; use one of {', '.join(fields)}, with ' desc' or not"
        )
        return Order()
    return Order(match.group(1), match.group(2) == "desc")
