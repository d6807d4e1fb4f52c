"""Opens the file inside a zip or tar.gz archive that KFP uses as the pipeline, without unpacking it to disk.

`zipfile`, `tarfile` and `zlib` do the reading, behind one reader that limits what they unpack. Where readers of
archives disagree, the archive is read as Go's archive/zip and archive/tar read it, which KFP uses, or rejected: KFP
must not see another file than the one that was checked. So a zip's last record is checked before `zipfile` sees it,
and of `tarfile` only the reader of headers is used: `TarFile` combines several extension headers of one entry
differently from Go, takes a damaged header for the archive's end, reads announced sizes into memory, and recurses.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO, TypeVar

from kfadapter_grpc.contract.call import Call
from kfadapter_grpc.contract.errors import InvalidPipelineFileError
from kfadapter_grpc.contract.pipelines import FileKind
from kfadapter_grpc.upload.limits import LATE, UploadLimits, invalid_file, quoted, unpacked_too_large

T = TypeVar("T")

_PIPELINE_NAME = "pipeline.yaml"
"""The name that KFP searches for first; if it is missing, it uses the first file."""
_YAML_ENDINGS = (".yaml", ".yml")
_MAX_MEMBERS = 1_000
_CHUNK = 1 << 16
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError, struct.error)

_NO_END = "its end is missing"

_ZIP = "zip"
_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_MAX_COMMENT = 0xFFFF
_MAX_DIRECTORY = 1 << 20
_ENCRYPTED = 0x1 | 0x40

_TAR = "tar.gz"
_BLOCK = tarfile.BLOCKSIZE
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_MAX_EXTENSION = 1 << 14
_MAX_SKIPPED = 4
"""How many times the largest file may be unpacked on the way to the member."""
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_PAX_LENGTH = re.compile(rb"(\d{1,6}) ")


class Unpacked:
    """Bytes from an archive: limited, only while the client waits for the call, and with domain errors."""

    def __init__(self, kind: str, source: Callable[[int], bytes], max_bytes: int, call: Call) -> None:
        self._kind = kind
        self._source = source
        self._max_bytes = self._remaining = max_bytes
        self._call = call

    def read(self, size: int, /) -> bytes:
        """Reads up to `size` bytes; none at the end. Raises if the archive is damaged or contains more than allowed."""
        self._call.ensure_active(LATE)
        try:
            chunk = self._source(min(size, _CHUNK))
        except _UNREADABLE as error:
            problem = "the file cannot be unpacked" if self._kind == _ZIP else "it cannot be unpacked"
            raise _damaged_error(self._kind, problem) from error
        self._remaining -= len(chunk)
        if self._remaining < 0:
            raise unpacked_too_large(self._max_bytes)
        return chunk

    def read_all(self, size: int) -> bytes:
        chunks: list[bytes] = []
        while size and (chunk := self.read(size)):
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)

    def skip(self, size: int) -> None:
        while size:
            chunk = self.read(size)
            if not chunk:
                raise _damaged_error(self._kind, _NO_END)
            size -= len(chunk)


def open_member(kind: FileKind, stream: BinaryIO, limits: UploadLimits, call: Call) -> tuple[str, Unpacked]:
    """Opens the member that KFP uses, or raises why it cannot be; its name is for messages only, never a path."""
    return (_zip_member if kind is FileKind.ZIP else _tar_member)(stream, limits, call)


def _zip_member(stream: BinaryIO, limits: UploadLimits, call: Call) -> tuple[str, Unpacked]:
    count, end = _checked_zip_end(stream)
    try:
        archive = zipfile.ZipFile(stream)
    except _UNREADABLE as error:
        raise _damaged_error(_ZIP, "its directory cannot be read") from error
    members = archive.infolist()
    if len(members) != count:
        raise _damaged_error(_ZIP, "the number of its members is wrong")
    # `orig_filename` is the name as stored, which is what KFP reads; `filename` may come from an extra field.
    name, info = _choose(
        _ZIP, ((member.orig_filename, member) for member in members if not member.orig_filename.endswith("/"))
    )
    _check_zip_member(info, limits, end)
    try:
        source = archive.open(info)
    except _UNREADABLE as error:
        raise _damaged_error(_ZIP, f"{quoted(name)} cannot be read") from error
    return name, Unpacked(_ZIP, source.read, limits.max_bytes, call)


def _checked_zip_end(stream: BinaryIO) -> tuple[int, int]:
    """Reads the record at a zip's end before anything else does; returns the number of members and its position.

    It has to be the last thing in the file and to follow the directory directly: where readers could disagree, KFP
    might see other members than were checked here.
    """
    size = stream.seek(0, os.SEEK_END)
    tail_at = max(0, size - _END.size - _MAX_COMMENT - _ZIP64_LOCATOR_BYTES)
    stream.seek(tail_at)
    tail = stream.read()
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise _damaged_error(_ZIP, _NO_END)
    _, disk, first_disk, here, count, directory_bytes, directory_at, comment_bytes = _END.unpack_from(tail, at)
    if tail[max(0, at - _ZIP64_LOCATOR_BYTES) : at].startswith(_ZIP64_LOCATOR):
        raise invalid_file("The zip archive is in the zip64 format. Pack only the pipeline file, without zip64.")
    end = tail_at + at
    if disk or first_disk or here != count or at + _END.size + comment_bytes != len(tail):
        raise _damaged_error(_ZIP, "its last record is wrong")
    if count > _MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY:
        raise _too_many_members(_ZIP)
    if directory_at + directory_bytes != end:
        raise _damaged_error(_ZIP, "its directory is not where it should be")
    return count, end


def _check_zip_member(info: zipfile.ZipInfo, limits: UploadLimits, end: int) -> None:
    name = quoted(info.orig_filename)
    if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
        raise invalid_file(f"{name} in the zip archive is not a regular file. Pack the file itself, not a link to it.")
    if info.flag_bits & _ENCRYPTED:
        raise invalid_file(f"{name} in the zip archive is encrypted. Pack it without a password.")
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise invalid_file(
            f"{name} in the zip archive is compressed in a way that KFP cannot read. Use `zip` as it is."
        )
    if info.file_size > limits.max_bytes:
        raise unpacked_too_large(limits.max_bytes, info.file_size)
    if info.header_offset + info.compress_size > end:
        raise _damaged_error(_ZIP, f"{name} is cut off")


def _tar_member(stream: BinaryIO, limits: UploadLimits, call: Call) -> tuple[str, Unpacked]:
    def unpacked() -> Unpacked:
        stream.seek(0)
        return Unpacked(_TAR, _gunzip(stream), _MAX_SKIPPED * limits.max_bytes, call)

    name, (at, size) = _choose(_TAR, _tar_files(unpacked()))
    if size > limits.max_bytes:
        raise unpacked_too_large(limits.max_bytes, size)
    again = unpacked()
    again.skip(at)
    left = size

    def section(most: int) -> bytes:
        nonlocal left
        chunk = again.read(min(most, left)) if left else b""
        if left and not chunk:
            raise _damaged_error(_TAR, _NO_END)
        left -= len(chunk)
        return chunk

    return name, Unpacked(_TAR, section, limits.max_bytes, call)


def _gunzip(stream: BinaryIO) -> Callable[[int], bytes]:
    inflate = zlib.decompressobj(_GZIP_WINDOW)

    def read(size: int) -> bytes:
        while not inflate.eof:
            packed = inflate.unconsumed_tail or stream.read(_CHUNK)
            chunk = inflate.decompress(packed, size)
            if chunk:
                return chunk
            if not packed and not inflate.eof:
                raise _damaged_error(_TAR, _NO_END)
        if inflate.unused_data or stream.read(1):
            raise invalid_file("The gzip file has data after its end. Pack it as one stream, with `tar czf`.")
        return b""

    return read


def _tar_files(source: Unpacked) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields the regular files: name, position of the bytes in the unpacked archive, and their number."""
    at, long_name, records = 0, "", dict[bytes, bytes]()
    for _ in range(_MAX_MEMBERS):
        block = source.read_all(_BLOCK)
        if not any(block):
            if any(source.read_all(_BLOCK)):
                raise _damaged_error(_TAR, "it has a gap")
            return
        header = _tar_header(block, first=not at)
        at += _BLOCK
        if header.type in _EXTENSIONS:
            data = _extension(source, header.size)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                long_name = _text(data)
            elif header.type == tarfile.XHDTYPE:
                records = dict(_pax_records(data))
        else:
            _extend(header, long_name, records)
            if header.type in _REGULAR and not (header.type == tarfile.AREGTYPE and header.name.endswith("/")):
                yield header.name, (at, header.size)
            source.skip(_padded(header.size))
            long_name, records = "", {}
        at += _padded(header.size)
    raise _too_many_members(_TAR)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _tar_header(block: bytes, *, first: bool) -> tarfile.TarInfo:
    """Reads a header; its name, type and size are as Go reads them."""
    if len(block) < _BLOCK:
        raise _not_tar_error() if first else _damaged_error(_TAR, _NO_END)
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise (_not_tar_error() if first else _damaged_error(_TAR, "a header is wrong")) from error
    if header.size < 0:
        raise _damaged_error(_TAR, "a header is wrong")
    header.name, header.type = _text(block[:100]), block[156:157]
    prefix = _text(block[345:500])
    if prefix and block[257:263] == tarfile.POSIX_MAGIC[:6]:
        header.name = f"{prefix}/{header.name}"
    return header


