"""Keeps bytes in transit: in memory while few, in an unlinked file otherwise."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kfadapter_grpc.contract.errors import InternalError

_REAL_DISK = "/var/tmp"  # noqa: S108 - only unlinked files are made there; unlike /tmp it is not in memory


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """Where bytes are stored.

    Attributes:
        memory_bytes: Up to this size they stay in memory, beyond it on disk.
        directory: The folder for temporary files; None for `TMPDIR`, or else the first of `/var/tmp` and `/tmp` that
            is writable.
    """

    memory_bytes: int = 256 * 1024
    directory: Path | None = None


class Spool:
    """The bytes that have arrived. Once closed, nothing remains of them."""

    def __init__(self, place: SpoolPlace) -> None:
        self.stream: BinaryIO = io.BytesIO()
        self.size = 0
        self._place = place
        self._in_memory = True

    def close(self) -> None:
        """Drops the bytes."""
        with suppress(OSError):  # unwritten bytes are not needed any more
            self.stream.close()

    def write(self, chunk: bytes) -> None:
        """Appends `chunk`. Raises InternalError if the disk is full or broken."""
        self.size += len(chunk)
        with disk_faults():
            if self._in_memory and self.size > self._place.memory_bytes:
                kept = self.stream
                self.stream = tempfile.TemporaryFile(dir=_directory(self._place))  # noqa: SIM115 - closed by `close`
                self._in_memory = False
                kept.seek(0)
                self.stream.write(kept.read())
            self.stream.write(chunk)

    def read_at(self, position: int, size: int) -> bytes:
        """Reads up to `size` bytes from a position on; later writes are appended nevertheless."""
        with disk_faults():
            self.stream.seek(position)
            piece = self.stream.read(size)
            self.stream.seek(0, os.SEEK_END)
        return piece

    def rewind(self) -> None:
        with disk_faults():
            self.stream.seek(0)

    def clear(self) -> None:
        """Drops the bytes so far; more can be written."""
        with disk_faults():
            self.stream.seek(0)
            self.stream.truncate()
        self.size = 0


@contextmanager
def disk_faults() -> Iterator[None]:
    """Converts faults of the disk, full or broken, to InternalError, which shows no paths."""
    try:
        yield
    except OSError as error:
        raise InternalError(
            "The adapter's disk is full or failed while the file passed through it. Nothing was changed in Kubeflow "
            "Pipelines. Try again later; if it persists, contact the operator."
        ) from error


def _directory(place: SpoolPlace) -> Path | None:
    if place.directory is not None:
        return place.directory
    if "TMPDIR" not in os.environ and os.access(_REAL_DISK, os.W_OK | os.X_OK):
        return Path(_REAL_DISK)
    return None
