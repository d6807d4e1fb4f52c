"""A disk that can be filled up to the last byte: a small tmpfs that only one thread, and what that starts, can see."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import KIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE_BYTES = 4 * KIB
"""What a tmpfs gives out at a time."""
_CLONE_NEWNS = 0x20000  # unshare(2)
_MOUNT = shutil.which("mount") or ""
_NOT_HERE = "no small disk can be mounted here"


class NoSmallDiskError(Exception):
    """This machine, or who uses it, may not mount; the text says why."""


class SmallDisk:
    """A file system of a set size, and a file that takes the room which is to be missing.

    Attributes:
        folder: Where it is.
    """

    def __init__(self, folder: Path, size: int) -> None:
        """Mounts it, for this thread and what it will start; all is gone with them.

        Args:
            folder: An empty folder.
            size: How much it holds, in bytes.

        Raises:
            NoSmallDiskError: That is refused.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) != 0:
            raise NoSmallDiskError(f"{_NOT_HERE}: {os.strerror(ctypes.get_errno())}")
        _mount("--make-rprivate", "/")
        _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
        self.folder = folder
        self._ballast = folder / "ballast"

    @contextmanager
    def only(self, pages: int) -> Iterator[None]:
        """Leaves room for so many pages while the block lasts."""
        free = os.statvfs(self.folder)
        size = free.f_bavail * free.f_frsize - pages * PAGE_BYTES
        with self._ballast.open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, size)
        try:
            yield
        finally:
            self._ballast.unlink()


def _mount(*arguments: str) -> None:
    if not _MOUNT:
        raise NoSmallDiskError(f"{_NOT_HERE}: there is no mount command")
    done = subprocess.run([_MOUNT, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise NoSmallDiskError(f"{_NOT_HERE}: {done.stderr.strip()}")
