"""Makes protobuf's own messages: times, JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter_grpc.domain.values import MAX_OBJECT_LEVELS, Replacements, carried

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from kfadapter_grpc.domain.spec import Json


def value(json: Json, name: str = "", replaced: Replacements | None = None) -> Value:
    """A JSON value; what it cannot carry is replaced and noted, under the name of the field."""
    message = Value()
    _fill(message, carried(json, (None, name), Replacements() if replaced is None else replaced))
    return message


def struct(json: Mapping[str, Json], name: str = "", replaced: Replacements | None = None) -> Struct:
    """A JSON object; what it cannot carry is replaced and noted, under the name of the field."""
    message, path = Struct(), (None, name)
    found = carried(dict(json), path, Replacements() if replaced is None else replaced, MAX_OBJECT_LEVELS)
    if isinstance(found, dict):
        _fill_fields(message, found)
    return message


def _fill(message: Value, json: Json) -> None:
    if json is None:
        message.null_value = 0  # type: ignore[assignment] # the one value of its enum
    elif isinstance(json, bool):
        message.bool_value = json
    elif isinstance(json, str):
        message.string_value = json
    elif isinstance(json, int | float):
        message.number_value = json
    elif isinstance(json, dict):
        message.struct_value.SetInParent()
        _fill_fields(message.struct_value, json)
    else:
        message.list_value.SetInParent()
        values = message.list_value.values
        for item in json:
            _fill(values.add(), item)


def _fill_fields(message: Struct, json: Mapping[str, Json]) -> None:
    fields = message.fields
    for key, item in json.items():
        _fill(fields[key], item)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A time."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message
