"""Reads the bytes of artifacts: a file, a file of a folder, or a folder as a tar archive.

The artifact's record gives the location, the settings decide whether it may be read. Only the names of a folder's files
and a few chunks are in memory at any time.
"""

from __future__ import annotations

import mimetypes
import tarfile
import threading
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING

from kfadapter_grpc.contract import errors
from kfadapter_grpc.contract.artifacts import MAX_ENTRIES, ArtifactContent, ArtifactEntry
from kfadapter_grpc.kfp.artifact_files import FolderSource
from kfadapter_grpc.kfp.artifact_stores import Location, endpoint_of, split_uri
from kfadapter_grpc.kfp.run_nodes import CLASSIFICATION_METRICS, METRICS, SLICED_METRICS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from kfadapter_grpc.contract.artifacts import ReadArtifactRequest
    from kfadapter_grpc.contract.call import Call
    from kfadapter_grpc.contract.run_outputs import RunArtifact
    from kfadapter_grpc.kfp.artifact_files import ArtifactFile, ArtifactSource
    from kfadapter_grpc.kfp.object_stores import ObjectStores

CHUNK_BYTES = 1024 * 1024
"""The most bytes of one message. What a store sends, half as much or more, is passed on as it is, without a copy."""
MAX_READS = 32
"""How many artifacts are read at once; each takes up to 5 MiB of memory."""
TAR = "application/x-tar"
_ENTRIES_BYTES = 2 * 1024 * 1024
_ENTRY_BYTES = 24
"""The size of an entry in a message, without its path, at most."""
_UNKNOWN = "application/octet-stream"
_METRICS = frozenset({METRICS, CLASSIFICATION_METRICS, SLICED_METRICS})
_IS_METRICS = "it consists of metrics, which Get returns"
_BY_TYPE = {"system.HTML": "text/html", "system.Markdown": "text/markdown"}
READ_ERRORS = (
    errors.ArtifactNotFoundError,
    errors.ArtifactNotReadableError,
    errors.ArtifactStoreUnavailableError,
    errors.ArtifactChangedError,
)
"""Why an artifact is not read to its end."""


class ArtifactBytes:
    """Reads the bytes of artifacts. Safe to use from many threads; constructing it touches no network."""

    def __init__(self, stores: ObjectStores | None = None, folder: Path | None = None) -> None:
        """Reads from these stores and, for an embedded KFP, from this folder; from nothing if both are unset."""
        self._stores = stores
        self._folder = folder
        self._free = threading.BoundedSemaphore(MAX_READS)

    def close(self) -> None:
        if self._stores is not None:
            self._stores.close()

    @contextmanager
    def read(
        self, artifact: RunArtifact, request: ReadArtifactRequest, call: Call, session: str = ""
    ) -> Iterator[Iterator[ArtifactContent | bytes]]:
        """Opens an artifact; yields a description of its content, then its bytes.

        Raises:
            ArtifactNotFoundError: Nothing is stored there.
            ArtifactNotReadableError: It has no stored bytes, or reading it is not allowed.
            ArtifactStoreUnavailableError: The store is unreachable or failed.
            ArtifactChangedError: It was changed while it was read.
            OverloadedError: Too many artifacts are being read.
        """
        if not self._free.acquire(blocking=False):
            raise errors.OverloadedError(f"{MAX_READS} artifacts are being read, which is the limit; try again shortly")
        try:
            with _errors_with_name(artifact):
                source = self._source(artifact, session, call)
                content, parts = _open(source, artifact, request, session)
            with closing(_with_named_errors(parts, artifact)) as safe:
                yield chain([content], safe)
        finally:
            self._free.release()

    def _source(self, artifact: RunArtifact, session: str, call: Call) -> ArtifactSource:
        if not artifact.uri:
            raise errors.ArtifactNotReadableError(_IS_METRICS if artifact.type in _METRICS else "it has no location")
        scheme, rest = split_uri(artifact.uri)
        if scheme == "file" and self._folder is not None:
            return FolderSource(self._folder, rest)
        if scheme == "file":
            raise errors.ArtifactNotReadableError(
                "it is a file of another machine; the adapter reads files of an embedded Kubeflow Pipelines only"
            )
        location = Location.of(artifact.uri)
        if self._stores is None:
            raise errors.ArtifactNotReadableError(
                f"it is in an object store ({scheme}://{location.bucket}), and the adapter is configured for none; "
                "its operator can name the store in a file and set artifact_stores to it"
            )
        return self._stores.open(location, session, call)


