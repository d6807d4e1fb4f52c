"""KFP's REST API: a request, its decoded response, and its failure explained; lists, filters and pages.

The modules of the resources (`pipelines`, `runs`, ...) are built on it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from http import HTTPStatus
from itertools import islice
from typing import BinaryIO, Generic, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.listing import Order, Page
from kfadapter_grpc.contract.pipelines import PipelineFile
from kfadapter_grpc.kfp.decoding import decode_response
from kfadapter_grpc.kfp.error_table import Context, explain
from kfadapter_grpc.kfp.failures import Failure, KfpFailureError, Operation, is_page, read_failure
from kfadapter_grpc.kfp.namespaces import LISTS, Namespaces
from kfadapter_grpc.kfp.spec.values import weight
from kfadapter_grpc.kfp.transport import Request, Response, ResponseTooLargeError, Transport
from kfadapter_grpc.spool import disk_faults

J = TypeVar("J")
T = TypeVar("T")

V2 = "/apis/v2beta1"
MAX_KFP_PAGE = 200
"""KFP returns at most this many items per page, whatever is requested."""
MAX_PAGE_BYTES = 3 * 1024 * 1024
"""The size limit of the items of one page of ours; leaves room in a message of 4 MiB."""
MAX_TOTAL = 2**31 - 1
"""The largest total that fits into the contract's field."""
MAX_ROUNDS = 50
"""How many pages of KFP are read for one page of ours, where a filter drops most of their items."""

_PROXY_STATUSES = frozenset({401, 403, 413, 414, 429, 431, 502, 503, 504})
"""Statuses that mean the same from KFP and from a proxy, with any page; a 404 from a proxy is not KFP's."""
_ERROR_CHUNKS = 8
_CHUNK_BYTES = 256 * 1024
_DEEP_BYTES = 256 * 1024
_NO_CONTEXT = Context()

Predicate: TypeAlias = "Mapping[str, object]"


class Rest:
    """KFP's REST API. Safe to use from many threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._namespaces = Namespaces(self._send)

    def ask(
        self, operation: Operation, request: Request, kind: type[T], call: Call, context: Context = _NO_CONTEXT
    ) -> T:
        """Sends a request and decodes its response as `kind`; a failure is explained by `context`."""
        with explained(context):
            return self.ask_raw(operation, request, kind, call)

    def ask_raw(self, operation: Operation, request: Request, kind: type[T], call: Call) -> T:
        """The same for callers that examine failures themselves: raises KfpFailureError."""
        if call.limits is None:
            return decode_response(self._send(operation, request, call), kind, operation.value)
        response = self._namespaces.send(operation, request, call, call.limits)
        result = decode_response(response, kind, operation.value)
        if operation in LISTS:
            self._namespaces.keep_visible(operation, request, result, call, call.limits)
        return result

    def act(self, operation: Operation, path: str, call: Call, context: Context) -> None:
        """Sends a request like `POST /runs/ID:archive`, with the operation's verb."""
        self.ask(operation, post(f"{path}:{operation.verb}", {}), dict[str, object], call, context)

    def delete(self, operation: Operation, path: str, call: Call, context: Context) -> None:
        self.ask(operation, Request("DELETE", path), dict[str, object], call, context)

    def send_raw(self, operation: Operation, request: Request, call: Call) -> Response:
        """Sends a request and returns its response as it is; raises as `ask_raw` does."""
        if call.limits is None:
            return self._send(operation, request, call)
        response = self._namespaces.send(operation, request, call, call.limits)
        return replace(response, body=b"{}") if operation in LISTS else response  # only `ask_raw` filters lists

    def _send(self, operation: Operation, request: Request, call: Call) -> Response:
        response = self._transport.send(request, call, operation.value)
        page = is_page(response)
        if response.status >= HTTPStatus.BAD_REQUEST and (not page or response.status in _PROXY_STATUSES):
            failure = read_failure(response.status, response.body, response.retry_after)
            raise KfpFailureError(operation, failure, as_caller=_as_caller(call, response.status), request=request)
        if page or response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise KfpFailureError(operation, Failure(0, "", page=response), as_caller=_as_caller(call))
        return response

    @contextmanager
    def open_raw(self, operation: Operation, request: Request, call: Call) -> Iterator[Iterator[bytes]]:
        """Sends a request and streams the body of its response, within the block; raises as `ask_raw` does."""
        if call.limits is not None:
            self._namespaces.check(operation, request, call, call.limits)
        with self._transport.open(request, call, operation.value) as response:
            if response.status >= HTTPStatus.BAD_REQUEST:
                body = b"".join(islice(response.chunks, _ERROR_CHUNKS))
                raise KfpFailureError(
                    operation, read_failure(response.status, body, None), as_caller=_as_caller(call, response.status)
                )
            if response.status >= HTTPStatus.MULTIPLE_CHOICES or "html" in response.content_type.lower():
                page = Response(response.status, b"", response.content_type)
                raise KfpFailureError(operation, Failure(0, "", page=page), as_caller=_as_caller(call))
            yield response.chunks


def _as_caller(call: Call, status: int = 0) -> bool:
    """Whether a failure is about the caller's credentials or, where the adapter impersonates it, about its rights."""
    authorization = call.authorization
    return authorization is not None and (bool(authorization.value) or status == HTTPStatus.FORBIDDEN)


