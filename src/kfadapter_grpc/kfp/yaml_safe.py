r"""Writes the few characters that JSON may hold as they are, and YAML may not, as escapes.

JSON is YAML but for these: control characters beyond ASCII's first ones and some others are no part of YAML, or end a
line there. KFP gives them as they are (all but U+2028 and U+2029). In JSON they stand inside of strings only, where an
escape (`\u0085`) says the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfadapter_grpc.contract.pipelines import ByteStream

_UNSAFE = re.compile(
    rb"(?=[\x7f\xc2\xe2\xef])(?:\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xa8\xa9]|\xef\xbb\xbf|\xef\xbf[\xbe\xbf])"
)
_MAY_GO_ON = re.compile(rb"(?:\xc2|\xe2\x80?|\xef[\xbb\xbf]?)\Z")
_DELETE = b"\x7f"


class YamlSafe:
    """A stream of JSON that every reader of YAML understands as well."""

    def __init__(self, source: ByteStream) -> None:
        """Will read `source`."""
        self._source = source
        self._ready = b""
        self._held = b""  # the beginning of what may become an unsafe character

    def read(self, size: int) -> bytes:
        """Reads the next `size` bytes; fewer at the end, none behind it."""
        while len(self._ready) < size and self._fill(size):
            pass
        read, self._ready = self._ready[:size], self._ready[size:]
        return read

    def _fill(self, size: int) -> bool:
        piece = self._source.read(size)
        text, self._held = self._held + piece, b""
        if not (text.isascii() and _DELETE not in text):
            held = _MAY_GO_ON.search(text, max(0, len(text) - 2)) if piece else None
            if held:
                text, self._held = text[: held.start()], held[0]
            text = _UNSAFE.sub(_escape, text)
        self._ready += text
        return bool(piece)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())
