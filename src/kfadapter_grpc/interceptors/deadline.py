"""Ends streaming answers whose caller set no deadline and does not read."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kfadapter_grpc.interceptors.request_id import caller_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kfadapter_grpc.interceptors.chain import Rpc


@contextmanager
def end_stalled(rpc: Rpc) -> Iterator[None]:
    """The layer that holds streaming answers to the default deadline.

    gRPC knows no timeout for sending a message: without this, a caller without deadline who does not read would hold
    a thread for as long as the connection lives. All else that takes time asks `Call.remaining`.

    Answers that may go on for ever are left alone: who does not read them holds a thread of those for streams, and what
    waits for him does not grow.
    """
    if not rpc.method.server_streaming or rpc.method.endless or caller_seconds(rpc.context) is not None:
        yield
        return
    watchdog = _Watchdog(rpc)
    try:
        yield
    finally:
        watchdog.stop()


class _Watchdog:
    """Cancels a call when its deadline, which may be extended meanwhile, has passed."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._over = threading.Event()
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while (seconds := self._rpc.call.remaining()) > 0:
            if self._over.wait(seconds):
                return
        self._rpc.context.cancel()
