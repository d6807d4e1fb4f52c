"""The process of the embedded KFP: its folder, its port, its signals."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kfadapter_grpc.daemon.http import serving
from kfadapter_grpc.daemon.signals import StopSignals
from kfadapter_grpc.telemetry.otlp import Telemetry

from .application import application
from .execution import SCRATCH, Steps
from .progress import Progress
from .run_folders import RunFolders
from .runner.environment import end_containers
from .runner_pool import MOST_RUNS, RunnerPool
from .runs import Runs
from .schedules import Scheduler
from .store import Store
from .traces import RequestSpans

# Go's own limit for the request line and headers: KFP accepts filters with thousands of ids.
_MAX_HEADER_BYTES = 1 << 20


class FolderError(Exception):
    """The folder cannot be used; the message has the reason and the folder."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Creates the folder if needed, and locks it against other processes for as long as the block runs.

    The lock ends with the process. Raises FolderError if another one has it, or the folder cannot be written to.
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


class AddressError(Exception):
    """The server cannot listen on the address; the message has the reason and the address."""


def bind(host: str, port: int) -> socket.socket:
    """Binds a port (0 for any free one) of a loopback address; raises AddressError on failure."""
    address = _loopback(host)
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET  # noqa: PLR2004
    # Explicitly TCP: asyncio disables Nagle's algorithm only for such sockets, and with it every response would take
    # 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((str(address), port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise AddressError(f"cannot listen on port {port} of {host}: {reason}") from error
    return listener


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise AddressError(f"{host} is no address; the embedded KFP listens on loopback addresses only") from None
    if not address.is_loopback:
        raise AddressError(
            f"{host} is not a loopback address; the embedded KFP has no authentication and listens on loopback only"
        )
    return address


@dataclass(frozen=True)
class Limits:
    """Limits of runs, and how their steps are executed.

    Attributes:
        runs_at_once: how many are executed at a time; the others wait.
        file_bytes: how many bytes the files of all runs may take before new runs are rejected.
        strict: whether a task fails where it would otherwise get a warning, as on a cluster.
    """

    runs_at_once: int = MOST_RUNS
    file_bytes: int = 5 << 30
    strict: bool = False
    steps: Steps = Steps.AUTO


def serve(listener: socket.socket, folder: Path, *, exit_with_parent: bool, limits: Limits) -> None:
    """Serves on a bound socket until a signal stops it or, with `exit_with_parent`, the parent's end closes stdin.

    Prints one line to stdout when it is ready to serve requests: `ready http://HOST:PORT`. Raises StoreError if the
    folder, which this process has locked, contains data that cannot be used.
    """
    tempfile.tempdir = str(folder)  # uploads belong on the same disk as the data
    with (
        contextlib.closing(Store(folder / "kfp.sqlite")) as store,
        _executing(store, folder, limits) as runs,
        Telemetry("kfadapter-embedded-kfp") as telemetry,
    ):
        app = application(store, folder, runs)
        if telemetry.tracer:
            app.add_middleware(RequestSpans, telemetry=telemetry)
        if exit_with_parent:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        with StopSignals() as signals, serving(app, listener, "http", h11_max_incomplete_event_size=_MAX_HEADER_BYTES):
            host, port = listener.getsockname()[:2]
            print(f"ready http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)  # noqa: T201
            signals.wait()


@contextlib.contextmanager
def _executing(store: Store, folder: Path, limits: Limits) -> Iterator[Runs]:
    """Executes the runs of a store, and starts those of its recurring runs, for as long as the block runs."""
    folders = RunFolders(folder / "runs")
    progress = Progress(store, folders)
    executor = RunnerPool(progress.report, most_at_once=limits.runs_at_once, strict=limits.strict, steps=limits.steps)
    runs = Runs(store, folders, progress, executor, most_file_bytes=limits.file_bytes)
    for scratch in folders.root.glob(f"*/{SCRATCH}"):
        end_containers(scratch)
    try:
        runs.resume()
        with contextlib.closing(Scheduler(store, runs)) as scheduler:
            scheduler.start()
            yield runs
    finally:
        progress.close()
        executor.close()


def _end_with_stdin() -> None:
    while sys.stdin.buffer.read(1 << 10):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
