"""Parses the JSON bodies of requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from .document_kinds import Kind
from .errors import invalid_input, json_response
from .json_text import JsonValue, as_served, read_json, read_time, rfc3339, sound_text
from .listing import parse_listing
from .store import Store

# gRPC's own limit, behind KFP's gateway.
_MAX_JSON_BODY = 4 << 20
_MAX_TAGS = 20
_MAX_TAG_LENGTH = 63


class Resource:
    """The routes of a resource. Handlers without a request body run in threads, because the store blocks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _lists(self, kind: Kind, name: str) -> Callable[[Request], Response]:
        """Makes the handler that lists all documents of a kind."""

        def handle(request: Request) -> Response:
            listing = parse_listing(kind, request.query_params)
            with self._store.reading() as documents:
                return json_response("".join(documents.page(listing).json(name)))

        return handle


def with_body(handle: Callable[[Request, dict[str, object]], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Makes a request handler of a blocking function that receives the request and its JSON body."""

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(handle, request, await _json_body(request))

    return endpoint


async def _json_body(request: Request) -> dict[str, object]:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MAX_JSON_BODY:
            raise invalid_input(f"the body is larger than {_MAX_JSON_BODY} bytes")
    try:
        body = read_json(bytes(raw) or b"{}")
    except (ValueError, RecursionError):
        raise invalid_input("the body is no JSON") from None
    if not isinstance(body, dict):
        raise invalid_input("the body is no JSON object")
    return body


def text_field(body: dict[str, object], name: str) -> str:
    """A string field; empty if it is missing. Raises KfpError, as all of these do, if it has another type."""
    value = body.get(name) or ""
    if not isinstance(value, str):
        raise invalid_input(f"invalid value for string field {name}")
    return sound_text(value)


def object_field(body: Mapping[str, object], name: str) -> dict[str, object]:
    """A field that is an object, nested not too deeply; empty if it is missing."""
    try:
        value = as_served(cast("JsonValue", body.get(name) or {}))
    except RecursionError:
        raise invalid_input(f"the value of field {name} is too deep") from None
    if not isinstance(value, dict):
        raise invalid_input(f"invalid value for field {name}")
    return cast("dict[str, object]", value)


def integer_field(body: dict[str, object], name: str) -> int:
    """An integer field, which proto's JSON form also writes as a string; 0 if it is missing."""
    value = body.get(name) or 0
    try:
        if isinstance(value, bool | float) or not isinstance(value, int | str):
            raise TypeError
        return int(value)
    except (TypeError, ValueError):
        raise invalid_input(f"invalid value for int64 field {name}") from None


def flag_field(body: dict[str, object], name: str) -> bool:
    value = body.get(name) or False
    if not isinstance(value, bool):
        raise invalid_input(f"invalid value for bool field {name}")
    return value


def time_field(body: dict[str, object], name: str) -> str:
    """A time as KFP writes it; empty if it is missing."""
    text = text_field(body, name)
    try:
        return rfc3339(read_time(text)) if text else ""
    except (ValueError, OverflowError):
        raise invalid_input(f"invalid google.protobuf.Timestamp value {text!r}") from None


def try_tags(value: object) -> dict[str, str] | None:
    """A JSON value as tags, if it is an object with string values."""
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        return None
    return {sound_text(key): sound_text(each) for key, each in sorted(value.items())}


def tag_fault(tags: dict[str, str]) -> str:
    """KFP's error message for these tags; empty if they are valid."""
    if len(tags) > _MAX_TAGS:
        return f"number of tags ({len(tags)}) exceeds maximum of {_MAX_TAGS} per entity"
    for key, value in tags.items():
        if not key:
            return "tag key cannot be empty"
        if "." in key:
            return f"tag key \"{key}\" must not contain '.' character"
        if len(key) > _MAX_TAG_LENGTH:
            return f'tag key "{key}" exceeds maximum length of {_MAX_TAG_LENGTH} characters'
        if len(value) > _MAX_TAG_LENGTH:
            return f'tag value "{value}" for key "{key}" exceeds maximum length of {_MAX_TAG_LENGTH} characters'
    return ""