@contextmanager
def _errors_with_name(artifact: RunArtifact) -> Iterator[None]:
    try:
        yield
    except READ_ERRORS as error:
        text = error.message
        if isinstance(error, errors.ArtifactNotReadableError):
            text = f"artifact '{artifact.name or artifact.artifact_id}' cannot be read: {text}"
        about = {"run_id": artifact.run_id, "artifact_id": artifact.artifact_id}
        raise type(error)(text, metadata=about, resource_name=artifact.artifact_id) from error


def _with_named_errors(parts: Iterator[bytes], artifact: RunArtifact) -> Generator[bytes, None, None]:
    with _errors_with_name(artifact):
        yield from parts


def _open(
    source: ArtifactSource, artifact: RunArtifact, request: ReadArtifactRequest, session: str
) -> tuple[ArtifactContent, Iterator[bytes]]:
    path = _checked_path(request.path)
    if file := source.file(path):
        if request.offset > file.size:
            raise errors.InvalidFieldError.of(
                "offset", f"is {request.offset}, beyond the end; it has {file.size} bytes"
            )
        end = min(file.size, request.offset + request.length) if request.length else file.size
        return _content(source, artifact, file), _chunks(source.chunks(file, request.offset, end))
    if path:
        alone = "it is a single file" if source.file("") else "read it without a path for a list"
        text = f"artifact '{artifact.name}' has no file '{path}'; {alone}"
        raise errors.ArtifactNotFoundError(text)
    if not (files := source.files()):
        raise _nothing_stored(artifact, source, session)
    if request.offset:
        raise errors.InvalidFieldError.of("offset", "must be 0 for a folder; read one of its files by path")
    entries = tuple(_entries(files))
    content = ArtifactContent(source.name, TAR, None, is_directory=True, entries=entries, entry_count=len(files))
    archive = _archive(source, files)
    return content, _chunks(_first(archive, request.length) if request.length else archive)


def _checked_path(path: str) -> str:
    if path and ("\0" in path or any(part in ("", ".", "..") for part in path.split("/"))):
        text = "must be the path of a file as the entries have it: without '/' at an end, '//', '.' or '..'"
        raise errors.InvalidFieldError.of("path", text)
    return path


def _nothing_stored(artifact: RunArtifact, source: ArtifactSource, session: str) -> errors.AdapterError:
    if artifact.type in _METRICS:
        return errors.ArtifactNotReadableError(_IS_METRICS)
    where = f"nothing is stored {source}, which is where artifact '{artifact.name}' is recorded"
    text = f"{where}: its task wrote nothing, or it was deleted"
    endpoint = endpoint_of(session)
    if endpoint and endpoint not in str(source).lower():
        text += f"; it was recorded for the store {endpoint}"
    return errors.ArtifactNotFoundError(text)


def _content(source: ArtifactSource, artifact: RunArtifact, file: ArtifactFile) -> ArtifactContent:
    name = file.path.rpartition("/")[2] or source.name
    stored = file.media_type.partition(";")[0].strip()
    of_artifact = "" if file.path else _BY_TYPE.get(artifact.type, "")
    guessed = mimetypes.guess_type(name, strict=False)[0] or ""
    kind = of_artifact or (stored if stored not in ("binary/octet-stream", _UNKNOWN) else "") or guessed or _UNKNOWN
    return ArtifactContent(name, kind, file.size, stored_at=file.stored_at)


def _entries(files: Sequence[ArtifactFile]) -> Iterator[ArtifactEntry]:
    remaining = _ENTRIES_BYTES
    for file in files[:MAX_ENTRIES]:
        remaining -= len(file.path.encode()) + _ENTRY_BYTES
        if remaining < 0:
            return
        yield ArtifactEntry(file.path, file.size)


def _archive(source: ArtifactSource, files: Sequence[ArtifactFile]) -> Iterator[bytes]:
    """Yields a tar archive, with names in any script and of any length (PAX)."""
    written = 0
    for file in files:
        header = tarfile.TarInfo(file.path)
        header.size = file.size
        header.mtime = int(file.stored_at.timestamp()) if file.stored_at else 0
        yield (head := header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
        yield from source.chunks(file, 0, file.size)
        yield (pad := bytes(-file.size % tarfile.BLOCKSIZE))
        written += len(head) + file.size + len(pad)
    yield bytes(2 * tarfile.BLOCKSIZE + -(written + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)


def _first(chunks: Iterator[bytes], length: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[:length]
        length -= len(chunk)
        if length <= 0:
            return


def _chunks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    small = b""
    for chunk in chunks:
        if len(small) + len(chunk) < CHUNK_BYTES:
            small += chunk
            continue
        if small:
            yield small
            small = b""
        for at in range(0, len(chunk), CHUNK_BYTES):
            yield chunk[at : at + CHUNK_BYTES]
    if small:
        yield small
