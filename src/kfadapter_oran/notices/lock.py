"""One notifier for each outbox: two would post everything twice."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kfadapter_oran.notices.database import OutboxError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OutboxBusyError(OutboxError):
    """Another notifier works with this outbox."""


@contextmanager
def only_one(outbox: Path) -> Iterator[None]:
    """Is the only one that does so with this outbox, as long as the block lasts; the system ends it with the process.

    Raises:
        OutboxBusyError: Another process is.
        OutboxError: The file beside the outbox that says so cannot be made.
    """
    path = outbox.with_name(f"{outbox.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutboxError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutboxBusyError(f"another notifier works with {outbox}") from None
        yield
    finally:
        os.close(handle)
