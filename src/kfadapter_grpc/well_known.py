"""Converts protobuf's well-known types: Timestamp, Duration, Struct and Value."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter_grpc.contract.errors import InvalidFieldError
from kfadapter_grpc.contract.values import (
    LARGEST_EXACT_INTEGER,
    MAX_OBJECT_LEVELS,
    Path,
    Replacements,
    carried,
    object_violations,
    path_text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor import Descriptor

    from kfadapter_grpc.contract.checks import Violations
    from kfadapter_grpc.contract.spec import Json

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def timestamp(moment: datetime, path: Path = None, _replaced: Replacements | None = None) -> Timestamp:
    """Makes a time; without a time zone it is local.

    Raises:
        InvalidFieldError: It lies outside of the years 1 to 9999.
    """
    try:
        since = (moment if moment.tzinfo is timezone.utc else moment.astimezone(timezone.utc)) - _EPOCH
    except (OverflowError, ValueError):
        raise InvalidFieldError.of(path_text(path), "must lie in the years 1 to 9999 UTC") from None
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)


def json_value(value: Value) -> Json:
    """Reads a JSON value; whole numbers, which the wire has as 7.0, are ints again."""
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


def value(json: Json, path: Path = None, replaced: Replacements | None = None) -> Value:
    """Makes a JSON value; what it cannot carry is replaced and noted."""
    found = carried(json, path, Replacements() if replaced is None else replaced)
    return _made_value(found)


def struct(json: Mapping[str, Json], path: Path = None, replaced: Replacements | None = None) -> Struct:
    """Makes a JSON object; what it cannot carry is replaced and noted."""
    noted = Replacements() if replaced is None else replaced
    return _made_struct(cast("dict[str, Json]", carried(dict(json), path, noted, MAX_OBJECT_LEVELS)))


def _made_value(json: Json) -> Value:
    """Does what json_format does, several times as fast: runs have hundreds of values."""
    if isinstance(json, str):
        return Value(string_value=json)
    if isinstance(json, bool):
        return Value(bool_value=json)
    if isinstance(json, int | float):
        return Value(number_value=json)
    if isinstance(json, dict):
        return Value(struct_value=_made_struct(json))
    if isinstance(json, list):
        return Value(list_value=ListValue(values=[_made_value(one) for one in json]))
    return Value(null_value=NULL_VALUE)


def _made_struct(json: Mapping[str, Json]) -> Struct:
    return Struct(fields={key: _made_value(one) for key, one in json.items()})


def duration(length: timedelta, _path: Path = None, _replaced: Replacements | None = None) -> Duration:
    """Makes a length of time."""
    message = Duration()
    message.FromTimedelta(length)
    return message


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
    Timestamp.DESCRIPTOR: (timestamp, _read_moment),
    Duration.DESCRIPTOR: (duration, _read_length),
    Struct.DESCRIPTOR: (struct, _read_object),
    Value.DESCRIPTOR: (value, lambda message, _, __: json_value(message)),
}
"""How a value is put into a message of a well-known type, and read from it."""
