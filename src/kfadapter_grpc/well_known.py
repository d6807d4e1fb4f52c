"""Converts protobuf's well-known types (Timestamp, Duration, FieldMask, Struct, Value)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.values import (
    LARGEST_EXACT_INTEGER,
    MAX_OBJECT_LEVELS,
    Path,
    Replacements,
    object_violations,
    path_text,
    representable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.descriptor import Descriptor

    from kfadapter_grpc.contract.checks import Violations
    from kfadapter_grpc.contract.spec import Json

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def timestamp(moment: datetime) -> Timestamp:
    """Makes a time as `fill_time` does."""
    made = Timestamp()
    fill_time(moment, made, None)
    return made


def fill_time(moment: datetime, message: Timestamp, path: Path, _: Replacements | None = None) -> None:
    """Fills in a time; without a zone it is local. Raises InvalidFieldError if it is outside the years 1 to 9999."""
    try:
        since = (moment if moment.tzinfo is timezone.utc else moment.astimezone(timezone.utc)) - _EPOCH
    except (OverflowError, ValueError):
        raise InvalidFieldError.of(path_text(path), "must lie in the years 1 to 9999 UTC") from None
    message.seconds, message.nanos = since.days * 86400 + since.seconds, since.microseconds * 1000


def json_value(value: Value) -> Json:
    """Reads a JSON value; whole numbers, which are 7.0 on the wire, are ints again."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= LARGEST_EXACT_INTEGER else number
    if kind == "list_value":
        return [json_value(item) for item in value.list_value.values]
    if kind == "struct_value":
        return json_object(value.struct_value)
    if kind == "bool_value":
        return value.bool_value
    return value.string_value if kind == "string_value" else None


def json_object(struct: Struct) -> dict[str, Json]:
    """Reads a JSON object, sorted by key: a map on the wire has no order."""
    return {key: json_value(struct.fields[key]) for key in sorted(struct.fields)}


def fill_value(json: Json, message: Value, path: Path, replaced: Replacements) -> None:
    """Fills in a JSON value; what it cannot carry is replaced and noted."""
    _fill(message, representable(json, path, replaced))


def fill_object(json: Mapping[str, Json], message: Struct, path: Path, replaced: Replacements) -> None:
    """Fills in a JSON object; what it cannot carry is replaced and noted."""
    for key, one in cast("dict[str, Json]", representable(dict(json), path, replaced, MAX_OBJECT_LEVELS)).items():
        _fill(message.fields[key], one)


def _fill(message: Value, json: Json) -> None:
    """Does the same as json_format, several times as fast: runs have hundreds of values."""
    if isinstance(json, str):
        message.string_value = json
    elif isinstance(json, bool):
        message.bool_value = json
    elif isinstance(json, int | float):
        message.number_value = json
    elif isinstance(json, dict):
        message.struct_value.SetInParent()
        for key, one in json.items():
            _fill(message.struct_value.fields[key], one)
    elif isinstance(json, list):
        message.list_value.SetInParent()
        for one in json:
            _fill(message.list_value.values.add(), one)
    else:
        message.null_value = NULL_VALUE


def fill_length(length: timedelta, message: Duration, _path: Path, _replaced: Replacements) -> None:
    message.FromTimedelta(length)


def fill_paths(paths: Sequence[str], message: FieldMask, _path: Path, _replaced: Replacements) -> None:
    message.paths.extend(paths)


def _read_moment(message: Timestamp, checks: Violations | None, path: str) -> datetime | None:
    try:
        return message.ToDatetime(timezone.utc)
    except (ValueError, OverflowError):
        if checks is None:
            raise
        checks.add(path, "is not a time between the years 1 and 9999")
        return None


def _read_length(message: Duration, checks: Violations | None, path: str) -> timedelta:
    try:
        return timedelta(seconds=message.seconds, microseconds=-(-message.nanos // 1000))  # 1 ns is not 0
    except OverflowError:
        if checks is None:
            raise
        checks.add(path, "is no length of time that makes sense")
        return timedelta()


def _read_object(message: Struct, checks: Violations | None, path: str) -> dict[str, Json]:
    found = json_object(message)
    if checks is not None:
        checks.found += object_violations(found, path)
    return found


WELL_KNOWN: dict[Descriptor, tuple[Any, Any]] = {
    Timestamp.DESCRIPTOR: (fill_time, _read_moment),
    Duration.DESCRIPTOR: (fill_length, _read_length),
    FieldMask.DESCRIPTOR: (fill_paths, lambda message, _, __: tuple(message.paths)),
    Struct.DESCRIPTOR: (fill_object, _read_object),
    Value.DESCRIPTOR: (fill_value, lambda message, _, __: json_value(message)),
}
"""How to fill a message of a well-known type with a value, and how to read it."""
