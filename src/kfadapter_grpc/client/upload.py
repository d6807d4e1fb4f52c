"""The messages of an upload: metadata, then the file in chunks, never the whole file in memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from kfadapter.v1 import pipeline_pb2
from kfadapter_grpc.contract.pipelines import Pipeline, PipelineVersion

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class UploadReceipt:
    """The result of an upload.

    Attributes:
        version: The version with the uploaded bytes.
        version_created: Whether this upload created the version; False if a version with the same bytes existed.
        sha256: Their checksum in lower-case hex, as computed by the adapter.
        duplicate_check_skipped: Whether KFP is too old to detect bytes that were uploaded before.
        not_kept: The arguments of the upload that KFP did not store, by name (`tags`, `code_source_url`).
        request_id: The idempotency key of the upload; it may be retried with it.
    """

    pipeline: Pipeline
    version: PipelineVersion
    pipeline_created: bool
    version_created: bool
    size: int = field(metadata={"wire": "bytes"})
    sha256: str
    duplicate_check_skipped: bool
    not_kept: tuple[str, ...]
    request_id: str = ""


def measure(file: BinaryIO) -> tuple[int, str]:
    """Reads a file to its end; returns its size in bytes and its SHA-256 in hex."""
    digest = hashlib.sha256()
    size = 0
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


class UploadMessages:
    """The stream of one attempt to upload; gRPC iterates over it in another thread.

    Attributes:
        failure: The error while reading; gRPC only reports that the iterator failed.
        request_id: The idempotency key of the upload.
    """

    def __init__(
        self,
        metadata: pipeline_pb2.UploadPipelineMetadata,
        stream: BinaryIO,
        progress: Callable[[int, int | None], None] | None,
    ) -> None:
        """Sends `metadata`, then `stream`; `progress` is called with the number of bytes read and the total."""
        self.failure: Exception | None = None
        self.request_id = metadata.request_id
        self._stream = stream
        self._progress = progress
        self._total = metadata.total_bytes if metadata.HasField("total_bytes") else None
        self._first: pipeline_pb2.UploadPipelineMetadata | None = metadata
        self._sent = 0
        self._stopped = False
        self._reading = threading.Lock()

    def __iter__(self) -> Iterator[pipeline_pb2.UploadPipelineRequest]:
        return self

    def __next__(self) -> pipeline_pb2.UploadPipelineRequest:
        if self._first is not None:
            first, self._first = self._first, None
            return pipeline_pb2.UploadPipelineRequest(metadata=first)
        try:
            chunk = self._read()
        except Exception as error:
            self.failure = error
            raise
        if not chunk:
            raise StopIteration
        return pipeline_pb2.UploadPipelineRequest(chunk=chunk)

    def stop(self) -> None:
        """Ends the stream; nothing more is read from the file, but a read may be in progress."""
        self._stopped = True

    def stop_and_wait(self) -> None:
        """Ends the stream and waits until the file is no longer read, so that it can be closed or read again."""
        with self._reading:
            self._stopped = True

    def _read(self) -> bytes:
        with self._reading:
            chunk = b"" if self._stopped else self._stream.read(CHUNK_BYTES)
        self._sent += len(chunk)
        if chunk and self._progress is not None:
            self._progress(self._sent, self._total)
        return chunk
