"""Starts an embedded KFP in a process of its own, and ends it.

Light to import: nothing here needs the `embedded` extra; the child does.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_READY = b"ready "
_STOP_SECONDS = 5.0


class EmbeddedKfpError(Exception):
    """The embedded KFP did not start; the text says what it said."""


class EmbeddedKfp:
    """A running embedded KFP. It ends with `stop`, at the end of a `with` block, and when this process dies.

    Attributes:
        url: where it answers, for example `http://127.0.0.1:8888`.
        pid: its process.
    """

    def __init__(self, child: subprocess.Popen[bytes], url: str) -> None:
        self.url = url
        self.pid = child.pid
        self._child = child

    def wait(self) -> int:
        """Waits until the process has ended; tells its exit code, -N after signal N."""
        return self._child.wait()

    def stop(self) -> None:
        """Ends the process; does nothing if it has ended."""
        _end(self._child)

    def __enter__(self) -> EmbeddedKfp:  # noqa: PYI034  # typing.Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def start(data: Path, port: int = 0, *, timeout: float = 20.0) -> EmbeddedKfp:
    """Starts an embedded KFP and waits until it answers.

    Args:
        data: the folder that everything is kept in.
        port: 0 for any free one.
        timeout: seconds to wait for it.

    Returns:
        A handle; its `url` answers requests.

    Raises:
        EmbeddedKfpError: it ended instead, or was not ready in time.
    """
    command = [sys.executable, "-m", "kfadapter_grpc.embedded", "--data", str(data), "--port", str(port)]
    # A file takes whatever the child says for as long as it lives; a pipe that nobody reads would stop it.
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(  # noqa: S603  # this interpreter and this package
            [*command, "--exit-with-parent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            # Ctrl-C in a terminal is for this process, which ends the child when nobody needs it any more.
            start_new_session=True,
            # The working folder must not decide which modules the child imports.
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        line = _first_line(child, timeout)
        if line.startswith(_READY):
            return EmbeddedKfp(child, line.removeprefix(_READY).decode().strip())
        late = child.poll() is None and not line
        _end(child)
        said.seek(0)
        text = said.read().decode(errors="replace").strip()
    raise EmbeddedKfpError(f"the embedded KFP was not ready within {timeout:g} s. {text}".strip() if late else text)


def _first_line(child: subprocess.Popen[bytes], timeout: float) -> bytes:
    """The child's first line; empty if it ended, or took too long."""
    stream = _piped(child.stdout)
    deadline = time.monotonic() + timeout
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return b""
            piece = os.read(stream.fileno(), 1 << 10)
            if not piece:
                child.wait()
                return b""
            line += piece
    return line


def _end(child: subprocess.Popen[bytes]) -> None:
    """Closes the child's stdin, which it takes for the end of this process, and sees it off."""
    _piped(child.stdin).close()
    child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    _piped(child.stdout).close()


def _piped(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise TypeError("the child was started without this pipe")
    return stream
