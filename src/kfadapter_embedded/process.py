"""Starts an embedded KFP in its own process, and stops it.

Cheap to import: nothing here needs the `embedded` extra; the child process does.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from kfadapter_grpc.child_output import Tail, piped

READY_SECONDS = 20.0
_READY = b"ready "
# Runs are stopped first, with all processes that they started.
_STOP_SECONDS = 10.0


class EmbeddedKfpError(Exception):
    """The embedded KFP did not start; the message is its output."""


class EmbeddedKfp:
    """An embedded KFP in its own process, with its `pid` and, after `wait_ready`, its `url`.

    It is stopped by `stop`, at the end of a `with` block, and when this process dies.
    """

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.pid = child.pid
        self.url = ""
        self._child = child
        self._said = Tail(piped(child.stderr))

    def wait_ready(self, timeout: float = READY_SECONDS) -> str:
        """Waits until it is ready; returns its `url`.

        Raises EmbeddedKfpError, after stopping it, if it exited or was not ready within `timeout` seconds.
        """
        line = _first_line(self._child, timeout)
        if line.startswith(_READY):
            self.url = line.removeprefix(_READY).decode().strip()
            return self.url
        late = self._child.poll() is None and not line
        self.stop()
        text = self.last_words()
        raise EmbeddedKfpError(f"the embedded KFP was not ready within {timeout:g} s. {text}".strip() if late else text)

    def wait(self) -> int:
        """Waits until the process has exited; returns its exit code, -N after signal N."""
        return self._child.wait()

    def last_words(self) -> str:
        """The end of its standard error; complete once the process has exited."""
        return self._said.text()

    def stop(self) -> None:
        """Stops the process; does nothing if it has exited."""
        # The child exits when its standard input is closed.
        piped(self._child.stdin).close()
        self._child.terminate()
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        piped(self._child.stdout).close()
        self._said.text()

    def __enter__(self) -> EmbeddedKfp:  # noqa: PYI034  # typing.Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def launch(data: Path, port: int = 0, options: Sequence[str] = ()) -> EmbeddedKfp:
    """Starts an embedded KFP on a data folder and a port (0 for any free one); `wait_ready` waits for it.

    The options are those of `python -m kfadapter_embedded`.
    """
    command = [sys.executable, "-m", "kfadapter_embedded", "--data", str(data), "--port", str(port), *options]
    child = subprocess.Popen(  # noqa: S603  # this interpreter and this package
        [*command, "--exit-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Ctrl-C in a terminal goes to this process only, which stops the child when it is no longer needed.
        start_new_session=True,
        # The working directory must not affect which modules the child imports.
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )
    return EmbeddedKfp(child)


def start(data: Path, port: int = 0, options: Sequence[str] = (), *, timeout: float = READY_SECONDS) -> EmbeddedKfp:
    """Starts an embedded KFP and waits until it is ready; raises EmbeddedKfpError as `wait_ready` does."""
    kfp = launch(data, port, options)
    try:
        kfp.wait_ready(timeout)
    except BaseException:
        kfp.stop()
        raise
    return kfp


def _first_line(child: subprocess.Popen[bytes], timeout: float) -> bytes:
    """The child's first line; empty if it exited or timed out."""
    stream = piped(child.stdout)
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
