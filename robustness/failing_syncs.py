"""fsync that fails at the n-th time: system calls of processes that a thread starts are decided on here (seccomp)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import select
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

_CALLS = {"x86_64": (0xC000003E, 317, 74, 75), "aarch64": (0xC00000B7, 277, 82, 83)}
"""By machine: how audit(7) names it, and the numbers of seccomp, fsync and fdatasync."""
_NO_NEW_PRIVILEGES = 38  # prctl(2)
_SET_FILTER, _NEW_LISTENER = 1, 8
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # classic BPF
_NUMBER_AT, _MACHINE_AT = 0, 4  # struct seccomp_data
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # ioctl(2), with what they pass
_ASKED_BYTES, _ANSWER, _GO_ON = 80, "QqiI", 1
_POLL_MILLISECONDS = 50


class NoFilterError(Exception):
    """System calls cannot be decided on here; the text says why."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


class Syncs:
    """Every fsync and fdatasync of the thread that enters this, and of processes that it starts from then on, for good.

    Attributes:
        failed: How many have failed.
    """

    def __init__(self) -> None:
        """Installs the filter.

        Raises:
            NoFilterError: That is refused, or the machine is of another kind.
        """
        self.failed = 0
        self._lock = threading.Lock()
        self._good: int | None = None
        self._stopped = threading.Event()
        self._listener = _listener()
        self._thread = threading.Thread(target=self._decide, name="syncs")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        os.close(self._listener)

    @contextmanager
    def failing_after(self, good: int) -> Iterator[None]:
        """Has all but the first so many fail with EIO while the block lasts."""
        with self._lock:
            self._good = good
        try:
            yield
        finally:
            with self._lock:
                self._good = None

    def _decide(self) -> None:
        waiting = select.poll()
        waiting.register(self._listener, select.POLLIN)
        while not self._stopped.is_set():
            if not any(events & select.POLLIN for _, events in waiting.poll(_POLL_MILLISECONDS)):
                continue
            asked = bytearray(_ASKED_BYTES)
            with suppress(OSError):  # who asked has been killed since
                fcntl.ioctl(self._listener, _RECEIVE, asked)
                number = struct.unpack_from("Q", asked)[0]
                answer = (number, 0, -errno.EIO, 0) if self._fails() else (number, 0, 0, _GO_ON)
                fcntl.ioctl(self._listener, _SEND, struct.pack(_ANSWER, *answer))

    def _fails(self) -> bool:
        with self._lock:
            if self._good is None:
                return False
            self._good -= 1
            self.failed += self._good < 0
            return self._good < 0


def _listener() -> int:
    """Installs the filter on this thread; tells the descriptor that asks what to do."""
    if platform.machine() not in _CALLS:
        raise NoFilterError(f"system calls of {platform.machine()} are not known here")
    machine, seccomp, fsync, fdatasync = _CALLS[platform.machine()]
    steps = (
        (_LOAD, 0, 0, _MACHINE_AT),
        (_JUMP_IF_EQUAL, 0, 4, machine),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_EQUAL, 1, 0, fsync),
        (_JUMP_IF_EQUAL, 0, 1, fdatasync),
        (_RETURN, 0, 0, _ASK),
        (_RETURN, 0, 0, _ALLOW),
    )
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program, libc = _Program(len(steps), code), ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    listener: int = libc.syscall(seccomp, _SET_FILTER, _NEW_LISTENER, ctypes.byref(program))
    if listener < 0:
        raise NoFilterError(f"system calls cannot be filtered here: {os.strerror(ctypes.get_errno())}")
    return listener
