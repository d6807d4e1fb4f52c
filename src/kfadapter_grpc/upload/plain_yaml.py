r"""Checks texts so plain that KFP's parser and libyaml cannot disagree on them: most of what kfp's compiler writes.

Where the two differ there is an anchor, an alias, a tag, a directive, a list or mapping in brackets, a key marked by
`? `, or the escape `\/`. Each of these but the last begins with a character of its own, and outside brackets it can
only occur at the beginning of a line, after the dashes of a list, after `: `, or after `---`. So a text without such a
character in such a position has none of them, whichever of its lines are quoted. libyaml alone then shows whether the
text is YAML, in half of the time that its events would take.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import yaml

from kfadapter_grpc.upload.limits import ensure_active

if TYPE_CHECKING:
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.pipelines import ByteStream

_CHUNK = 1 << 18
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
            ensure_active(self._call)
            if self._at >= len(self._chunk):
                self._chunk, self._at = self._stream.read(_CHUNK), 0
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
