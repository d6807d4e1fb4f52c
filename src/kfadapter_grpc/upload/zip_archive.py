"""Looks into a zip archive without unpacking it, and as strictly as needed to see the same file as KFP sees."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

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
    from collections.abc import Iterator, Sequence

    from kfadapter_grpc.upload.limits import UploadLimits
    from kfadapter_grpc.upload.text import Readable

_KIND = "zip"
_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_LONGEST_COMMENT = 0xFFFF
_LARGEST_DIRECTORY = 1 << 20
_ENCRYPTED = 0x1 | 0x40
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError, struct.error)


@contextmanager
def zip_member(stream: BinaryIO, limits: UploadLimits) -> Iterator[Member]:
    """Opens the member that KFP takes.

    Raises:
        InvalidPipelineFileError: The archive is damaged, holds no file, or one that cannot be read.
        UploadTooLargeError: The unpacked file is too large.
    """
    count, end = _check_directory(stream)
    try:
        archive = zipfile.ZipFile(stream)
    except _UNREADABLE as error:
        raise damaged(_KIND, "its directory cannot be read") from error
    with archive:
        info = _choose(archive.infolist(), count)
        check_name(_KIND, info.orig_filename)
        _check_member(info, limits, end)
        try:
            source = archive.open(info)
        except _UNREADABLE as error:
            raise damaged(_KIND, f"{quoted(info.orig_filename)} cannot be read") from error
        with source:
            yield Member(info.orig_filename, info.file_size, _Unpacked(source))


class _Unpacked:
    """Reads a member and tells faults of the archive as what they are."""

    def __init__(self, source: Readable) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except _UNREADABLE as error:
            raise damaged(_KIND, "the file cannot be unpacked") from error


def _check_directory(stream: BinaryIO) -> tuple[int, int]:
    """Reads the record at the archive's end before anything else does; returns the number of members and its place.

    It has to be the last thing in the file and to follow the directory directly: where readers could disagree, KFP
    might see other members than were checked here.
    """
    size = stream.seek(0, os.SEEK_END)
    tail_at = max(0, size - _END.size - _LONGEST_COMMENT - _ZIP64_LOCATOR_BYTES)
    stream.seek(tail_at)
    tail = stream.read()
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise damaged(_KIND, "its end is missing")
    _, disk, first_disk, here, count, directory_bytes, directory_at, comment_bytes = _END.unpack_from(tail, at)
    if tail[max(0, at - _ZIP64_LOCATOR_BYTES) : at].startswith(_ZIP64_LOCATOR):
        raise refusal("The zip archive is in the zip64 format. Pack only the pipeline file, without zip64.")
    end = tail_at + at
    if disk or first_disk or here != count or at + _END.size + comment_bytes != len(tail):
        raise damaged(_KIND, "its last record is wrong")
    if count > MOST_MEMBERS or directory_bytes > _LARGEST_DIRECTORY:
        raise too_many_members(_KIND)
    if directory_at + directory_bytes != end:
        raise damaged(_KIND, "its directory is not where it should be")
    return count, end


def _choose(members: Sequence[zipfile.ZipInfo], count: int) -> zipfile.ZipInfo:
    # `orig_filename` is the name as stored, which is what KFP reads; `filename` may come from an extra field.
    if len(members) != count:
        raise damaged(_KIND, "the number of its members is wrong")
    for info in members:
        if info.orig_filename == PIPELINE_NAME:
            return info
    for info in members:
        if not info.orig_filename.endswith("/"):
            return info
    raise no_file(_KIND)


def _check_member(info: zipfile.ZipInfo, limits: UploadLimits, end: int) -> None:
    name = quoted(info.orig_filename)
    if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
        raise refusal(f"{name} in the zip archive is not a regular file. Pack the file itself, not a link to it.")
    if info.flag_bits & _ENCRYPTED:
        raise refusal(f"{name} in the zip archive is encrypted. Pack it without a password.")
    if info.compress_type not in _METHODS:
        raise refusal(f"{name} in the zip archive is compressed in a way that KFP cannot read. Use `zip` as it is.")
    if info.file_size > limits.max_bytes:
        raise unpacked_too_large(limits.max_bytes, info.file_size)
    if info.header_offset + info.compress_size > end:
        raise damaged(_KIND, f"{name} is cut off")
