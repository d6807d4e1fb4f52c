"""The JSON bodies of requests, read with care."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import invalid_input
from .texts import read_json, sound_text, sound_value

if TYPE_CHECKING:
    from starlette.requests import Request

# gRPC's own limit, behind KFP's gateway.
_MAX_JSON_BODY = 4 << 20


async def json_body(request: Request) -> dict[str, object]:
    """Reads a request's body; an empty one is an empty object.

    Raises:
        KfpError: it is no JSON object, or too large.
    """
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
    """A field of text; empty if it is not there.

    Raises:
        KfpError: it is something else.
    """
    value = body.get(name) or ""
    if not isinstance(value, str):
        raise invalid_input(f"invalid value for string field {name}")
    return sound_text(value)


def object_field(body: dict[str, object], name: str) -> dict[str, object]:
    """A field that is an object; empty if it is not there.

    Raises:
        KfpError: it is something else, or too deep.
    """
    try:
        value = sound_value(body.get(name) or {})
    except RecursionError:
        raise invalid_input(f"the value of field {name} is too deep") from None
    if not isinstance(value, dict):
        raise invalid_input(f"invalid value for field {name}")
    return value


def integer_field(body: dict[str, object], name: str) -> int:
    """A field of a whole number, which proto's JSON form also writes as text; 0 if it is not there.

    Raises:
        KfpError: it is something else.
    """
    value = body.get(name) or 0
    try:
        if isinstance(value, bool | float) or not isinstance(value, int | str):
            raise TypeError
        return int(value)
    except (TypeError, ValueError):
        raise invalid_input(f"invalid value for int64 field {name}") from None


def flag_field(body: dict[str, object], name: str) -> bool:
    """A field that is true or false; false if it is not there.

    Raises:
        KfpError: it is something else.
    """
    value = body.get(name) or False
    if not isinstance(value, bool):
        raise invalid_input(f"invalid value for bool field {name}")
    return value
