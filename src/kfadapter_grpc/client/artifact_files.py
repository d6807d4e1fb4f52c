"""The target of an artifact's download: a file, or a folder that a tar archive is unpacked into."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from kfadapter_grpc.client.download import replaced, write_all
from kfadapter_grpc.contract.errors import ArtifactChangedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.contract.artifacts import ArtifactContent


@dataclass(frozen=True, slots=True)
class ArtifactReceipt:
    """A finished download of an artifact.

    Attributes:
        path: The file or folder; None for a stream.
        size: Size in bytes; for a folder, of all its files.
        content: The description sent by the adapter.
    """

    path: Path | None
    size: int
    content: ArtifactContent


class Destination:
    """A path that an artifact is saved to.

    Attributes:
        is_folder: Whether the artifact is unpacked into a folder, as far as known.
    """

    def __init__(self, path: str | os.PathLike[str], *, force: bool) -> None:
        """Saves to `path`, or inside it if it is a directory or ends with a separator; `force` replaces files."""
        self.is_folder = False
        self._path = Path(path)
        self._is_parent = self._path.is_dir() or os.fspath(path).endswith(("/", os.sep))
        self._force = force

    def save(self, content: ArtifactContent, chunks: Iterator[bytes]) -> ArtifactReceipt:
        """Saves an artifact; it appears only when complete.

        Raises:
            FileExistsError: The target exists.
            ArtifactChangedError: The received bytes differ from what was announced.
            OSError: Writing fails.
        """
        target = self._path / _name(content) if self._is_parent else self._path
        self.is_folder = content.is_directory and target.suffix != ".tar"
        if not self._force and (target.is_file() or target.is_dir()):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        if self._is_parent:
            self._path.mkdir(parents=True, exist_ok=True)
        if self.is_folder:
            return ArtifactReceipt(target, _save_folder(target, content.entry_count, chunks), content)
        with replaced(target) as file:
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
                path = folder.joinpath(*parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as file:
                    shutil.copyfileobj(cast("BinaryIO", archive.extractfile(member)), file)
                yield member.size
        while stream.read(io.DEFAULT_BUFFER_SIZE):  # padding of the last block
            pass
    except tarfile.TarError as error:
        raise ArtifactChangedError(f"what arrived is no archive: {error}; download it again") from error


def _move_files(source: Path, target: Path) -> None:
    for path in [one for one in source.rglob("*") if one.is_file()]:
        final = target / path.relative_to(source)
        final.parent.mkdir(parents=True, exist_ok=True)
        path.replace(final)


class _Chunks(io.RawIOBase):
    """Chunks as a readable stream."""

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
