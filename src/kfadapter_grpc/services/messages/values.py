"""Makes protobuf's own messages: times, JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from kfadapter_grpc.domain.spec import Json


def value(json: Json) -> Value:
    """A JSON value."""
    return ParseDict(json, Value())  # type: ignore[arg-type] # its stub knows objects only; a Value takes any JSON


def struct(json: Mapping[str, Json]) -> Struct:
    """A JSON object."""
    return ParseDict(dict(json), Struct())


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A time."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message
