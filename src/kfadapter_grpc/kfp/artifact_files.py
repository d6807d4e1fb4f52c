"""Files of artifacts, by their paths inside: what all stores have in common, and files on this machine."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

from kfadapter_grpc.contract.errors import ArtifactChangedError, ArtifactNotReadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES = 512 * 1024
"""How many bytes are read at once."""
MAX_FILES = 100_000
"""How many files a folder may have to be read as a whole: all their names are in memory at once."""
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
_NOT_FOUND = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file of an artifact.

    Attributes:
        path: Its path inside the artifact; empty if it is the artifact itself.
        stamp: Changes with its content; empty if the store has nothing of the kind.
    """

    path: str
    size: int
    stamp: str = ""
    media_type: str = ""
    stored_at: datetime | None = None


class ArtifactSource(Protocol):
    """The location of an artifact; in a message it follows "nothing is stored"."""

    @property
    def name(self) -> str: ...

    def file(self, path: str) -> ArtifactFile | None:
        """Finds a file by its path inside, or the artifact itself if it is one; None if there is no such file."""
        ...

    def files(self) -> list[ArtifactFile]:
        """Lists the files of a folder, sorted by path; empty if it is not a folder."""
        ...

    def chunks(self, file: ArtifactFile, start: int, end: int) -> Iterator[bytes]:
        """Yields the bytes of a file from `start` to before `end`; fails if the file has changed."""
        ...


def check_file_count(count: int) -> None:
    if count > MAX_FILES:
        raise ArtifactNotReadableError(
            f"it is a folder of more than {MAX_FILES:,} files; read them one by one, by path"
        )


# --- files on this machine: those of an embedded KFP, inside its folder ---------------------------------------------


class FolderSource:
    """A file or a folder inside `root`. Links are followed as long as they lead to something inside `root`."""

    def __init__(self, root: Path, rest: str) -> None:
        """Prepares reading the file whose URI is `file://` and `rest`; touches nothing yet."""
        self._root = Path(os.path.realpath(root))
        path = Path(unquote(rest.removeprefix("localhost")))
        if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
            raise ArtifactNotReadableError("its location is malformed: it is no absolute path, or holds '..'")
        if not any(path.is_relative_to(one) for one in (root.absolute(), self._root)):
            raise _outside()
        self._path = path
        self.name = path.name

    def __str__(self) -> str:
        return "in the folder of the embedded Kubeflow Pipelines"

    def file(self, path: str) -> ArtifactFile | None:
        with self._open(self._path / path) as fd:
            if fd is None:
                return None
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise ArtifactNotReadableError("it is no regular file")
            return _file(path, status) if stat.S_ISREG(status.st_mode) else None

    def files(self) -> list[ArtifactFile]:
        """Lists the regular files of the folder, sorted; other files and links that lead outside are omitted."""
        files: list[ArtifactFile] = []
        with self._open(self._path) as fd:
            if fd is None or not stat.S_ISDIR(os.fstat(fd).st_mode):
                return []
            for folder, _, names, folder_fd in os.fwalk(".", dir_fd=fd):
                for name in names:
                    path = os.path.normpath(f"{folder}/{name}")
                    status = self._status(path, name, folder_fd)
                    if status is not None and stat.S_ISREG(status.st_mode):
                        files.append(_file(path, status))
                        check_file_count(len(files))
        return sorted(files, key=lambda one: one.path)

    def chunks(self, file: ArtifactFile, start: int, end: int) -> Iterator[bytes]:
        with self._open(self._path / file.path) as fd:
            if fd is None:
                raise _changed(file)
            while start < end:
                if _stamp(os.fstat(fd)) != file.stamp:
                    raise _changed(file)
                chunk = os.pread(fd, min(PIECE_BYTES, end - start), start)
                if not chunk:
                    raise _changed(file)
                start += len(chunk)
                yield chunk
            if _stamp(os.fstat(fd)) != file.stamp:
                raise _changed(file)

    def _status(self, path: str, name: str, folder: int) -> os.stat_result | None:
        """The kind of an entry of a folder; a link counts as its target, if that is inside the root."""
        try:
            path.encode()
        except UnicodeEncodeError:
            raise ArtifactNotReadableError("the name of one of its files is not UTF-8") from None
        with suppress(OSError, ArtifactNotReadableError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                return status
            with self._open(self._path / path) as fd:
                return None if fd is None else os.fstat(fd)
        return None

    @contextmanager
    def _open(self, path: Path) -> Iterator[int | None]:
        """Opens a path part by part, from the root on, without following links.

        Links are resolved before; a link that is inserted afterwards is an error, so nothing outside is ever opened.
        """
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(self._root):
            raise _outside()
        fd = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            exists = True
            for part in real.relative_to(self._root).parts:
                kind = _kind(part, fd)
                if kind is None:
                    exists = False
                    break
                if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                    raise ArtifactNotReadableError("it is no regular file, or is being exchanged for a link")
                parent, fd = fd, os.open(part, _FLAGS, dir_fd=fd)
                os.close(parent)
            yield fd if exists else None
        except PermissionError:
            raise ArtifactNotReadableError("the adapter may not read its file") from None
        except OSError as error:
            if error.errno in _NOT_FOUND:
                raise ArtifactChangedError("it was deleted while it was read") from None
            if error.errno == errno.ELOOP:
                raise _outside() from None
            raise ArtifactNotReadableError(f"its file cannot be read: {error.strerror}") from None
        finally:
            os.close(fd)


def _kind(name: str, folder: int) -> int | None:
    """The kind of the entry of a folder with that name; None if it does not exist."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except OSError as error:
        if error.errno in _NOT_FOUND:
            return None
        raise


def _file(path: str, status: os.stat_result) -> ArtifactFile:
    stored_at = datetime.fromtimestamp(status.st_mtime_ns // 10**9, timezone.utc)
    return ArtifactFile(path, status.st_size, _stamp(status), stored_at=stored_at)


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _changed(file: ArtifactFile) -> ArtifactChangedError:
    return ArtifactChangedError(f"the file {file.path}".rstrip() + " was changed while it was read; read it again")


def _outside() -> ArtifactNotReadableError:
    return ArtifactNotReadableError("its file is outside of the folder of artifacts that the adapter may read")