def _extension(source: Unpacked, size: int) -> bytes:
    if size > _MAX_EXTENSION:
        raise invalid_file("The tar.gz archive has a very long header. Pack only the pipeline file.")
    data = source.read_all(_padded(size))[:size]
    if len(data) < size:
        raise _damaged_error(_TAR, _NO_END)
    return data


def _extend(header: tarfile.TarInfo, long_name: str, records: Mapping[bytes, bytes]) -> None:
    """Applies extension headers as Go does: a GNU long name wins, and of several extended headers the last."""
    header.name = long_name or _text(records.get(b"path", b"")) or header.name
    if digits := records.get(b"size"):
        if not re.fullmatch(rb"\d{1,18}", digits):
            raise _damaged_error(_TAR, "an extended header is wrong")
        header.size = int(digits)
    if header.type in _WITHOUT_DATA:
        header.size = 0
    elif header.type not in {*_REGULAR, tarfile.XGLTYPE}:
        kind = quoted(_text(header.type))
        raise invalid_file(f"The tar.gz archive has an entry of an unusual type, {kind}. Use `tar czf`.")


def _pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the `LENGTH KEY=VALUE` lines of an extended header."""
    at = 0
    while at < len(data):
        length = _PAX_LENGTH.match(data, at)
        record = data[length.end() : at + int(length[1])] if length else b""
        key, equals, value = record.partition(b"=")
        if length is None or not equals or not value.endswith(b"\n"):
            raise _damaged_error(_TAR, "an extended header is wrong")
        if key.startswith(b"GNU.sparse."):
            raise invalid_file("The tar.gz archive holds a sparse file. Pack it without `--sparse`.")
        yield key, value[:-1]
        at += int(length[1])


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _choose(kind: str, files: Iterable[tuple[str, T]]) -> tuple[str, T]:
    """Chooses the file that KFP uses; one whose name KFP would silently reject is rejected."""
    first: tuple[str, T] | None = None
    for file in files:
        if file[0] == _PIPELINE_NAME:
            return file
        first = first or file
    if first is None:
        raise invalid_file(f"The {kind} archive holds no file. Pack the compiled pipeline as `{_PIPELINE_NAME}`.")
    if not first[0].endswith(_YAML_ENDINGS):
        raise invalid_file(
            f"The first file of the {kind} archive is {quoted(first[0])}, but KFP takes only names that end with .yaml "
            f"or .yml out of an archive. Pack the compiled pipeline as `{_PIPELINE_NAME}`."
        )
    return first


def _damaged_error(kind: str, what: str) -> InvalidPipelineFileError:
    return invalid_file(f"The {kind} archive is damaged: {what}. Pack it anew and upload it again.")


def _too_many_members(kind: str) -> InvalidPipelineFileError:
    return invalid_file(f"The {kind} archive has more than {_MAX_MEMBERS} members. Pack only the pipeline file.")


def _not_tar_error() -> InvalidPipelineFileError:
    return invalid_file(
        "This is gzip, but no tar archive inside. Upload the YAML itself, or an archive made with `tar czf`."
    )
