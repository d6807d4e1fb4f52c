"""Looks into a tar.gz archive without unpacking it to disk.

The standard library's `tarfile` reads what headers announce into memory, and by recursion; this reads the few fields
that matter, the way Go's archive/tar does, which is what KFP uses, and refuses what is unusual.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from kfadapter_grpc.upload.gunzip import Gunzip
from kfadapter_grpc.upload.limits import unpacked_too_large
from kfadapter_grpc.upload.member import (
    MOST_MEMBERS,
    PIPELINE_NAME,
    Member,
    check_name,
    damaged,
    no_file,
    too_many_members,
)
from kfadapter_grpc.upload.refusal import quoted, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.errors import InvalidPipelineFileError
    from kfadapter_grpc.upload.limits import UploadLimits

_KIND = "tar.gz"
_BLOCK = 512
_LONGEST_EXTENSION = 1 << 14
_PASSED_OVER = 4
"""How many times the largest file may be unpacked on the way to the member."""

_BINARY = 0x80
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_PAX_LENGTH = re.compile(rb"(\d{1,6}) ")

_REGULAR = (b"0", b"\0", b"7")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_GLOBAL, _EXTENDED, _LONG_NAME, _LONG_LINK = b"g", b"x", b"L", b"K"


@dataclass(frozen=True, slots=True)
class _Header:
    """What a header block says."""

    name: str
    size: int
    type: bytes

    @property
    def padded(self) -> int:
        """The bytes up to the next header."""
        return -(-self.size // _BLOCK) * _BLOCK


@dataclass(frozen=True, slots=True)
class _Entry:
    """A regular file in the archive; `at` is where its bytes begin in the unpacked archive."""

    name: str
    size: int
    at: int


def tar_member(stream: BinaryIO, limits: UploadLimits, call: Call) -> Member:
    """Opens the member that KFP takes.

    Raises:
        InvalidPipelineFileError: The archive is damaged, is none, or holds no file.
        UploadTooLargeError: The unpacked file is too large, or what has to be unpacked to find it.
    """
    entry = _choose(_Walk(_unpacked(stream, limits, call)))
    check_name(_KIND, entry.name)
    if entry.size > limits.max_bytes:
        raise unpacked_too_large(limits.max_bytes, entry.size)
    again = _unpacked(stream, limits, call)
    again.skip(entry.at)
    return Member(entry.name, entry.size, _Section(again, entry.size))


def _unpacked(stream: BinaryIO, limits: UploadLimits, call: Call) -> Gunzip:
    stream.seek(0)
    return Gunzip(stream, call, _PASSED_OVER * limits.max_bytes)


def _choose(walk: _Walk) -> _Entry:
    first: _Entry | None = None
    for entry in walk.files():
        if entry.name == PIPELINE_NAME:
            return entry
        first = first or entry
    if first is None:
        raise no_file(_KIND)
    return first


class _Section:
    """The bytes of one member."""

    def __init__(self, source: Gunzip, size: int) -> None:
        self._source = source
        self._left = size

    def read(self, size: int) -> bytes:
        piece = self._source.read(min(size, self._left)) if self._left else b""
        if not piece and self._left:
            raise damaged(_KIND, "its end is missing")
        self._left -= len(piece)
        return piece


class _Walk:
    """Goes through the headers of an archive."""

    def __init__(self, source: Gunzip) -> None:
        self._source = source
        self._at = 0
        self._headers = 0
        self._long_name = ""
        self._records: dict[bytes, bytes] = {}

    def files(self) -> Iterator[_Entry]:
        """Yields the regular files."""
        while (block := self._next_block()) is not None:
            header = _header(block, first=self._at == _BLOCK)
            if header.type in {_EXTENDED, _LONG_NAME, _LONG_LINK}:
                self._extend(header)
                continue
            header = self._extended(header)
            if header.type in _REGULAR and not (header.type == b"\0" and header.name.endswith("/")):
                yield _Entry(header.name, header.size, self._at)
            self._skip(header)

    def _next_block(self) -> bytes | None:
        """Reads the next header; None at the end of the archive."""
        self._headers += 1
        if self._headers > MOST_MEMBERS:
            raise too_many_members(_KIND)
        block = self._source.read_exactly(_BLOCK)
        if any(block):
            if len(block) < _BLOCK:
                raise damaged(_KIND, "its end is missing") if self._at else _no_archive()
            self._at += _BLOCK
            return block
        if any(self._source.read_exactly(_BLOCK)):
            raise damaged(_KIND, "it has a gap")
        return None

    def _extend(self, header: _Header) -> None:
        """Takes up what an extension header says about the next entry."""
        if header.size > _LONGEST_EXTENSION:
            raise refusal("The tar.gz archive has a very long header. Pack only the pipeline file.")
        data = self._source.read_exactly(header.padded)[: header.size]
        self._at += header.padded
        if len(data) < header.size:
            raise damaged(_KIND, "its end is missing")
        if header.type == _LONG_NAME:
            self._long_name = _text(data)
        elif header.type == _EXTENDED:
            self._records = dict(_pax_records(data))

    def _extended(self, header: _Header) -> _Header:
        """Applies the extension headers before `header`, and forgets them."""
        name = self._long_name or _text(self._records.get(b"path", b"")) or header.name
        size = _decimal(self._records[b"size"]) if self._records.get(b"size") else header.size
        if header.type in _WITHOUT_DATA:
            size = 0
        elif header.type not in {*_REGULAR, _GLOBAL}:
            raise refusal(
                f"The tar.gz archive has an entry of an unusual type, {quoted(_text(header.type))}. Use `tar czf`."
            )
        self._long_name, self._records = "", {}
        return _Header(name, size, header.type)

    def _skip(self, header: _Header) -> None:
        self._source.skip(header.padded)
        self._at += header.padded


def _header(block: bytes, *, first: bool) -> _Header:
    """Reads a header block."""
    checksum = _number(block[148:156])
    if checksum != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise _no_archive() if first else damaged(_KIND, "a header is wrong")
    name = _text(block[:100])
    prefix = _text(block[345:500])
    if prefix and block[257:263] == b"ustar\0":
        name = f"{prefix}/{name}"
    size = _number(block[124:136])
    if size is None:
        raise damaged(_KIND, "a header is wrong")
    return _Header(name, size, block[156:157])


def _number(field: bytes) -> int | None:
    """Reads a number of a header: octal digits, or, with the top bit set, a binary number."""
    if field[0] == _BINARY:
        return int.from_bytes(field[1:], "big")
    digits = _OCTAL.fullmatch(field)
    return int(digits[1] or b"0", 8) if digits else None


def _pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the `LENGTH KEY=VALUE` lines of an extended header."""
    at = 0
    while at < len(data):
        length = _PAX_LENGTH.match(data, at)
        record = data[length.end() : at + int(length[1])] if length else b""
        key, equals, value = record.partition(b"=")
        if length is None or not equals or not value.endswith(b"\n"):
            raise damaged(_KIND, "an extended header is wrong")
        if key.startswith(b"GNU.sparse."):
            raise refusal("The tar.gz archive holds a sparse file. Pack it without `--sparse`.")
        yield key, value[:-1]
        at += int(length[1])


def _decimal(digits: bytes) -> int:
    if not re.fullmatch(rb"\d{1,18}", digits):
        raise damaged(_KIND, "an extended header is wrong")
    return int(digits)


def _text(name: bytes) -> str:
    """Decodes a name, which ends at the first NUL."""
    return name.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _no_archive() -> InvalidPipelineFileError:
    return refusal(
        "This is gzip, but no tar archive inside. Upload the YAML itself, or an archive made with `tar czf`."
    )
