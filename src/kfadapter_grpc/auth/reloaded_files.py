"""Files that are re-read while the server runs; invalid contents are ignored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

T = TypeVar("T")

RELOAD_SECONDS = 1.0
MAX_FILE_BYTES = 1024 * 1024


class Reloaded(Generic[T]):
    """The parsed contents of some files; `value` is the last valid one.

    Contents are compared, not times: so it does not matter whether a file is rewritten, replaced, or, as Kubernetes
    does, reached through another link. A read while files are being replaced may find contents that do not match
    each other; the next read finds the new ones.
    """

    def __init__(self, title: str, paths: Sequence[Path], parse: Callable[..., T]) -> None:
        """Reads the files. Raises OSError, or the ValueError of `parse`, whose message must be safe for logs."""
        self.what = title
        self._paths = tuple(paths)
        self._parse = parse
        self._log = structlog.get_logger()
        self._contents = self._read()
        self._fault = ""
        self.value = parse(*self._contents)

    @property
    def is_stale(self) -> bool:
        """Whether the files are invalid now, so that their last valid contents are used."""
        return bool(self._fault)

    def refresh(self) -> None:
        """Reads the files again, and applies the contents if valid.

        An error is logged once, and parsing is retried: a certificate that is not yet valid will be.
        """
        try:
            contents = self._read()
            if contents == self._contents and not self._fault:
                return
            self.value = self._parse(*contents)
        except OSError as error:
            self._report(f"{error.filename}: {error.strerror}")
        except ValueError as error:
            self._report(str(error))
        else:
            self._contents, self._fault = contents, ""
            self._log.info(f"{self.what} re-read", files=self._files())

    def _report(self, fault: str) -> None:
        if fault != self._fault:
            self._log.error(f"{self.what}: invalid; the last valid contents are used", files=self._files(), why=fault)
        self._fault = fault

    def _read(self) -> tuple[bytes, ...]:
        return tuple(map(read_small, self._paths))

    def _files(self) -> list[str]:
        return [str(path) for path in self._paths]


class Refresher:
    """Makes some calls periodically, on its own thread."""

    def __init__(self, calls: Sequence[Callable[[], object]], seconds: float = RELOAD_SECONDS) -> None:
        self._calls = tuple(calls)
        self._seconds = seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Starts the thread, if there is anything to call."""
        if self._calls:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            for call in self._calls:
                try:
                    call()
                except Exception as fault:  # noqa: BLE001 - what is wrong with one file must not make all others old
                    structlog.get_logger().error("a file could not be checked for changes", exc_info=fault)


def read_small(path: Path) -> bytes:
    """Reads a regular file of at most 1 MiB, so that the read never blocks. Raises OSError for others, too."""
    if path.exists() and not path.is_file():
        raise OSError(0, "it is not a file", str(path))
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise OSError(0, "it is larger than 1 MiB", str(path))
    return data
