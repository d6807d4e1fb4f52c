"""One question to KFP and its answer: what the endpoints of all areas are written on."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from urllib.parse import quote

from kfadapter_grpc.kfp import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.kfp.transport import Answer, Request, Transport

T = TypeVar("T")

V2 = "/apis/v2beta1"
_OF_PROXIES = frozenset({401, 403, 413, 414, 429, 431, 502, 503, 504})
"""Statuses that mean the same whoever answers, and with whatever page; a 404 of a proxy is none of KFP's."""

Predicate: TypeAlias = "Mapping[str, object]"
"""A predicate of a filter, as KFP's JSON."""


class Operation(enum.Enum):
    """What was asked of KFP; rows of the error table name it."""

    HEALTH = "health"
    GET_PIPELINE = "get pipeline"
    GET_BY_NAME = "get pipeline by name"
    LIST_PIPELINES = "list pipelines"
    CREATE_PIPELINE = "create pipeline"
    DELETE_PIPELINE = "delete pipeline"
    UPLOAD = "upload pipeline"
    UPLOAD_VERSION = "upload version"
    GET_VERSION = "get version"
    LIST_VERSIONS = "list versions"
    CHEAP_VERSIONS = "list versions, v1beta1"
    DELETE_VERSION = "delete version"

    CREATE_RUN = "create run"
    GET_RUN = "get run"
    LIST_RUNS = "list runs"
    TERMINATE_RUN = "terminate run"
    RETRY_RUN = "retry run"
    ARCHIVE_RUN = "archive run"
    UNARCHIVE_RUN = "unarchive run"
    DELETE_RUN = "delete run"
    READ_LOG = "read log"

    CREATE_EXPERIMENT = "create experiment"
    GET_EXPERIMENT = "get experiment"
    LIST_EXPERIMENTS = "list experiments"
    ARCHIVE_EXPERIMENT = "archive experiment"
    UNARCHIVE_EXPERIMENT = "unarchive experiment"
    DELETE_EXPERIMENT = "delete experiment"

    CREATE_RECURRING_RUN = "create recurring run"
    GET_RECURRING_RUN = "get recurring run"
    LIST_RECURRING_RUNS = "list recurring runs"
    ENABLE_RECURRING_RUN = "enable recurring run"
    DISABLE_RECURRING_RUN = "disable recurring run"
    DELETE_RECURRING_RUN = "delete recurring run"


class KfpFailureError(Exception):
    """KFP refused, or failed; never leaves kfp.

    Attributes:
        operation: What was asked.
        failure: What KFP said.
        as_caller: Whether it was asked with the caller's own credentials, not the adapter's.
        request: What was sent.
    """

    def __init__(
        self,
        operation: Operation,
        failure: wire.Failure,
        *,
        as_caller: bool = False,
        request: Request | None = None,
    ) -> None:
        super().__init__(f"{operation.value}: {failure}")
        self.operation = operation
        self.failure = failure
        self.as_caller = as_caller
        self.request = request


class NotAnApiError(Exception):
    """What answered is not KFP's API: a redirect, or a page for people; never leaves kfp.

    Attributes:
        answer: What it answered.
        as_caller: Whether it was asked with the caller's own credentials, not the adapter's.
    """

    def __init__(self, answer: Answer, *, as_caller: bool = False) -> None:
        super().__init__(f"{answer.status} {answer.content_type} {answer.location}")
        self.answer = answer
        self.as_caller = as_caller


@dataclass(frozen=True, slots=True)
class ListQuery:
    """How to list: KFP's own page size (at most 200), token, `field [desc]`, and filter predicates."""

    page_size: int
    page_token: str = ""
    sort_by: str = ""
    predicates: tuple[Predicate, ...] = ()

    def pairs(self) -> list[tuple[str, str]]:
        """As query parameters; what is empty is left out."""
        pairs = [
            ("page_size", str(self.page_size)),
            ("page_token", self.page_token),
            ("sort_by", self.sort_by),
            ("filter", _filter_text(self.predicates) if self.predicates else ""),
        ]
        return [(key, value) for key, value in pairs if value]


class ApiArea:
    """Some of KFP's endpoints. Safe to use from many threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _ask(self, operation: Operation, request: Request, kind: type[T], call: Call) -> T:
        return wire.decode(self._send(operation, request, call).body, kind, operation.value)

    def _send(self, operation: Operation, request: Request, call: Call) -> Answer:
        answer = self._transport.send(replace(request, operation=operation.value), call)
        page = is_page(answer)
        if answer.status >= HTTPStatus.BAD_REQUEST and (not page or answer.status in _OF_PROXIES):
            failure = wire.failure(answer.status, answer.body, answer.retry_after)
            raise KfpFailureError(operation, failure, as_caller=call.authorization is not None, request=request)
        if page or answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise NotAnApiError(answer, as_caller=call.authorization is not None)
        return answer


def is_page(answer: Answer) -> bool:
    """Whether an answer is a page for people, whatever it calls itself."""
    return "html" in answer.content_type.lower() or answer.body[:64].lstrip().startswith(b"<")


def _filter_text(predicates: tuple[Predicate, ...]) -> str:
    """A filter as JSON. KFP unescapes it as a URL once more than it should, so no `%` and no `+` may stand in it."""
    return json.dumps({"predicates": predicates}).replace("%", "\\u0025").replace("+", "\\u002b")


def segment(value: str) -> str:
    """A value as one segment of a path."""
    return quote(value, safe="")
