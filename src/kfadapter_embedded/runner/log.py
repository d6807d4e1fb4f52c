"""The log of a task: the output of its command, in a file of bounded size; the reason for a failure, from its end.

On a full disk the rest of the log is lost; the task continues.
"""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from pathlib import Path
from types import TracebackType

LOG_BYTES = 10 << 20
"""How much of a task's output its log begins with; of what comes later only the end is kept."""
TAIL_BYTES = 64 << 10

_TRACEBACK = "Traceback (most recent call last):"
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# Printed by KFP's executor itself.
_EXECUTOR = re.compile(
    r"^\[KFP Executor [^\]]*\]: "
    r"(?:Got executor_input:\n\{.*?^\}|(?:Looking for|Loading) (?:KFP )?component |(?:Wrote|Did not write) )[^\n]*\n?",
    re.MULTILINE | re.DOTALL,
)
_PIP_NOTICE = re.compile(r"\[notice\] |WARNING: Running pip as ")
_PIP_ERROR = re.compile(r"^ERROR: (.+)$", re.MULTILINE)
_MAX_CHARACTERS = 1000
_SHELL_SIGNAL = 128


class TaskLog:
    """A log that keeps the beginning and the end, and states how many bytes between them were left out."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._left = limit - self._file.tell()
        self._beyond = 0
        self._tail = b""

    def write(self, text: bytes) -> None:
        """Appends output; a reader of the file sees it immediately."""
        self._tail = (self._tail + text)[-TAIL_BYTES:]
        begin, rest = text[: max(0, self._left)], text[max(0, self._left) :]
        self._left -= len(begin)
        self._put(begin)
        if rest and not self._beyond:
            self._put(b"\n[kfadapter: the log is full here; its end follows when the task has finished]\n")
        self._beyond += len(rest)

    def _put(self, text: bytes) -> None:
        with suppress(OSError):
            self._file.write(text)

    def note(self, text: str) -> None:
        """Appends a line of the runner itself, which is not part of `tail`."""
        if self._left > 0:
            self._put(f"[kfadapter: {text}]\n".encode(errors="replace"))

    @property
    def tail(self) -> str:
        """The end of the output."""
        return self._tail.decode(errors="replace")

    def close(self) -> None:
        """Writes the end, if it is not in the file yet, and closes the file."""
        if self._beyond:
            kept = self._tail[-self._beyond :]
            missing = self._beyond - len(kept)
            self._put(f"[kfadapter: {missing} bytes were left out]\n".encode() + kept)
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> TaskLog:  # noqa: PYI034  # typing.Self is newer than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def why(code: int, output: str, image: str) -> str:
    """Why a command failed: its exit status (-N after signal N), the end of its output, the image it did not run in."""
    ending = _ending(code)
    printed, executors = _EXECUTOR.subn("", _ESCAPES.sub("", output))
    # Python exits with 1 after an exception or a message; other statuses are the component's choice, as by sys.exit(3).
    is_chosen = executors and code > 1 and _TRACEBACK not in printed
    words = "" if is_chosen else _last_words(printed)
    if image and "ModuleNotFoundError" in words:
        ending += f"; it ran with this server's Python packages, not in the image {image}"
    if "signal 9" in ending and _TRACEBACK not in output:
        return f"killed, perhaps because the memory was used up ({ending})"
    return f"{words} ({ending})" if words else ending


def _ending(code: int) -> str:
    # A shell reports the signal that killed its child this way.
    number = -code if code < 0 else code - _SHELL_SIGNAL
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"exit status {code}"


def _last_words(output: str) -> str:
    """The exception of the last traceback, else the last error of pip, else the last line."""
    _, found, traceback = output.rpartition(_TRACEBACK)
    if found:
        lines = traceback.splitlines()[1:]
        start = next((at for at, line in enumerate(lines) if line and not line[0].isspace()), len(lines))
        return "\n".join(lines[start:]).strip()[:_MAX_CHARACTERS]
    complaints = _PIP_ERROR.findall(output)
    # The beginning of a long executor input may be cut off.
    lines = [line.strip() for line in output.splitlines() if re.search(r"\w", line) and not _PIP_NOTICE.match(line)]
    return (complaints[-1] if complaints else lines[-1] if lines else "")[:_MAX_CHARACTERS]
