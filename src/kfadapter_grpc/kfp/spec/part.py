"""One part of a spec: its bytes, and its position. Read on demand, so that unused parts are never built.

Every read skips nested content without building it. A part of another type than expected is noted and reads as
empty; `null` reads as absent, as it does for KFP.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TypeVar

import msgspec

from kfadapter_grpc.contract.spec import Json
from kfadapter_grpc.kfp.spec.values import UNREADABLE, is_deeper, one_line, text_weight

T = TypeVar("T")

MAX_PART_BYTES = 64 * 1024
"""Size limit of one text or default in a summary, in bytes."""
MAX_SUMMARY_BYTES = 2 * 1024 * 1024
"""Size limit of all of them, in bytes: a response must fit into a gRPC message of 4 MiB."""

_MAX_UNKNOWN_PARTS = 100
_MAX_PATH = 300
_NAMED_BYTES = 52
_MAX_INTEGER = 2**31 - 1
_MAX_VALUE_DEPTH = 20  # protobuf reads no more than about 30 levels of a Value
_ABSENT = msgspec.Raw()
_UNREADABLE = "a value that cannot be shown"  # compared by identity
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_FLAG = msgspec.json.Decoder(bool)
_NUMBER = msgspec.json.Decoder(float, strict=False)
_INTEGER = msgspec.json.Decoder(int, strict=False)


class Report:
    """Collects the paths of what a summary does not show, up to a number, and counts the bytes of what it shows."""

    def __init__(self) -> None:
        self.is_truncated = False
        self._unknown: dict[str, None] = {}
        self._remaining = MAX_SUMMARY_BYTES

    @property
    def unknown(self) -> tuple[str, ...]:
        """The paths of what is not shown; `...` at the end if there are more."""
        paths = tuple(self._unknown)
        return (*paths[: _MAX_UNKNOWN_PARTS - 1], "...") if self.is_truncated else paths

    @property
    def is_full(self) -> bool:
        """Whether something did not fit: what follows it is not shown either."""
        return self._remaining < 0

    def note(self, path: str) -> None:
        path = path if len(path) <= _MAX_PATH else f"{path[: _MAX_PATH - 1]}…"
        if path in self._unknown:
            return
        self.is_truncated = len(self._unknown) >= _MAX_UNKNOWN_PARTS
        if not self.is_truncated:
            self._unknown[path] = None

    def take(self, size: int) -> bool:
        """Reserves bytes; returns whether that many were left."""
        fits = size <= self._remaining
        self._remaining -= size if fits else 0
        return fits

    def close(self) -> None:
        """Leaves no bytes for anything else."""
        self._remaining = -1


class Part:
    """A part of a spec, present or absent. As a mapping it is read by its keys, each of which may be absent."""

    __slots__ = ("_fields", "_key", "_parent", "_raw", "report")

    def __init__(self, raw: msgspec.Raw, report: Report, key: str | int = "", parent: Part | None = None) -> None:
        self._raw = raw
        self._key = key
        self._parent = parent
        self._fields: dict[str, msgspec.Raw] | None = None
        self.report = report

    @property
    def path(self) -> str:
        """Its position: `root.dag.tasks.x`; `$` is the whole spec."""
        steps: list[str] = []
        part = self
        while part._parent is not None:
            steps.append(f"[{part._key}]" if isinstance(part._key, int) else f".{part._key}")
            part = part._parent
        return "".join(reversed(steps)).removeprefix(".") or "$"

    @property
    def size(self) -> int:
        return memoryview(self._raw).nbytes

    @property
    def is_absent(self) -> bool:
        return self._raw is _ABSENT or not self.size or (self.size == len(b"null") and bytes(self._raw) == b"null")

    @property
    def is_list(self) -> bool:
        return self._begins_with(b"[")

    def __contains__(self, key: str) -> bool:
        return key in self._mapping()

    def __getitem__(self, key: str) -> Part:
        """The part of a key, which may be absent."""
        return self.child(key, self._mapping().get(key, _ABSENT))

    def has(self, key: str) -> bool:
        return key in self and not self[key].is_absent

    def first(self, *keys: str) -> str | None:
        return next((key for key in keys if self.has(key)), None)

    def known(self, read: str, passed: str = "") -> Part:
        """Returns this mapping, after noting all keys but those that are `read` and those `passed` as irrelevant.

        Both have their keys separated by blanks.
        """
        known = _words(f"{read} {passed}")
        for key in () if self._mapping().keys() <= known else self._mapping():
            if self.report.is_truncated:
                break
            if key not in known:
                self.child(key).note()
        return self

    def only(self, key: str, passed: str = "") -> Part:
        return self.known(key, passed)[key]

    def note(self) -> None:
        self.report.note(self.path)

    def child(self, key: str | int, raw: msgspec.Raw = _ABSENT) -> Part:
        return Part(raw, self.report, key, self)

    def as_root(self) -> Part:
        """The same part as a whole spec of its own, so that paths start here; unchanged if it is not a mapping."""
        return Part(self._raw, self.report) if self._begins_with(b"{") else self

    def entries(self) -> Iterator[tuple[str, Part]]:
        for key, raw in self._mapping().items():
            yield key, self.child(key, raw)

    def items(self) -> Iterator[Part]:
        items: list[msgspec.Raw] = self._read(_ITEMS) or []
        for number, raw in enumerate(items):
            yield self.child(number, raw)

    def text(self) -> str:
        """Reads a text; empty if it is absent, or too large to show."""
        if self.size > MAX_PART_BYTES and not self.is_absent:
            self.note()
            return ""
        return self._read(_TEXT) or ""

    def counted_text(self) -> str:
        """Reads a text, and reserves its bytes."""
        return self.text() if self._fits() else ""

    def any_text(self) -> str:
        """Reads a text, a number or a boolean as a text, as Kubernetes accepts them; empty if absent."""
        is_readable, value = (False, None) if self.is_absent else self.peek()
        if is_readable and isinstance(value, dict | list):
            self.note()
            return ""
        return value if isinstance(value, str) else one_line(value) if is_readable else ""

    def of_text(self) -> Part:
        """The JSON inside a text, of any length; at the same path."""
        text = self._read(_TEXT)
        return Part(msgspec.Raw(text) if text else _ABSENT, self.report, self._key, self._parent)

    def flag(self) -> bool:
        return self._read(_FLAG) or False

    def number(self) -> float:
        return self._read(_NUMBER) or 0.0

    def count(self) -> int:
        number = self._read(_INTEGER) or 0
        if 0 <= number <= _MAX_INTEGER:
            return number
        self.note()
        return 0

    def value(self) -> tuple[bool, Json]:
        """Reads any value, and reserves its bytes; returns first whether one can be shown. Null is a value."""
        return self.peek() if self.size and self._fits() else (False, None)

    def peek(self) -> tuple[bool, Json]:
        """Reads any value of at most 64 KiB without reserving bytes; returns first whether there is one."""
        if not self.size:
            return False, None
        try:
            value: Json = msgspec.json.decode(self._raw) if self.size <= MAX_PART_BYTES else _UNREADABLE
        except UNREADABLE:
            value = _UNREADABLE
        if value is _UNREADABLE or is_deeper(value, _MAX_VALUE_DEPTH):
            self.note()
            return False, None
        return True, value

    def fits_name(self, name: str) -> bool:
        """Reserves bytes for a parameter or artifact of this name; notes the part if none are left."""
        fits = self.report.take(_NAMED_BYTES + text_weight(name))
        if not fits:
            self.note()
        return fits

    def _begins_with(self, sign: bytes) -> bool:
        return bytes(memoryview(self._raw)[:1]) == sign

    def _fits(self) -> bool:
        if self.size <= MAX_PART_BYTES and self.report.take(self.size):
            return True
        self.note()
        return False

    def _mapping(self) -> dict[str, msgspec.Raw]:
        if self._fields is None:
            self._fields = self._read(_FIELDS) or {}
        return self._fields

    def _read(self, decoder: msgspec.json.Decoder[T]) -> T | None:
        if self.is_absent:
            return None
        try:
            return decoder.decode(self._raw)
        except UNREADABLE:
            self.note()
            return None


@cache
def _words(keys: str) -> frozenset[str]:
    return frozenset(keys.split())
