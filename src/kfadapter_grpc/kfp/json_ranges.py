"""Finds where the values of a large JSON text begin and end, without building them and without holding the text.

A spec of 30 MiB has millions of tokens; a loop over them in Python would hold the interpreter for seconds. So a chunk
is looked at as a whole by functions written in C: strings are cut out by a regular expression, everything but brackets
is dropped, and pairs of brackets that belong together cancel each other. What is left is some closing and then some
opening brackets, which tells whether the value ends within the chunk. Only the chunk in which it ends is halved, again
and again.

What stands between the brackets of a skipped value is not checked further: it comes from a program that writes JSON,
and nothing here depends on it.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from kfadapter_grpc.contract.errors import KfpError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_BYTES = 64 * 1024
"""How much is looked at at once: about a millisecond's work."""
MAX_DEPTH = 1000
"""How deep brackets may be nested; specs have some twenty levels."""

_FIRST_LOOK_BYTES = 64
_MAX_KEPT_BYTES = 1024
_MARK = b"\xff"  # stands in no UTF-8
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*")
_SCALAR = re.compile(rb"[-+.\w]*")
_UNMATCHED = re.compile(rb"([}\]]*)([{\[]*)")
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_NO_CONTROLS = bytes(range(0x20, 256))
_OPENING = bytes.maketrans(b"}]", b"{[")
_PARTNER = dict(zip(b"}]", b"{[", strict=True))
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Range:
    """Where a value stands in the text: from `begin` up to, not including, `end`; `first` is its first byte."""

    begin: int
    end: int
    first: bytes

    @property
    def is_object(self) -> bool:
        """Whether the value is an object."""
        return self.first == b"{"


class JsonReader:
    """Reads a JSON text from a stream, value by value and forwards only."""

    def __init__(self, stream: BinaryIO, proceed: Callable[[], None]) -> None:
        """Will read `stream` from where it is; calls `proceed`, which may raise, before each chunk."""
        self._stream = stream
        self._proceed = proceed
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._chunk = b""
        self._chunk_begin = 0
        self._at = 0

    @property
    def position(self) -> int:
        """How many bytes have been read past."""
        return self._chunk_begin + self._at

    def peek(self) -> bytes:
        """Tells the next byte that is no white space; empty at the end."""
        while True:
            space = _SPACE.match(self._chunk, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._chunk):
                return self._chunk[self._at : self._at + 1]
            if not self._fill():
                return b""

    def members(self) -> Iterator[str]:
        """Yields the keys of the object that comes next; the value of each has to be read before the next key.

        A key of more than 1024 bytes is told as an empty text.

        Raises:
            KfpError: The text is no JSON, or it ends too early.
        """
        self._take(b"{")
        more = self.peek() != b"}"
        while more:
            key = self._key()
            self._take(b":")
            yield key
            more = self.peek() == b","
            if more:
                self._at += 1
        self._take(b"}")

    def value(self) -> Range:
        """Reads past the value that comes next.

        Raises:
            KfpError: It is no JSON, or the text ends too early.
        """
        first, begin = self.peek(), self.position
        if first in (b"{", b"["):
            self._at += 1
            self._pass(_ContainerEnd(first))
        elif first == b'"':
            self._at += 1
            self._pass(_StringEnd())
        else:
            self._scalar()
        return Range(begin, self.position, first)

    def end(self) -> None:
        """Makes sure that nothing follows.

        Raises:
            KfpError: Something does.
        """
        if self.peek():
            raise malformed(f"something follows its end, at byte {self.position}")

    def _key(self) -> str:
        if self.peek() != b'"':
            raise malformed(f"no key stands at byte {self.position}")
        self._at += 1
        kept = self._pass(_StringEnd())
        return str(_loaded(b'"' + kept)) if len(kept) <= _MAX_KEPT_BYTES else ""

    def _scalar(self) -> None:
        text, begin = b"", self.position
        while len(text) <= _MAX_KEPT_BYTES:
            match = _SCALAR.match(self._chunk, self._at)
            text += match[0] if match else b""
            self._at += len(match[0]) if match else 0
            if len(text) <= _MAX_KEPT_BYTES and (self._at < len(self._chunk) or not self._fill()):
                _loaded(text)
                return
        raise malformed(f"what stands at byte {begin} is no value")

    def _take(self, expected: bytes) -> None:
        if self.peek() != expected:
            raise malformed(f"'{expected.decode()}' is missing at byte {self.position}")
        self._at += 1

    def _pass(self, end: _End) -> bytes:
        """Reads up to an end, a little at first and then more and more at once; returns the first bytes of it."""
        kept, size = b"", _FIRST_LOOK_BYTES
        while True:
            if self._at == len(self._chunk) and not self._fill():
                raise malformed(f"it ends too early, after {self.position} bytes")
            data = self._chunk[self._at : self._at + size]
            found = end.look(data)
            passed = len(data) if found is None else found
            kept += data[:passed] if len(kept) <= _MAX_KEPT_BYTES else b""
            self._at += passed
            if found is not None:
                return kept
            size *= 2

    def _fill(self) -> bool:
        self._proceed()
        self._chunk_begin += len(self._chunk)
        self._at = 0
        self._chunk = self._stream.read(CHUNK_BYTES)
        try:
            self._decoder.decode(self._chunk, final=not self._chunk)
        except UnicodeDecodeError as error:
            raise malformed("it is not UTF-8") from error
        return bool(self._chunk)


