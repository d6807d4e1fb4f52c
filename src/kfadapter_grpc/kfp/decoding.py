"""Decodes KFP's JSON: by msgspec, or record by record where msgspec fails, so a malformed value hides no other record.

The slow way is taken only after the fast one has failed. The types are the same: a field that does not fit its
type is left at its default, a record without an id is omitted from its list, and everything else is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable
from datetime import datetime, timezone
from functools import cache, lru_cache
from typing import Any, TypeVar, cast

import msgspec
import structlog
from msgspec import inspect

from kfadapter_grpc.contract.errors import KfpError
from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.contract.values import NumberText, json_text, well_formed
from kfadapter_grpc.kfp.transport import Response, ResponseTooLargeError

T = TypeVar("T")

MAX_BYTES = 32 * 1024 * 1024
"""Responses up to this size are read the slow way, which takes about ten times their size of memory."""
_MAX_DIGITS = 4300  # Python reads no more digits
_MAX_DEPTH = 500  # what is nested deeper is kept as text: Python's reader and writer recurse
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_FRACTION = re.compile(r"\.\d+")
_SPEC_FOLLOWS = re.compile(rb',\s*"pipeline_spec"\s*:')
_TAGS = re.compile(
    rb'"tags"\s*:\s*(\{(?:[^"{}]|"(?:[^"\\]|\\.)*")*\})\s*\}(?:\s*$|\s*\]\s*,\s*"(?:total_size|next_page_token)")'
)
_UNREAD = "kfadapter_unread"
"""The field of a record with the names of its other fields that could not be read."""
_ANY = (inspect.AnyType, inspect.CustomType)  # the latter is `object`
_MAX_NOTES = 20
_MAX_WORDS = 120
_NO_TIME = datetime(1970, 1, 1, tzinfo=timezone.utc)


class _MismatchError(Exception):
    """A value does not fit its position; the text has the position and the reason."""


def decode(body: bytes, kind: type[T], what: str = "") -> T:
    """Decodes a response; one that is malformed in places is read as far as possible. Raises KfpError."""
    try:
        return decode_text(body, kind)
    except ValueError as error:
        where = f"{what}: {error}" if what else str(error)
        text = f"Kubeflow Pipelines returned an invalid response ({where})"
        raise KfpError(f"{text}; is KFADAPTER_KFP_URL its API address?") from error


def decode_text(text: bytes | str, kind: type[T]) -> T:
    """Decodes JSON, also from inside a response; if it is malformed in places, it is read as far as possible.

    Raises ValueError with the position, or ResponseTooLargeError if it is odd and too large to be read the slow way.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        if len(text) > MAX_BYTES:
            too_large = f"Kubeflow Pipelines returned a malformed response of more than {MAX_BYTES} bytes"
            raise ResponseTooLargeError(too_large, metadata={"limit_bytes": str(MAX_BYTES)}) from None
    try:
        return _decode_tolerantly(text if isinstance(text, str) else text.decode("utf-8", "surrogateescape"), kind)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def decode_or_empty(text: bytes | str, kind: type[T]) -> T:
    """Decodes JSON of unknown authors; one that is not of this kind, or none, is an empty one."""
    try:
        return msgspec.json.decode(text or "{}", type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError):
        return kind()


def decode_response(response: Response, kind: type[T], what: str) -> T:
    """Decodes a response. If its middle was dropped, as for a version or a list of one, without the version's spec.

    A spec may be 32 MiB, and only what precedes it, and the tags behind it, are needed. Its key is found as bytes:
    inside a JSON string its opening quote would be preceded by a backslash, not a comma.
    """
    spec = _SPEC_FOLLOWS.search(response.body) if response.tail else None
    if spec is None:
        return decode(response.body, kind, what)
    is_list = "items" in getattr(kind, "__struct_fields__", ())
    decoded: Any = decode(response.body[: spec.start()] + (b"}]}" if is_list else b"}"), kind, what)
    tags, version = _TAGS.search(response.tail), decoded.items[0] if is_list else decoded
    version.tags = version.tags or (decode(tags[1], dict[str, str], what) if tags else {})
    return cast("T", decoded)


def known_time(moment: datetime | None) -> datetime | None:
    """The time in UTC; None if unset, for which KFP sends 1970, and its Go clients the year 1."""
    if moment is None:
        return None
    try:
        if moment.tzinfo is not timezone.utc:
            moment = moment.astimezone(timezone.utc) if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    except OverflowError:  # before the year 1, or after 9999
        return None
    return moment if moment > _NO_TIME else None


def _decode_tolerantly(text: str, kind: type[T]) -> T:
    try:
        tree = _loads(text)
    except RecursionError:
        tree = _loads(_flatten(text))
    try:
        read: T = _convert(tree, _type_of(cast("Hashable", kind)), "$", None)
    except _MismatchError as error:
        raise ValueError(str(error)) from None
    return read


@cache
def _type_of(kind: Hashable) -> inspect.Type:
    return inspect.type_info(kind)


def _loads(text: str) -> object:
    return json.loads(text, parse_float=_float, parse_int=_int, parse_constant=NumberText, strict=False)


def _float(text: str) -> float | NumberText:
    number = float(text)
    return NumberText(text) if abs(number) == float("inf") else number


def _int(text: str) -> int | NumberText:
    return int(text) if len(text) <= _MAX_DIGITS else NumberText(text)


