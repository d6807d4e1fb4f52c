"""Reads pipeline files from zip and tar.gz archives, by KFP's rules.

Nothing is ever written under a member's name, and all reads are bounded.
"""

from __future__ import annotations

import gzip
import struct
import tarfile
import tempfile
import zipfile
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import IO, BinaryIO

MAX_FILE_SIZE = 32 << 20
_PREFERRED = "pipeline.yaml"
# For all members of a tar together, headers included.
_MAX_TAR_SIZE = 2 * MAX_FILE_SIZE
_MAX_MEMBERS = 10_000
_CHUNK = 1 << 16
# A zip's end record: its signature, four fields of disks and counts, then the directory's size.
_ZIP_END = b"PK\x05\x06"
_ZIP_TAIL = 22 + 65535
_MAX_ZIP_DIRECTORY = 4 << 20


class UnreadableFileError(Exception):
    """The file is too large, of an unknown type, or an archive that is broken or contains no pipeline file."""


def is_yaml_name(name: str) -> bool:
    """Whether KFP treats a file of this name as YAML."""
    return name.endswith((".yaml", ".yml"))


def open_archive(file: BinaryIO) -> BinaryIO | None:
    """Finds the pipeline file in an archive, at its start; None if the file is no archive. Or UnreadableFileError."""
    magic = file.read(3)
    file.seek(0)
    try:
        if magic[:2] == b"PK":
            return _open_zip(file)
        return _open_tar_gz(file) if magic[:2] == b"\x1f\x8b" else None
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, zlib.error, struct.error) as error:
        raise UnreadableFileError(str(error)) from error
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise UnreadableFileError(f"the archive needs something unusual: {error}") from error


def _open_zip(file: BinaryIO) -> BinaryIO:
    _check_zip_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        chosen = next((each for each in members if each.filename == _PREFERRED), members[0] if members else None)
        if chosen is None or not is_yaml_name(chosen.filename):
            raise UnreadableFileError("the zip holds no YAML file")
        if chosen.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise UnreadableFileError("the zip is compressed in a way that KFP does not know")
        with archive.open(chosen) as member:
            return _spooled(member, MAX_FILE_SIZE)


def _check_zip_directory(file: BinaryIO) -> None:
    """Rejects a zip whose directory alone would exhaust the memory, because `zipfile` reads it whole."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _ZIP_TAIL))
    tail = file.read()
    end = tail.rfind(_ZIP_END)
    file.seek(0)
    if end >= 0 and struct.unpack_from("<L", tail, end + 12)[0] > _MAX_ZIP_DIRECTORY:
        raise UnreadableFileError("the zip holds too many members")


def _open_tar_gz(file: BinaryIO) -> BinaryIO:
    with gzip.GzipFile(fileobj=file, mode="rb") as unpacked, _spooled(unpacked, _MAX_TAR_SIZE) as plain:
        chosen = _chosen(plain)
        if chosen is None or not is_yaml_name(chosen.name):
            raise UnreadableFileError("the tar holds no YAML file")
        plain.seek(0)
        with tarfile.open(fileobj=plain, mode="r:") as archive:
            # Links contain no bytes and are not followed.
            content = archive.extractfile(chosen) if chosen.isreg() else None
            if content is None:
                raise UnreadableFileError("the tar's YAML file is no file")
            with content:
                return _spooled(content, MAX_FILE_SIZE)


def _chosen(plain: BinaryIO) -> tarfile.TarInfo | None:
    """The member that KFP uses: the preferred one, else the first."""
    first = None
    with tarfile.open(fileobj=plain, mode="r:") as archive:
        for count, member in enumerate(archive):
            if count >= _MAX_MEMBERS:
                raise UnreadableFileError("the tar holds too many members")
            if member.name == _PREFERRED:
                return member
            first = first or member
    return first


def _spooled(source: IO[bytes] | gzip.GzipFile, limit: int) -> BinaryIO:
    target: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    written = 0
    while chunk := source.read(_CHUNK):
        written += len(chunk)
        if written > limit:
            target.close()
            raise UnreadableFileError(f"the archive unpacks to more than {limit} bytes")
        target.write(chunk)
    target.seek(0)
    return target
