"""One part of a spec: its bytes, and where it stands. Read on demand, so that what nobody asks for is never built.

Every read skips over what is inside without building it. A part of another kind than expected is noted and reads as
empty; `null` reads as absent, as it does for KFP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from kfadapter_grpc.kfp.spec.report import LARGEST_PART
from kfadapter_grpc.kfp.spec.values import is_deeper, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kfadapter_grpc.contract.spec import Json
    from kfadapter_grpc.kfp.spec.level import Level
    from kfadapter_grpc.kfp.spec.report import Report

T = TypeVar("T")

UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""What decoding raises for JSON that is broken or of another kind."""
WHOLE = "$"
"""The path of a whole spec."""

_LARGEST_INTEGER = 2**31 - 1
_DEEPEST_VALUE = 20  # protobuf reads no more than about 30 levels of a Value
_ABSENT = msgspec.Raw()
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_FLAG = msgspec.json.Decoder(bool)
_NUMBER = msgspec.json.Decoder(float, strict=False)
_INTEGER = msgspec.json.Decoder(int, strict=False)


class Part:
    """A part of a spec, present or absent."""

    __slots__ = ("_key", "_parent", "_raw", "report")

    def __init__(self, raw: msgspec.Raw, report: Report, key: str | int = "", parent: Part | None = None) -> None:
        self._raw = raw
        self._key = key
        self._parent = parent
        self.report = report

    @property
    def path(self) -> str:
        """Where it stands: `root.dag.tasks.x`."""
        return self.steps().removeprefix(".") or WHOLE

    def steps(self) -> str:
        """The way to it, from the whole spec: `.root.dag`."""
        if self._parent is None:
            return ""
        key = f"[{self._key}]" if isinstance(self._key, int) else f".{self._key}"
        return self._parent.steps() + key

    @property
    def size(self) -> int:
        """Its bytes of JSON."""
        return memoryview(self._raw).nbytes

    @property
    def is_absent(self) -> bool:
        """Whether it is not there, or null."""
        if self._raw is _ABSENT:
            return True
        size = self.size
        return not size or (size == len(b"null") and bytes(self._raw) == b"null")

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return self._begins_with(b"[")

    def note(self) -> None:
        """Notes that it is not understood, or too large to tell."""
        self.report.note(self.path)

    def child(self, key: str | int, raw: msgspec.Raw = _ABSENT) -> Part:
        """A part inside this one; without its bytes it is only a place to note."""
        return Part(raw, self.report, key, self)

    def standing_alone(self) -> Part:
        """The same part as a whole spec of its own, so that paths begin here; one that is no mapping stays as it is."""
        return Part(self._raw, self.report) if self._begins_with(b"{") else self

    def _begins_with(self, sign: bytes) -> bool:
        return bytes(memoryview(self._raw)[:1]) == sign

    def fields(self, level: Level) -> Fields:
        """Reads a mapping of which the keys are known; others are noted."""
        found = self._mapping()
        if level.known and not found.keys() <= level.known:
            self._note_unknown(key for key in found if key not in level.known)
        return Fields(self, found)

    def _note_unknown(self, keys: Iterable[str]) -> None:
        for key in keys:
            if self.report.has_more:
                break
            self.child(key).note()

    def entries(self) -> Iterator[tuple[str, Part]]:
        """Reads a mapping from names of the author's choice."""
        for key, raw in self._mapping().items():
            yield key, Part(raw, self.report, key, self)

    def items(self) -> Iterator[Part]:
        """Reads a list."""
        found = None if self.is_absent else self._read(_ITEMS)
        for number, raw in enumerate(found or ()):
            yield Part(raw, self.report, number, self)

    def text(self) -> str:
        """Reads a text; empty where there is none, or it is too large to tell."""
        if self.is_absent:
            return ""
        if self.size > LARGEST_PART:
            self.note()
            return ""
        return self._read(_TEXT) or ""

    def told_text(self) -> str:
        """Reads a text, and takes room for it."""
        if not self._fits():
            return ""
        return self.text()

    def loose_text(self) -> str:
        """Reads a text, a number or a truth value as a text, as Kubernetes takes them; empty where there is none."""
        found, value = (False, None) if self.is_absent else self.peek()
        if found and isinstance(value, dict | list):
            self.note()
            return ""
        return value if isinstance(value, str) else one_line(value) if found else ""

    def of_text(self) -> Part:
        """What is written as JSON inside a text, of any length; at the same path."""
        text = None if self.is_absent else self._read(_TEXT)
        return Part(msgspec.Raw(text) if text else _ABSENT, self.report, self._key, self._parent)

    def flag(self) -> bool:
        """Reads a truth value; false where there is none."""
        return (not self.is_absent and self._read(_FLAG)) or False

    def number(self) -> float:
        """Reads a number, or a text that is one; 0 where there is none."""
        return (not self.is_absent and self._read(_NUMBER)) or 0.0

    def count(self) -> int:
        """Reads a whole number from 0 to 2³¹-1, or a text that is one; 0 where there is none."""
        if self.is_absent:
            return 0
        number = self._read(_INTEGER) or 0
        if 0 <= number <= _LARGEST_INTEGER:
            return number
        self.note()
        return 0

    def value(self) -> tuple[bool, Json]:
        """Reads any value, and takes room for it; tells first whether there is one that can be told. Null is one."""
        if not self.size or not self._fits():
            return False, None
        return self.peek()

    def peek(self) -> tuple[bool, Json]:
        """Reads any value of at most 64 KiB without taking room; tells first whether there is one."""
        if not self.size or self.size > LARGEST_PART:
            if self.size:
                self.note()
            return False, None
        try:
            value: Json = msgspec.json.decode(self._raw)
        except UNREADABLE:
            self.note()
            return False, None
        if is_deeper(value, _DEEPEST_VALUE):
            self.note()
            return False, None
        return True, value

    def _fits(self) -> bool:
        size = self.size
        if size <= LARGEST_PART and self.report.take(size):
            return True
        self.note()
        return False

    def _mapping(self) -> dict[str, msgspec.Raw]:
        return {} if self.is_absent else self._read(_FIELDS) or {}

    def _read(self, decoder: msgspec.json.Decoder[T]) -> T | None:
        try:
            return decoder.decode(self._raw)
        except UNREADABLE:
            self.note()
            return None


class Fields:
    """The fields of a mapping."""

    __slots__ = ("_found", "_part")

    def __init__(self, part: Part, found: dict[str, msgspec.Raw]) -> None:
        self._part = part
        self._found = found

    def __contains__(self, key: str) -> bool:
        """Whether the key is there, null or not."""
        return key in self._found

    def __getitem__(self, key: str) -> Part:
        """The part of a key, which may be absent."""
        return self._part.child(key, self._found.get(key, _ABSENT))

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return key in self._found and not self[key].is_absent
