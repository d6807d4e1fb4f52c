"""Reads a text for the YAML parser, in chunks, and checks what the parser does not."""

from __future__ import annotations

import codecs
import re
import threading
from collections import deque
from collections.abc import Callable

import yaml

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.pipelines import ByteStream
from kfadapter_grpc.upload.limits import LATE, invalid_file

_CHUNK = 1 << 14
_LONG_TOKEN = 1 << 20
_MAX_SLASHES = 100_000
_MAX_DIRECTIVES = 100
_WAIT_SECONDS = 0.05

_ALLOWED = bytes([0x09, 0x0A, 0x0D, *range(0x20, 0x7F)])
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_ESCAPED_SLASH = re.compile(r"(?<!\\)(?:\\\\)*\\/")
_DIRECTIVE = re.compile(r"[\n\r\x85\u2028\u2029]%")

_long_token_lock = threading.Lock()
"""Held while a text with a very long token is parsed, so that only one such token is in memory at a time."""


class CheckedText:
    """A text on its way to the parser.

    Everything that is read must be UTF-8 without control characters. A fault is kept in `failure` and the text
    ends there, because an exception does not pass well through the C code that calls `read`.

    Attributes:
        token_bytes: How many bytes were read since the parser's last event.
        between_documents: Whether the parser is outside a document, where directives are allowed.
    """

    def __init__(
        self, stream: ByteStream, call: Call, *, head: bytes = b"", complete: Callable[[], object] | None = None
    ) -> None:
        """Reads `head`, then `stream`; `complete` receives the rest of one still arriving, before it blocks others."""
        self.failure: Exception | None = None
        self.between_documents = True
        self.token_bytes = 0
        self._head = head
        self._stream = stream
        self._call = call
        self._complete = complete
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._characters = 0
        self._line = 1
        self._column = 1
        self._slashes: deque[int] = deque()
        self._backslash = ""
        self._directives = 0
        self._has_lock = False

    def close(self) -> None:
        if self._has_lock:
            _long_token_lock.release()

    def read(self, size: int = _CHUNK, /) -> bytes:
        """Reads up to `size` bytes; none at the end, and none after a fault."""
        if self.failure is not None:
            return b""
        try:
            return self._read(min(size, _CHUNK))
        except Exception as error:  # noqa: BLE001 - raised again by `raise_failure`
            self.failure = error
            return b""

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def escapes_slash(self, start: int, end: int) -> bool:
        r"""Returns whether a `\/` is between the characters `start` and `end`, and forgets everything before `end`."""
        escapes = False
        while self._slashes and self._slashes[0] < end:
            escapes |= self._slashes.popleft() >= start
        return escapes

    def _read(self, size: int) -> bytes:
        self._call.ensure_active(LATE)
        chunk, self._head = (self._head[:size] or self._stream.read(size)), self._head[size:]
        self.token_bytes += len(chunk)
        if self.token_bytes > _LONG_TOKEN and not self._has_lock:
            if self._complete is not None:
                self._complete()
            while not _long_token_lock.acquire(timeout=_WAIT_SECONDS):
                self._call.ensure_active(LATE)
            self._has_lock = True
        text = self._decode(chunk)
        if chunk.translate(None, _ALLOWED):  # a control character, or not ASCII
            self._check_controls(text)
        self._note_slashes(text)
        self._directives += len(_DIRECTIVE.findall(text)) if self.between_documents and "%" in text else 0
        if self._directives > _MAX_DIRECTIVES:
            message = f"the file has more than {_MAX_DIRECTIVES} lines that begin with `%`."
            raise invalid_file(message, line=self._line, column=1)
        self._advance(text)
        return chunk

    def _decode(self, chunk: bytes) -> str:
        try:
            return self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            self._advance(error.object[: error.start].decode("utf-8"))
            message = f"the file is not UTF-8 text ({error.reason}); save it as UTF-8."
            raise invalid_file(message, line=self._line, column=self._column) from None

    def _check_controls(self, text: str) -> None:
        match = _FORBIDDEN.search(text)
        if match is None:
            return
        self._advance(text[: match.start()])
        character = match.group()
        what = "binary data, not a pipeline" if character == "\0" else "not clean text"
        message = f"the character {character!a} is not allowed: this is {what}. Upload what the kfp compiler writes."
        raise invalid_file(message, line=self._line, column=self._column)

    def _note_slashes(self, text: str) -> None:
        carried = self._backslash + text
        if "\\/" in carried:
            start = self._characters - len(self._backslash) - 1
            self._slashes.extend(start + match.end() for match in _ESCAPED_SLASH.finditer(carried))
        if len(self._slashes) > _MAX_SLASHES:
            raise invalid_file(
                f"one text in the file has more than {_MAX_SLASHES} of `\\/`.", line=self._line, column=1
            )
        if text:
            self._backslash = "\\" * ((len(carried) - len(carried.rstrip("\\"))) % 2)

    def _advance(self, text: str) -> None:
        self._characters += len(text)
        lines = text.count("\n")
        self._line += lines
        self._column = len(text) - text.rfind("\n") if lines else self._column + len(text)


