"""Disks without room, or that fail: a limit on the size of files, a small disk that is full, and fsync that fails."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import select
import struct
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from benchmarks.pipeline_text import KIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typing_extensions import Self

PAGE_BYTES = 4 * KIB
"""What a tmpfs gives out at a time."""
_NO_LIMIT = resource.RLIM_INFINITY
_CLONE_NEWNS = 0x20000  # unshare(2)
_CALLS = {"x86_64": (0xC000003E, 317, 74, 75), "aarch64": (0xC00000B7, 277, 82, 83)}
"""By machine: how audit(7) names it, and the numbers of seccomp, fsync and fdatasync."""
_NO_NEW_PRIVILEGES = 38  # prctl(2)
_SET_FILTER, _NEW_LISTENER = 1, 8
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # classic BPF
_NUMBER_AT, _MACHINE_AT = 0, 4  # struct seccomp_data
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # ioctl(2), with what they pass
_ASKED_BYTES, _ANSWER, _GO_ON = 80, "QqiI", 1


class NotHereError(Exception):
    """This machine does not allow it; the text says why."""


@contextmanager
def no_room_beyond(size: int, pid: int) -> Iterator[None]:
    """Lets a process write no file beyond so many bytes, as if there were no room on the disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, _NO_LIMIT))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_NO_LIMIT, _NO_LIMIT))


class SmallDisk:
    """A tmpfs that only one thread and what it starts can see, and a file that takes the room that is to be missing."""

    def __init__(self, folder: Path, size: int) -> None:
        """Mounts it on an empty folder, for this thread and what it will start; all is gone with them."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) != 0:
            raise NotHereError(f"no disk can be mounted here: {os.strerror(ctypes.get_errno())}")
        for arguments in (["--make-rprivate", "/"], ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]):
            done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise NotHereError(f"no disk can be mounted here: {done.stderr.strip()}")
        self._folder, self._ballast = folder, folder / "ballast"

    @contextmanager
    def only(self, pages: int) -> Iterator[None]:
        """Leaves room for so many pages while the block lasts."""
        free = os.statvfs(self._folder)
        with self._ballast.open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize - pages * PAGE_BYTES)
        try:
            yield
        finally:
            self._ballast.unlink()


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


class Syncs:
    """Every fsync and fdatasync of the thread that makes this, and of processes that it starts from then on, for good.

    Whether one fails is decided here (seccomp); `failed` counts those that did.
    """

    def __init__(self) -> None:
        if platform.machine() not in _CALLS:
            raise NotHereError(f"system calls of {platform.machine()} are not known here")
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
        self._listener: int = libc.syscall(seccomp, _SET_FILTER, _NEW_LISTENER, ctypes.byref(program))
        if self._listener < 0:
            raise NotHereError(f"system calls cannot be filtered here: {os.strerror(ctypes.get_errno())}")
        self.failed = 0
        self._lock = threading.Lock()
        self._good: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._decide)

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
            if not any(events & select.POLLIN for _, events in waiting.poll(50)):
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