class _End(Protocol):
    """Looks for the end of a value."""

    def look(self, data: bytes) -> int | None:
        """Tells where in the next bytes of the text the end is; None if it lies behind them."""
        ...


class _StringEnd:
    """Looks for the end of a string, from behind its opening quote on."""

    def __init__(self) -> None:
        self._escaped = b""  # a backslash, if the bytes so far end within an escape

    def look(self, data: bytes) -> int | None:
        text = self._escaped + data
        match = _REST_OF_STRING.match(text)
        end = match.end() if match else 0
        if text[end : end + 1] == b'"':
            return end + 1 - len(self._escaped)
        self._escaped = text[end:]
        return None


class _ContainerEnd:
    """Looks for the end of an object or a list, from behind its opening bracket on."""

    def __init__(self, opening: bytes) -> None:
        self._open = opening  # the brackets that are open, the innermost one last
        self._inside = b""  # what makes the next bytes a string, if the bytes so far end within one

    def look(self, data: bytes) -> int | None:
        closing, opening, inside = self._left(data)
        if len(closing) < len(self._open):
            self._match(closing)
            self._open += opening
            self._inside = inside
            if len(self._open) > MAX_DEPTH:
                raise malformed(f"it is nested deeper than {MAX_DEPTH} levels")
            return None
        if len(data) == 1:
            self._match(closing)
            return 1
        half = len(data) // 2
        found = self.look(data[:half])
        if found is not None:
            return found
        found = self.look(data[half:])
        return None if found is None else half + found

    def _left(self, data: bytes) -> tuple[bytes, bytes, bytes]:
        """Tells the brackets of the next bytes that find no partner there, and how a string at their end goes on."""
        text = self._inside + data
        bare = _STRINGS.sub(b"", text + _MARK)
        if len(text.translate(None, _NO_CONTROLS)) != len(bare.translate(None, _NO_CONTROLS)):
            raise malformed("a string holds a control character")
        left = _UNMATCHED.fullmatch(_cancelled(bare.translate(None, _NO_BRACKETS)))
        if left is None:
            raise malformed("its brackets do not match")
        escaped = (len(text) - len(text.rstrip(b"\\"))) % 2
        inside = b"" if bare.endswith(_MARK) else b'"' + b"\\" * escaped
        return left[1], left[2], inside

    def _match(self, closing: bytes) -> None:
        kept = len(self._open) - len(closing)
        if self._open[kept:] != closing[::-1].translate(_OPENING):
            raise malformed("its brackets do not match")
        self._open = self._open[:kept]


def malformed(what: str) -> KfpError:
    """Makes the error for an answer that is no JSON."""
    return KfpError(f"Kubeflow Pipelines gave an answer that is no JSON: {what}; try again", metadata={"fault": what})


def _cancelled(brackets: bytes) -> bytes:
    """Drops the pairs, from the innermost ones outwards."""
    for _ in range(_ROUNDS):
        size = len(brackets)
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if len(brackets) == size:
            return brackets
    return _cancelled_one_by_one(brackets)


def _cancelled_one_by_one(brackets: bytes) -> bytes:
    """The same for what is nested so deep that going round again and again would take longer."""
    left = bytearray()
    for bracket in brackets:
        if left and left[-1] == _PARTNER.get(bracket):
            left.pop()
        else:
            left.append(bracket)
    return bytes(left)


def _loaded(text: bytes) -> object:
    try:
        loaded: object = json.loads(text)
    except ValueError as error:
        # Which word is not told: whatever answers in KFP's place may send secrets.
        raise malformed("a word in it is no value") from error
    return loaded
