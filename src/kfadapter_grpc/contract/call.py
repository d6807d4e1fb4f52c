"""One call: its deadline, its cancellation, the caller's credentials for KFP, and its usage."""

from __future__ import annotations

import enum
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kfadapter_grpc.contract.errors import CallCancelledError, KfpTimeoutError, PermissionDeniedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kfadapter_grpc.contract.identity import Identity


class Role(enum.Enum):
    """The permissions of a caller."""

    READER = "reader"
    """Calls without side effects."""
    WRITER = "writer"
    """All calls but those that delete; without access rules, all calls."""
    ADMIN = "admin"

    def allows(self, needed: Role) -> bool:
        return _RANKS[self] >= _RANKS[needed]

    @property
    def holder(self) -> str:
        """A caller with this role, as text: `a reader`."""
        return f"{'an' if self is Role.ADMIN else 'a'} {self.value}"


_RANKS = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Grant:
    """A role in the namespaces that match a pattern; `*` matches all, also the empty one of a single-user KFP."""

    namespace: str
    role: Role


ANYTHING = (Grant("*", Role.WRITER),)
"""The grants of callers that are not authenticated."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller, and what it may do."""

    identity: Identity
    grants: tuple[Grant, ...] = ()

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def role(self) -> Role | None:
        return _highest(grant.role for grant in self.grants)

    def limits(self, needed: Role) -> Limits | None:
        """Returns the limits of a call that needs a role; None if the caller's role is the same everywhere."""
        everywhere = role_in(None, self.grants)
        return None if everywhere and everywhere is self.role else Limits(self.name, self.grants, needed)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call may do, where that depends on the namespace; None is one that KFP does not know.

    Where it changes something, it needs the role `needed`.
    """

    name: str
    grants: tuple[Grant, ...]
    needed: Role

    def can_see(self, namespace: str | None) -> bool:
        """Whether the caller may know what is in a namespace."""
        return role_in(namespace, self.grants) is not None

    def ensure(self, namespace: str | None) -> None:
        """Raises PermissionDeniedError unless the call may change something in a namespace."""
        role = role_in(namespace, self.grants)
        if role is not None and role.allows(self.needed):
            return
        scope = f"namespace '{namespace}'" if namespace else "what is in no namespace"
        status = f"is {role.holder}" if role else "has no role"
        raise PermissionDeniedError(
            f"'{self.name}' {status} in {scope}, and this call needs {self.needed.holder} there; contact the adapter's "
            "operator for that role",
            metadata={
                "caller": self.name,
                "role": role.value if role else "none",
                "needed": self.needed.value,
                "namespace": namespace or "",
            },
        )


def role_in(namespace: str | None, grants: Iterable[Grant]) -> Role | None:
    """Returns the highest role in a namespace; in one that is unknown, None, that in all namespaces.

    Without a role, the caller may not even know what is in it.
    """
    return _highest(
        grant.role
        for grant in grants
        if grant.namespace in {"*", namespace}
        or (namespace is not None and "*" in grant.namespace and fnmatchcase(namespace, grant.namespace))
    )


def _highest(roles: Iterable[Role]) -> Role | None:
    highest = None
    for role in roles:
        if highest is None or role.allows(highest):
            highest = role
    return highest


@dataclass(frozen=True, slots=True)
class Authorization:
    """As whom KFP is called: with the caller's own credentials, or with the adapter's, in the caller's name.

    Attributes:
        value: The `authorization` that the caller sent (`Bearer TOKEN`), a secret; empty: the adapter's own is used.
        user: The caller's name for KFP, if the adapter impersonates its callers.
    """

    value: str = field(default="", repr=False)
    user: str = ""


class Usage:
    """The usage of a call so far. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kfp_requests = 0
        self.kfp_seconds = 0.0
        self.received_bytes = 0
        self.sent_bytes = 0

    def add_kfp(self, seconds: float) -> None:
        with self._lock:
            self.kfp_requests += 1
            self.kfp_seconds += seconds

    def add_received(self, size: int) -> None:
        with self._lock:
            self.received_bytes += size

    def add_sent(self, size: int) -> None:
        with self._lock:
            self.sent_bytes += size


