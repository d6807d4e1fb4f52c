"""Limits of an upload, and the errors for one that exceeds them, arrives too late, or is not a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kfadapter_grpc.contract import errors
from kfadapter_grpc.spool import SpoolPlace

_MIB = 1 << 20
_MAX_QUOTE = 60
LATE = (
    "The upload did not arrive in time: the deadline passed before all of the file was received and checked. "
    "Nothing was stored. Allow more time and try again."
)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of one upload: `max_bytes` is for the file and for the unpacked one; KFP's own limit is 32 MiB."""

    max_bytes: int = 32 * _MIB
    memory_bytes: int = _MIB // 4
    directory: Path | None = None

    @property
    def place(self) -> SpoolPlace:
        return SpoolPlace(self.memory_bytes, self.directory)


def too_large(
    limit: int, size: int | None = None, *, what: str = "The file", remedy: str = "Make it smaller"
) -> errors.UploadTooLargeError:
    metadata = {"limit_bytes": str(limit)}
    if size is None:
        return errors.UploadTooLargeError(
            f"{what} has more than {limit} bytes, which is the limit. {remedy}.", metadata=metadata
        )
    message = f"{what} has {size} bytes; the limit is {limit}. {remedy}."
    return errors.UploadTooLargeError(message, metadata={**metadata, "size_bytes": str(size)})


def unpacked_too_large(limit: int, size: int | None = None) -> errors.UploadTooLargeError:
    return too_large(limit, size, what="What the archive holds, unpacked,", remedy="Pack only the pipeline file")


def invalid_file(message: str, *, line: int = 0, column: int = 0) -> errors.InvalidPipelineFileError:
    """Returns the error for a file that is not a pipeline; `line` and `column` count from 1, 0 means unknown."""
    if not line:
        return errors.InvalidPipelineFileError(message)
    metadata = {"line": str(line), "column": str(column)}
    return errors.InvalidPipelineFileError(f"Line {line}, column {column}: {message}", metadata=metadata)


def quoted(text: str) -> str:
    """Quotes something from a file: printable, on one line, at most 60 characters."""
    quote = repr(text[:_MAX_QUOTE])
    if len(text) <= _MAX_QUOTE and len(quote) <= _MAX_QUOTE:
        return quote
    return f"{quote[: _MAX_QUOTE - 4]}...{quote[0]}"
