"""Finds what in a message is nested deeper than protobuf reads, so that a caller is told where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

MAX_LEVELS = 100
"""How many levels of messages protobuf reads below the outermost one."""
_MAX_MESSAGES = 10_000
_MAX_BYTES = 256 * 1024
"""How much is looked at: it is a bad request, and must not cost more than a good one."""
_LENGTH_DELIMITED = 2
_OF_VALUES = frozenset({"fields", "value", "struct_value", "list_value"})
"""Fields of protobuf's own, of which JSON knows nothing."""


def too_deep(data: bytes, descriptor: Descriptor) -> str:
    """The path of the first field that is nested too deeply for protobuf; empty if none is, or none is found."""
    waiting = [(data, descriptor, "", 0)] if len(data) <= _MAX_BYTES else []
    for _ in range(_MAX_MESSAGES):
        if not waiting:
            break
        part, kind, path, level = waiting.pop()
        if level > MAX_LEVELS:
            return path
        waiting += [(*inner, level + 1) for inner in _messages(part, kind, path)]
    return ""


def _messages(data: bytes, descriptor: Descriptor, path: str) -> Iterator[tuple[bytes, Descriptor, str]]:
    """The messages in a message, read without those inside them, which are unknown to an empty one."""
    try:
        fields = UnknownFieldSet(Empty.FromString(data))
    except DecodeError:
        return
    found = [fields[index] for index in range(len(fields))]
    is_entry = descriptor.GetOptions().map_entry
    key = next((bytes(one.data).decode(errors="replace") for one in found if is_entry and one.field_number == 1), "")
    for index, one in enumerate(found):
        field = descriptor.fields_by_number.get(one.field_number)
        if field is None or field.message_type is None or one.wire_type != _LENGTH_DELIMITED:
            continue
        part = f".{key}" if is_entry else "" if field.name in _OF_VALUES else f".{field.name}"
        if descriptor.full_name == "google.protobuf.ListValue":
            part = f"[{index}]"
        yield bytes(one.data), field.message_type, f"{path}{part}".removeprefix(".")