def _flatten(text: str) -> str:
    """The same JSON with a string in place of everything that is nested too deeply to be read."""
    pieces: list[str] = []
    depth = kept_to = begin = 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            begin = token.start() if depth == _MAX_DEPTH else begin
        elif token[0] in "]}":
            if depth == _MAX_DEPTH:
                pieces += [text[kept_to:begin], json.dumps(text[begin : token.end()])]
                kept_to = token.end()
            depth -= 1
    return "".join([*pieces, text[kept_to:]])


def _convert(value: Any, kind: inspect.Type, where: str, unread: list[str] | None) -> Any:  # noqa: ANN401 - any JSON
    """The value in its declared type; within a record, `unread` collects what could not be read."""
    for types, convert in _CONVERTERS:
        if isinstance(kind, types):
            return convert(value, kind, where, unread)
    raise _MismatchError(f"{where} has a type that is not supported")


def _struct(value: Any, kind: Any, where: str, unread: list[str] | None) -> object:  # noqa: ANN401
    if not isinstance(value, dict):
        raise _MismatchError(f"{where} is not an object")
    is_record = any(field.required for field in kind.fields)
    notes: list[str] | None = [] if is_record else unread
    values = {}
    for field in kind.fields:
        raw = value.get(field.encode_name)
        try:
            if raw is not None:
                unread_here = None if field.required else notes
                values[field.name] = _convert(raw, field.type, f"{where}.{field.encode_name}", unread_here)
            elif field.required:
                raise _MismatchError(f"{where}.{field.encode_name} is missing")
        except _MismatchError as error:
            if field.required or notes is None:
                raise
            _note(notes, str(error))
    if is_record and notes and any(field.name == _UNREAD for field in kind.fields):
        values[_UNREAD] = [note.removeprefix(f"{where}.") for note in notes]
    return kind.cls(**values)


def _list(value: Any, kind: Any, where: str, unread: list[str] | None) -> list[object]:  # noqa: ANN401
    if not isinstance(value, list):
        raise _MismatchError(f"{where} is not a list")
    items = []
    for index, item in enumerate(value):
        try:
            items.append(_convert(item, kind.item_type, f"{where}[{index}]", unread))
        except _MismatchError as error:
            _omit(item, error, unread)
    return items


def _dict(value: Any, kind: Any, where: str, unread: list[str] | None) -> dict[str, object]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise _MismatchError(f"{where} is not an object")
    if isinstance(kind.value_type, _ANY):
        return value
    values = {}
    for key, item in value.items():
        try:
            values[well_formed(key)] = _convert(item, kind.value_type, f"{where}.{key}", unread)
        except _MismatchError as error:
            _omit(item, error, unread)
    return values


def _omit(item: object, error: _MismatchError, unread: list[str] | None) -> None:
    """Omits a value of a record, or a record; fails if it is neither."""
    if unread is not None:
        _note(unread, str(error))
    elif isinstance(item, dict):
        _log_omitted(str(error), json_text(cast("Json", item))[:_MAX_WORDS])
    else:
        raise error


def _union(value: Any, kind: Any, where: str, unread: list[str] | None) -> object:  # noqa: ANN401
    message = ""
    for type_ in kind.types:
        if not isinstance(type_, inspect.NoneType):
            try:
                return _convert(value, type_, where, unread)
            except _MismatchError as error:
                message = str(error)
    raise _MismatchError(message)


def _str(value: Any, _: Any, where: str, unread: list[str] | None) -> str:  # noqa: ANN401
    if isinstance(value, int) and not isinstance(value, bool) and unread is not None:
        return str(value)  # how Go writes an unknown enum value
    if not isinstance(value, str):
        raise _MismatchError(f"{where} is not a string")
    text = well_formed(value)
    if text != value and unread is not None:
        _note(unread, f"{where}: lone surrogate; shown as U+FFFD")
    return text


def _time(value: Any, _: Any, where: str, __: list[str] | None) -> datetime:  # noqa: ANN401
    for text in (value, _FRACTION.sub("", value) if isinstance(value, str) else value):
        try:
            return msgspec.convert(text, datetime)
        except msgspec.ValidationError:
            continue
    raise _MismatchError(f"{where} is not a time between the years 1 and 9999")


def _exactly(expected: type, description: str) -> Callable[..., object]:
    def convert(value: Any, _: Any, where: str, __: list[str] | None) -> object:  # noqa: ANN401
        if type(value) is not expected:
            raise _MismatchError(f"{where} is not {description}")
        return value

    return convert


def _raw(value: Any, *_: Any) -> msgspec.Raw:  # noqa: ANN401
    return msgspec.Raw(json_text(value).encode())


_CONVERTERS: tuple[tuple[Any, Callable[..., Any]], ...] = (
    (inspect.StructType, _struct),
    (inspect.StrType, _str),
    (inspect.DateTimeType, _time),
    (inspect.ListType, _list),
    (inspect.DictType, _dict),
    (inspect.UnionType, _union),
    (inspect.IntType, _exactly(int, "a whole number")),
    (inspect.BoolType, _exactly(bool, "true or false")),
    (_ANY, lambda value, *_: value),
    (inspect.RawType, _raw),
)


def _note(notes: list[str], text: str) -> None:
    if len(notes) < _MAX_NOTES:
        notes.append(text[: 2 * _MAX_WORDS])


@lru_cache(maxsize=256)
def _log_omitted(why: str, record: str) -> None:
    """Logs once that a record is omitted: lists are read again and again."""
    structlog.get_logger().warning(
        "skipping a record of Kubeflow Pipelines that cannot be read", why=why, record=record
    )
