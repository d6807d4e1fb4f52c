"""Why a command failed, in words: taken from the end of what it said, and its exit code."""

from __future__ import annotations

import re
import signal

_TRACEBACK = "Traceback (most recent call last):"
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PIP_ERROR = re.compile(r"^ERROR: (.+)$", re.MULTILINE)
_MAX_CHARACTERS = 1000
_SHELL_SIGNAL = 128


def why(code: int, output: str, image: str) -> str:
    """Tells why a command failed.

    Args:
        code: Its exit code; -N after signal N.
        output: The end of what it wrote.
        image: The image that the component was made for.
    """
    ending = _ending(code)
    words = _last_words(_ESCAPES.sub("", output))
    if "ModuleNotFoundError" in words:
        ending += f"; it ran with this server's Python packages, not in the image {image}"
    if "signal 9" in ending and _TRACEBACK not in output:
        return f"killed, perhaps because the memory was used up ({ending})"
    return f"{words} ({ending})" if words else ending


def _ending(code: int) -> str:
    # A shell tells the signal that its child died of so.
    number = -code if code < 0 else code - _SHELL_SIGNAL
    try:
        return f"signal {number}, {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {code}"


def _last_words(output: str) -> str:
    """The exception of the last traceback, or what pip complains about, or the last line."""
    _, found, traceback = output.rpartition(_TRACEBACK)
    if found:
        lines = traceback.splitlines()[1:]
        start = next((at for at, line in enumerate(lines) if line and not line[0].isspace()), len(lines))
        return "\n".join(lines[start:]).strip()[:_MAX_CHARACTERS]
    complaints = _PIP_ERROR.findall(output)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return (complaints[-1] if complaints else lines[-1] if lines else "")[:_MAX_CHARACTERS]
