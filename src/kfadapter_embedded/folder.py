"""The data folder of an embedded KFP, held by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FolderError(Exception):
    """The folder cannot be used; the text says why, and names it."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Makes the folder if needed, and holds it against other processes for as long as the block runs.

    The lock goes with the process, however it ends.

    Raises:
        FolderError: another process holds the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise FolderError(f"cannot write to the data folder {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise FolderError(f"the data folder {folder} is in use by process {holder}") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
