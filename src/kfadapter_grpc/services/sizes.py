"""Keeps records small enough for every caller: gRPC takes messages of 4 MiB unless told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RECORD_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""What one record may take; leaves room for the message that it is sent in."""
_KEPT_BYTES = (64 * 1024, 4 * 1024, 256)
"""How much is kept of each text; less where the record is still too large."""
_MAX_NOTES = 20
_MAX_PATH_CHARACTERS = 120
_OF_VALUES = frozenset({"fields", "values", "string_value"})
"""Fields of protobuf's own, of which JSON knows nothing."""


def shortened(message: Message) -> list[str]:
    """Cuts the longest texts and values of a record that is too large, then the ends of its lists.

    Returns:
        What was cut, one line for each; empty for a record that fits.
    """
    cut: dict[str, int] = {}
    for kept in _KEPT_BYTES:
        if message.ByteSize() <= MAX_RECORD_BYTES:
            break
        _cut(message, kept, "", cut)
    why = "bytes do not fit into one message; truncated"
    notes = [f"{path[:_MAX_PATH_CHARACTERS]}: {size} {why}" for path, size in cut.items()]
    more = [f"{len(notes) - _MAX_NOTES} more texts and values were truncated"] if len(notes) > _MAX_NOTES else []
    return [*notes[:_MAX_NOTES], *more, *_cut_lists(message)]


def _cut(node: Any, kept: int, path: str, cut: dict[str, int]) -> None:  # noqa: ANN401 - a message, map or list
    for where, key, child in _children(node, path):
        if isinstance(child, str):
            data = child.encode()
            if len(data) > kept:
                cut.setdefault(where, len(data))
                text = f"{data[:kept].decode(errors='ignore')}… (truncated)"
                setattr(node, key, text) if isinstance(node, Message) else node.__setitem__(key, text)
        elif isinstance(child, Value) and child.WhichOneof("kind") != "string_value":
            if (size := child.ByteSize()) > kept:
                cut.setdefault(where, size)
                child.string_value = "(too large to be shown)"
        elif not isinstance(child, bool | int | float | bytes):
            _cut(child, kept, where, cut)


def _cut_lists(message: Message) -> Iterator[str]:
    """Halves the longest list or object of a record for as long as it is too large."""
    while message.ByteSize() > MAX_RECORD_BYTES:
        found = [(field.name, getattr(value, "fields", value)) for field, value in message.ListFields()]
        lists = [(len(one), name, one) for name, one in found if hasattr(one, "__len__") and not isinstance(one, str)]
        size, name, longest = max(lists, key=lambda one: one[0], default=(0, "", []))
        if size == 0:
            return
        if hasattr(longest, "keys"):
            for key in sorted(longest)[size // 2 :]:
                del longest[key]
        else:
            del longest[size // 2 :]
        yield f"{name}: {size} entries do not fit into one message; the first {size // 2} are shown"


def _children(node: Any, path: str) -> list[tuple[str, Any, Any]]:  # noqa: ANN401 - a message, map or list
    """The paths, keys and values of what is in a message, a map or a list."""
    if isinstance(node, Message):
        named = [(field.name, value) for field, value in node.ListFields()]
        return [(path if name in _OF_VALUES else f"{path}.{name}".removeprefix("."), name, one) for name, one in named]
    if hasattr(node, "keys"):
        return [(f"{path}.{key}", key, node[key]) for key in node]
    return [(f"{path}[{index}]", index, one) for index, one in enumerate(node)]