# --- plain texts ----------------------------------------------------------------------------------------------------
# KFP's parser and libyaml cannot disagree on most texts that kfp's compiler writes. Where the two differ there is an
# anchor, an alias, a tag, a directive, a list or mapping in brackets, a key marked by `? `, or the escape `\/`. Each of
# these but the last begins with a character of its own, and outside brackets it can only occur at the beginning of a
# line, after the dashes of a list, after `: `, or after `---`. So a text without such a character in such a position
# has none of them, whichever of its lines are quoted. libyaml alone then shows whether the text is YAML, in half of the
# time that its events would take.


_PLAIN_CHUNK = 1 << 18
"""How much is examined at once: the size of our client's messages."""
_PIECE = 1 << 16
"""How much libyaml receives at once, about a millisecond's work, before other threads can run."""
_LONG_TEXT = 1 << 20
_MAX_LINE = 1 << 16
_MARKS = rb"[*&!%]|\?[ \n]|\[(?!\] *\n)|\{(?!\} *\n)"
_KEY = rb"[A-Za-z_][\w.-]*:[ \n]"
_BEGIN = re.compile(rb"(?:\n *(?:#[^\n]*)?)*(?=\n%s)" % _KEY)
"""Blank lines and comments before the first key of a mapping."""
_LINE = re.compile(rb"\n[*&!%?[{]")
"""A line, without its indentation and dashes, that has to be examined as it is."""
_DOUBTFUL_LINE = re.compile(rb"\n[ -]*(?:%s)" % _MARKS)
_DOUBTS = (
    re.compile(rb": +(?:%s)" % _MARKS),
    re.compile(rb"\n(?:---(?!\n%s)|\.\.\.)" % _KEY),
    re.compile(rb"\n[ -]{400}"),  # deeper than any pipeline is nested
    re.compile(rb"\\/"),
)
_ODD = ((0x09, "\t"), (0x0D, "\r"), (0xC2, "\x85"), (0xE2, "\u2028"), (0xE2, "\u2029"), (0xEF, "\ufeff"))
_ODD_CHARACTERS = tuple((first, character.encode()) for first, character in _ODD)
"""Tabs, line breaks other than LF, and a byte order mark; their first bytes are quickly searched for."""

_long_text_lock = threading.Lock()
"""Held while a long text is parsed without its tokens, which may be as long; others are checked with theirs then."""


def is_plain_yaml(stream: ByteStream, call: Call) -> bool:
    """Parses a text to its end; returns False if it has to be checked by its events, from its beginning."""
    text = _PlainText(stream, call)
    try:
        yaml.CBaseLoader(text).raw_parse()
    except yaml.YAMLError:
        text.is_doubtful = True
    finally:
        if text.is_long:
            _long_text_lock.release()
    if text.failure is not None:
        raise text.failure
    return not text.is_doubtful


class _PlainText:
    """A text on its way to libyaml; ends as soon as it is in doubt."""

    def __init__(self, stream: ByteStream, call: Call) -> None:
        self.is_doubtful = False
        self.is_long = False
        self.failure: Exception | None = None
        self._stream = stream
        self._call = call
        self._chunk = b""
        self._at = 0
        self._size = 0
        self._rest = b"\n"
        self._has_begun = False

    def read(self, _size: int = 0, /) -> bytes:
        """Reads the next chunk; libyaml accepts more than it requests."""
        try:
            self._call.ensure_active(LATE)
            if self._at >= len(self._chunk):
                self._chunk, self._at = self._stream.read(_PLAIN_CHUNK), 0
                self.is_doubtful |= not self._is_short_or_locked() or self._has_doubts(self._chunk)
        except Exception as error:  # noqa: BLE001 - raised by `is_plain_yaml`, as none passes well through C code
            self.failure = error
        if self.is_doubtful or self.failure is not None:
            return b""
        self._at += _PIECE
        return self._chunk[self._at - _PIECE : self._at]

    def _is_short_or_locked(self) -> bool:
        self._size += len(self._chunk)
        if self._size > _LONG_TEXT and not self.is_long:
            self.is_long = _long_text_lock.acquire(blocking=False)
        return self.is_long or self._size <= _LONG_TEXT

    def _has_doubts(self, chunk: bytes) -> bool:
        """Follows the next chunk line by line; an empty one is the end."""
        lines = self._rest + (chunk or b"\n")
        end = lines.rfind(b"\n")
        self._rest, lines = lines[end:], lines[: end + 1]
        if not self._has_begun:
            begin = _BEGIN.match(lines)
            if begin is None:
                return True
            self._has_begun = True
            lines = lines[begin.end() :]
        return (
            len(self._rest) > _MAX_LINE
            or any(first in lines and character in lines for first, character in _ODD_CHARACTERS)
            or any(doubt.search(lines) for doubt in _DOUBTS)
            or (_LINE.search(lines.translate(None, b" -")) and _DOUBTFUL_LINE.search(lines)) is not None
        )
