"""Requests that nobody would write: messages made from their descriptors, and bytes that are almost messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_DEPTH = 4
_MOST_ITEMS = 3
_ONE_FIELD_IN = 3
_ODD_WORDS = (
    "",
    "0",
    "..",
    "../../etc/passwd",
    "학습",
    "%2F",
    "a/b",
    "\0",
    "00000000-0000-4000-8000-0",
    "%",
)
_ODD_TEXTS = st.one_of(
    st.sampled_from(_ODD_WORDS), st.text(max_size=40), st.text("a", min_size=130, max_size=300), st.uuids().map(str)
)
_INTEGERS = st.one_of(st.sampled_from((0, 1, -1, 7)), st.integers(-(2**31), 2**31 - 1))
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: _INTEGERS,
    FieldDescriptor.CPPTYPE_INT64: st.one_of(_INTEGERS, st.integers(-(2**63), 2**63 - 1)),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.CPPTYPE_ENUM: st.one_of(st.integers(0, 9), _INTEGERS),
}


class Requests:
    """Makes requests from descriptors."""

    def __init__(self, known: Sequence[str]) -> None:
        """Takes names and ids that mean something, which half of all texts are."""
        self._texts = st.one_of(st.sampled_from(known), _ODD_TEXTS)

    def of(self, path: str) -> st.SearchStrategy[bytes]:
        """Serialized requests of an RPC, by its path."""
        service, _, name = path.removeprefix("/").partition("/")
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        return self._messages(method.input_type, _DEPTH).map(lambda message: message.SerializeToString())

    def _messages(self, descriptor: Descriptor, depth: int) -> st.SearchStrategy[Message]:
        @st.composite
        def make(draw: st.DrawFn) -> Message:
            message = GetMessageClass(descriptor)()
            for field in descriptor.fields:
                if not draw(st.integers(0, _ONE_FIELD_IN - 1)) and (depth or field.message_type is None):
                    self._fill(draw, message, field, depth - 1)
            return message

        return make()

    def _fill(self, draw: st.DrawFn, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            self._fill_map(draw, getattr(message, field.name), entry["key"], entry["value"], depth)
        elif field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(draw(st.integers(0, _MOST_ITEMS))):
                value = self._value(draw, field, depth)
                (items.add().CopyFrom if field.message_type else items.append)(value)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(self._value(draw, field, depth))
        else:
            setattr(message, field.name, self._value(draw, field, depth))

    def _fill_map(
        self,
        draw: st.DrawFn,
        filled: Any,  # noqa: ANN401 - a map of any kind
        key: FieldDescriptor,
        value: FieldDescriptor,
        depth: int,
    ) -> None:
        for _ in range(draw(st.integers(0, _MOST_ITEMS))):
            named, made = self._value(draw, key, depth), self._value(draw, value, depth)
            if value.message_type is None:
                filled[named] = made
            else:
                filled[named].CopyFrom(made)

    def _value(self, draw: st.DrawFn, field: FieldDescriptor, depth: int) -> Any:  # noqa: ANN401 - what the field takes
        if field.message_type is not None:
            return draw(self._messages(field.message_type, max(depth, 0)))
        if field.type == FieldDescriptor.TYPE_BYTES:
            return draw(st.binary(max_size=200))
        return draw(self._texts if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else _SCALARS[field.cpp_type])


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Changes, drops, doubles or adds some bytes."""
    changed = bytearray(data or b"\x0a")
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                del changed[at : at + chance.randint(1, 8)]
            case 2:
                changed[at:at] = changed[at : at + chance.randint(1, 8)]
            case _:
                changed[at:at] = chance.randbytes(chance.randint(1, 8))
        changed = changed or bytearray(b"\xff")
    return bytes(changed)
