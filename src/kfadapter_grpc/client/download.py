"""Where downloads go: files, streams and folders; what arrives is compared with what was announced."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from grpc import StatusCode

from kfadapter.v1 import pipeline_pb2
from kfadapter_grpc.client.errors import CallFailedError
from kfadapter_grpc.contract.artifacts import ArtifactContent
from kfadapter_grpc.contract.errors import ArtifactChangedError, ChecksumMismatchError


@dataclass(frozen=True, slots=True)
class DownloadReceipt:
    """A finished download; its checksum, in lower-case hex, is the adapter's."""

    size: int
    sha256: str


class Receiver:
    """Receives one download; once it has `started` to write bytes, it cannot be restarted."""

    def __init__(self, target: BinaryIO, progress: Callable[[int, int | None], None] | None) -> None:
        """Writes to `target`; `progress` is called with the bytes so far and the total."""
        self.started = False
        self._target = target
        self._progress = progress
        self._announced: DownloadReceipt | None = None
        self._digest, self._size = hashlib.sha256(), 0

    def receive(self, message: pipeline_pb2.DownloadPipelineResponse) -> None:
        """Takes the announcement, or writes the bytes of a later message."""
        if message.WhichOneof("payload") == "info":
            self._announced = DownloadReceipt(message.info.total_bytes, message.info.sha256)
            return
        announced = self._expected()
        self.started = True
        self._digest.update(message.chunk)
        self._size += write_all(self._target, message.chunk)
        if self._progress is not None:
            self._progress(self._size, announced.size)

    def receipt(self) -> DownloadReceipt:
        receipt = DownloadReceipt(self._size, self._digest.hexdigest())
        _compare(receipt, self._expected())
        return receipt

    def _expected(self) -> DownloadReceipt:
        if self._announced is None:
            fault = "the response does not begin with size and checksum"
            raise CallFailedError(fault, status=StatusCode.UNKNOWN, request_id="", metadata={})
        return self._announced


def write_all(target: BinaryIO, chunk: bytes) -> int:
    """Writes a whole chunk, even if an unbuffered stream accepts only parts; returns its size."""
    rest = memoryview(chunk)
    while rest:
        taken = target.write(rest)
        if not taken:
            raise BlockingIOError(errno.EAGAIN, "the stream takes no more bytes now")
        rest = rest[taken:]
    return len(chunk)


def _compare(arrived: DownloadReceipt, announced: DownloadReceipt) -> None:
    if arrived == announced:
        return
    raise ChecksumMismatchError(
        f"what arrived is not what was announced: {arrived.size} bytes with the SHA-256 {arrived.sha256} instead of "
        f"{announced.size} with {announced.sha256}; download it again",
        metadata={
            "expected_sha256": announced.sha256,
            "actual_sha256": arrived.sha256,
            "total_bytes": str(announced.size),
            "received_bytes": str(arrived.size),
        },
    )


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yields a stream to write a file to, which replaces `path` only if the block succeeds.

    Until then a file next to it holds the bytes; it is removed if the block fails or is interrupted. An existing file
    keeps its permissions, and links to it stay valid. A device or a pipe is written to directly.
    """
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        with final.open("wb") as stream:
            yield stream
        return
    beside = final.with_name(f".{final.name[:100]}.{secrets.token_hex(6)}")
    try:
        with _opened(beside, path) as stream:
            yield stream
        if final.exists():
            shutil.copymode(final, beside)
        beside.replace(final)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _opened(beside: Path, path: Path) -> BinaryIO:
    try:
        return beside.open("xb")
    except OSError as error:
        error.filename = str(path)  # the path that the caller passed
        raise


# --- artifacts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ArtifactReceipt:
    """A finished download of an artifact.

    Attributes:
        path: The file or folder; None for a stream.
        size: Size in bytes; for a folder, of all its files.
    """

    path: Path | None
    size: int
    content: ArtifactContent


class Destination:
    """A path that an artifact is saved to; `is_folder` if it is unpacked there, as far as known."""

    def __init__(self, path: str | os.PathLike[str], *, force: bool) -> None:
        """Saves to `path`, or inside it if it is a directory or ends with a separator; `force` replaces files."""
        self.is_folder = False
        self._path = Path(path)
        self._is_parent = self._path.is_dir() or os.fspath(path).endswith(("/", os.sep))
        self._force = force

    def save(self, content: ArtifactContent, chunks: Iterator[bytes]) -> ArtifactReceipt:
        """Saves an artifact; it appears only when complete."""
        target = self._path / _name(content) if self._is_parent else self._path
        self.is_folder = content.is_directory and target.suffix != ".tar"
        if not self._force and (target.is_file() or target.is_dir()):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        if self._is_parent:
            self._path.mkdir(parents=True, exist_ok=True)
        if self.is_folder:
            return ArtifactReceipt(target, _save_folder(target, content.entry_count, chunks), content)
        with atomic_write(target) as file:
            size = sum(write_all(file, chunk) for chunk in chunks)
        return ArtifactReceipt(target, size, content)


def _name(content: ArtifactContent) -> str:
    """The artifact's own name; rejected if it is a path to elsewhere."""
    name = content.name.replace("\\", "/").rpartition("/")[2]
    return "artifact" if name in {"", ".", ".."} or "\0" in name else name


def _save_folder(target: Path, count: int, chunks: Iterator[bytes]) -> int:
    """Unpacks an archive next to a folder, then moves the files into it; returns their total size."""
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}")
    beside.mkdir()
    try:
        sizes = list(_unpacked(chunks, beside))
        if len(sizes) != count:
            raise ArtifactChangedError(f"{len(sizes)} files arrived instead of {count}; download it again")
        if target.exists():
            _move_files(beside, target)
        else:
            beside.replace(target)
        return sum(sizes)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _unpacked(chunks: Iterator[bytes], folder: Path) -> Iterator[int]:
    """Unpacks the files of a tar archive, and yields their sizes; rejects members that are not files or lie outside."""
    stream = io.BufferedReader(cast("io.RawIOBase", _Chunks(chunks)))
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                parts = PurePosixPath(member.name).parts
                if member.isdir():
                    continue
                if not member.isfile() or not parts or ".." in parts or parts[0] == "/":
                    raise ArtifactChangedError(f"the archive holds '{member.name[:200]}', which is no file of a folder")
                with _new_file(folder, parts) as file:
                    shutil.copyfileobj(cast("BinaryIO", archive.extractfile(member)), file)
                yield member.size
        while stream.read(io.DEFAULT_BUFFER_SIZE):  # padding of the last block
            pass
    except tarfile.TarError as error:
        raise ArtifactChangedError(f"what arrived is no archive: {error}; download it again") from error


def _new_file(folder: Path, parts: tuple[str, ...]) -> BinaryIO:
    """Opens a new file in a folder; fails if an object store has names that a file system cannot have together."""
    path = folder.joinpath(*parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
    except (FileExistsError, NotADirectoryError) as error:
        text = "another file has its name, or that of its folder; a name that ends with .tar saves all as an archive"
        raise NotADirectoryError(errno.ENOTDIR, text, "/".join(parts)) from error


def _move_files(source: Path, target: Path) -> None:
    for path in [entry for entry in source.rglob("*") if entry.is_file()]:
        final = target / path.relative_to(source)
        final.parent.mkdir(parents=True, exist_ok=True)
        path.replace(final)


class _Chunks(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next((chunk for chunk in self._chunks if chunk), b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
