"""Uploads while disks are full or fail: a limit on the size of files, a small full disk, a failing fsync."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import resource
import select
import signal
import struct
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.pipeline_text import KIB
from tests.system.load import Repeated
from tests.system.records import HELLO, stored_versions
from tests.system.restarts import alive
from tests.system.scenario import Finding, Stage, at_least, exactly, none, scenario

from kfadapter_grpc.client import AdapterError, Client, KfpUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
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
_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # ioctl(2), with the data passed
_ASKED_BYTES, _ANSWER, _GO_ON = 80, "QqiI", 1


class NotHereError(Exception):
    """This machine does not allow it; the message has the reason."""


@contextmanager
def no_room_beyond(size: int, pid: int) -> Iterator[None]:
    """Limits the size of the files that a process writes, as if the disk were full."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, _NO_LIMIT))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_NO_LIMIT, _NO_LIMIT))


class SmallDisk:
    """A tmpfs that only one thread and its child processes can see, with a file that takes up the space."""

    def __init__(self, folder: Path, size: int) -> None:
        """Mounts it on an empty folder, for this thread and its later child processes; it is unmounted with them."""
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
        """Leaves space for that many pages while the block lasts."""
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
    """Every fsync and fdatasync of the creating thread, and of processes it starts afterwards, permanently.

    They succeed or fail as decided here (seccomp); `failed` counts those that failed.
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
        """Makes all but the first `good` of them fail with EIO while the block lasts."""
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
            with suppress(OSError):  # the process has been killed since
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


SPOOLED_BYTES = 400 * KIB
"""The size of a file that the adapter keeps on disk while it passes."""
FRAME_BYTES, MOST_FRAMES = 4096 + 24, 40
"""What SQLite writes at a time, a page and its head; how many are let through at most before there is no more room."""
MOST_SYNCS = 4
"""How many fsyncs are let through at most before they fail; an upload takes fewer."""
DISK_BYTES = 64 * KIB * KIB
MOST_ATTEMPTS = 10


class _Part:
    """An adapter and a KFP; uploads of new pipelines to them, first without space and then with it."""

    def __init__(self, stage: Stage, data: Path, *options: str) -> None:
        self._stage, self._data = stage, data
        self.kfp = stage.embedded(data)
        self.adapter = stage.adapter(self.kfp.url, *options)
        self._repeated = Repeated(self.adapter.target, MOST_ATTEMPTS, KfpUnavailableError)
        self._versions: dict[str, str] = {}
        self._findings: list[Finding] = []

    def upload(
        self, why: str, file: Path, shortages: Iterable[AbstractContextManager[None]], share: int, reason: str
    ) -> None:
        """Uploads once in each shortage; after a failure, again without it, with the same request id.

        At least one in `share` uploads must be refused, each with `reason`.
        """
        refused, before = Counter[str](), len(self._versions)
        for shortage in shortages:
            name = f"disk-{len(self._versions)}"

            def upload(client: Client, name: str = name) -> str:
                return client.pipelines.upload(file, name=name, request_id=name).version.pipeline_version_id

            try:
                with shortage, Client(self.adapter.target, timeout=20) as client:
                    self._versions[name] = upload(client)
            except AdapterError as error:
                refused[error.reason] += 1
                self._versions[name] = self._repeated(upload)
        least = (len(self._versions) - before) // share
        self._findings.append(at_least(f"uploads refused because {why}", refused.total(), least))
        self._findings.append(exactly("their reasons", ", ".join(refused), reason))

    def end(self, count: int) -> list[Finding]:
        """Kills the KFP and starts it again; returns the findings, and whether all acknowledged uploads are stored."""
        both_run = self.adapter.alive() and alive(self.kfp)
        os.kill(self.kfp.pid, signal.SIGKILL)
        self.kfp.stop()
        self._stage.embedded(self._data, urlsplit(self.kfp.url).port or 0)
        stored = stored_versions(self.adapter.target)
        lost = sum(version not in stored.get(name, ()) for name, version in self._versions.items())
        return [
            *self._findings,
            exactly("both processes go on", both_run, expected=True),
            exactly("uploads acknowledged in the end", len(self._versions), count),
            none("of these not there after the KFP was killed", lost),
            none("pipelines with more or less than one version", sum(len(one) != 1 for one in stored.values())),
        ]


def _limited(stage: Stage, count: int) -> list[Finding]:
    """Removes the space of the adapter, and of the KFP, by a limit on the size of files."""
    data = stage.folder / "kfp"
    part = _Part(stage, data)
    kfp, adapter = part.kfp.pid, part.adapter.pid

    def frames() -> Iterator[AbstractContextManager[None]]:
        for number in range(count):
            log = max((path.stat().st_size for path in data.rglob("*-wal")), default=0)
            yield no_room_beyond(log + number % MOST_FRAMES * FRAME_BYTES, kfp)

    def bytes_of(file: Path, pid: int) -> Iterator[AbstractContextManager[None]]:
        return (no_room_beyond(number * file.stat().st_size // count, pid) for number in range(count))

    # SQLite first, as its log starts again once it is large, and then has space.
    part.upload("KFP's SQLite had no room", HELLO, frames(), 8, "KFP_ERROR")
    large = stage.file(SPOOLED_BYTES)
    part.upload("the adapter had no room", large, bytes_of(large, adapter), 3, "INTERNAL")
    part.upload("KFP had no room for the file", HELLO, bytes_of(HELLO, kfp), 3, "KFP_ERROR")
    return part.end(3 * count)


def _full(stage: Stage, count: int) -> list[Finding]:
    """Leaves some pages on a disk that both use, from none to as many as they need."""
    folder = stage.folder / "disk"
    folder.mkdir()
    disk = SmallDisk(folder, DISK_BYTES)
    (folder / "spool").mkdir()
    part = _Part(stage, folder / "kfp", "--upload-dir", str(folder / "spool"))
    frames = (disk.only(number % MOST_FRAMES) for number in range(count))
    part.upload("KFP's disk was full", HELLO, frames, 8, "STORAGE_FULL")
    pages = (disk.only(number * SPOOLED_BYTES // PAGE_BYTES // count) for number in range(count))
    part.upload("the adapter's disk was full", stage.file(SPOOLED_BYTES), pages, 3, "INTERNAL")
    return part.end(2 * count)


def _unsynced(stage: Stage, count: int) -> list[Finding]:
    """Makes fsync fail in KFP's process, from the first, second or n-th time on."""
    syncs = stage.enter(Syncs())
    part = _Part(stage, stage.folder / "unsynced")
    failing = (syncs.failing_after(number % MOST_SYNCS) for number in range(count))
    part.upload("KFP's fsync failed", HELLO, failing, 3, "KFP_ERROR")
    return [at_least("times that fsync failed", syncs.failed, count // 3), *part.end(count)]


@scenario(
    not_covered="a disk that loses what it has confirmed; errors while KFP reads its files (for the adapter's, tests "
    "hold it); the files of runs. Where nothing may be mounted, no disk is full: there is a limit on the size of "
    "files, and EFBIG in place of ENOSPC; where system calls cannot be filtered, no fsync fails."
)
def disk(stage: Stage) -> Iterator[Finding]:
    """If a disk is full or fails, nothing is acknowledged that is not stored, and afterwards all uploads succeed."""
    parts = {"a limit on the size of files": _limited, "a disk that is full": _full, "fsync that fails": _unsynced}
    for what, part in parts.items():
        with ThreadPoolExecutor(1) as thread:  # of its own, as it stays changed
            try:
                yield from thread.submit(_alone, stage, part).result()
            except NotHereError as error:
                yield Finding(what, f"not tried: {error}")


def _alone(stage: Stage, part: Callable[[Stage, int], list[Finding]]) -> list[Finding]:
    """Runs a part; all that it started ends with it."""
    own = replace(stage, stack=ExitStack())
    with own.stack:
        return part(own, stage.scaled(120, 12))
