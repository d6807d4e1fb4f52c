"""Format and output of the log: written to a stream by its own thread, so that no call waits for the reader."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TextIO, cast

import structlog

from kfadapter_grpc.daemon.appended_file import AppendedFile
from kfadapter_grpc.version import running

if TYPE_CHECKING:
    from structlog.typing import Processor
    from typing_extensions import Self

MAX_LINES = 10_000
"""The maximum number of queued lines while stderr is not read."""
_GATHER_SECONDS = 0.02
"""How long lines are batched: a write for each line took a fifth of the time of a short call."""
_CLOSE_SECONDS = 2.0
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_SHARED: tuple[Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


@contextmanager
def logging_to_stderr(
    log_format: Literal["console", "json"], level: str, processors: Sequence[Processor] = ()
) -> Iterator[LogWriter]:
    """Sends all log lines of this process to stderr during the block; the first one has the versions."""
    with LogWriter(sys.stderr) as lines:
        configure_logging(log_format, level, lines, processors)
        structlog.get_logger().info("starting", **running())
        yield lines


def configure_logging(
    log_format: Literal["console", "json"],
    level: str,
    stream: LogWriter | TextIO,
    processors: Sequence[Processor] = (),
) -> None:
    """Sends all log lines of this process to one stream, those of structlog and of libraries, in one format.

    The format is for people, or one JSON object per line; `processors` is what else each line goes through.
    """
    shared = (*_SHARED, *processors)
    number = _LEVELS[level]
    renderer = _json() if log_format == "json" else _console()
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[strip, *renderer]))
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def _json() -> tuple[Processor, ...]:
    return structlog.processors.format_exc_info, structlog.processors.JSONRenderer()


def _console() -> tuple[Processor, ...]:
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    # The default formatter would print the local variables of every frame, including secrets.
    return (structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),)


class LogWriter:
    """A text stream for log lines; a context manager that flushes the queue on exit.

    Lines are dropped while the queue is full, and a line reports how many. After the exit, lines are
    written directly.
    """

    def __init__(self, stream: TextIO | AppendedFile, max_lines: int = MAX_LINES, name: str = "log") -> None:
        """Writes to `stream`, which the caller owns; `name` is what lines are called in the report of dropped ones."""
        self._name = name
        self._stream = stream
        self._max_lines = max_lines
        self._lines: deque[str] = deque()
        self.dropped = self._reported_dropped = 0
        self._waiting = threading.Event()
        self._closed = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._waiting.set()
        self._thread.join(_CLOSE_SECONDS)

    def write(self, text: str) -> int:
        """Queues a text that ends with a line break."""
        if len(self._lines) < self._max_lines:
            self._lines.append(text)
        else:
            self.dropped += 1
        if self._closed.is_set():
            self._write_waiting()
        elif not self._waiting.is_set():
            self._waiting.set()
        return len(text)

    def flush(self) -> None:
        """No-op: lines are written as soon as possible."""

    def _run(self) -> None:
        while not self._closed.is_set():
            self._waiting.wait()
            self._closed.wait(_GATHER_SECONDS)
            self._waiting.clear()
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        if not self._writing.acquire(timeout=_CLOSE_SECONDS):
            return  # stderr is not being read
        try:
            text = "".join(self._lines.popleft() for _ in range(len(self._lines)))
            dropped = self.dropped - self._reported_dropped
            self._reported_dropped += dropped
            with suppress(OSError, ValueError):  # a log that cannot be written must not fail a call
                self._stream.write(text)
                self._stream.flush()
        finally:
            self._writing.release()
        if dropped:
            text = f"{self._name} lines were dropped, because they were not read"
            structlog.get_logger().warning(text, lines=dropped)