@contextmanager
def explained(context: Context = _NO_CONTEXT) -> Iterator[None]:
    """Converts a failure reported by KFP to what it means to the caller."""
    try:
        yield
    except KfpFailureError as error:
        raise explain(error, context) from error


def segment(value: str) -> str:
    return quote(value, safe="")


def post(path: str, body: Mapping[str, object]) -> Request:
    return Request("POST", path, body=json.dumps(body).encode())


def patch(path: str, body: Mapping[str, object], keep: int = 0) -> Request:
    """A PATCH of JSON; `keep` is that of `Request`."""
    return Request("PATCH", path, body=json.dumps(body).encode(), keep=keep)


def post_file(path: str, query: Mapping[str, str], file: PipelineFile, keep: int = 0) -> Request:
    """A POST of a file as multipart, streamed; empty values of the query are omitted, `keep` is that of `Request`."""
    boundary = secrets.token_hex(16)
    head = (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="uploadfile"; filename="{file.kind.value}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    return Request(
        "POST",
        path,
        list(non_empty(query).items()),
        body=_Stream(head, file.stream, end),
        content_type=f"multipart/form-data; boundary={boundary}",
        content_length=len(head) + file.size + len(end),
        keep=keep,
    )


@dataclass(frozen=True, slots=True)
class _Stream:
    """A file as a multipart body; starts from the beginning each time it is sent."""

    head: bytes
    file: BinaryIO
    end: bytes

    def __iter__(self) -> Iterator[bytes]:
        with disk_faults():
            self.file.seek(0)
        yield self.head
        while chunk := self._read():
            yield chunk
        yield self.end

    def _read(self) -> bytes:
        with disk_faults():  # else it would be taken for a failure of the connection to KFP
            return self.file.read(_CHUNK_BYTES)


def non_empty(values: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}


def equals(key: str, value: str) -> dict[str, str]:
    return {"operation": "EQUALS", "key": key, "string_value": value}


def contains(key: str, text: str) -> dict[str, str]:
    """A predicate of a filter; KFP's LIKE matches more, so its results are compared afterwards."""
    return {"operation": "IS_SUBSTRING", "key": key, "string_value": text}


def after(key: str, at: datetime) -> dict[str, str]:
    """A predicate of a filter; KFP's times have whole seconds."""
    time_text = at.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    return {"operation": "GREATER_THAN", "key": key, "timestamp_value": time_text}


def sort_by(order: Order, keys: Mapping[str, str]) -> str:
    return keys[order.field] + (" desc" if order.descending else " asc")


@dataclass(frozen=True, slots=True)
class ListQuery:
    """How to list: KFP's own page size (at most 200), token, `field [desc]`, and filter predicates."""

    page_size: int
    page_token: str = ""
    sort_by: str = ""
    predicates: tuple[Predicate, ...] = ()

    def pairs(self, **scope: str) -> list[tuple[str, str]]:
        # KFP unescapes a filter as a URL once too often, so it must not contain `%` or `+`.
        text = json.dumps({"predicates": self.predicates}).replace("%", "\\u0025").replace("+", "\\u002b")
        values = {
            "page_size": str(self.page_size),
            "page_token": self.page_token,
            "sort_by": self.sort_by,
            "filter": text if self.predicates else "",
            **scope,
        }
        return list(non_empty(values).items())


class ListJson(msgspec.Struct, Generic[J]):
    """A page of KFP, whose subclasses name the items as KFP does; an empty one is `{}`, an unknown total -1."""

    items: list[J] = []
    total_size: int = 0
    next_page_token: str = ""


def record_weight(record: object) -> int:
    """The size of a record in a response, in bytes; of one with values that are nested too deeply, which are cut."""
    try:
        return weight(record)
    except RecursionError:
        return _DEEP_BYTES


def paginate(
    fetch: Callable[[ListQuery], ListJson[J]],
    read: Callable[[list[J]], Iterable[T]],
    query: ListQuery,
    limit: int = MAX_KFP_PAGE,
    *,
    weigh: Callable[[T], int] = record_weight,
    rounds: int = MAX_ROUNDS,
    is_exact: bool = True,
) -> Page[T]:
    """Collects a page of up to the query's size, from its token on.

    `fetch` gets a page of KFP; `read` makes its items that match, all of them if KFP's filter `is_exact`; `weigh` is
    the size of one in a response, in bytes. Pages of KFP have up to `limit` items, fewer if these turn out to be large;
    at most `rounds` of them are read.
    """
    items: list[T] = []
    token, remaining, total = query.page_token, MAX_PAGE_BYTES, 0
    for _ in range(rounds):
        requested = min(limit, query.page_size - len(items))
        try:
            page = fetch(replace(query, page_size=requested, page_token=token))
        except ResponseTooLargeError:
            if requested > 1:
                limit = smaller(requested)
                continue
            if items:
                break
            raise
        found = list(read(page.items))
        weight_sum = sum(map(weigh, found))
        total = min(page.total_size, MAX_TOTAL)
        if weight_sum > remaining and items:
            break
        if weight_sum > MAX_PAGE_BYTES and limit > 1 and len(found) > 1:
            limit = smaller(len(found))
            continue
        items += found
        remaining -= weight_sum
        token = page.next_page_token
        if not token or len(items) >= query.page_size:
            break
    return Page(tuple(items), token, total if is_exact and total >= 0 else None)


def smaller(size: int) -> int:
    """The size of the next page of KFP to try after one of this size was too large."""
    return max(1, size // 4)