class Call:
    """One call of a caller, as far as the work done for it needs to know.

    Safe to use from several threads.

    Attributes:
        caller: The caller; None if callers are not authenticated.
        limits: What the call may do, if that depends on the namespace; None: it may be about everything.
        authorization: As whom KFP is called; None: as the adapter.
        trace: Its trace, for `kfadapter_grpc.telemetry.spans`; None if it is not traced.
    """

    def __init__(
        self,
        request_id: str,
        seconds: float,
        authorization: Authorization | None = None,
        usage: Usage | None = None,
        caller: Caller | None = None,
        *,
        limits: Limits | None = None,
        trace: object | None = None,
    ) -> None:
        """Starts the call's clock; it may take `seconds`. Its usage is added to `usage`, or to its own."""
        self.request_id = request_id
        self.caller = caller
        self.limits = limits
        self.authorization = authorization
        self.usage = usage or Usage()
        self.trace = trace
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._cancelled = False
        self._on_cancel: dict[int, Callable[[], object]] = {}
        self._next_key = 0

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def remaining(self) -> float:
        """The remaining seconds; negative when the deadline has passed."""
        return self._deadline - time.monotonic()

    def ensure_active(self, late: str) -> None:
        """Raises CallCancelledError if the client cancelled, or KfpTimeoutError with this text after the deadline."""
        if self.cancelled:
            raise CallCancelledError("the client cancelled the call")
        if self.remaining() <= 0:
            raise KfpTimeoutError(late)

    def pause(self, seconds: float) -> None:
        """Waits. Raises CallCancelledError if the client cancels meanwhile."""
        if self.cancelled_within(seconds):
            raise CallCancelledError("the client cancelled the call")

    def detached(self, seconds: float) -> Call:
        """Makes a call for work that must be done although this one may end: with the same id, for the same caller.

        Its usage is added to that of this call.
        """
        return Call(
            self.request_id, seconds, self.authorization, self.usage, self.caller, limits=self.limits, trace=self.trace
        )

    @contextmanager
    def within(self, seconds: float) -> Iterator[Call]:
        """A part of the call that may take `seconds` at most, and ends with the call."""
        part = self.detached(min(seconds, self.remaining()))
        forget = self.on_cancel(part.cancel)
        try:
            yield part
        finally:
            forget()

    @contextmanager
    def with_grace(self, seconds: float) -> Iterator[Call]:
        """A part of the call that continues for `seconds` after the call was cancelled."""
        part = self.detached(self.remaining())
        timer = threading.Timer(seconds, part.cancel)
        timer.daemon = True
        forget = self.on_cancel(timer.start)
        try:
            yield part
        finally:
            forget()
            timer.cancel()

    def extend(self, seconds: float) -> None:
        """Extends the deadline to at least `seconds` from now."""
        self._deadline = max(self._deadline, time.monotonic() + seconds)

    def cancel(self) -> None:
        """Signals to all work for this call that it has finished. No-op if repeated, or at the end."""
        with self._lock:
            self._cancelled = True
            callbacks, self._on_cancel = list(self._on_cancel.values()), {}
        for callback in callbacks:
            callback()

    def cancelled_within(self, seconds: float) -> bool:
        """Waits up to `seconds` for the call to be cancelled; returns whether it is."""
        cancelled = threading.Event()
        forget = self.on_cancel(cancelled.set)
        try:
            return cancelled.wait(seconds)
        finally:
            forget()

    def on_cancel(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Calls `callback` when the call is cancelled, at once if it is; returns a function that removes it."""
        with self._lock:
            key = self._next_key
            self._next_key += 1
            if not self._cancelled:
                self._on_cancel[key] = callback
                return lambda: self._forget(key)
        callback()
        return lambda: None

    def _forget(self, key: int) -> None:
        with self._lock:
            self._on_cancel.pop(key, None)
