"""Diagnoses an installation, with remedies, from the client's side (`caller`) and the server's (`server`).

`server` needs the packages of the extra `server`; the others need none. `caller.examine` and its verdicts are public.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopped_as_interrupted() -> Iterator[None]:
    """Makes SIGTERM raise KeyboardInterrupt within the block, as Ctrl-C does. Main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
