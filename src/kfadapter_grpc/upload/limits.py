"""What an upload may cost, and the errors that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.errors import CallCancelledError, KfpTimeoutError, UploadTooLargeError
from kfadapter_grpc.spool import SpoolPlace

if TYPE_CHECKING:
    from pathlib import Path

    from kfadapter_grpc.contract.call import Call

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bounds of one upload.

    Attributes:
        max_bytes: The largest file, and the largest unpacked pipeline in an archive. KFP's own limit is 32 MiB.
        memory_bytes: Up to this size a file is kept in memory, a larger one on disk.
        directory: Where the temporary files live; None for `TMPDIR`, or else the first of `/var/tmp` and `/tmp` that
            can be written to.
    """

    max_bytes: int = 32 * _MIB
    memory_bytes: int = _MIB // 4
    directory: Path | None = None

    @property
    def place(self) -> SpoolPlace:
        """Where the bytes are kept."""
        return SpoolPlace(self.memory_bytes, self.directory)


def too_large(limit: int, size: int | None = None) -> UploadTooLargeError:
    """Makes the error for a file of more than `limit` bytes; `size` is how many it has, where that is known."""
    return _too_large("The file", "Make it smaller", limit, size)


def unpacked_too_large(limit: int, size: int | None = None) -> UploadTooLargeError:
    """Makes the error for an archive whose unpacked contents have more than `limit` bytes."""
    return _too_large("What the archive holds, unpacked,", "Pack only the pipeline file", limit, size)


def _too_large(what: str, remedy: str, limit: int, size: int | None) -> UploadTooLargeError:
    if size is None:
        message = f"{what} has more than {limit} bytes, which is the limit. {remedy}."
        return UploadTooLargeError(message, metadata={"limit_bytes": str(limit)})
    message = f"{what} has {size} bytes; the limit is {limit}. {remedy}."
    return UploadTooLargeError(message, metadata={"limit_bytes": str(limit), "size_bytes": str(size)})


def ensure_wanted(call: Call) -> None:
    """Returns if the client still waits for the call.

    Raises:
        CallCancelledError: The client cancelled.
        KfpTimeoutError: The deadline has passed.
    """
    if call.cancelled:
        raise call_cancelled()
    if call.remaining() <= 0:
        raise arrived_too_late()


def call_cancelled() -> CallCancelledError:
    """Makes the error for a client that cancelled."""
    return CallCancelledError("The client cancelled the call before the upload was complete.")


def arrived_too_late() -> KfpTimeoutError:
    """Makes the error for an upload that used up its time before KFP was asked anything."""
    return KfpTimeoutError(
        "The upload did not arrive in time: the deadline passed before all of the file was received and checked. "
        "Nothing was stored. Allow more time and try again."
    )
