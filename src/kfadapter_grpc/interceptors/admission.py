"""Limits how many calls are served at once, and rejects new ones when the server is about to stop."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kfadapter_grpc.contract.errors import DrainingError, OverloadedError
from kfadapter_grpc.interceptors.chain import Rpc
from kfadapter_grpc.methods import CallKind

_SETTINGS = {
    CallKind.UNARY: "max_unary_calls",
    CallKind.UPLOAD: "max_uploads",
    CallKind.STREAM: "max_streams",
}
SHARE = 4
"""One of this many parts of the slots is denied to a caller that holds one."""


class Admission:
    """The layer that admits a call or rejects it. Never waits for a slot.

    A quarter of the slots, or as many as others hold now if that is more, is denied to a caller that holds a quarter,
    so that a single one cannot block the others. A caller is identified by its token or certificate, and otherwise
    by its connection.
    """

    def __init__(self, limits: Mapping[CallKind, int]) -> None:
        """Limits how many calls of each kind are served at once."""
        self.limits = limits
        self._changed = threading.Condition()
        self._inflight: Counter[CallKind] = Counter()
        self._own: Counter[tuple[CallKind, str]] = Counter()
        self._draining = False

    @contextmanager
    def __call__(self, rpc: Rpc) -> Iterator[None]:
        kind, caller = rpc.method.kind, rpc.call.caller.name if rpc.call.caller else rpc.peer
        self._enter(kind, caller)
        try:
            yield
        finally:
            with self._changed:
                self._inflight[kind] -= 1
                self._own[kind, caller] -= 1
                if not self._own[kind, caller]:
                    del self._own[kind, caller]
                self._changed.notify_all()

    def inflight(self) -> Mapping[CallKind, int]:
        with self._changed:
            return dict(self._inflight)

    def count(self) -> int:
        return sum(self.inflight().values())

    def drain(self) -> None:
        with self._changed:
            self._draining = True

    def wait_idle(self, seconds: float) -> bool:
        """Waits until no call is running, at most `seconds`; returns whether that was reached."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._inflight.total(), timeout=seconds)

    def _enter(self, kind: CallKind, caller: str) -> None:
        name, limit = _SETTINGS[kind], self.limits[kind]
        with self._changed:
            if self._draining:
                raise DrainingError(
                    "this adapter is shutting down; try again; another replica, or the restarted one, responds"
                )
            inflight, own, share = self._inflight[kind], self._own[kind, caller], limit // SHARE
            if inflight >= limit:
                raise _overloaded(f"the adapter serves {limit} calls of this kind already ({name})", name, limit)
            if own >= share and limit - inflight <= max(share, inflight - own):
                text = (
                    f"you have {own} calls of this kind open, and the {limit - inflight} free slots of {limit} ({name})"
                )
                raise _overloaded(f"{text} are reserved for other callers", name, limit)
            self._inflight[kind] += 1
            self._own[kind, caller] += 1


def _overloaded(text: str, bound: str, limit: int) -> OverloadedError:
    return OverloadedError(f"{text}; wait a moment and try again", metadata={"bound": bound, "limit": str(limit)})
