"""The processes of a benchmark: starts them, waits with timeouts, stops them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.caller import Outcome, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Self

ROOT = Path(__file__).resolve().parent.parent
"""The repository."""
PROGRAM = str(Path(sys.executable).parent / "kfadapter")
"""The command line that is measured."""
START_SECONDS = 60.0
"""How long a process may take to be ready."""
TASK_SECONDS = 400.0
"""How long a task may take."""
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.002
_SAID_BYTES = 2000
_FOREIGN = ("KFADAPTER_", "KUBEFLOW_", "KF_")


class BenchmarkError(Exception):
    """A benchmark cannot continue; the message has the reason."""


class Child:
    """A process that is stopped at the end of a `with` block.

    Attributes:
        pid: Its id.
    """

    def __init__(self, command: Sequence[str], home: Path) -> None:
        """Starts it with an empty home folder; its stderr goes to a file, as in production."""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(  # noqa: S603 - the project's own programs
            command,
            cwd=ROOT,
            env=_environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then stops the others
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # unwritten input of a process that has ended
            _pipe(self._process.stdin).close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()
        self._said.close()

    def write(self, line: str) -> None:
        """Writes a line to its stdin; if it has ended, the next read reports it."""
        with contextlib.suppress(OSError):
            _pipe(self._process.stdin).write(line + "\n")
            _pipe(self._process.stdin).flush()

    def read(self, seconds: float) -> str:
        """Reads a line of its stdout.

        Raises:
            BenchmarkError: It ended instead, or timed out after `seconds` and was killed.
        """
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        line = _pipe(self._process.stdout).readline()
        timer.cancel()
        if not line:
            self._process.wait()
            raise BenchmarkError(f"a process ended, or took longer than {seconds:g} s: {self.output()}")
        return line.rstrip("\n")

    def finish(self, seconds: float) -> None:
        """Waits until it ends by itself.

        Raises:
            BenchmarkError: It failed, or timed out after `seconds`.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            raise BenchmarkError(f"a process failed ({code}): {self.output()}")

    def output(self) -> str:
        """The end of its stderr."""
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _SAID_BYTES))
        return self._said.read().decode(errors="replace").strip()

    def alive(self) -> bool:
        """Whether it is still running."""
        return self._process.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def ended(self, seconds: float) -> int:
        """Waits for its end; returns its exit code, negative for a signal.

        Raises:
            BenchmarkError: It did not end in time.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"a process did not end within {seconds:g} s: {self.output()}") from None

    def written(self) -> str:
        """All of its stderr."""
        self._said.seek(0)
        return self._said.read().decode(errors="replace")


class Caller(Child):
    """A caller in its own process (`benchmarks.caller`)."""

    def __init__(self, side: str, target: str, home: Path) -> None:
        """Starts it and waits until its imports are done."""
        super().__init__([sys.executable, "-m", "benchmarks.caller", side, target], home)
        self.read(START_SECONDS)

    def do(self, method: str, *arguments: str, callers: int = 1, calls: int = 1) -> Outcome:
        """Runs a task in it.

        Raises:
            BenchmarkError: A call failed or timed out.
        """
        self.write(json.dumps(asdict(Task(method, arguments, callers, calls))))
        answer: dict[str, Any] = json.loads(self.read(TASK_SECONDS))
        if answer["error"]:
            raise BenchmarkError(f"{method} failed: {answer['error']}")
        return Outcome(tuple(answer["seconds"]), answer["wall"])


class Adapter(Child):
    """An adapter as in production: its JSON log goes to a file.

    Attributes:
        target: Its address.
    """

    def __init__(self, kfp_url: str, home: Path, *options: str, target: str = "") -> None:
        """Starts it with a KFP, at `target` or a free port; does not wait."""
        self.target = target or f"127.0.0.1:{_free_port()}"
        listen = ["--listen", self.target, "--metrics-listen", "127.0.0.1:0"]
        super().__init__([PROGRAM, "serve", *listen, "--kfp-url", kfp_url, "--log-format", "json", *options], home)

    def wait(self) -> None:
        """Waits until it accepts connections.

        Raises:
            BenchmarkError: It ended or timed out.
        """
        host, port = self.target.split(":")
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                return
            if not self.alive() or time.monotonic() > deadline:
                raise BenchmarkError(f"the adapter did not start: {self.output()}")
            time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def stand_in(home: Path, seconds: float | str = 0) -> Iterator[str]:
    """Runs a stand-in for KFP with a response time in seconds, or `REAL` response times; returns its URL."""
    with Child([sys.executable, "-m", "benchmarks.stand_in", str(seconds)], home) as child:
        yield child.read(START_SECONDS).removeprefix("ready ")


def _environment(home: Path) -> dict[str, str]:
    """The environment of this process, without settings of the adapter or kfp."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
    home.mkdir(exist_ok=True)
    return {**kept, "HOME": str(home), "PYTHONUTF8": "1", "PYTHONWARNINGS": "ignore"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise TypeError("the process was started without this pipe")
    return stream
