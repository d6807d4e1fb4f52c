"""Makes protobuf's own messages: times, JSON values."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from kfadapter_grpc.domain.values import MAX_OBJECT_LEVELS, Replacements, carried

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kfadapter_grpc.domain.spec import Json

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def value(json: Json, name: str = "", replaced: Replacements | None = None) -> Value:
    """A JSON value; what it cannot carry is replaced and noted, under the name of the field."""
    found = carried(json, (None, name), Replacements() if replaced is None else replaced)
    return ParseDict(found, Value())  # type: ignore[arg-type] # its stub knows objects only; a Value takes any JSON


def struct(json: Mapping[str, Json], name: str = "", replaced: Replacements | None = None) -> Struct:
    """A JSON object; what it cannot carry is replaced and noted, under the name of the field."""
    noted = Replacements() if replaced is None else replaced
    return ParseDict(cast("dict[str, Json]", carried(dict(json), (None, name), noted, MAX_OBJECT_LEVELS)), Struct())


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A time."""
    if moment is None:
        return None
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86400 + since.seconds, nanos=since.microseconds * 1000)
